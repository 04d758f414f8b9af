"""The loop: look at what is true, decide, check, make it so, write it down; again when something changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from msgspec.structs import replace

from gpumax.errors import Stale
from gpumax.loop.assemble import gate
from gpumax.loop.assembler import Assembler
from gpumax.loop.backoff import Backoff
from gpumax.loop.bind import bind, unbind
from gpumax.loop.gangs import Gangs, Meetings
from gpumax.loop.lifecycle import Step, advance
from gpumax.loop.memory import Memory
from gpumax.loop.objections import Objections, objection
from gpumax.loop.promised import promised
from gpumax.loop.pulse import Pulse
from gpumax.loop.roster import Roster
from gpumax.loop.sweep import Sweep
from gpumax.loop.troubles import Troubles
from gpumax.loop.upcoming import Upcoming
from gpumax.loop.verify import Known, sound, verify
from gpumax.loop.whatif import Ground, Imagined, imagine
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec
from gpumax.policy.decide import decide
from gpumax.ports.clock import Clock
from gpumax.ports.engine import Engine, Observation, Refusal
from gpumax.ports.journal import Journal
from gpumax.ports.store import Store

RESYNC_S: Final = 30.0
"""A cycle comes after this long even where nobody asked for one: a lost wake costs half a minute, not the night."""
FIRST_PAUSE_S: Final = 0.2
MOST_PAUSE_S: Final = 5.0
"""How long a loop waits after cycles that failed in a row: doubled each time, up to this."""

Think = Callable[[Snapshot], Decision]

DEFAULTS: Final = Policy()
NOTHING: Final = Changes()


class Seen(msgspec.Struct, frozen=True):
    """What the last cycle saw, and what it decided on that, without what broke a rule."""

    snapshot: Snapshot
    decision: Decision
    live: Live


class Loop:
    """The shell around the decision. `run` and `cycle` are for one thread; everything else is for any."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        journal: Journal,
        clock: Clock,
        data: Path,
        policy: Policy = DEFAULTS,
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        meetings: Meetings | None = None,
        think: Think | None = None,
    ) -> None:
        """meetings: where gangs meet; None: in files of the data directory. think: how decisions are made; None: by the policy."""
        self._store = store
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._data = data.absolute()
        self._policy = policy
        self._new_id = new_id
        self._pulse = Pulse()
        self._gangs = Gangs(self._data) if meetings is None else meetings
        self._think = think
        self._backoff = Backoff()
        self._begin_anew()
        self._sweep = Sweep(self._data)
        self._swept = False
        self._seen: Seen | None = None
        self._ground: Ground | None = None
        self._quiet = False  # whether the same snapshot would change nothing
        self._again_ms: int | None = None  # when time alone may change the decision
        self._next_ms: int | None = None  # when time alone may change anything
        self._asked: tuple[Snapshot, frozenset[str]] | None = None  # what the last decision was asked for
        self._numbers: dict[str, float] = dict.fromkeys(
            ("cycles", "decisions", "failures", "rule_breaks", "last_cycle_ms", "decide_ms", "verify_ms"), 0
        )
        self._troubles = Troubles(store, clock)

    def _begin_anew(self) -> None:
        """Forget what earlier cycles found out: each follows what has changed since the one before."""
        self._roster = Roster()
        self._memory = Memory()
        self._objections = Objections(self._engine, self._data)
        self._assembler = Assembler()
        self._known = Known()
        self._upcoming = Upcoming()

    # What others ask of it

    @property
    def last(self) -> Seen | None:
        """What the last finished cycle saw and decided; None before the first."""
        return self._seen

    @property
    def next_ms(self) -> int | None:
        """When time alone may change something, as the last cycle saw it; None for never."""
        return self._next_ms

    @property
    def status(self) -> dict[str, float]:
        """Counts since the start, and the times of the last cycle in milliseconds."""
        return dict(self._numbers)

    @property
    def trouble(self) -> str:
        """What keeps the loop from doing its work, in words; empty where nothing does."""
        return str(self._troubles)

    def wake(self) -> int:
        """Ask for a cycle, from any thread. Returns a stamp for `wait_past`."""
        return self._pulse.wake()

    def stop(self) -> None:
        """End `run` after the cycle it is in."""
        self._pulse.stop()

    def wait_past(self, stamp: int, timeout_s: float) -> bool:
        """Wait until a cycle that began after the wake of this stamp has finished; False where none has in time."""
        return self._pulse.wait_past(stamp, timeout_s)

    def what_if(self, specs: Sequence[WorkloadSpec], queues: Sequence[Queue] = ()) -> Imagined:
        """What would follow now if these were submitted and set; nothing is changed. Stale before the first cycle."""
        ground = self._ground
        if ground is None:
            raise Stale("the first cycle hasn't finished; try again in a moment")
        return imagine(
            ground,
            specs,
            queues,
            self._clock.now_ms(),
            lambda record, tasks: objection(self._engine, record, tasks, self._data),
        )

    # The work

    def run(self) -> None:
        """Cycle on every wake and when time alone changes something, until `stop`. No failure of a cycle ends it."""
        pause_s = FIRST_PAUSE_S
        while not self._pulse.stopped:
            try:
                self.cycle()
            except Exception as error:
                self._numbers["failures"] += 1
                self._begin_anew()  # it may have ended half way
                self._troubles.tell("CycleFailed", error)
                # Not ended by a wake: a busy engine must not make a broken loop spin.
                self._pulse.pause(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
                self._pulse.wait(self._patience_s())

    def cycle(self) -> None:
        """Observe, fold what was seen into the records, decide, check, bind, write down. Raises what goes wrong."""
        stamp, began = self._pulse.begin(), perf_counter()
        now_ms = self._clock.now_ms()
        observation = self._engine.observe()
        due_ms = self._fold(observation, now_ms)
        live = self._roster.live
        decided = None if self._seen is None else self._seen.decision
        barred = self._backoff.barred(now_ms) | self._roster.put_off
        timid = self._names(self._backoff.timid(now_ms))
        owed = promised(live, decided)
        snapshot = self._assembler.assemble(
            live, observation.nodes, observation.attempts, now_ms, self._policy, barred, owed
        )
        if self._says_something_new(snapshot, timid):
            self._answer(snapshot, timid)
        elif self._seen is not None:
            self._seen = Seen(replace(self._seen.snapshot, now_ms=now_ms), self._seen.decision, live)
        self._ground = Ground(
            self._roster.live, observation.nodes, self._policy, self._assembler.checkpointed, barred, owed
        )
        moments = (
            due_ms, self._again_ms, self._backoff.next_ms(now_ms), self._objections.next_ms(), self._assembler.next_ms
        )  # fmt: skip
        self._next_ms = min((moment for moment in moments if moment is not None), default=None)
        self._troubles.over("CycleFailed")
        self._numbers["cycles"] += 1
        self._numbers["last_cycle_ms"] = _ms_since(began)
        self._pulse.finish(stamp)

    def _fold(self, observation: Observation, now_ms: int) -> int | None:
        """Fold what the engine saw into the records; when a run's max_duration ends it."""
        live = self._roster.follow(self._store.live())
        step: Step = advance(live, observation, now_ms, self._memory)
        self._commit(step.changes)
        if step.orders:
            self._engine.apply(step.orders)
        self._backoff.forgive({task.workload_id for task in step.changes.tasks if task.state == "running"})
        self._backoff.keep_only(self._roster.pairs)
        if step.changes.deleted:
            self._sweep.forget(step.changes.deleted)
        if not self._swept:
            self._sweep.strays(self._store)
            self._swept = True
        self._roster.merge(step.changes)
        objected = self._objections.ask(self._roster.live, now_ms)
        self._commit(objected)
        self._roster.merge(objected)
        return step.next_ms

    def _says_something_new(self, snapshot: Snapshot, timid: frozenset[str]) -> bool:
        """Whether the decision could differ from the last one, or that one has not been carried out."""
        if self._asked is None or not self._quiet:
            return True
        if self._again_ms is not None and snapshot.now_ms >= self._again_ms:
            return True
        asked, were_timid = self._asked
        return timid != were_timid or replace(snapshot, now_ms=asked.now_ms) != asked

    def _answer(self, snapshot: Snapshot, timid: frozenset[str]) -> None:
        """Decide, check, record, carry out and write down."""
        live, began = self._roster.live, perf_counter()
        asked = (snapshot, timid)
        snapshot, decision = _decide(snapshot, timid, self._think or decide)
        self._numbers["decide_ms"] = _ms_since(began)
        began = perf_counter()
        violations = verify(snapshot, decision, self._known)
        kept = sound(snapshot, decision, violations)
        self._numbers["verify_ms"] = _ms_since(began)
        self._numbers["decisions"] += 1
        self._numbers["rule_breaks"] += len(violations)
        told = self._troubles.broken(violations, snapshot.now_ms)
        told += self._troubles.warned(decision.warnings, snapshot.now_ms)
        told += self._troubles.failing(snapshot, snapshot.now_ms)
        try:
            self._bind(kept, told, snapshot.now_ms)
        finally:
            self._write_down(snapshot, decision)
        self._again_ms = self._upcoming.next_ms(snapshot)
        self._quiet = not kept.evictions and all(place.after for place in kept.places)
        self._seen, self._asked = Seen(snapshot, kept, live), asked

    def _bind(self, decision: Decision, events: tuple[Event, ...], now_ms: int) -> None:
        """Record first, then carry out, then take back what the engine refused."""
        binding = bind(
            self._roster, decision, now_ms, data=self._data, new_id=self._new_id, meet=self._gangs.meet
        )
        changes = binding.changes
        self._commit(replace(changes, events=(*events, *changes.events)))
        # Before the starts: an elastic program reads its gang's file first of all.
        self._gangs.sync(self._roster.merge(changes))
        refusals = self._engine.apply(binding.orders) if binding.orders else ()
        if refusals:
            self._take_back(refusals, now_ms)

    def _take_back(self, refusals: tuple[Refusal, ...], now_ms: int) -> None:
        """Give refused starts back, and have their workloads wait before they are tried again."""
        refused = {refusal.attempt for refusal in refusals}
        for record, tasks in self._roster.live.workloads:
            if any(task.state == "bound" and task.attempt in refused for task in tasks):
                self._backoff.refuse(record.id, now_ms)
        binding = unbind(self._roster, refusals, now_ms)
        self._commit(binding.changes)
        if binding.orders:
            self._engine.apply(binding.orders)
        self._roster.merge(binding.changes)
        # Others may have the room that was given back.
        self._pulse.wake()

    def _names(self, ids: Collection[str]) -> frozenset[str]:
        return frozenset(self._roster.pairs[id_][0].name for id_ in ids if id_ in self._roster.pairs)

    def _commit(self, changes: Changes) -> None:
        if changes != NOTHING:
            self._store.commit(changes)

    # What is told

    def _write_down(self, snapshot: Snapshot, decision: Decision) -> None:
        """Journal the decision. A journal that fails stops nothing; it is told once."""
        try:
            self._journal.write(snapshot, decision)
        except Exception as error:
            self._troubles.tell("JournalFailed", error)
        else:
            self._troubles.over("JournalFailed")

    def _patience_s(self) -> float:
        if self._next_ms is None:
            return RESYNC_S
        return min(RESYNC_S, max(0, self._next_ms - self._clock.now_ms()) / 1000)


def _decide(snapshot: Snapshot, timid: Collection[str], think: Think) -> tuple[Snapshot, Decision]:
    """The decision, and the snapshot that it is for: one in which those who may use free room only ask for nothing, where
    somebody would have to go for them."""
    while True:
        decision = think(snapshot)
        in_vain = {row.beneficiary for row in decision.evictions if row.beneficiary in timid}
        if not in_vain:
            return snapshot, decision
        snapshot = gate(snapshot, in_vain)


def _ms_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
