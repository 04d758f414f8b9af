"""Small clusters being filled, drawn at random, and the FGD paper's measure written out as its formula."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from gpumax.model.node import Device, Node
from gpumax.model.trace import Arrival
from gpumax.study.inflate.field import Field, Shape, shape_of

MODELS = ("a", "b")


def node(number: int, count: int, *, model: str = "a", cpu: int = 32_000, memory: int = 65_536) -> Node:
    devices = tuple(Device(index, model, 16_384) for index in range(count))
    return Node(f"n{number:02d}", cpu_milli=cpu, memory_mib=memory, devices=devices)


def arrival(number: int, devices: int, milli: int = 1000, *, cpu: int = 0, memory: int = 0, models: tuple[str, ...] = ()) -> Arrival:  # fmt: skip
    return Arrival(f"a{number:03d}", 0, 0, devices, milli, models=models, cpu_milli=cpu, memory_mib=memory)


NODES = st.lists(
    st.builds(
        lambda count, model, cpu: (count, model, cpu),
        st.integers(1, 4), st.sampled_from(MODELS), st.sampled_from((4_000, 16_000, 32_000)),
    ), min_size=1, max_size=5,
).map(lambda rows: tuple(node(at, count, model=model, cpu=cpu) for at, (count, model, cpu) in enumerate(rows)))  # fmt: skip
ASKED = st.builds(
    lambda asked, cpu, memory, models: (*asked, cpu, memory, models),
    st.sampled_from(((0, 1000), (1, 1000), (1, 1000), (1, 500), (1, 300), (1, 810), (2, 1000), (2, 400), (4, 1000))),
    st.sampled_from((0, 1_000, 4_000, 12_000)), st.sampled_from((0, 16_384)),
    st.sampled_from(((), (), ("a",), ("a", "b"))),
)  # fmt: skip
ARRIVALS = st.lists(ASKED, min_size=1, max_size=25).map(
    lambda rows: tuple(
        arrival(at, devices, milli, cpu=cpu, memory=memory, models=models)
        for at, (devices, milli, cpu, memory, models) in enumerate(rows)
    )
)


def free(field: Field, row: int) -> tuple[int, list[int]]:
    """Cores and milli of each device that a node has left."""
    count = int(field.columns[row])
    return int(field.room.cpu[row]), field.room.devices[row].tolist()[:count]


def model(field: Field, row: int) -> str:
    return field.nodes.nodes[row].devices[0].model


def fragments(kind: str, cpu: int, left: list[int], shapes: dict[Shape, int]) -> Fraction:
    """F of the paper for a node of one model."""
    total = Fraction(0)
    for shape, times in shapes.items():
        able = [milli for milli in left if milli >= shape.milli]
        hosts = (
            shape.devices > 0
            and (not shape.models or kind in shape.models)
            and cpu >= shape.cpu
            and len(able) >= shape.devices
        )
        total += times * (sum(left) - (sum(able) if hosts else 0))
    return total / sum(shapes.values())


def first_fit(field: Field, arrivals: tuple[Arrival, ...]) -> None:
    """Fill some of it, so that nodes differ."""
    for one in arrivals:
        shape = shape_of(one)
        for row in range(len(field.nodes.nodes)):
            if fits(field, shape, row):
                field.take(shape, row, field.fullest(shape, row))
                break


def fits(field: Field, shape: Shape, row: int) -> bool:
    cpu, left = free(field, row)
    able = [milli for milli in left if milli >= shape.milli]
    kind = not shape.models or model(field, row) in shape.models
    memory = int(field.room.memory[row]) >= shape.memory
    return cpu >= shape.cpu and memory and (not shape.devices or (kind and len(able) >= shape.devices))
