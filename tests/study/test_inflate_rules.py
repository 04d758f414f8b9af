"""Each rule takes the first of the nodes that its formula in the paper's artifact likes best."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from gpumax.model.node import Node
from gpumax.model.trace import Arrival
from gpumax.study.inflate.field import Field, Shape, shape_of
from gpumax.study.inflate.measure import typical
from gpumax.study.inflate.play import RULES
from study.fields import ARRIVALS, NODES, arrival, fits, fragments, free, model, node

Likes = Callable[[Field, Shape, int, tuple[Arrival, ...]], int]


def bestfit(field: Field, shape: Shape, row: int, _: tuple[Arrival, ...]) -> int:
    cpu, left = free(field, row)
    gpus = sum(left) - shape.devices * shape.milli
    return int(100 * (1 - 0.5 * (cpu - shape.cpu) / 128_000 - 0.5 * gpus / 8000))


def dotprod(field: Field, shape: Shape, row: int, _: tuple[Arrival, ...]) -> int:
    cpu, left = free(field, row)
    asked = shape.devices * shape.milli
    return int(100 * (1 - (cpu / 128_000 * shape.cpu / 128_000 + sum(left) / 8000 * asked / 8000) / 2))


def packing(field: Field, shape: Shape, row: int, _: tuple[Arrival, ...]) -> int:
    _cpu, left = free(field, row)
    if not shape.devices:
        return 0
    if all(milli == 1000 for milli in left):
        return max(33 - len(left), len(left))
    taken = sorted(milli for milli in left if milli >= shape.milli)[: shape.devices]
    if taken.count(1000):
        return max(50 - taken.count(1000), 33)
    return max(100 - sum(milli * 100 // 1000 for milli in taken) // 10, 50)


def fgd(field: Field, shape: Shape, row: int, come: tuple[Arrival, ...]) -> int:
    (cpu, left), shapes = free(field, row), typical(map(shape_of, come))
    before, scores = fragments(model(field, row), cpu, left, shapes), []
    able = sorted((milli, at) for at, milli in enumerate(left) if milli >= shape.milli)
    sets = [[pair] for pair in able] if shape.part else [able[: shape.devices]]
    for taken in sets:
        columns = [at for _, at in taken]
        after = [milli - shape.milli * (at in columns) for at, milli in enumerate(left)]
        fewer = before - fragments(model(field, row), cpu - shape.cpu, after, shapes)
        scores.append(int(100 / (1 + math.exp(-float(fewer) / 1000))))
    return max(scores)


LIKES: dict[str, Likes] = {"bestfit": bestfit, "dotprod": dotprod, "packing": packing, "fgd": fgd}


@pytest.mark.parametrize("name", sorted(LIKES))
@settings(max_examples=60, deadline=None)
@given(nodes=NODES, come=ARRIVALS)
def test_the_first_of_the_best_nodes_is_taken(name: str, nodes: tuple[Node, ...], come: tuple[Arrival, ...]) -> None:  # fmt: skip
    """Arrival after arrival, on a cluster that fills up."""
    field = Field(nodes)
    rule = RULES[name](field, come, 42)
    for one in come:
        shape = shape_of(one)
        rows = [row for row in range(len(nodes)) if fits(field, shape, row)]
        likes = {row: LIKES[name](field, shape, row, come) for row in rows}
        before = [free(field, row) for row in range(len(nodes))]
        got = rule.place(one)
        changed = [row for row in range(len(nodes)) if free(field, row) != before[row]]
        assert (got is None) == (not rows)
        if rows and (shape.devices or shape.cpu):
            assert changed == [max(rows, key=lambda row: (likes[row], -row))]


@settings(max_examples=60, deadline=None)
@given(nodes=NODES, come=ARRIVALS)
def test_no_rule_takes_more_than_there_is_or_refuses_what_fits(nodes: tuple[Node, ...], come: tuple[Arrival, ...]) -> None:  # fmt: skip
    """Whatever comes."""
    for name, rule in RULES.items():
        field = Field(nodes)
        filler = rule(field, come, 42)
        for one in come:
            shape = shape_of(one)
            if name == "bestfit-whole" and shape.devices:
                shape = shape._replace(milli=1000)
            fitting = any(fits(field, shape, row) for row in range(len(nodes)))
            assert (filler.place(one) is not None) == fitting, name
            assert min(field.room.devices.min(), field.room.cpu.min(), field.room.memory.min()) >= 0


def filled(name: str, nodes: tuple[Node, ...], *come: Arrival) -> list[list[int]]:
    """What is free of each node's devices once these have come."""
    field = Field(nodes)
    rule = RULES[name](field, come, 42)
    for one in come:
        rule.place(one)
    return [free(field, row)[1] for row in range(len(nodes))]


def test_clustering_puts_work_of_one_size_together() -> None:
    """A part of a GPU goes beside another part, a whole one to an empty node, the next one beside that."""
    nodes = (node(0, 4), node(1, 4))
    come = (arrival(0, 1, 500), arrival(1, 1), arrival(2, 1, 500), arrival(3, 1))
    assert filled("clustering", nodes, *come) == [[0, 1000, 1000, 1000], [0, 0, 1000, 1000]]


def test_clustering_prefers_a_node_that_holds_nothing_else() -> None:
    """The first node holds both sizes by now."""
    nodes = (node(0, 2), node(1, 8))
    come = (arrival(0, 1, 500), arrival(1, 8), arrival(2, 1), arrival(3, 1, 900))
    assert filled("clustering", nodes, *come)[0] == [500, 0]


def test_chance_takes_any_node_and_any_device() -> None:
    """Over many seeds each of them."""
    nodes, taken = (node(0, 2), node(1, 2)), set()
    for seed in range(40):
        field = Field(nodes)
        RULES["random"](field, (), seed).place(arrival(0, 1, 500))
        taken.add(tuple(field.room.devices.reshape(-1).tolist()))
    assert len(taken) == 4


def test_where_there_are_no_fractions_half_a_gpu_takes_all_of_it() -> None:
    """But only what was asked for counts."""
    field = Field((node(0, 1),))
    rule = RULES["bestfit-whole"](field, (), 42)
    assert rule.place(arrival(0, 1, 500)) == 500
    assert rule.place(arrival(1, 1, 500)) is None
