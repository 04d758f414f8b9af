"""Why not now: for every waiting workload without a place, one reason, what is short, and which nodes fail for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Hold, HoldCode
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE
from gpumax.policy.admit import Barrier, barrier
from gpumax.policy.apart import Aparts
from gpumax.policy.closed import Closed
from gpumax.policy.fairness import due
from gpumax.policy.forecast import Effort, forecasts
from gpumax.policy.gang import Gang, Want
from gpumax.policy.kept import Kept
from gpumax.policy.lonely import Lonelies
from gpumax.policy.nowhere import no_such_device, no_such_label
from gpumax.policy.short import Lack, Lacks
from gpumax.policy.tree import Account, Vector
from gpumax.policy.words import NEVER, amount, amounts, bare, chunk_words, count, some
from gpumax.policy.world import World
from gpumax.units import format_duration

NOT_ENOUGH: Final = "within its share, but no others that may be evicted for it hold enough"


def holds(world: World, again: Callable[[Snapshot], World], effort: Effort) -> tuple[Hold, ...]:
    """The holds of a world on which all passes have run, by workload.

    again: decides on a later snapshot; effort: how far to look ahead.
    """
    reasons = Reasons(world)
    found = [*world.refused, *(reasons.hold(gang) for gang in world.waiting if not gang.placed)]
    moments = forecasts(world, lambda gang: not reasons.never(gang), again, effort)
    if moments:
        found = [forecast(hold, moments.get(hold.workload)) for hold in found]
    return tuple(sorted(found, key=lambda hold: hold.workload))


def forecast(hold: Hold, moment: int | None) -> Hold:
    """The hold with the moment at which some of it starts; one for whom room is kept has been told its own."""
    if moment is None or hold.forecast_ms is not None:
        return hold
    return replace(hold, forecast_ms=moment)


class Reasons:
    """Finds the one reason of each gang."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lacks = Lacks(world)
        self.aparts = Aparts(world)
        self.lonelies = Lonelies(world)
        self.closed = Closed(world)
        self._known: dict[object, Hold] = {}
        # Those with a story of their own.
        self._single = world.reserved.keys() | world.unsearched | world.bounded | world.ended
        self._stopped = {eviction.task: eviction for eviction in world.evictions if not eviction.restarts_on}

    def hold(self, gang: Gang) -> Hold:
        """The one reason of a gang, and the room that is kept for it."""
        alike = self._alike(gang)
        found = self._known.get(alike) if alike is not None else None
        if found is None:
            found = self._reason(gang)
            if alike is not None:
                self._known[alike] = found
        else:
            found = replace(found, workload=gang.workload.name)
        mine = [kept for kept in self.world.kept if kept.gang is gang]
        return self._kept(found, mine[0]) if mine else found

    def _kept(self, found: Hold, mine: Kept) -> Hold:
        """The same with what is said of the room that is kept for it."""
        message = f"{found.message}; room is kept for it {self._in(mine.moment)}, when running work has ended"
        return replace(found, message=message, forecast_ms=mine.moment, reserved=True)

    def _alike(self, gang: Gang) -> object:
        """Equal for gangs that are held for the same reason in the same words; None for one with a story of its own."""
        workload = gang.workload
        if workload.started_ms is not None or gang.incomplete or workload.name in self._single:
            return None
        return gang.like()

    def _reason(self, gang: Gang) -> Hold:
        name, chunk = gang.workload.name, gang.chunk()
        if gang.incomplete:
            return Hold(name, "GangIncomplete", _incomplete(gang.incomplete))
        wanted = gang.asked()
        found = barrier(gang.account, wanted, fixed=gang.fixed)
        if found is not None and wanted[found.resource] > found.bound:
            return Hold(name, found.code, _barred(found, wanted), short=found.excess)
        lack = self.lacks.of(chunk)
        if not lack.matches:
            message = self.closed.unless(self._impossible(chunk, lack), lack.left)
            return Hold(name, "NoNodeMatches", message, lack.nodes, lack.short)
        code: HoldCode = "NoRoom" if len(chunk) == 1 else "GangNoRoom"
        if not lack.possible:
            message = self.closed.unless(_too_large(chunk, lack), chunk)
            return Hold(name, code, message, lack.nodes, lack.short)
        lonely = self.lonelies.of(chunk)
        if lonely is not None and not lonely.possible:
            code = "TaskAffinity" if lonely.matches else "NoNodeMatches"
            return Hold(name, code, self.closed.unless(lonely.message, chunk), lonely.nodes)
        begin = self._runs(gang)
        apart = self.aparts.of(chunk)
        if apart is not None and not apart.possible:
            return Hold(name, "Topology", self.closed.unless(apart.message, chunk), apart.nodes, apart.short)
        if found is not None:
            message = begin + _barred(found, wanted) + self._below(gang.account, found, wanted)
            return Hold(name, found.code, message, short=found.excess)
        kept = self.world.reserved.get(name)
        if kept is not None:
            return Hold(name, "Reserved", begin + self._reserved(gang, kept))
        ends = self._ends(gang)
        if lonely is not None:
            return Hold(name, "TaskAffinity", ends or begin + lonely.message, lonely.nodes)
        if apart is not None:
            message = ends or f"{begin}{apart.message}; {self._why_not_taken(gang, wanted)}"
            return Hold(name, "Topology", message, apart.nodes, apart.short)
        message = ends or f"{begin}{self._crowded(chunk, lack)}; {self._why_not_taken(gang, wanted)}"
        return Hold(name, code, message, lack.nodes, lack.short)

    def _in(self, moment: int) -> str:
        return f"in {format_duration(max(0, moment - self.world.snapshot.now_ms))}"

    def _reserved(self, gang: Gang, kept: Kept) -> str:
        """For whom its room is kept, and how it could start before all the same."""
        name, left_ms = kept.gang.workload.name, kept.moment - self.world.snapshot.now_ms
        needs = f"needs {chunk_words(gang.chunk())}, which would fit, but is kept for {name}"
        waits = f"{needs}, which has waited for longer and starts {self._in(kept.moment)}"
        most = gang.workload.max_duration_ms
        if gang.workload.started_ms is None and left_ms > 0:
            may = "with a" if most is None else f"its max_duration is {format_duration(most)}; with"
            waits += f"; {may} max_duration of at most {format_duration(left_ms)} it could start before"
        return waits

    def never(self, gang: Gang) -> bool:
        """Whether it can't start however much others give: only a change of the cluster, its queue or itself helps."""
        if gang.incomplete:
            return True
        chunk = gang.chunk()
        wanted = gang.asked()
        found = barrier(gang.account, wanted, fixed=gang.fixed)
        if found is not None and wanted[found.resource] > found.bound:
            return True
        lack = self.lacks.of(chunk)
        apart = self.aparts.of(chunk)
        lonely = self.lonelies.of(chunk)
        return (
            not (lack.matches and lack.possible)
            or (apart is not None and not apart.possible)
            or (lonely is not None and not lonely.possible)
        )

    def _impossible(self, chunk: list[Want], lack: Lack) -> str:
        what = chunk_words(lack.left if len({want.ask for want in chunk}) > 1 else chunk)
        why = no_such_device(self.world, lack.left[0].ask)
        if why:
            return f"needs {what}; {why}{NEVER}"
        if lack.short:
            short = amounts(lack.short)
            return f"needs {what}; even empty, the largest nodes lack {short}{NEVER}"
        why = no_such_label(self.world, lack.left[0].ask)
        if why:
            return f"needs {what}; {why}{NEVER}"
        reasons = ", ".join(f"{reason} on {number}" for reason, number in lack.nodes.items())
        away = self.closed.waits_for(lack.left)
        return f"needs {what}; no node may take it ({reasons or 'there are no nodes'}){away}"

    def _crowded(self, chunk: list[Want], lack: Lack) -> str:
        needs = f"needs {chunk_words(chunk)}"
        nearest = self.world.nodes.names[next(iter(lack.spread))] if lack.spread else ""
        short = amounts(lack.short)
        if len(chunk) == 1:
            if not short:
                return f"{needs}; there is room, but no pass that ran gave it out"
            return f"{needs}; {nearest} comes nearest and lacks {short}"
        needs += " together"
        if not short:
            return f"{needs}; each fits by itself, but not all at once"
        if lack.fitting == len(chunk) - 1:
            return f"{needs}; {lack.fitting} fit now, for the last {nearest} comes nearest and lacks {short}"
        return f"{needs}; {lack.fitting} of {len(chunk)} fit now, the rest lacks {short}"

    def _runs(self, gang: Gang) -> str:
        """How a sentence begins about work of which a part runs."""
        workload = gang.workload
        if workload.started_ms is None:
            return ""
        running = sum(1 for task in workload.tasks if task.state in ACTIVE and task.name not in self._stopped)
        if not running:
            return ""
        rest = ", below its minimum; it " if gang.stage == 0 else "; one more "
        return f"runs with {running} of {count(len(workload.tasks), 'task')}{rest}"

    def _ends(self, gang: Gang) -> str:
        """What is said of work whose run ends in this decision."""
        if not self._stopped and not self.world.ended:
            return ""
        rows = [self._stopped[task.name] for task in gang.workload.tasks if task.name in self._stopped]
        if rows and rows[0].cause == "stale":
            return "its run ends in this decision: it has been below its minimum for longer than its grace"
        if gang.workload.name not in self.world.ended:
            return ""
        if not rows:
            return "it moves in this decision; what waits of it follows once it stands in its new place"
        takers = sorted({row.beneficiary for row in rows if row.beneficiary})
        for_whom = f" for {some(takers)}" if takers else ""
        return (
            f"its run ends in this decision: {count(len(rows), 'task')} of it make{'s' * (len(rows) == 1)} way"
            f"{for_whom} ({rows[0].cause}); it starts again as a whole when there is room"
        )

    def _below(self, leaf: Account, found: Barrier, wanted: Vector) -> str:
        """What else is too little, where a queue above is at its limit."""
        if found.code != "OverLimit" or found.account is leaf:
            return ""
        said = beyond_share(leaf, wanted)
        return f"; {said}" if said else ""

    def _why_not_taken(self, gang: Gang, wanted: Vector) -> str:
        """Why nobody was evicted for it."""
        if gang.workload.name in self.world.unsearched:
            return "this decision's search_steps were used up before its turn; a later one goes on"
        if gang.workload.name in self.world.bounded:
            return f"more would have to go for it than the {self.world.snapshot.policy.max_evictions} of max_evictions"
        for account in gang.account.path:
            said = beyond_share(account, wanted)
            if said:
                return said
        return NOT_ENOUGH


def beyond_share(account: Account, wanted: Vector) -> str:
    """That an amount is more than a queue's share leaves it; empty where it isn't."""
    for position, resource in enumerate(RESOURCES):
        held, share, asked = account.allocated[position], due(account, position, wanted), wanted[position]
        if not asked or held + asked <= share:
            continue
        if asked > share:
            return (
                f"the share of queue {account.name} is {bare(resource, share)}, "
                f"so it can't have {amount(resource, asked)} while others want theirs"
            )
        return (
            f"queue {account.name} holds {bare(resource, held)} of its share of {amount(resource, share)} "
            "and takes nothing back beyond that"
        )
    return ""


def _incomplete(missing: dict[str, int]) -> str:
    if list(missing) == [""]:
        tasks = "task that is" if missing[""] == 1 else "tasks that are"
        return f"its minimum lacks {missing['']} more {tasks} ready to be placed"
    groups = ", ".join(
        f"{number} of group {name}" if name else str(number) for name, number in sorted(missing.items())
    )
    return f"its minimum lacks tasks that are ready to be placed: {groups}"


def _barred(found: Barrier, wanted: Vector) -> str:
    resource = RESOURCES[found.resource]
    asked = amount(resource, wanted[found.resource])
    bound = "limit" if found.code == "OverLimit" else "quota for non-preemptible work"
    queue, most = f"queue {found.account.name}", bare(resource, found.bound)
    if wanted[found.resource] > found.bound:
        return f"asks for {asked}; the {bound} of {queue} is {most}{NEVER}"
    return f"asks for {asked}; {queue} uses {bare(resource, found.used)} of its {bound} of {most}"


def _too_large(chunk: list[Want], lack: Lack) -> str:
    lacks = f"all nodes together lack {amounts(lack.short)}" if lack.short else "they don't fit together"
    return f"needs {chunk_words(chunk)} together; even empty, {lacks}{NEVER}"
