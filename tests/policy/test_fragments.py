"""Of nodes that are equal otherwise, the one takes a task where the least comes to be of no use to the work that comes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from board import NOW_MS, Sketch, check, gpus, queue
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Placement, Policy, Snapshot
from gpumax.model.workload import DeviceAsk, DeviceShare, Group, Request, Task, Workload
from gpumax.policy.census import census_of
from gpumax.policy.decide import decide
from gpumax.policy.fragments import typical
from thorough import examples

SPREAD = Policy(placement=Placement(gpu="spread", cpu="spread"))


def one_queue(nodes: str, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", 64))


def besides(sketch: Sketch, letter: str, **amounts: int) -> Sketch:
    """Every task of a workload asks for cores or memory, too."""
    rows = sketch.workloads[letter].tasks
    changed = tuple(replace(row, request=replace(row.request, **amounts)) for row in rows)
    return sketch.change(letter, tasks=changed)


# Boards


def test_a_hole_of_two_gpus_stays_where_work_comes_that_asks_for_two() -> None:
    """Both nodes have two GPUs free; on n2 they are one whole one and two halves. Without D the order of nodes decides."""
    nodes = "n1: ee..\nn2: e[b5][c5]."
    sketch = one_queue(nodes).run("b", "q").run("c", "q").run("e", "q").wait("A", "q")
    check(sketch, "n1: eeA.\nn2: e[b5.5][c5.5].")
    check(sketch.wait("D", "q", gpu=2, priority=40), "n1: eeDD\nn2: e[b5.5][c5.5]A")


def test_a_hole_of_eight_gpus_stays_though_a_larger_node_is_as_empty() -> None:
    """Half of each node is free. What work of eight GPUs can't use anyway goes first."""
    sketch = one_queue("n1: bbbbbbbb........\nn2: cccc....", SPREAD).run("b", "q").run("c", "q")
    sketch.wait("A", "q").wait("D", "q", gpu=8, priority=40)
    check(sketch, "n1: bbbbbbbbDDDDDDDD\nn2: ccccA...")


def test_of_many_kinds_of_work_those_count_that_most_tasks_ask() -> None:
    """Twenty kinds, the rarest first in the file; sixteen count."""
    sketch = one_queue("n1: .")
    for at in range(20):
        sketch.wait(f"w{at:02}", "q", tasks=1 + at // 2)
        besides(sketch, f"w{at:02}", cpu_milli=1_000 + at)
    found = typical(census_of(sketch.snapshot()))
    assert [(kind.tasks, kind.cpu) for kind in found] == [
        (1 + at // 2, 1_000 + at) for half in range(9, 1, -1) for at in (2 * half, 2 * half + 1)
    ]


@pytest.mark.parametrize(("h100", "l4", "after"), [(3, 1, "n1: .\nn2: A"), (1, 3, "n1: A\nn2: .")])
def test_what_most_tasks_ask_counts_most(h100: int, l4: int, after: str) -> None:
    """Work of two models comes, more of the one than of the other; A takes any."""
    sketch = one_queue("n1: .\nn2: .").node("n2", devices=(Device(0, "L4", 24_576),)).wait("A", "q")
    for letter, model, tasks in (("D", "H100", h100), ("E", "L4", l4)):
        rows = tuple(
            Task(f"{letter}-{number}", state="gated", request=gpus(1, model=model)) for number in range(tasks)
        )
        sketch.wait(letter, "q").change(letter, tasks=rows)
    check(sketch, after)


@pytest.mark.parametrize("resource", ["cpu_milli", "memory_mib"])
def test_gpus_that_no_cores_or_memory_are_left_for_go_to_work_that_needs_little(resource: str) -> None:
    """n2 has two thousand of it left: the work that usually comes needs eight, A needs one."""
    sketch = one_queue("n1: bb..\nn2: bb..").run("b", "q")
    sketch.node("n1", **{resource: 16_000}).node("n2", **{resource: 2_000})
    besides(sketch.wait("A", "q"), "A", **{resource: 1_000})
    besides(sketch.wait("D", "q", tasks=2, priority=40), "D", **{resource: 8_000})
    check(sketch, "n1: bbDD\nn2: bbA.")


def test_work_without_gpus_leaves_cores_to_idle_gpus() -> None:
    """Both nodes have sixteen cores free; on n2 no GPU is left that they could serve."""
    sketch = (
        one_queue("n1: ..\nn2: bb").run("b", "q").node("n1", cpu_milli=16_000).node("n2", cpu_milli=16_000)
    )
    besides(sketch.wait("A", "q", gpu=0), "A", cpu_milli=9_000)
    besides(sketch.wait("D", "q", tasks=2, priority=40), "D", cpu_milli=8_000)
    check(sketch, "n1: DD\nn2: bb")
    places = {place.task: place.node for place in decide(sketch.snapshot()).places}
    assert places["A-0"] == "n2"


def test_work_that_takes_any_gpu_leaves_the_model_that_others_ask_for() -> None:
    """D wants an H100 and no other."""
    sketch = one_queue("n1: .\nn2: .").node("n2", devices=(Device(0, "L4", 24_576),))
    check(sketch.wait("A", "q"), "n1: A\nn2: .")
    sketch.wait("D", "q", request=gpus(1, model="H100"), priority=40)
    check(sketch, "n1: D\nn2: A")


def test_pack_comes_before_it() -> None:
    """n1 is fuller, and A goes there though it breaks the hole that D fits."""
    sketch = one_queue("n1: ebb..\nn2: ...[c5]").run("b", "q").run("c", "q").run("e", "q").wait("A", "q")
    check(sketch.wait("D", "q", gpu=2, priority=40), "n1: ebbA.\nn2: DD.[c5.5]")


def test_equal_requests_are_one_kind_however_they_are_written() -> None:
    """Counted by what is asked, most frequent first; work without GPUs is none."""
    sketch = (
        one_queue("n1: ....")
        .wait("A", "q", tasks=2)
        .wait("B", "q")
        .wait("C", "q", gpu=0.5)
        .wait("D", "q", gpu=0)
    )
    kinds = typical(census_of(sketch.snapshot()))
    assert [(kind.gpu, kind.tasks) for kind in kinds] == [
        ((DeviceAsk(1, 1000),), 3), ((DeviceAsk(1, 500),), 1),
    ]  # fmt: skip


# Against the formula


def fragments(node: Node, free: dict[int, int], cpu: int, memory: int, typical: list[Request]) -> Fraction:
    """F of the paper, as a mean over all work: what each task can't use of the milli-devices that a node has free."""
    idle = Fraction(0)
    for request in typical:
        best = 0
        for ask in request.gpu:
            fit = [
                left
                for device in node.devices
                if (left := free[device.index]) >= ask.milli and ask.model in ("", device.model)
            ]
            able = cpu >= request.cpu_milli and memory >= request.memory_mib and len(fit) >= ask.devices
            best = max(best, sum(fit) if able else 0)
        idle += Fraction(sum(free.values()) - best, len(typical))
    return idle


REQUESTS = st.builds(
    lambda devices, milli, cpu, memory, model: Request(
        (DeviceAsk(devices, milli, 0, model),), cpu, memory
    ),
    st.sampled_from((1, 1, 1, 2)), st.sampled_from((1000, 1000, 500, 300)), st.sampled_from((0, 1000, 4000)),
    st.sampled_from((0, 0, 64)), st.sampled_from(("", "", "", "a")),
)  # fmt: skip
EITHER = st.builds(
    lambda one, other: Request(one.gpu + other.gpu, one.cpu_milli, one.memory_mib), REQUESTS, REQUESTS
)


class _Filling:
    """A node being filled."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.free = {device.index: 1000 for device in node.devices}
        self.cpu, self.memory = node.cpu_milli, node.memory_mib

    def fits(self, request: Request, index: int) -> bool:
        """Whether a device can take its part."""
        (ask,) = request.gpu
        return self.free[index] >= ask.milli and ask.model in ("", self.node.devices[index].model)

    def fit(self, request: Request) -> list[int] | None:
        """The fullest devices that fit."""
        (ask,) = request.gpu
        fit = [index for index in self.free if self.fits(request, index)]
        if len(fit) < ask.devices or self.cpu < request.cpu_milli or self.memory < request.memory_mib:
            return None
        return sorted(fit, key=lambda index: (self.free[index], index))[: ask.devices]

    def fragments(self, typical: list[Request]) -> Fraction:
        """As it is now."""
        return fragments(self.node, self.free, self.cpu, self.memory, typical)

    def take(self, request: Request, indexes: list[int]) -> None:
        """Count a task that was placed."""
        for index in indexes:
            self.free[index] -= request.gpu[0].milli
        self.cpu -= request.cpu_milli
        self.memory -= request.memory_mib


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Snapshot, list[_Filling], Request]:
    """Nodes with work on them, work that comes and fits nowhere, and one task that waits."""
    rows = []
    for number in range(draw(st.integers(2, 5))):
        models = draw(st.lists(st.sampled_from("aab"), min_size=2, max_size=4))
        devices = tuple(Device(index, model, 80) for index, model in enumerate(models))
        node = Node(
            f"n{number}", cpu_milli=draw(st.sampled_from((4000, 8000))), memory_mib=128, devices=devices
        )
        rows.append(_Filling(node))
    work = []
    for number in range(draw(st.integers(0, 8))):
        row, request = draw(st.sampled_from(rows)), draw(REQUESTS)
        indexes = row.fit(request)
        if indexes is not None:
            row.take(request, indexes)
            shares = tuple(DeviceShare(index, request.gpu[0].milli) for index in sorted(indexes))
            work.append(Task(f"r{number}", "", "running", row.node.name, shares, request=request))
    asks = draw(st.lists(st.one_of(REQUESTS, EITHER), max_size=3))
    work += [Task(f"g{number}", state="gated", request=ask) for number, ask in enumerate(asks)]
    asked = draw(REQUESTS)
    work.append(Task("w", request=asked))
    loads = tuple(Workload(task.name, "q", groups=(Group("", 1),), tasks=(task,)) for task in work)
    snapshot = Snapshot(NOW_MS, tuple(row.node for row in rows), (queue("q", 64),), loads)
    return snapshot, rows, asked


@pytest.mark.deep
@settings(max_examples=examples(100, 400), deadline=None)
@given(clusters())
def test_the_formula_of_the_paper_breaks_ties_and_then_the_order_of_nodes(
    drawn: tuple[Snapshot, list[_Filling], Request],
) -> None:
    """Fullest shared device, fullest node, fewest new fragments, name."""
    snapshot, rows, asked = drawn
    typical = [work.tasks[0].request for work in snapshot.workloads]
    (ask,) = asked.gpu
    found = []
    for row in rows:
        indexes = row.fit(asked)
        if indexes is not None:
            shared = [left for index, left in row.free.items() if row.fits(asked, index) and left < 1000]
            fullest = min(shared, default=1000) if ask.milli < 1000 else 0
            free, before = sum(row.free.values()), row.fragments(typical)
            row.take(asked, indexes)
            found.append((fullest, free, row.fragments(typical) - before, row.node.name))
    places = decide(snapshot, ["allocate"]).places
    assert [place.node for place in places] == [min(found)[3]] if found else not places
