"""Why not now: for every waiting workload without a place, one reason, what is short, and which nodes fail for what."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Hold
from gpumax.model.workload import DeviceAsk
from gpumax.policy.admit import Barrier, barrier
from gpumax.policy.ask import Ask
from gpumax.policy.gang import Gang, Want, total
from gpumax.policy.ledger import Held, Ints, Ledger, Nodes, Room
from gpumax.policy.place import Placer, size
from gpumax.policy.tree import Vector
from gpumax.policy.world import World
from gpumax.units import MILLI, format_count, format_memory


def holds(world: World) -> tuple[Hold, ...]:
    """The holds of a world on which all passes have run, by workload."""
    reasons = _Reasons(world)
    found = [*world.refused, *(reasons.hold(gang) for gang in world.waiting if not gang.placed)]
    return tuple(sorted(found, key=lambda hold: hold.workload))


class _NoRoom(NamedTuple):
    """What a chunk lacks. fitting: how many of its tasks fit now; nearest: the node that lacks least, if any matches."""

    possible: bool
    fitting: int
    nearest: str
    nodes: dict[str, int]
    short: dict[str, int]


class _Reasons:
    """Equal chunks lack the same; each is looked at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[tuple[Ask, ...], _NoRoom] = {}
        self._empty: Ledger | None = None

    def hold(self, gang: Gang) -> Hold:
        """The one reason of a gang."""
        name, chunk = gang.workload.name, gang.chunk()
        if gang.incomplete:
            return Hold(name, "GangIncomplete", _incomplete(gang.incomplete))
        amounts = total(chunk)
        found = barrier(gang.account, amounts, preemptible=gang.workload.preemptible)
        if found is not None:
            return Hold(name, found.code, _barred(found, amounts), short=found.excess)
        asks = tuple(want.ask for want in chunk)
        lack = self._known.get(asks)
        if lack is None:
            lack = self._known[asks] = self._no_room(chunk)
        if not lack.possible:
            return Hold(name, "NoNodeMatches", _impossible(chunk, lack), lack.nodes, lack.short)
        message = f"{_crowded(chunk, lack)}; {self._why_not_taken(gang, amounts)}"
        return Hold(name, "NoRoom" if len(chunk) == 1 else "GangNoRoom", message, lack.nodes, lack.short)

    def _no_room(self, chunk: list[Want]) -> _NoRoom:
        """Place what fits on a ledger of its own, and measure what the others lack."""
        if self._empty is None:
            self._empty = Ledger(self.world.nodes)
        fits, placer = self.world.fits, Placer(self.world.fits, self.world.scores)
        if len(chunk) == 1:
            ask = chunk[0].ask
            possible = any(fits.possible(ask, choice).any() for choice in range(len(ask.gpu)))
            ledger, left = self.world.ledger if possible else self._empty, chunk
        else:
            possible = placer.place(self._empty.copy(), chunk) is not None
            ledger = self.world.ledger.copy() if possible else self._empty.copy()
            order = sorted(chunk, key=lambda want: size(want.ask, 0), reverse=True)
            left = [
                want for want in order if placer.spot(ledger, want, tuple(range(len(want.ask.gpu)))) is None
            ]
        nodes = fits.reasons(ledger.later, (left or chunk)[0].ask)
        short: dict[str, int] = {}
        nearest = ""
        room = ledger.later if len(left) <= 1 else ledger.later.copy()
        # A chunk can fail as a whole though each task finds a spot by itself, in another order; then nothing is short.
        for want in left:
            row, lacks = _nearest(self.world, room, want.ask)
            if row is not None:
                nearest = nearest or self.world.nodes.names[row]
                if len(left) > 1:
                    _drain(room, row, want.ask)
            for resource, amount in lacks.items():
                short[resource] = short.get(resource, 0) + amount
        return _NoRoom(possible, len(chunk) - len(left), nearest, nodes, short)

    def _why_not_taken(self, gang: Gang, amounts: Vector) -> str:
        """Why reclaim did not help."""
        if gang.workload.name in self.world.unsearched:
            return "this decision's search_steps were used up before its turn; a later one goes on"
        for account in gang.account.path:
            for position, resource in enumerate(RESOURCES):
                if (
                    amounts[position]
                    and account.allocated[position] + amounts[position] > account.share[position]
                ):
                    say = format_memory if resource == "memory" else format_count
                    return (
                        f"queue {account.name} holds {say(account.allocated[position])} {_noun(resource)} of its share of "
                        f"{say(account.share[position])} and takes nothing back beyond that"
                    )
        return "within its share, but no others that may be evicted for it hold enough"


def _nearest(world: World, room: Room, ask: Ask) -> tuple[int | None, dict[str, int]]:
    """The row of the matching node that lacks least, and what it lacks."""
    rows = np.array([row for row, why in enumerate(world.fits.refusals(ask.filter)) if why is None], np.int64)
    if rows.size == 0:
        return None, {}
    lacks = {"gpu": _gpu_lack(world.nodes, room, ask.gpu[0], rows)}
    lacks["cpu"] = np.maximum(ask.cpu - room.cpu[rows], 0)
    lacks["memory"] = np.maximum(ask.memory - room.memory[rows], 0)
    for name, amount in ask.extended:
        free = room.extended[name][rows] if name in room.extended else np.zeros(rows.size, np.int64)
        lacks[name] = np.maximum(amount - free, 0)
    lacks["tasks"] = np.maximum(1 - room.tasks[rows], 0)
    best = int(np.lexsort(list(reversed(lacks.values())))[0])
    return int(rows[best]), {resource: int(lack[best]) for resource, lack in lacks.items() if lack[best] > 0}


def _drain(room: Room, row: int, ask: Ask) -> None:
    """Take what a node has for an ask that doesn't fit there, so that the next one lacks more."""
    room.take(Held("", row, 0, ask.cpu, ask.memory, ask.extended, ()))
    room.drain(row)


def _gpu_lack(nodes: Nodes, room: Room, gpu: DeviceAsk | None, rows: Ints) -> Ints:
    """Milli-devices that each node lacks: whole devices by count; parts by what the best devices have left."""
    if gpu is None:
        return np.zeros(rows.size, np.int64)
    usable, need = nodes.usable(gpu)
    lack = np.maximum(need[rows] - np.where(usable[rows], room.devices[rows], 0), 0)
    if not gpu.memory_mib and gpu.milli == MILLI:
        lack = np.where(lack > 0, MILLI, 0)
    lack = np.sort(lack, axis=1)[:, : gpu.devices]
    missing = gpu.devices - lack.shape[1]
    whole: Ints = lack.sum(axis=1) + max(missing, 0) * (gpu.milli if not gpu.memory_mib else MILLI)
    return whole


def _incomplete(missing: dict[str, int]) -> str:
    groups = ", ".join(
        f"{count} of group {name}" if name else str(count) for name, count in sorted(missing.items())
    )
    return f"its minimum lacks {groups} more tasks that are ready to be placed"


def _barred(found: Barrier, amounts: Vector) -> str:
    resource = RESOURCES[found.resource]
    say = format_memory if resource == "memory" else format_count
    asked, noun = say(amounts[found.resource]), _noun(resource)
    bound = "limit" if found.code == "OverLimit" else "quota for non-preemptible work"
    queue = f"queue {found.account.name}"
    if amounts[found.resource] > found.bound:
        return f"asks for {asked} {noun}; the {bound} of {queue} is {say(found.bound)}, so it can never start"
    return f"asks for {asked} {noun}; {queue} uses {say(found.used)} of its {bound} of {say(found.bound)}"


def _impossible(chunk: list[Want], lack: _NoRoom) -> str:
    if lack.nearest:
        return f"needs {_words(chunk)}; even empty, {_where(chunk)} lack {_lacks(lack.short)}"
    reasons = ", ".join(f"{reason} on {count}" for reason, count in lack.nodes.items())
    return f"needs {_words(chunk)}; no node may take it ({reasons or 'there are no nodes'})"


def _where(chunk: list[Want]) -> str:
    return "all nodes together" if len(chunk) > 1 else "the largest nodes"


def _crowded(chunk: list[Want], lack: _NoRoom) -> str:
    if len(chunk) == 1:
        return f"needs {_words(chunk)}; {lack.nearest} comes nearest and lacks {_lacks(lack.short)}"
    if not lack.short:
        return f"needs {_words(chunk)} together; each fits by itself, but not all at once"
    return f"needs {_words(chunk)} together; {lack.fitting} of {len(chunk)} fit now, the rest lacks {_lacks(lack.short)}"


def _lacks(short: dict[str, int]) -> str:
    words = []
    for resource, amount in short.items():
        if resource == "gpu":
            words.append(_gpus(amount))
        elif resource == "cpu":
            words.append(f"{format_count(amount)} cores")
        elif resource == "memory":
            words.append(f"{format_memory(amount)} of memory")
        else:
            words.append(f"{amount} {resource}")
    return ", ".join(words)


def _gpus(milli: int) -> str:
    return f"{format_count(milli)} GPU{'s' if milli > MILLI else ''}"


def _noun(resource: str) -> str:
    return {"gpu": "GPUs", "cpu": "cores", "memory": "memory"}[resource]


def _words(chunk: list[Want]) -> str:
    """`2 x 4 H100`, `0.5 GPU, 8 cores`: what a chunk asks, tasks that are alike together."""
    counts: dict[Ask, int] = {}
    for want in chunk:
        counts[want.ask] = counts.get(want.ask, 0) + 1
    return " + ".join(
        f"{count} x {one(ask)}" if len(chunk) > 1 else one(ask) for ask, count in counts.items()
    )


def one(ask: Ask) -> str:
    """What one task asks, in words."""
    words = (
        [" or ".join(_device(gpu) for gpu in ask.gpu if gpu is not None)] if ask.gpu[0] is not None else []
    )
    words += [f"{format_count(ask.cpu)} cores"] if ask.cpu else []
    words += [f"{format_memory(ask.memory)} of memory"] if ask.memory else []
    words += [f"{amount} {name}" for name, amount in ask.extended]
    return ", ".join(words) or "a task slot"


def _device(gpu: DeviceAsk) -> str:
    if gpu.memory_mib:
        each = f"{format_memory(gpu.memory_mib)} of {gpu.model or 'a GPU'}"
        return each if gpu.devices == 1 else f"{gpu.devices} x {each}"
    if gpu.milli < MILLI:
        each = f"{format_count(gpu.milli)} {gpu.model or 'GPU'}"
        return each if gpu.devices == 1 else f"{gpu.devices} x {each}"
    if gpu.model:
        return f"{gpu.devices} {gpu.model}"
    return _gpus(gpu.devices * MILLI)
