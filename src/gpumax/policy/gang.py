"""A workload that waits: what it must place together, and what it may add one by one."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gpumax.model.workload import ACTIVE, Task, Workload
from gpumax.policy.ask import Ask
from gpumax.policy.branch import scoped, sign
from gpumax.policy.held import Held
from gpumax.policy.minimum import NOBODY, joining, task_key
from gpumax.policy.topology import Scope
from gpumax.policy.tree import Account, Vector

Key = tuple[int, int, int, str]
"""By which gangs of a queue are in order."""

PRESENT: Final = ACTIVE | {"succeeded"}
"""States that count for a gang's minimum."""


class Want(Struct, frozen=True, gc=False):
    """A task that is to be placed, what it asks, and what it counts in its queue until it is placed.

    scope: the narrowest of those in which it has to stand, or wishes to.
    """

    task: Task
    ask: Ask
    amounts: Vector
    scope: Scope | None = None


class Spot(Struct, frozen=True, gc=False):
    """Where a task goes: what it will hold, and the tasks that have to leave first."""

    want: Want
    held: Held
    after: tuple[str, ...]


class Gang:
    """One workload with pending tasks. `placed` collects its places of this decision.

    together: how many of these places, the first ones, are of the minimum and start together. safe: who of semi-preemptible
    work is never evicted once it has started there.
    """

    __slots__ = (
        "_asked", "_extras", "_joining", "_key", "_like", "_short", "account", "incomplete", "placed", "safe", "stage", "together", "workload"
    )  # fmt: skip

    def __init__(self, workload: Workload, account: Account, wants: list[Want]) -> None:
        self.workload = workload
        self.account = account
        self.placed: list[Spot] = []
        self.together = 0
        short, extras, missing, surplus = _told_apart(workload, wants)
        self._short, self._extras = short, extras
        self._asked: Vector | None = None
        self._like: object = None
        self._key: Key | None = None
        self.safe = NOBODY
        self._joining = NOBODY
        if workload.preemptible == "semi":
            self._joining = joining(workload, [want.task for want in short], [want.task for want in extras])
        self.incomplete: dict[str, int] = missing
        # 0 below its minimum, 1 at it, 2 above: in this order among equals of its queue.
        self.stage = 0 if short or missing else 2 if surplus else 1

    def copy(self, account: Account) -> Gang:
        """The same with nothing placed; account: its queue in the tree to which it belongs."""
        other = object.__new__(Gang)
        other.workload, other.account, other.placed, other.together = self.workload, account, [], 0
        other._short, other._extras = self._short, self._extras
        other._joining, other.safe = self._joining, NOBODY
        other._asked, other.incomplete, other.stage = self._asked, self.incomplete, self.stage
        other._like, other._key = self._like, self._key
        return other

    def everything(self) -> list[Want]:
        """All that is yet to be placed."""
        return [*self._short, *self._extras]

    def chunk(self) -> list[Want]:
        """What is to be placed next: all that the minimum lacks together, else one task."""
        return self._short or self._extras[:1]

    def promised(self) -> bool:
        """Whether some of the chunk was to start when others have left: what they left is for it."""
        return any(want.task.promised for want in self.chunk())

    def asked(self) -> Vector:
        """What the chunk counts."""
        if self._asked is None:
            self._asked = total(self.chunk())
        return self._asked

    @property
    def fixed(self) -> bool:
        """Whether the chunk is never evicted once it runs, and so has to fit the quota for non-preemptible work."""
        if self.workload.preemptible == "semi":
            return bool(self._short) or any(want.task.name in self._joining for want in self._extras[:1])
        return not self.workload.preemptible

    @property
    def waits(self) -> bool:
        """Whether its minimum was placed to start when others have left: so long its extras don't start either."""
        return any(spot.after for spot in self.placed[: self.together])

    def advance(self, spots: list[Spot]) -> bool:
        """Take note of places for the chunk; returns whether more waits."""
        if self.fixed and self.workload.preemptible:
            self.safe |= {spot.want.task.name for spot in spots}
        self.placed += spots
        self._asked = self._like = self._key = None
        if self._short:
            self._short = []
            self.together = len(spots)
            self.stage = 1
        else:
            self._extras = self._extras[1:]
            self.stage = 2
        return bool(self._extras)

    def key(self) -> Key:
        """The order inside a queue."""
        if self._key is None:
            row = self.workload
            self._key = (-row.priority, self.stage, row.submitted_ms, row.name)
        return self._key

    def learn(self) -> None:
        """Find out what copies of it would find out each for itself."""
        self.asked(), self.key(), self.like()

    def like(self) -> object:
        """Equal for gangs whose chunks are served alike: one that is refused answers for all of them that come after it."""
        if self._like is None:
            chunk = self.chunk()
            like = (self.workload.queue, self.fixed, sign(chunk))
            if scoped(chunk):
                return like  # another as soon as some of it stands somewhere
            self._like = like
        return self._like


def _told_apart(workload: Workload, wants: list[Want]) -> tuple[list[Want], list[Want], dict[str, int], int]:
    """What the minimum lacks, the extras, by group how many more it lacks than there are, and how many extras run."""
    if len(workload.tasks) == 1 == len(workload.groups) == workload.groups[0].min:
        return wants, [], {}, 0
    short: list[Want] = []
    extras: list[Want] = []
    missing: dict[str, int] = {}
    surplus = 0
    waiting: dict[str, list[Want]] = {}
    for want in wants:
        waiting.setdefault(want.task.group, []).append(want)
    there = present(workload) if len(wants) < len(workload.tasks) else {}
    for group in workload.groups:
        ready = waiting.get(group.name, [])
        if len(ready) > 1:
            ready.sort(key=lambda want: task_key(want.task))
        here = there.get(group.name, 0)
        need = max(0, group.min - here)
        short += ready[:need]
        extras += ready[need:]
        surplus += max(0, here - group.min)
        if len(ready) < need:
            missing[group.name] = need - len(ready)
    if len(workload.groups) > 1:
        short.sort(key=lambda want: task_key(want.task))
        extras.sort(key=lambda want: task_key(want.task))
    return short, extras, missing, surplus


def present(workload: Workload) -> dict[str, int]:
    """How many tasks of each group count for its minimum: those that run and those that are done."""
    here = [task.group for task in workload.tasks if task.state in PRESENT]
    return {group: here.count(group) for group in dict.fromkeys(here)}


def total(wants: list[Want]) -> Vector:
    """The sum of what tasks count; there is one at least."""
    if len(wants) == 1:
        return wants[0].amounts
    return tuple(map(sum, zip(*[want.amounts for want in wants], strict=True)))
