"""Slices (MIG) in the decision: which sets of them a device can hold, and where new ones leave the most.

A snapshot says how many instances of each profile run on a device, not where on it. A set of them is taken to be
possible where some placement exists: the driver's own order keeps that true for what it placed itself. What a device
could still take is therefore a function of the counts alone, and remembered by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

from gpumax.model.node import Device, Node
from gpumax.model.slices import PARTS, geometry, milli, parts

State = tuple[int, ...]
"""How many instances of each profile a device holds, in the order of its kind's profiles."""
Asked = tuple[tuple[str, int], ...]
"""Slices by profile, sorted."""


class Kind:
    """Devices with the same profiles and the same geometry. masks: the slots that an instance may take; None: unknown."""

    def __init__(self, device: Device) -> None:
        self.profiles = tuple(sorted(device.slices, key=lambda profile: (-milli(profile), profile)))
        self.caps = tuple(device.slices[profile] for profile in self.profiles)
        self.position = {profile: number for number, profile in enumerate(self.profiles)}
        self.empty: State = (0,) * len(self.profiles)
        self._parts = tuple(map(parts, self.profiles))
        known = geometry(device)
        self._masks: list[list[int]] | None = None
        if known is not None:
            self._masks = [
                [((1 << size) - 1) << start for start in starts]
                for size, starts in (known[profile] for profile in self.profiles)
            ]
        self._fits: dict[State, bool] = {}
        self._worth: dict[State, int] = {}

    def fits(self, state: State) -> bool:
        """Whether a device can hold all of these at once."""
        known = self._fits.get(state)
        if known is None:
            known = self._fits[state] = self._can_hold(state)
        return known

    def worth(self, state: State) -> int:
        """What is left of a device: for each profile, how many more would fit, in compute parts."""
        known = self._worth.get(state)
        if known is None:
            known = self._worth[state] = sum(
                part * self._more(state, number) for number, part in enumerate(self._parts)
            )
        return known

    def plus(self, state: State, profile: str, count: int = 1) -> State | None:
        """The state with more of a profile; None where the device doesn't offer it."""
        number = self.position.get(profile)
        if number is None:
            return None
        return (*state[:number], state[number] + count, *state[number + 1 :])

    def _more(self, state: State, number: int) -> int:
        more = 0
        while self.fits((*state[:number], state[number] + more + 1, *state[number + 1 :])):
            more += 1
        return more

    def _can_hold(self, state: State) -> bool:
        if any(count > cap for count, cap in zip(state, self.caps, strict=True)):
            return False
        if self._masks is None:
            return sum(count * part for count, part in zip(state, self._parts, strict=True)) <= PARTS
        wanted = [masks for masks, count in zip(self._masks, state, strict=True) for _ in range(count)]
        return _stand(wanted, 0)


def _stand(wanted: list[list[int]], taken: int) -> bool:
    """Whether all of these find slots beside those that are taken."""
    if not wanted:
        return True
    return any(not mask & taken and _stand(wanted[1:], taken | mask) for mask in wanted[0])


class Layout(NamedTuple):
    """Where the slices of one task go: (column, profile, count). lost: what the devices can take less than before."""

    lost: int
    slices: tuple[tuple[int, str, int], ...]


class Sliced:
    """The healthy sliced devices of all nodes. by_row: their columns and kinds, for rows that have any."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.by_row: dict[int, tuple[tuple[int, Kind], ...]] = {}
        self._kinds: dict[object, Kind] = {}
        self._layouts: dict[object, Layout | None] = {}
        for row, node in enumerate(nodes):
            found = tuple(
                (column, self._kind(device))
                for column, device in enumerate(node.devices)
                if device.slices and device.healthy
            )
            if found:
                self.by_row[row] = found

    def anew(self) -> Sliced:
        """The same for another decision: layouts of this one are forgotten."""
        other = copy(self)
        other._layouts = {}
        return other

    def _kind(self, device: Device) -> Kind:
        key = (device.model, device.memory_mib, tuple(sorted(device.slices.items())))
        known = self._kinds.get(key)
        if known is None:
            known = self._kinds[key] = Kind(device)
        return known

    def empty(self) -> dict[int, tuple[State, ...]]:
        """The states of all devices when nothing runs, by row."""
        return {row: tuple(kind.empty for _, kind in devices) for row, devices in self.by_row.items()}

    def count(
        self,
        states: dict[int, tuple[State, ...]],
        row: int,
        held: tuple[tuple[int, str, int], ...],
        sign: int,
    ) -> None:
        """Count slices of a node as taken (1) or as left (-1)."""
        devices = self.by_row.get(row)
        if devices is not None:
            states[row] = added(devices, states[row], held, sign)

    def layout(self, row: int, states: tuple[State, ...], asked: Asked) -> Layout | None:
        """Where on a node with these states the slices go; None where they don't all fit."""
        devices = self.by_row[row]
        key = (tuple(devices), states, asked)
        if key not in self._layouts:
            self._layouts[key] = _lay(devices, states, asked)
        return self._layouts[key]

    def worth(self, row: int, states: tuple[State, ...]) -> int:
        """What is left of a node's devices."""
        return sum(
            kind.worth(state) for (_, kind), state in zip(self.by_row.get(row, ()), states, strict=True)
        )


def added(
    devices: tuple[tuple[int, Kind], ...],
    states: tuple[State, ...],
    held: tuple[tuple[int, str, int], ...],
    sign: int = 1,
) -> tuple[State, ...]:
    """The states with these slices as well, or without them. Slices of devices that are gone are passed over."""
    found = list(states)
    for column, profile, count in held:
        for number, (at, kind) in enumerate(devices):
            if at == column:
                found[number] = kind.plus(found[number], profile, sign * count) or found[number]
    return tuple(found)


def all_fit(devices: tuple[tuple[int, Kind], ...], states: tuple[State, ...]) -> bool:
    """Whether every device can hold what it is to hold."""
    return all(kind.fits(state) for (_, kind), state in zip(devices, states, strict=True))


def lacking(devices: tuple[tuple[int, Kind], ...], states: tuple[State, ...], asked: Asked) -> dict[str, int]:
    """By profile: how many of the slices find no place, the largest placed first, each where it leaves the most."""
    short: dict[str, int] = {}
    for profile in _one_by_one(asked):
        options = _options(devices, states, profile)
        if options:
            states = options[0][-1]
        else:
            short[profile] = short.get(profile, 0) + 1
    return short


def lowest(
    devices: tuple[tuple[int, Kind], ...], states: tuple[State, ...], asked: Asked
) -> tuple[tuple[int, str, int], ...]:
    """The slices on the first devices that can take them, the largest first; those that fit nowhere are left out."""
    found: list[tuple[int, str, int]] = []
    for profile in _one_by_one(asked):
        for at, after in sorted((row[2], row[3]) for row in _options(devices, states, profile))[:1]:
            states = after
            found.append((devices[at][0], profile, 1))
    counts: dict[tuple[int, str], int] = {}
    for column, profile, _ in found:
        counts[column, profile] = counts.get((column, profile), 0) + 1
    return tuple((column, profile, count) for (column, profile), count in sorted(counts.items()))


def _lay(devices: tuple[tuple[int, Kind], ...], states: tuple[State, ...], asked: Asked) -> Layout | None:
    wanted = list(_one_by_one(asked))
    dead: set[tuple[int, tuple[State, ...]]] = set()

    def go(number: int, states: tuple[State, ...]) -> list[int] | None:
        if number == len(wanted):
            return []
        if (number, states) in dead:
            return None
        for _, _, at, after in _options(devices, states, wanted[number]):
            rest = go(number + 1, after)
            if rest is not None:
                return [at, *rest]
        dead.add((number, states))
        return None

    found = go(0, states)
    if found is None:
        return None
    counts: dict[tuple[int, str], int] = {}
    for at, profile in zip(found, wanted, strict=True):
        counts[devices[at][0], profile] = counts.get((devices[at][0], profile), 0) + 1
    slices = tuple((column, profile, count) for (column, profile), count in sorted(counts.items()))
    before = sum(kind.worth(state) for (_, kind), state in zip(devices, states, strict=True))
    after = added(devices, states, slices)
    return Layout(
        before - sum(kind.worth(state) for (_, kind), state in zip(devices, after, strict=True)), slices
    )


def _one_by_one(asked: Asked) -> Iterator[str]:
    """Each slice by itself, the largest first."""
    for profile, count in sorted(asked, key=lambda row: (-milli(row[0]), row[0])):
        yield from [profile] * count


def _options(
    devices: tuple[tuple[int, Kind], ...], states: tuple[State, ...], profile: str
) -> list[tuple[int, int, int, tuple[State, ...]]]:
    """Where one slice may go: what is lost there, what is left, the device, the states afterwards; the best first."""
    found: list[tuple[int, int, int, tuple[State, ...]]] = []
    seen: set[tuple[Kind, State]] = set()
    for at, ((_, kind), state) in enumerate(zip(devices, states, strict=True)):
        after = None if (kind, state) in seen else kind.plus(state, profile)
        seen.add((kind, state))
        if after is not None and kind.fits(after):
            left = kind.worth(after)
            found.append((kind.worth(state) - left, left, at, (*states[:at], after, *states[at + 1 :])))
    found.sort()
    return found


def costs(slices: tuple[tuple[int, str, int], ...]) -> tuple[tuple[int, int], ...]:
    """What slices cost of each device, in milli."""
    found: dict[int, int] = {}
    for column, profile, count in slices:
        found[column] = found.get(column, 0) + count * milli(profile)
    return tuple(found.items())
