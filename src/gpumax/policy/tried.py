"""What the passes that evict found when they looked for room, and why it was not enough. For one workload that is asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gpumax.model.amounts import RESOURCES, Amounts
from gpumax.model.explanation import Tried
from gpumax.model.workload import ACTIVE, Workload
from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang
from gpumax.policy.held import Held, summed
from gpumax.policy.hold import beyond_share
from gpumax.policy.minimum import loose
from gpumax.policy.preempt import Seniority
from gpumax.policy.rights import Rights
from gpumax.policy.tree import Account
from gpumax.policy.words import amount, singular
from gpumax.policy.world import World
from gpumax.units import format_duration


class _Work(NamedTuple):
    """A workload that runs, or the part of it that may be evicted or never is; what it holds, the end of its minimum runtime.

    soft: whether it may be evicted.
    """

    workload: Workload
    held: tuple[int, int, int]
    until_ms: int
    soft: bool


def tried(world: World, gang: Gang, passes: Iterable[str]) -> tuple[Tried, ...]:
    """One row a pass and queue, those that hold most first."""
    ran = set(passes)
    found: list[Tried] = []
    if "reclaim" in ran:
        found += _reclaim(world, gang)
    if "preempt" in ran:
        found += _preempt(world, gang)
    return tuple(found)


def _budget(world: World, gang: Gang, pass_: str) -> Tried | None:
    name = gang.workload.name
    if name in world.unsearched:
        return Tried(pass_, "search_steps", "the search_steps of this decision were used up before its turn")
    if name in world.bounded:
        most = world.snapshot.policy.max_evictions
        return Tried(pass_, "too_many_evictions", f"more would have to go than the {most} of max_evictions")
    return None


def _reclaim(world: World, gang: Gang) -> Iterator[Tried]:
    chunk = gang.chunk()
    rights = Fairness(gang, chunk)
    budget = _budget(world, gang, "reclaim")
    if budget is not None:
        yield budget
        return
    if not rights.eligible(gang):
        said = next(filter(None, (beyond_share(account, rights.asked) for account in gang.account.path)), "")
        yield Tried("reclaim", "over_share", said or "its queues have no room for it", gang.account.name)
        return
    found = []
    for account in world.tree.accounts.values():
        if account is gang.account or account.children:
            continue
        running = [work for work in _running(world, account, rights) if _useful(work, rights)]
        if running:
            found.append(_giver(world, rights, account, running))
    yield from sorted(found, key=lambda row: (-row.held.gpu, -row.held.cpu, -row.held.memory, row.queue))


def _giver(world: World, rights: Rights, account: Account, running: list[_Work]) -> Tried:
    held = _sum(running)
    resource = next((r for r in rights.resources if held[r]), 0)
    what = amount(RESOURCES[resource], held[resource])
    amounts = Amounts(*held)
    soft = [work for work in running if work.soft]
    if not soft:
        runs = "runs" if singular(RESOURCES[resource], held[resource]) else "run"
        said = f"the {what} of {account.name} {runs} non-preemptible work"
        return Tried("reclaim", "non_preemptible", said, account.name, amounts)
    if not rights.may_be_asked(account, tuple(r for r in range(3) if held[r])):
        return Tried("reclaim", "within_share", _guard(account, resource), account.name, amounts)
    young = [work for work in soft if work.until_ms > world.snapshot.now_ms]
    if young:
        return _protected(world, "reclaim", account, young, resource)
    said = f"what {account.name} holds beyond its share doesn't make enough room where it is needed"
    return Tried("reclaim", "not_enough", said, account.name, amounts)


def _guard(account: Account, resource: int) -> str:
    """Which queue's guarantee protects the work: the first on the way up that is within its share."""
    name = RESOURCES[resource]
    for owner in account.path:
        if owner.allocated[resource] <= owner.share[resource]:
            held, share = (amount(name, v) for v in (owner.allocated[resource], owner.share[resource]))
            beside = "" if owner is account else f", and {account.name} is below it"
            return f"{owner.name} holds {held} within its share of {share}{beside}: there is nothing to take back"
    return f"{account.name} is above its share, but may not be asked by this queue"


def _protected(world: World, pass_: str, account: Account, young: list[_Work], resource: int) -> Tried:
    first = min(work.until_ms for work in young)
    wait = format_duration(-(-(first - world.snapshot.now_ms) // 1000) * 1000)
    held = _sum(young)
    one = singular(RESOURCES[resource], held[resource])
    are, the_first = ("is within its", "") if one else ("are within their", "the first ")
    what = amount(RESOURCES[resource], held[resource])
    said = f"{what} of {account.name} {are} minimum runtime, {the_first}for {wait} more"
    return Tried(pass_, "min_runtime", said, account.name, Amounts(*held), first)


def _preempt(world: World, gang: Gang) -> Iterator[Tried]:
    account = gang.account
    rights = Seniority(gang, gang.chunk())
    running = [
        work
        for work in _running(world, account, rights)
        if work.workload.name != gang.workload.name and _useful(work, rights)
    ]
    if not running:
        return
    lower = [work for work in running if work.workload.priority < gang.workload.priority]
    held = Amounts(*_sum(lower or running))
    soft = [work for work in lower if work.soft]
    young = [work for work in soft if work.until_ms > world.snapshot.now_ms]
    if not lower:
        said = f"no work in {account.name} has a lower priority than its {gang.workload.priority}"
        yield Tried("preempt", "none_lower", said, account.name, held)
    elif not soft:
        said = f"the work of lower priority in {account.name} is non-preemptible"
        yield Tried("preempt", "non_preemptible", said, account.name, held)
    elif young:
        yield _protected(world, "preempt", account, young, rights.resources[0])
    else:
        said = f"work of lower priority in {account.name} doesn't make enough room where it is needed"
        yield Tried("preempt", "not_enough", said, account.name, held)


def _running(world: World, account: Account, rights: Rights) -> list[_Work]:
    """What runs in a queue and has not been told to go."""
    found = []
    runtime = rights.protected_ms(account)
    for workload in world.snapshot.workloads:
        if workload.queue != account.name:
            continue
        may_go = {task.name for task in loose(workload)}
        helds: dict[bool, list[Held]] = {}
        for task in workload.tasks:
            if task.state in ACTIVE and task.name in world.held and task.name not in world.evicted:
                helds.setdefault(task.name in may_go, []).append(world.held[task.name])
        # Extras are not protected, and of semi-preemptible work nothing else may go.
        until_ms = 0 if workload.preemptible == "semi" else (workload.started_ms or 0) + runtime
        found += [_Work(workload, summed(held), until_ms, soft) for soft, held in helds.items()]
    return found


def _useful(work: _Work, rights: Rights) -> bool:
    """Whether it holds something of what is asked for; of GPUs, where GPUs are asked for."""
    first = rights.resources[:1] or [0]
    return any(work.held[r] for r in first)


def _sum(works: list[_Work]) -> tuple[int, int, int]:
    gpu, cpu, memory = (sum(work.held[r] for work in works) for r in range(3))
    return (gpu, cpu, memory)


def ends(world: World, gang: Gang) -> list[int]:
    """When work that protects itself by its minimum runtime from this gang will have ended it."""
    chunk = gang.chunk()
    moments = []
    for rights in (Fairness(gang, chunk), Seniority(gang, chunk)):
        for account in world.tree.accounts.values():
            if account.children or (account is gang.account) == isinstance(rights, Fairness):
                continue
            moments += [work.until_ms for work in _running(world, account, rights) if work.soft]
    return [moment for moment in moments if moment > world.snapshot.now_ms]
