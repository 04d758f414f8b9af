"""Why not now: for every waiting workload without a place, one reason, what is short, and which nodes fail for what."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Hold, HoldCode
from gpumax.model.workload import DeviceAsk
from gpumax.policy.admit import Barrier, barrier
from gpumax.policy.ask import Ask
from gpumax.policy.gang import Gang, Want, total
from gpumax.policy.ledger import Held, Ints, Ledger, Nodes, Room
from gpumax.policy.place import Placer, size
from gpumax.policy.slices import lacking
from gpumax.policy.tree import Vector
from gpumax.policy.world import World
from gpumax.units import MILLI, format_count, format_memory


def holds(world: World) -> tuple[Hold, ...]:
    """The holds of a world on which all passes have run, by workload."""
    reasons = _Reasons(world)
    found = [*world.refused, *(reasons.hold(gang) for gang in world.waiting if not gang.placed)]
    return tuple(sorted(found, key=lambda hold: hold.workload))


class _NoRoom(NamedTuple):
    """What a chunk lacks. matches: each task fits some node that is empty; possible: all fit together if all nodes are.

    fitting: how many tasks fit now; nearest: the node that lacks least, if any may take it; left: one that doesn't fit.
    """

    matches: bool
    possible: bool
    fitting: int
    nearest: str
    nodes: dict[str, int]
    short: dict[str, int]
    left: list[Want]


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
        if found is not None and amounts[found.resource] > found.bound:
            return Hold(name, found.code, _barred(found, amounts), short=found.excess)
        asks = tuple(want.ask for want in chunk)
        lack = self._known.get(asks)
        if lack is None:
            lack = self._known[asks] = self._no_room(chunk)
        if not lack.matches:
            return Hold(name, "NoNodeMatches", _impossible(chunk, lack), lack.nodes, lack.short)
        code: HoldCode = "NoRoom" if len(chunk) == 1 else "GangNoRoom"
        if not lack.possible:
            return Hold(name, code, _too_large(chunk, lack), lack.nodes, lack.short)
        if found is not None:
            return Hold(name, found.code, _barred(found, amounts), short=found.excess)
        message = f"{_crowded(chunk, lack)}; {self._why_not_taken(gang, amounts)}"
        return Hold(name, code, message, lack.nodes, lack.short)

    def _no_room(self, chunk: list[Want]) -> _NoRoom:
        """Place what fits on a ledger of its own, and measure what the others lack."""
        if self._empty is None:
            self._empty = Ledger(self.world.nodes)
        fits = self.world.fits
        asks = {want.ask: want for want in chunk}
        unmatched = [
            want
            for ask, want in asks.items()
            if not any(fits.possible(ask, at).any() for at in range(len(ask.gpu)))
        ]
        possible = not unmatched and (
            len(chunk) == 1 or Placer(fits, self.world.scores).place(self._empty.copy(), chunk) is not None
        )
        if unmatched:
            ledger, left, fitting = self._empty, unmatched[:1], 0
        elif len(chunk) == 1:
            ledger, left, fitting = self.world.ledger, chunk, 0
        else:
            ledger = (self.world.ledger if possible else self._empty).copy()
            left = self._left(ledger, chunk)
            fitting = len(chunk) - len(left)
        nodes = fits.reasons(ledger.later, (left or chunk)[0].ask)
        nearest, short = _shortfall(self.world, ledger.later, left)
        return _NoRoom(not unmatched, possible, fitting, nearest, nodes, short, left[:1])

    def _left(self, ledger: Ledger, chunk: list[Want]) -> list[Want]:
        """The wants for which the ledger has no spot when all others took theirs; they stay on it."""
        placer, left = Placer(self.world.fits, self.world.scores), []
        hopeless: set[Ask] = set()
        for want in sorted(chunk, key=lambda want: size(want.ask, 0), reverse=True):
            choices = tuple(range(len(want.ask.gpu)))
            if want.ask in hopeless or placer.spot(ledger, want, choices) is None:
                hopeless.add(want.ask)
                left.append(want)
        return left

    def _why_not_taken(self, gang: Gang, amounts: Vector) -> str:
        """Why reclaim did not help."""
        if gang.workload.name in self.world.unsearched:
            return "this decision's search_steps were used up before its turn; a later one goes on"
        if gang.workload.name in self.world.bounded:
            return f"more would have to go for it than the {self.world.snapshot.policy.max_evictions} of max_evictions"
        for account in gang.account.path:
            for position, resource in enumerate(RESOURCES):
                held, share = account.allocated[position], account.share[position]
                if amounts[position] and held + amounts[position] > share:
                    say = format_memory if resource == "memory" else format_count
                    return (
                        f"queue {account.name} holds {say(held)} {_noun(resource)} of its share of {say(share)} "
                        "and takes nothing back beyond that"
                    )
        return "within its share, but no others that may be evicted for it hold enough"


def _shortfall(world: World, room: Room, left: list[Want]) -> tuple[str, dict[str, int]]:
    """The node that lacks least for the first of these, and what all of them lack, each on a node of its own."""
    short: dict[str, int] = {}
    nearest = ""
    if len(left) > 1:
        room = room.copy()
    # Where the nodes are used up, every further task of an ask lacks all of it.
    drained: dict[Ask, dict[str, int]] = {}
    for want in left:
        lacks = drained.get(want.ask)
        if lacks is None:
            row, lacks = _nearest(world, room, want.ask)
            if row is not None:
                nearest = nearest or world.nodes.names[row]
                if len(left) > 1:
                    _drain(room, row, want.ask)
                if lacks.get("gpu", 0) >= want.amounts[0] > 0 or row is None:
                    drained[want.ask] = lacks
        for resource, amount in lacks.items():
            short[resource] = short.get(resource, 0) + amount
    return nearest, short


def _nearest(world: World, room: Room, ask: Ask) -> tuple[int | None, dict[str, int]]:
    """The row of the matching node that lacks least, and what it lacks; of its alternatives the one that lacks least."""
    rows = np.array([row for row, why in enumerate(world.fits.refusals(ask.filter)) if why is None], np.int64)
    if rows.size == 0:
        return None, {}
    lacks = {"gpu": np.min([_gpu_lack(world.nodes, room, gpu, rows) for gpu in ask.gpu], axis=0)}
    lacks["cpu"] = np.maximum(ask.cpu - room.cpu[rows], 0)
    lacks["memory"] = np.maximum(ask.memory - room.memory[rows], 0)
    for name, amount in ask.extended:
        free = room.extended[name][rows] if name in room.extended else np.zeros(rows.size, np.int64)
        lacks[name] = np.maximum(amount - free, 0)
    if ask.slices:
        lacks.update(_slices_lack(world.nodes, room, ask, rows))
    lacks["tasks"] = np.maximum(1 - room.tasks[rows], 0)
    best = int(np.lexsort(list(reversed(lacks.values())))[0])
    return int(rows[best]), {resource: int(lack[best]) for resource, lack in lacks.items() if lack[best] > 0}


def _slices_lack(nodes: Nodes, room: Room, ask: Ask, rows: Ints) -> dict[str, Ints]:
    """By profile: how many slices find no place on each node."""
    short = [
        lacking(nodes.sliced.by_row.get(row, ()), room.slices.get(row, ()), ask.slices)
        for row in rows.tolist()
    ]
    return {
        profile: np.array([lack.get(profile, 0) for lack in short], np.int64) for profile, _ in ask.slices
    }


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
    what = _words(lack.left) if len({want.ask for want in chunk}) > 1 else _words(chunk)
    if lack.nearest and lack.short:
        return f"needs {what}; even empty, the largest nodes lack {_lacks(lack.short)}, so it can never start"
    reasons = ", ".join(f"{reason} on {count}" for reason, count in lack.nodes.items())
    return f"needs {what}; no node may take it ({reasons or 'there are no nodes'})"


def _too_large(chunk: list[Want], lack: _NoRoom) -> str:
    lacks = f"all nodes together lack {_lacks(lack.short)}" if lack.short else "they don't fit together"
    return f"needs {_words(chunk)} together; even empty, {lacks}, so it can never start"


def _crowded(chunk: list[Want], lack: _NoRoom) -> str:
    if len(chunk) == 1:
        if not lack.short:
            return f"needs {_words(chunk)}; there is room, but no pass gave it out"
        return f"needs {_words(chunk)}; {lack.nearest} comes nearest and lacks {_lacks(lack.short)}"
    needs = f"needs {_words(chunk)} together"
    if not lack.short:
        return f"{needs}; each fits by itself, but not all at once"
    if lack.fitting == len(chunk) - 1:
        return f"{needs}; {lack.fitting} fit now, for the last {lack.nearest} comes nearest and lacks {_lacks(lack.short)}"
    return f"{needs}; {lack.fitting} of {len(chunk)} fit now, the rest lacks {_lacks(lack.short)}"


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
            words.append(f"{amount} {_slice(resource)}")
    return ", ".join(words)


def _slice(name: str) -> str:
    """The name of a slice profile as one; other names as they are."""
    return f"{name} slice" if name[:1].isdigit() and name[1:3] == "g." else name


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
    words += [f"{count} {_slice(profile)}" for profile, count in ask.slices]
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
