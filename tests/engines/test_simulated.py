"""The world of studies: when work is saved, when nodes fail, and what an observation says of it."""

from __future__ import annotations

from itertools import islice

from gpumax.engines.simulated.course import Work
from gpumax.engines.simulated.engine import SimulatedEngine
from gpumax.engines.simulated.failures import outages
from gpumax.engines.simulated.world import World
from gpumax.model.node import Device, Node
from gpumax.model.study import Failures, Saving
from gpumax.model.workload import DeviceShare
from gpumax.ports.clock import ManualClock
from gpumax.ports.engine import AttemptSeen, Launch, Start, Stop

MINUTE_MS = 60_000
WHOLE = (DeviceShare(0, 1000),)


class Stage:
    """A node, a clock and an engine; starts take a minute."""

    def __init__(self, failures: Failures | None = None) -> None:
        self.clock = ManualClock(0)
        nodes = [Node("n1", cpu_milli=1000, memory_mib=1024, devices=(Device(0),))]
        self.world = World(nodes, self.clock, start_ms=MINUTE_MS, failures=failures, seed=1)
        self.engine = SimulatedEngine(self.world, self.clock)

    def start(self, attempt: str, workload: str = "w") -> list[str]:
        """Start a task; why it was refused."""
        order = Start(Launch(attempt, f"{workload}-{attempt}", workload, "n1", WHOLE, ("work",), "/", "/log"))
        return [refusal.why for refusal in self.engine.apply([order])]

    def at(self, minutes: float) -> dict[str, AttemptSeen]:
        """What is seen then."""
        self.world.pass_to(round(minutes * MINUTE_MS))
        return {seen.attempt: seen for seen in self.engine.observe().attempts}


def test_an_observation_says_when_work_was_saved_last() -> None:
    """Work that begins after a minute and saves itself every ten has done so at minutes 11, 21, and so on."""
    stage = Stage()
    stage.world.works["w"] = Work(1, 60 * MINUTE_MS, Saving(10 * MINUTE_MS, 0))
    assert stage.start("a") == []
    assert stage.at(0.5)["a"].state == "starting"
    assert stage.at(10.9)["a"].checkpointed_ms is None
    assert stage.at(11)["a"].checkpointed_ms == 11 * MINUTE_MS
    assert stage.at(35)["a"].checkpointed_ms == 31 * MINUTE_MS


def test_work_goes_on_from_where_it_was_saved_after_a_restart() -> None:
    """Stopped at minute 35, of 34 minutes 30 are saved: from minute 40 it takes a minute to start, two to restart, and 30 more."""
    stage = Stage()
    stage.world.works["w"] = Work(1, 60 * MINUTE_MS, Saving(10 * MINUTE_MS, 2 * MINUTE_MS))
    stage.start("a")
    stage.at(35)
    stage.engine.apply([Stop("a", 0)])
    stage.at(40)
    stage.start("b")
    assert stage.at(72.9)["b"].state == "running"
    assert stage.at(73)["b"].exit_code == 0


def test_tasks_of_a_gang_work_when_all_of_them_run() -> None:
    """The second of two comes five minutes later; both end an hour after it has begun."""
    stage = Stage()
    stage.world.works["w"] = Work(2, 60 * MINUTE_MS)
    stage.start("a")
    stage.at(5)
    stage.start("b")
    assert {seen.state for seen in stage.at(65.9).values()} == {"running"}
    assert {seen.exit_code for seen in stage.at(66).values()} == {0}


def test_what_has_not_changed_is_the_same_object() -> None:
    """So that whoever looks again can tell by one comparison."""
    stage = Stage()
    stage.start("a")
    first, again = stage.at(5), stage.at(9)
    assert first["a"] is again["a"]


def test_a_node_that_has_failed_takes_its_tasks_along_and_starts_nothing() -> None:
    """They are lost; the node isn't ready until it is back."""
    failures = Failures(100 * MINUTE_MS, 10 * MINUTE_MS)
    fails_ms, back_ms = next(outages("n1", failures, 1, 0))
    stage = Stage(failures)
    stage.start("a")
    seen = stage.at(fails_ms / MINUTE_MS)["a"]
    assert (seen.state, seen.message) == ("lost", "node n1 failed")
    assert not stage.engine.observe().nodes[0].ready
    assert stage.start("b") == ["node n1 has failed"]
    stage.at(back_ms / MINUTE_MS)
    assert stage.engine.observe().nodes[0].ready
    assert stage.start("c") == []


def test_nodes_fail_at_moments_of_their_own() -> None:
    """Equal for equal seeds and names, else not; in the mean as often and as long as was said."""
    failures = Failures(1000, 100)
    rows = list(islice(outages("n1", failures, 7, 0), 4000))
    assert rows == list(islice(outages("n1", failures, 7, 0), 4000))
    assert rows != list(islice(outages("n2", failures, 7, 0), 4000))
    assert rows != list(islice(outages("n1", failures, 8, 0), 4000))
    away = sum(back - fails for fails, back in rows) / 4000
    assert 90 < away < 110
    assert 900 < rows[-1][1] / 4000 - away < 1100
