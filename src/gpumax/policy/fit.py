"""Where a task could run: filters that no decision changes, and the room that there is."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from gpumax.model.decision import NodeReason
from gpumax.model.node import Node, Taint
from gpumax.model.workload import Affinity, NodeTerm, Toleration
from gpumax.policy.ask import Ask, Filter
from gpumax.policy.crowd import NO_COLUMNS, Crowd
from gpumax.policy.free import FEW, MANY, Room
from gpumax.policy.labels import holds
from gpumax.policy.nodes import Bools, Ints, Nodes, how_many
from gpumax.policy.slices import Asked, State
from gpumax.policy.ties import Tied
from gpumax.units import MILLI

SOFT_TAINT: Final = 1 << 20
"""How much one PreferNoSchedule taint that isn't tolerated weighs; more than preferred affinity terms together."""


class Fits:
    """Masks over the nodes, one a filter and one an ask: what depends on the nodes alone is remembered."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._nowhere: Bools = np.zeros(len(nodes.nodes), np.bool_)
        self._refusals: dict[Filter, list[NodeReason | None]] = {}
        self._open: dict[tuple[Ask, int], Bools] = {}
        self._plain: dict[Filter, Filter] = {}
        self._wishes: dict[Filter, Ints | None] = {}

    def refusals(self, wanted: Filter) -> list[NodeReason | None]:
        """For each node why the filter refuses it; None where it doesn't."""
        wanted = self._alone(wanted)
        known = self._refusals.get(wanted)
        if known is None:
            known = self._refusals[wanted] = [_refusal(node, wanted) for node in self.nodes.nodes]
        return known

    def _alone(self, wanted: Filter) -> Filter:
        """The filter as far as it looks at nodes: what tasks of many kinds share."""
        if wanted.tied is None:
            return wanted
        known = self._plain.get(wanted)
        if known is None:
            known = self._plain[wanted] = wanted._replace(tied=None)
        return known

    def possible(self, ask: Ask, choice: int) -> Bools:
        """The nodes that could take the ask if they were empty, with the device alternative `choice`."""
        ask = ask.plain
        known = self._open.get((ask, choice))
        if known is None:
            mask = np.array([reason is None for reason in self.refusals(ask.filter)], np.bool_)
            nodes = self.nodes
            mask &= (nodes.cpu >= ask.cpu) & (nodes.memory >= ask.memory) & (nodes.tasks != 0)
            for name, amount in ask.extended:
                mask &= nodes.extended[name] >= amount if name in nodes.extended else False
            if ask.slices:
                mask &= _with_slices(self.nodes, self.nodes.sliced.empty(), ask.slices)
            gpu = ask.gpu[choice]
            if gpu is not None:
                mask &= how_many(self.nodes.usable(gpu)[0]) >= gpu.devices
            known = self._open[ask, choice] = mask
        return known

    def fitting(self, room: Room, ask: Ask, choice: int, coming: frozenset[int] = NO_COLUMNS) -> Bools:
        """The nodes that have room for the ask and where nothing that ties it to other tasks speaks against it.

        coming: what those who are to be placed with it bring. Not to be written on.
        """
        mask = self.roomy(room, ask, choice)
        tied = ask.filter.tied
        return mask if tied is None or room.crowd is None else mask & room.crowd.welcomes(tied, coming)

    def open_to(self, room: Room, ask: Ask, choice: int) -> Bools:
        """`fitting`, whomever it needs around it: what only shrinks while tasks are placed."""
        mask = self.roomy(room, ask, choice)
        tied = ask.filter.tied
        return mask if tied is None or room.crowd is None else mask & room.crowd.open(tied)

    def roomy(self, room: Room, ask: Ask, choice: int) -> Bools:
        """The nodes that have room for the ask, whatever ties it to other tasks; only nodes that changed since the last look are looked at again.

        Not to be written on.
        """
        ask = ask.plain
        seen, mask = room.masks.get((ask, choice), (-1, self._nowhere))
        changes = len(room.touched)
        if seen == changes:
            return mask
        rows = list(dict.fromkeys(room.touched[seen:])) if seen >= 0 else []
        if 0 < len(rows) <= FEW:
            mask = mask.copy()
            possible = self.possible(ask, choice)
            for row in rows:
                mask[row] = possible[row] and _fits_on(room, ask, choice, row)
        elif 0 < MANY * len(rows) < mask.size:
            mask = mask.copy()
            at = np.array(rows, np.int64)
            mask[at] = self._look(room, ask, choice, at)
        else:
            mask = self._look(room, ask, choice, slice(None))
        room.keep((ask, choice), mask)
        return mask

    def _look(self, room: Room, ask: Ask, choice: int, at: Ints | slice) -> Bools:
        """Whether these nodes have room for the ask."""
        mask = self.possible(ask, choice)[at] & (room.tasks[at] >= 1)
        if ask.cpu:
            mask &= room.cpu[at] >= ask.cpu
        if ask.memory:
            mask &= room.memory[at] >= ask.memory
        for name, amount in ask.extended:
            mask &= room.extended[name][at] >= amount if name in room.extended else False
        if ask.slices:
            mask &= _with_slices(self.nodes, room.slices, ask.slices)[at]
        gpu = ask.gpu[choice]
        if gpu is not None:
            mask &= room.view(gpu).fitting[at] >= gpu.devices
        return mask

    def most(self, room: Room, ask: Ask, choice: int, count: int) -> Ints:
        """For each node at most how many such tasks it has room for; `count` stands for enough."""
        fits: Ints = np.where(self.open_to(room, ask, choice), count, 0)
        bounds = [room.tasks]
        if ask.cpu:
            bounds.append(room.cpu // ask.cpu)
        if ask.memory:
            bounds.append(room.memory // ask.memory)
        bounds += [room.extended[name] // amount for name, amount in ask.extended if name in room.extended]
        gpu = ask.gpu[choice]
        if gpu is not None:
            usable, need = self.nodes.usable(gpu)
            parts: Ints = np.where(usable, room.devices // np.maximum(need, 1), 0)
            bounds.append(parts.sum(axis=1) // gpu.devices)
        for bound in bounds:
            fits = np.minimum(fits, bound)
        return np.maximum(fits, 0)

    def wishes(self, wanted: Filter) -> Ints | None:
        """How much the filter's soft parts like each node; None where they like all the same."""
        wanted = self._alone(wanted)
        if wanted not in self._wishes:
            likes = np.array([_liking(node, wanted) for node in self.nodes.nodes], np.int64)
            self._wishes[wanted] = likes if likes.size and (likes != likes[0]).any() else None
        return self._wishes[wanted]

    def reasons(self, room: Room, ask: Ask) -> dict[str, int]:
        """How many nodes can't take the ask now, by the first reason of the closed list that applies; most first."""
        counts: Counter[NodeReason] = Counter(why for why in self.refusals(ask.filter) if why is not None)
        left = np.array([why is None for why in self.refusals(ask.filter)], np.bool_)
        missing = left if ask.gpu[0] is not None else np.zeros_like(left)
        nothing = np.zeros_like(left)
        fits_by_count = nothing.copy()
        for gpu in ask.gpu:
            if gpu is not None:
                missing = missing & (room.view(gpu).fitting < gpu.devices)
                other_model = how_many(self.nodes.usable(gpu)[0]) < gpu.devices
                fits_by_count |= (
                    other_model & (self.nodes.gpus >= gpu.devices * MILLI) if gpu.model else False
                )
        tests: list[tuple[NodeReason, Bools]] = [
            ("ModelMismatch", missing & fits_by_count),
            ("NotEnoughGpu", missing),
            (
                "NotEnoughSlices",
                ~_with_slices(self.nodes, room.slices, ask.slices) if ask.slices else nothing,
            ),
            ("NotEnoughCpu", room.cpu < ask.cpu),
            ("NotEnoughMemory", room.memory < ask.memory),
        ]
        for name, amount in ask.extended:
            tests.append(
                ("NotEnoughExtended", room.extended[name] < amount if name in room.extended else left)
            )
        tests.append(("TooManyTasks", room.tasks < 1))
        if ask.filter.tied is not None and room.crowd is not None:
            tests += _apart(room.crowd, ask.filter.tied)
        for reason, fails in tests:
            counts[reason] += int((left & fails).sum())
            left = left & ~fails
        return dict(
            sorted(((why, n) for why, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
        )


def _apart(crowd: Crowd, tied: Tied) -> list[tuple[NodeReason, Bools]]:
    """The nodes that ties to other tasks rule out."""
    kinds = {number: crowd.ties.columns[number].kind for number in tied.shuns}
    own = [number for number, kind in kinds.items() if kind == "meant"]
    others = [number for number, kind in kinds.items() if kind != "meant"]
    return [
        ("TaskAffinityMismatch", ~crowd.near(tied)),
        ("TaskAntiAffinityMismatch", ~crowd.empty(own)),
        ("KeptAwayByTask", ~crowd.empty(others)),
    ]


def _with_slices(nodes: Nodes, states: dict[int, tuple[State, ...]], asked: Asked) -> Bools:
    """The nodes whose devices have these slices left."""
    mask = np.zeros(len(nodes.nodes), np.bool_)
    for row, held in states.items():
        mask[row] = nodes.sliced.layout(row, held, asked) is not None
    return mask


def _fits_on(room: Room, ask: Ask, choice: int, row: int) -> bool:
    gpu = ask.gpu[choice]
    return bool(
        room.tasks[row] >= 1
        and room.cpu[row] >= ask.cpu
        and room.memory[row] >= ask.memory
        and (gpu is None or room.view(gpu).fitting[row] >= gpu.devices)
        and (not ask.slices or room.layout(row, ask.slices) is not None)
        and all(name in room.extended and room.extended[name][row] >= amount for name, amount in ask.extended)
    )


def _refusal(node: Node, wanted: Filter) -> NodeReason | None:
    if not node.ready:
        return "NotReady"
    if node.cordoned:
        return "Cordoned"
    if wanted.pool and node.pool != wanted.pool:
        return "WrongPool"
    if any(
        taint.effect != "PreferNoSchedule" and not _tolerated(taint, wanted.tolerations)
        for taint in node.taints
    ):
        return "TaintNotTolerated"
    if any(node.labels.get(key) != value for key, value in wanted.selector):
        return "SelectorMismatch"
    if wanted.affinity is not None and not _required(wanted.affinity, node):
        return "AffinityMismatch"
    return None


def _tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    """As Kubernetes matches them: an empty effect matches all effects, Exists with an empty key everything."""
    for toleration in tolerations:
        if toleration.effect not in ("", taint.effect):
            continue
        if toleration.key not in ("", taint.key) or (
            toleration.key == "" and toleration.operator != "Exists"
        ):
            continue
        if toleration.operator == "Exists" or toleration.value == taint.value:
            return True
    return False


def _required(affinity: Affinity, node: Node) -> bool:
    return affinity.required is None or any(_matches(term, node) for term in affinity.required)


def _matches(term: NodeTerm, node: Node) -> bool:
    """All expressions hold; a term without expressions matches nothing, as in Kubernetes."""
    if not term.labels and not term.fields:
        return False
    return all(holds(expression, node.labels) for expression in term.labels) and all(
        holds(expression, {"metadata.name": node.name}) for expression in term.fields
    )


def _liking(node: Node, wanted: Filter) -> int:
    likes = 0
    for taint in node.taints:
        if taint.effect == "PreferNoSchedule" and not _tolerated(taint, wanted.tolerations):
            likes -= SOFT_TAINT
    if wanted.affinity is not None:
        likes += sum(weight for weight, term in wanted.affinity.preferred if _matches(term, node))
    return likes
