"""The upper part of the board: nodes as pictures of their devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from string import ascii_letters
from typing import Final, Literal, NamedTuple

from gpumax.model import slices
from gpumax.model.decision import Decision
from gpumax.model.names import natural
from gpumax.model.node import Node
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceShare
from gpumax.units import MILLI, format_count, format_memory
from gpumax.words import plural

MOST_LINES: Final = 40
"""Lines of nodes before the rest is summed up by model."""

_LETTERS: Final = ascii_letters.replace("x", "")

Mark = Literal["", "+", "~", "!"]
"""Holds it; is about to start there; is leaving; is evicted by the decision at hand."""


class Held(NamedTuple):
    """What one workload holds of a device, in milli-devices."""

    workload: str
    milli: int
    mark: Mark


Cell = tuple[Held, ...] | None
"""Who holds a device, by name; None: the device is unhealthy."""


class Row(NamedTuple):
    """Nodes that look alike, in natural order of their names."""

    nodes: tuple[Node, ...]
    cells: tuple[Cell, ...]
    lost: int  # milli-devices of each node that are held on unhealthy devices
    joined: bool  # no other node stands between them

    @property
    def held(self) -> int:
        """Milli-devices that are held on these nodes."""
        shown = sum(part.milli for cell in self.cells for part in cell or () if part.mark != "+")
        return len(self.nodes) * (shown + self.lost)


class Used(NamedTuple):
    """What tasks hold of one node: millicores, MiB."""

    cpu_milli: int = 0
    memory_mib: int = 0


class View(NamedTuple):
    """Rows of nodes with devices; what is used, by node."""

    rows: tuple[Row, ...]
    used: dict[str, Used]


def look(snapshot: Snapshot, decision: Decision | None) -> View:
    """The nodes as they are, with the decision's places where there is room for them now and its evictions marked."""
    devices = _devices(snapshot, decision)
    alike: dict[tuple[tuple[Cell, ...], int, str, bool, bool], list[tuple[int, Node]]] = defaultdict(list)
    nodes = sorted((node for node in snapshot.nodes if node.devices), key=lambda node: natural(node.name))
    for position, node in enumerate(nodes):
        held = devices.get(node.name, {})
        cells = tuple(
            tuple(sorted(held.get(device.index, ()))) if device.healthy else None for device in node.devices
        )
        lost = sum(
            part.milli
            for device in node.devices
            if not device.healthy
            for part in held.get(device.index, ())
            if part.mark != "+"
        )
        alike[cells, lost, _kind(node), node.ready, node.cordoned].append((position, node))
    rows = (
        Row(tuple(node for _, node in group), cells, lost, group[-1][0] - group[0][0] == len(group) - 1)
        for (cells, lost, *_), group in alike.items()
    )
    return View(tuple(rows), _used(snapshot))


def _devices(snapshot: Snapshot, decision: Decision | None) -> dict[str, dict[int, list[Held]]]:
    """What is held, by node and device index."""
    found: dict[str, dict[int, dict[tuple[str, Mark], int]]] = defaultdict(lambda: defaultdict(dict))
    evicted = {eviction.task for eviction in decision.evictions} if decision else set()
    owner: dict[str, str] = {}
    for workload in snapshot.workloads:
        for task in workload.tasks:
            owner[task.name] = workload.name
            if task.node is None or task.state not in HOLDING:
                continue
            mark: Mark = "~" if task.state == "releasing" else "!" if task.name in evicted else ""
            for share in task.devices:
                device = found[task.node][share.index]
                device[workload.name, mark] = device.get((workload.name, mark), 0) + milli_of(share)
    for name, node, shares in _planned(decision):
        for share in shares:
            device = found[node][share.index]
            # Sevenths are rounded up: all of a device may cost a little more than the device.
            most = MILLI + slices.PARTS if share.slices else MILLI
            if name in owner and sum(device.values()) + milli_of(share) <= most:
                device[owner[name], "+"] = device.get((owner[name], "+"), 0) + milli_of(share)
    return {
        node: {
            index: [Held(name, milli, mark) for (name, mark), milli in held.items()]
            for index, held in row.items()
        }
        for node, row in found.items()
    }


def _planned(decision: Decision | None) -> Iterator[tuple[str, str, tuple[DeviceShare, ...]]]:
    if decision is None:
        return
    for place in decision.places:
        yield place.task, place.node, place.devices
    for eviction in decision.evictions:
        if eviction.restarts_on is not None:
            yield eviction.task, eviction.restarts_on, eviction.devices


def milli_of(share: DeviceShare) -> int:
    """What a share costs of its device."""
    return share.milli + slices.milli_of(share.slices)


def _used(snapshot: Snapshot) -> dict[str, Used]:
    used: dict[str, Used] = {}
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.node is not None and task.state in HOLDING:
                cpu, memory = used.get(task.node, (0, 0))
                request = task.request
                used[task.node] = Used(cpu + request.cpu_milli, memory + request.memory_mib)
    return used


def codes(names: Iterable[str]) -> dict[str, str]:
    """A letter for each workload in the order of names: a..z, A..Z, then two letters, then three; no x, which is unhealthy."""
    ordered = sorted(set(names), key=natural)
    letters = ("".join(code) for size in (1, 2, 3, 4) for code in product(_LETTERS, repeat=size))
    return dict(zip(ordered, letters, strict=False))


def picture(cells: Sequence[Cell], letters: dict[str, str], wide: int) -> list[tuple[str, Held | None]]:
    """The cells as text, each piece with the holder that it stands for. wide: letters of the longest code."""
    pieces: list[tuple[str, Held | None]] = []
    for number, cell in enumerate(cells):
        if number and wide > 1:
            pieces.append((" ", None))
        if cell is None:
            pieces.append(("x".ljust(wide), None))
        elif not cell:
            pieces.append((".".ljust(wide), None))
        elif len(cell) == 1 and cell[0].milli >= MILLI:
            pieces.append(((_code(cell[0], letters)).ljust(wide), cell[0]))
        else:
            pieces += _shared(cell, letters)
    return pieces


def _shared(cell: tuple[Held, ...], letters: dict[str, str]) -> Iterator[tuple[str, Held | None]]:
    """A shared device: `[a5b3.2]`, each holder with its tenths, at least one and at most nine."""
    yield "[", None
    for held in cell:
        yield f"{_code(held, letters)}{min(max(1, round(held.milli / 100)), 9)}", held
    free = (MILLI - sum(held.milli for held in cell)) // 100
    yield (f".{free}]" if free > 0 else "]"), None


def _code(held: Held, letters: dict[str, str]) -> str:
    return held.mark if held.mark in ("~", "!") else letters[held.workload]


def label(row: Row, most: int) -> str:
    """The names of a row's nodes, in at most so many characters."""
    first, count = row.nodes[0].name, len(row.nodes)
    if count == 1:
        text, rest = first, ""
    elif row.joined:
        text, rest = f"{first}..{row.nodes[-1].name}", f" ({count} nodes)"
    else:
        text, rest = first, f" and {count - 1} alike"
    return f"{text}{rest}" if len(text) + len(rest) <= most else f"{text[: most - len(rest) - 3]}...{rest}"


def remark(row: Row, used: dict[str, Used], room: int) -> str:
    """What stands behind the picture, as far as there is room: the model, a closed node, what is free of one in use."""
    node = row.nodes[0]
    parts = [_kind(node)]
    if not node.ready:
        parts.append("not ready")
    elif node.cordoned:
        parts.append("cordoned")
    held = used.get(node.name)
    if len(row.nodes) == 1 and held is not None:
        if held.cpu_milli:
            free, total = format_count(node.cpu_milli - held.cpu_milli), format_count(node.cpu_milli)
            parts.append(f"cpu {free} of {total} free")
        if held.memory_mib:
            parts.append(f"memory {format_memory(node.memory_mib - held.memory_mib)} free")
    text = ""
    for part in filter(None, parts):
        longer = f"{text}, {part}" if text else part
        if len(longer) > room:
            break
        text = longer
    return text


def _kind(node: Node) -> str:
    kinds = dict.fromkeys(
        f"{device.model} {format_memory(device.memory_mib) if device.memory_mib else ''}{' in slices' if device.slices else ''}".strip()
        for device in node.devices
    )
    return " + ".join(kind for kind in kinds if kind)


def summarize(rows: Sequence[Row]) -> Iterator[str]:
    """One line a model for nodes that are not drawn."""
    nodes: dict[str, int] = defaultdict(int)
    devices: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for row in rows:
        kind = _kind(row.nodes[0]) or "GPUs"
        nodes[kind] += len(row.nodes)
        devices[kind] += len(row.nodes) * len(row.cells)
        held[kind] += row.held + sum(
            len(row.nodes) * part.milli for cell in row.cells for part in cell or () if part.mark == "+"
        )
    if nodes:
        yield f"and {plural(sum(nodes.values()), 'more node')}:"
    for kind in sorted(nodes):
        yield f"  {kind}: {plural(nodes[kind], 'node')}, {round(held[kind] / MILLI):,} of {plural(devices[kind], 'GPU')} taken"
