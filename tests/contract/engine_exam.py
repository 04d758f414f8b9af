"""What every engine must do. An engine takes the exam by a subclass that says how its tasks are made to act."""

from __future__ import annotations

import os
from typing import Protocol

import msgspec
import pytest

from gpumax.ports.engine import AttemptSeen, Engine, Forget, Launch, Start, Stop

A1, A2, A3 = (f"exam-{os.getpid()}-{number}" for number in (1, 2, 3))
"""Ids of attempts, unique as the contract has it, also where exams are taken side by side."""


class Subject(Protocol):
    """An engine, and the hands that its tasks are moved with."""

    @property
    def engine(self) -> Engine:
        """The engine."""
        ...

    def launch(self, attempt: str) -> Launch:
        """A task that runs until it is told to finish or to stop."""
        ...

    def finish(self, attempt: str, code: int) -> None:
        """Have the task end by itself."""
        ...

    def lose(self, attempt: str) -> None:
        """Kill the attempt's supervisor."""
        ...

    def until(self, attempt: str, *states: str) -> AttemptSeen:
        """Wait for a state, looking only after a wake."""
        ...

    def runs(self, attempt: str) -> int:
        """How often the task of this attempt has begun."""
        ...


class EngineExam:
    """The exam. Subclasses give a fixture `subject`."""

    def test_nodes(self, subject: Subject) -> None:
        """It has a name and at least one node with something on it, and says the same when asked again."""
        first, second = subject.engine.observe(), subject.engine.observe()
        assert subject.engine.name
        assert first == second
        assert first.nodes
        assert all(node.cpu_milli > 0 and node.memory_mib > 0 for node in first.nodes)

    def test_start(self, subject: Subject) -> None:
        """A start that isn't refused is seen at once, and soon as running, since a moment."""
        assert subject.engine.apply([Start(subject.launch(A1))]) == ()
        assert [seen.attempt for seen in subject.engine.observe().attempts] == [A1]
        running = subject.until(A1, "running")
        assert running.started_ms is not None
        assert (running.exit_code, running.ended_ms) == (None, None)

    @pytest.mark.parametrize("code", [0, 3])
    def test_exit_code(self, subject: Subject, code: int) -> None:
        """An attempt that ends is seen with its exit code, and when it began and ended."""
        subject.engine.apply([Start(subject.launch(A1))])
        subject.until(A1, "running")
        subject.finish(A1, code)
        seen = subject.until(A1, "exited")
        assert (seen.exit_code, seen.told) == (code, False)
        assert seen.started_ms is not None
        assert seen.ended_ms is not None
        assert seen.started_ms <= seen.ended_ms

    def test_stop(self, subject: Subject) -> None:
        """A stopped attempt ends as by SIGTERM, or as its program chooses; until then it is seen as stopping."""
        subject.engine.apply([Start(subject.launch(A1))])
        subject.until(A1, "running")
        assert subject.engine.apply([Stop(A1, 60_000)]) == ()
        (at_once,) = subject.engine.observe().attempts
        assert at_once.state in ("stopping", "exited")
        seen = subject.until(A1, "exited")
        assert (seen.exit_code, seen.told) == (143, True)

    def test_repeats(self, subject: Subject) -> None:
        """Orders may be repeated: a start starts once, a stop stops, a forget forgets."""
        subject.engine.apply([Start(subject.launch(A1)), Start(subject.launch(A1))])
        subject.until(A1, "running")
        assert subject.engine.apply([Start(subject.launch(A1))]) == ()
        assert subject.runs(A1) == 1
        assert subject.engine.apply([Stop(A1, 60_000), Stop(A1, 60_000)]) == ()
        subject.until(A1, "exited")
        assert subject.engine.apply([Stop(A1, 0)]) == ()
        assert subject.until(A1, "exited").exit_code == 143
        assert subject.engine.apply([Forget(A1), Forget(A1)]) == ()
        assert subject.engine.observe().attempts == ()

    def test_no_start_after_the_end(self, subject: Subject) -> None:
        """What has ended isn't started again under the same id; its end stays on record."""
        subject.engine.apply([Start(subject.launch(A1))])
        subject.until(A1, "running")
        subject.finish(A1, 3)
        subject.until(A1, "exited")
        assert subject.engine.apply([Start(subject.launch(A1))]) == ()
        assert subject.until(A1, "exited").exit_code == 3
        assert subject.runs(A1) == 1

    def test_stop_before_start(self, subject: Subject) -> None:
        """What is stopped before it was started is never started."""
        assert subject.engine.apply([Stop(A1, 0), Start(subject.launch(A1))]) == ()
        seen = subject.until(A1, "exited")
        assert (seen.exit_code, seen.told) == (143, True)
        assert subject.runs(A1) == 0

    def test_stop_right_after_start(self, subject: Subject) -> None:
        """A stop in the same breath as the start ends it, whether it had begun or not."""
        assert subject.engine.apply([Start(subject.launch(A1)), Stop(A1, 60_000)]) == ()
        assert subject.until(A1, "exited").exit_code == 143

    def test_forget_waits_for_the_end(self, subject: Subject) -> None:
        """An attempt that hasn't ended can't be forgotten."""
        subject.engine.apply([Start(subject.launch(A1))])
        assert subject.engine.apply([Forget(A1)]) == ()
        assert [seen.attempt for seen in subject.engine.observe().attempts] == [A1]

    def test_forget(self, subject: Subject) -> None:
        """An attempt that has ended is seen until it is forgotten; others stay, sorted by id."""
        subject.engine.apply([Start(subject.launch(attempt)) for attempt in (A3, A1, A2)])
        for attempt in (A1, A2, A3):
            subject.until(attempt, "running")
        subject.finish(A2, 0)
        subject.until(A2, "exited")
        assert [seen.attempt for seen in subject.engine.observe().attempts] == [A1, A2, A3]
        assert subject.engine.apply([Forget(A2)]) == ()
        assert [seen.attempt for seen in subject.engine.observe().attempts] == [A1, A3]

    def test_lost(self, subject: Subject) -> None:
        """An attempt whose supervisor dies is seen as lost, with a reason and without an exit code."""
        subject.engine.apply([Start(subject.launch(A1))])
        subject.until(A1, "running")
        subject.lose(A1)
        seen = subject.until(A1, "lost")
        assert seen.exit_code is None
        assert seen.message
        assert subject.engine.apply([Stop(A1, 0), Start(subject.launch(A1)), Forget(A1)]) == ()
        assert subject.engine.observe().attempts == ()

    def test_objection(self, subject: Subject) -> None:
        """What can be known against a start is said without one; of a launch without a place, node and attempt, too."""
        good = msgspec.structs.replace(subject.launch(A1), attempt="", node="", devices=())
        assert subject.engine.objection(good) == ""
        assert subject.engine.objection(msgspec.structs.replace(good, argv=())) == "it has no command"
        assert subject.engine.observe().attempts == ()

    def test_unknown_node(self, subject: Subject) -> None:
        """A start on a node that isn't there is refused in words, the orders after it are carried out."""
        elsewhere = msgspec.structs.replace(subject.launch(A1), node="elsewhere")
        (refusal,) = subject.engine.apply([Start(elsewhere), Start(subject.launch(A2))])
        assert refusal.attempt == A1
        assert "elsewhere" in refusal.why
        assert [seen.attempt for seen in subject.engine.observe().attempts] == [A2]
