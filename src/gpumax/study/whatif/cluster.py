"""Other clusters than the one that is there: nodes that come, go, or are more or fewer of the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from itertools import count, islice
from typing import Final

import msgspec
from msgspec.structs import replace

from gpumax.formats.nodes import MOST_DEVICES
from gpumax.formats.scalars import MODEL, Amount
from gpumax.formats.scenario_shapes import MOST_NODES
from gpumax.formats.shape import Bad, Wrong, show
from gpumax.model.node import Device, Node
from gpumax.units import MILLI, format_count, format_memory
from gpumax.words import plural

_FORM: Final = re.compile(
    r"\s*(\d{1,9})\s*[xX*]\s*(?:(\d{1,9})|([^:]*[^:\s])\s*(?::\s*(\d{1,9})\s*(?::\s*(.+?))?)?)\s*", re.ASCII
)
_WANTED: Final = (
    "COUNTxMODEL:GPUS like 4xH100:8, with the memory of each GPU behind it where you like (4xH100:8:80Gi), or COUNTxGPUS "
    "like 4x8 for nodes like those that are there"
)


class Kind(msgspec.Struct, frozen=True):
    """So many nodes. devices, memory_mib: of each, 0 where it was not said; model: empty for any."""

    count: int
    model: str = ""
    devices: int = 0
    memory_mib: int = 0

    def matches(self, node: Node) -> bool:
        """Whether a node is one of these."""
        models = {device.model for device in node.devices}
        return (
            bool(node.devices)
            and (not self.devices or len(node.devices) == self.devices)
            and (not self.model or models == {self.model})
            and (not self.memory_mib or all(row.memory_mib == self.memory_mib for row in node.devices))
        )

    def __str__(self) -> str:
        model = f" {self.model}" if self.model else ""
        each = (
            f" of {self.devices}{model}"
            if self.devices and model
            else f" of {plural(self.devices, 'GPU')}"
            if self.devices
            else f" of{model}"
            if model
            else ""
        )
        return f"{plural(self.count, 'node')}{each}"


def read_kind(text: str, *, whole: bool) -> Kind:
    """What a person wrote. whole: how many GPUs each has must be said. Bad for another form."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise Bad([Wrong((), show(text), _WANTED)])
    number, plain, model, devices, memory = match.groups()
    wrongs = []
    if not 1 <= int(number) <= MOST_NODES:
        wrongs.append(Wrong((), f"{number} nodes", f"1 to {MOST_NODES:,}"))
    if plain is None and devices is None and whole:
        wrongs.append(Wrong((), f"no number of GPUs in {show(text)}", _WANTED))
    found = int(plain or devices or 0)
    if (plain or devices) and not 1 <= found <= MOST_DEVICES:
        wrongs.append(Wrong((), f"{found} GPUs in a node", f"1 to {MOST_DEVICES}"))
    mib = 0
    for shape, value in ((MODEL, model), (Amount("memory", "down"), memory)):
        try:
            read = shape.read(value) if value is not None else 0
            mib = read if isinstance(read, int) else mib
        except Bad as bad:
            wrongs += bad.wrongs
    if wrongs:
        raise Bad(wrongs)
    return Kind(int(number), model or "", found, mib)


def with_added(nodes: Sequence[Node], kind: Kind, patterns: Sequence[Node]) -> tuple[tuple[Node, ...], str]:
    """The nodes with some more, and what is assumed of these: what wasn't said is as on the pattern that is most like them."""
    like = max(
        (node for node in patterns if node.devices),
        key=lambda node: (_same_model(node, kind), len(node.devices) == kind.devices, len(node.devices)),
    )
    first = like.devices[0]
    memory_mib = kind.memory_mib or first.memory_mib
    made = replace(
        like,
        cpu_milli=like.cpu_milli * kind.devices // len(like.devices),
        memory_mib=like.memory_mib * kind.devices // len(like.devices),
        devices=tuple(Device(index, kind.model or first.model, memory_mib) for index in range(kind.devices)),
        cordoned=False,
        ready=True,
    )
    names = islice(_names("added", (*nodes, *patterns)), kind.count)
    each = f", {format_memory(memory_mib)} on each GPU" if memory_mib else ""
    told = (
        f"Each added node of {plural(kind.devices, 'GPU')} has {format_count(made.cpu_milli)} core{'' if made.cpu_milli == MILLI else 's'} and {format_memory(made.memory_mib)} of "
        f"memory{each}, in proportion to {like.name}."
    )
    return _sorted((*nodes, *(replace(made, name=name) for name in names))), told


def without(nodes: Sequence[Node], kind: Kind) -> tuple[Node, ...]:
    """The nodes with fewer of a kind; the last by name go. Bad where there aren't so many."""
    mine = [node for node in nodes if kind.matches(node)]
    if len(mine) < kind.count:
        raise Bad([Wrong((), str(kind), f"at most the {len(mine):,} of that kind; there are {there(nodes)}")])
    gone = {node.name for node in mine[len(mine) - kind.count :]}
    return tuple(node for node in nodes if node.name not in gone)


def there(nodes: Iterable[Node]) -> str:
    """The nodes with GPUs, as they would be written."""
    kinds = Counter(_written(node) for node in nodes if node.devices)
    return ", ".join(f"{number}x{written}" for written, number in kinds.items()) or "no GPUs"


def so_many(nodes: Sequence[Node], number: int) -> tuple[Node, ...]:
    """So many nodes, of each kind in proportion. A larger cluster holds all nodes of a smaller one."""
    return _sorted(islice(_in_turn(nodes), number))


def gpus(nodes: Iterable[Node]) -> int:
    """How many devices they have."""
    return sum(len(node.devices) for node in nodes)


def _in_turn(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes for ever: those that are there so that each beginning has every kind in proportion, then copies of them."""
    kinds: dict[Hashable, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(_like(node), []).append(node)
    lists = list(kinds.values())
    names = _names("more", nodes)
    due: list[tuple[Fraction, int, int]] = []
    for kind, mine in enumerate(lists):
        heappush(due, (Fraction(1, len(mine)), kind, 0))
    while due:
        _, kind, taken = heappop(due)
        mine = lists[kind]
        node = mine[taken % len(mine)]
        yield node if taken < len(mine) else replace(node, name=next(names))
        heappush(due, (Fraction(2 * taken + 3, len(mine)), kind, taken + 1))


def _like(node: Node) -> Hashable:
    devices = tuple((row.model, row.memory_mib, row.healthy, len(row.slices)) for row in node.devices)
    return (node.pool, node.cpu_milli, node.memory_mib, node.tasks, devices, node.taints, node.open)


def _same_model(node: Node, kind: Kind) -> bool:
    return not kind.model or node.devices[0].model == kind.model


def _written(node: Node) -> str:
    models = {device.model for device in node.devices}
    number = len(node.devices)
    return f"{'/'.join(sorted(models))}:{number}" if models != {""} else str(number)


def _names(base: str, nodes: Iterable[Node]) -> Iterator[str]:
    known = {node.name for node in nodes}
    return (name for number in count(1) if (name := f"{base}-{number:05}") not in known)


def _sorted(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.name))
