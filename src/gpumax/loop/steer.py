"""The loop around a cluster that keeps its own record: look, decide, check, have it carried out, write it down.

What isn't written in the cluster's objects is kept in memory only, and what is lost with it is little: since when a gang is below its
minimum (its grace begins anew), which rooms were promised (they are given out anew), and what work had held in runs that are over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter, thread_time
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from gpumax.errors import GpumaxError
from gpumax.loop.pulse import Pulse
from gpumax.loop.remembered import NOTHING, Promised, Remembered
from gpumax.loop.standing import Standing
from gpumax.loop.upcoming import Upcoming
from gpumax.loop.verify import Known, Violation, sound, verify
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.policy.decide import decide
from gpumax.ports.clock import Clock
from gpumax.ports.cluster import Cluster
from gpumax.ports.journal import Journal

_log: Final = logging.getLogger("gpumax.loop")
RESYNC_S: Final = 30.0
"""A cycle comes after this long even where nobody asked for one."""
GATHER_S: Final = 0.1
"""For how long changes are gathered that nobody waits for: pods that are seen where they were bound, that begin, that end."""
LONG_S: Final = 0.01
"""A cycle that takes longer is followed by a rest, in which what happens is gathered for the next one: each answers more. Who comes when it is over waits for
nothing."""
REST: Final = 4
"""So many times as long as the cycle was: under load decisions take a fifth of a core."""
MOST_REST_S: Final = 0.5
FIRST_PAUSE_S: Final = 0.2
MOST_PAUSE_S: Final = 5.0
"""How long it waits after cycles that failed in a row: doubled each time, up to this."""
DEFAULTS: Final = Policy()


class Steered(msgspec.Struct, frozen=True):
    """What the last decision was made from, what of it was sound, and which rules the rest broke."""

    snapshot: Snapshot
    decision: Decision
    violations: tuple[Violation, ...] = ()


class Round(NamedTuple):
    """One cycle, for whoever listens: how long it took, and what came of it. answer: None where nothing was decided anew."""

    snapshot: Snapshot
    answer: Steered | None
    cycle_s: float
    decide_s: float = 0.0
    verify_s: float = 0.0


class Steering:
    """`run` and `cycle` are for one thread; everything else is for any. dry: whether nothing is carried out."""

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        clock: Clock,
        policy: Policy = DEFAULTS,
        *,
        think: Callable[[Snapshot], Decision] = decide,
        dry: bool = False,
        hearers: Sequence[Callable[[Round], None]] = (),
    ) -> None:
        """dry: decide and write down, and carry nothing out. hearers: told of each cycle when it is over, in the loop's thread."""
        self._cluster = cluster
        self._journal = journal
        self._clock = clock
        self._policy = policy
        self._think = think
        self.dry = dry
        self._hearers = hearers
        self._round_s = monotonic()
        self._pulse = Pulse()
        self._promised = NOTHING
        self._standing = Standing()
        self._remembered = Remembered()
        self._known = Known()
        self._upcoming = Upcoming()
        self._asked: Snapshot | None = None
        self._quiet = False  # whether the same snapshot would change nothing
        self._again_ms: int | None = None  # when time alone may change the decision, by the cluster's clock
        self._ahead_ms = 0  # how far that is ahead of ours
        self._seen: Steered | None = None
        self._trouble = ""
        self._unwritten = ""
        self._numbers: dict[str, float] = dict.fromkeys(
            ("cycles", "decisions", "failures", "rule_breaks", "unwritten", "decide_ms", "verify_ms"), 0
        )

    @property
    def last(self) -> Steered | None:
        """What the last decision was; None before the first."""
        return self._seen

    @property
    def trouble(self) -> str:
        """What keeps it from doing its work, in words; empty where nothing does."""
        return self._trouble

    @property
    def silent_s(self) -> float:
        """For how long `run` has not come round, whatever came of its cycles."""
        return monotonic() - self._round_s

    @property
    def status(self) -> dict[str, float]:
        """Counts since the start, and the times of the last decision in milliseconds."""
        return dict(self._numbers)

    def wake(self) -> int:
        """Ask for a cycle, from any thread. Returns a stamp for `wait_past`."""
        return self._pulse.wake()

    def wait_past(self, stamp: int, timeout_s: float) -> bool:
        """Wait until a cycle that began after the wake of this stamp has finished; False where none has in time."""
        return self._pulse.wait_past(stamp, timeout_s)

    def stop(self) -> None:
        """End `run` after the cycle it is in."""
        self._pulse.stop()

    def run(self) -> None:
        """Cycle on every wake and when time alone changes something, until `stop`. No failure of a cycle ends it."""
        pause_s = FIRST_PAUSE_S
        while not self._pulse.stopped:
            self._round_s, began_s = monotonic(), thread_time()
            try:
                self.cycle()
            except Exception as error:
                self._numbers["failures"] += 1
                self._known, self._upcoming = Known(), Upcoming()  # it may have ended half way
                self._tell(error)
                self._pulse.pause(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
            else:
                self._trouble, pause_s = "", FIRST_PAUSE_S
                self._pulse.pause(rest_s(thread_time() - began_s))
                self._pulse.wait(self._patience_s())
                self._pulse.gather(GATHER_S, lambda: self._cluster.pressing)

    def cycle(self) -> None:
        """Look, and where something is new: decide, check, have it carried out, write it down. Raises what goes wrong.

        While another replica steers, nothing is decided; what was promised then is unknown when it is our turn again.
        """
        stamp = self._pulse.begin()
        if not self._cluster.ours and not self.dry:
            self._promised, self._asked = NOTHING, None
            self._pulse.finish(stamp)
            return
        began = perf_counter()
        now_ms = self._clock.now_ms()
        snapshot = self._standing.add_to(self._cluster.snapshot(now_ms, self._policy))
        snapshot = self._remembered.add_to(snapshot, self._promised)
        self._ahead_ms = snapshot.now_ms - now_ms
        answer = self._answer(snapshot) if self._says_something_new(snapshot) else None
        self._numbers["cycles"] += 1
        if self._hearers:
            row = self._round(snapshot, answer, began)
            for hear in self._hearers:
                hear(row)
        self._pulse.finish(stamp)

    def _says_something_new(self, snapshot: Snapshot) -> bool:
        if self._asked is None or not self._quiet:
            return True
        if self._again_ms is not None and snapshot.now_ms >= self._again_ms:
            return True
        return replace(snapshot, now_ms=self._asked.now_ms) != self._asked

    def _round(self, snapshot: Snapshot, answer: Steered | None, began: float) -> Round:
        cycle_s = perf_counter() - began
        if answer is None:
            return Round(snapshot, None, cycle_s)
        times = self._numbers["decide_ms"] / 1000, self._numbers["verify_ms"] / 1000
        return Round(snapshot, answer, cycle_s, *times)

    def _answer(self, snapshot: Snapshot) -> Steered:
        began = perf_counter()
        decision = self._think(snapshot)
        self._numbers["decide_ms"] = _ms_since(began)
        began = perf_counter()
        violations = verify(snapshot, decision, self._known)
        kept = sound(snapshot, decision, violations)
        self._numbers["verify_ms"] = _ms_since(began)
        self._numbers["decisions"] += 1
        self._numbers["rule_breaks"] += len(violations)
        for found in violations:
            _log.error("a decision broke a rule and was not carried out there: %s", found)
        self._promised = self._promises(kept)
        try:
            if not self.dry:
                self._cluster.carry_out(snapshot, kept)
        finally:
            self._write_down(snapshot, decision)
        moments = (self._upcoming.next_ms(snapshot), self._standing.next_ms)
        self._again_ms = min((moment for moment in moments if moment is not None), default=None)
        # What could not be carried out leaves the same question, which is asked again.
        self._quiet = self.dry or (not kept.evictions and all(place.after for place in kept.places))
        self._asked = snapshot
        self._seen = seen = Steered(snapshot, kept, violations)
        return seen

    def _write_down(self, snapshot: Snapshot, decision: Decision) -> None:
        """Journal the decision. A journal that fails stops nothing: it is told once, and tried again with the next decision."""
        try:
            self._journal.write(snapshot, decision)
        except Exception as error:
            self._numbers["unwritten"] += 1
            words, known = _in_words(error)
            if words != self._unwritten:
                self._unwritten = words
                _log.error("%s", words, exc_info=None if known else error)
        else:
            if self._unwritten:
                _log.info("the journal is written again")
            self._unwritten = ""

    def _promises(self, decision: Decision) -> Promised:
        """Who starts when others have left."""
        found: dict[str, set[str]] = {}
        for place in decision.places:
            if place.after:
                found.setdefault(self._known.owner[place.task].name, set()).add(place.task)
        return {name: frozenset(tasks) for name, tasks in found.items()}

    def _tell(self, error: Exception) -> None:
        """Say once what went wrong."""
        words, known = _in_words(error)
        if words != self._trouble:
            self._trouble = words
            _log.error("a cycle failed: %s", words, exc_info=None if known else error)

    def _patience_s(self) -> float:
        if self._again_ms is None:
            return RESYNC_S
        return min(RESYNC_S, max(0, self._again_ms - self._clock.now_ms() - self._ahead_ms) / 1000)


def _in_words(error: Exception) -> tuple[str, bool]:
    """What went wrong, and whether that is something that can happen; else it is a fault of ours."""
    if isinstance(error, GpumaxError | OSError):
        return str(error), True
    return f"internal error: {type(error).__name__}: {error}", False


def rest_s(cycle_s: float) -> float:
    """For how long nothing is decided after a cycle that took so long of a core; that others slow it down is no reason to rest."""
    return min(REST * cycle_s, MOST_REST_S) if cycle_s > LONG_S else 0.0


def _ms_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
