"""The measure that is looked up in a table is the paper's formula, before and after a task is placed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from gpumax.model.node import Node
from gpumax.model.trace import Arrival
from gpumax.study.inflate.field import Field, shape_of
from gpumax.study.inflate.measure import Measure, typical
from study.fields import ARRIVALS, NODES, arrival, first_fit, fits, fragments, free, model, node


@settings(max_examples=150, deadline=None)
@given(NODES, ARRIVALS, ARRIVALS)
def test_the_table_says_what_the_formula_says(nodes: tuple[Node, ...], run: tuple[Arrival, ...], come: tuple[Arrival, ...]) -> None:  # fmt: skip
    """Of every node, as it is, and with one more task on its fullest devices, or on each of them."""
    field, shapes = Field(nodes), typical(map(shape_of, come))
    first_fit(field, run)
    measure, rows = Measure(field, shapes), np.arange(len(nodes))
    for row, found in enumerate(measure.fragments(rows).tolist()):
        assert found == pytest.approx(float(fragments(model(field, row), *free(field, row), shapes)))
    shape = shape_of(come[0])
    for row in rows.tolist():
        if not fits(field, shape, row):
            continue
        (cpu, left), need = free(field, row), field.usable(shape)[1][row]
        if shape.part:
            each = measure.after_each(np.array([row]), shape.cpu, need[None])[0].tolist()
            for column, milli in enumerate(left):
                if milli >= shape.milli:
                    placed = [other - shape.milli * (at == column) for at, other in enumerate(left)]
                    wanted = fragments(model(field, row), cpu - shape.cpu, placed, shapes)
                    assert each[column] == pytest.approx(float(wanted))


def test_work_without_gpus_finds_all_of_them_of_no_use() -> None:
    """Half of what comes asks for none: half of what is free counts as fragments."""
    field = Field((node(0, 2),))
    measure = Measure(field, typical(map(shape_of, (arrival(0, 1), arrival(1, 0, cpu=1_000)))))
    assert measure.fragments(np.array([0])).tolist() == [1000.0]


def test_what_comes_seldom_is_not_typical() -> None:
    """The most frequent shapes that make up 95 of 100 arrivals; of equal ones the smaller first."""
    rows = [*[arrival(at, 1) for at in range(90)], *[arrival(at, 1, 500) for at in range(5)]]
    rows += [arrival(at, 2) for at in range(5)]
    assert [shape.milli * shape.devices for shape in typical(map(shape_of, rows))] == [1000, 500]


def test_memory_tells_no_shapes_apart() -> None:
    """As in the paper."""
    rows = (arrival(0, 1, memory=1_024), arrival(1, 1, memory=2_048))
    assert list(typical(map(shape_of, rows)).values()) == [2]
