"""The board: what a cluster looks like as text."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
from msgspec.structs import replace

from board import Sketch, queue
from formats.kit import snapshot
from gpumax.formats.board import draw_board
from gpumax.model.decision import Decision, Eviction, Hold, Place, Share
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceShare
from gpumax.policy.decide import decide

TEAMS = """
    now: 2026-11-23T12:00:00Z
    nodes:
      - {name: n1, cpu: 96, memory: 1Ti, devices: {count: 8, model: H100, memory: 80Gi}}
      - {name: n2, cpu: 96, memory: 1Ti, devices: [{model: A100}, {model: A100}, {model: A100, healthy: false}, {model: A100}]}
      - {name: n3, cordoned: true, devices: {count: 2, model: H100, memory: 80Gi}}
      - {name: n4, ready: false, devices: {count: 2, model: H100, memory: 80Gi}}
      - {name: cpu1, cpu: 64, memory: 256Gi}
    queues:
      - {name: research, quota: {gpu: 8, cpu: unlimited, memory: unlimited}}
      - {name: nlp, parent: research, quota: {gpu: 2, cpu: unlimited, memory: unlimited}}
      - {name: prod, quota: {gpu: 4, cpu: unlimited, memory: unlimited}, limit: {gpu: 6}}
    workloads:
      - name: train
        queue: nlp
        request: {gpu: 1, cpu: 8, memory: 32Gi}
        tasks:
          - {name: train-0, state: running, node: n1, devices: [{index: 0}]}
          - {name: train-1, state: running, node: n1, devices: [{index: 1}]}
          - {name: train-2, state: running, node: n1, devices: [{index: 2}]}
      - {name: notebook, queue: nlp, request: {gpu: 0.5, cpu: 2}, tasks: [{name: notebook-0, state: running, node: n2, devices: [{index: 0, milli: 500}]}]}
      - {name: serve, queue: prod, priority: 125, request: {gpu: 0.3}, tasks: [{name: serve-0, state: running, node: n2, devices: [{index: 0, milli: 300}]}]}
      - {name: old, queue: prod, request: {gpu: 1}, tasks: [{name: old-0, state: releasing, node: n2, devices: [{index: 1}]}]}
      - {name: new, queue: prod, submitted: 2026-11-23T11:59:00Z, request: {gpu: 1}, tasks: [{name: new-0}, {name: new-1}]}
      - {name: huge, queue: prod, submitted: 2026-11-23T11:50:00Z, request: {gpu: 7}, tasks: [{name: huge-0}]}
"""


DECISION = Decision(
    places=(Place("new-0", "n1", (DeviceShare(3, 1000),)), Place("new-1", "n2", (DeviceShare(3, 1000),))),
    holds=(Hold("huge", "OverLimit", "asks for 7 GPUs; the limit of queue prod is 6, so it can never start"),),
    shares=(
        Share("research", "gpu", 8000, 3500, 3500, 3500), Share("nlp", "gpu", 2000, 3500, 3500, 3500),
        Share("prod", "gpu", 4000, 6000, 300, 9300), Share("prod", "cpu", 0, 0, 0, 0),
    ),
)  # fmt: skip


def test_the_board_shows_who_holds_what_who_comes_and_who_waits_why() -> None:
    """Letters for workloads, tenths for fractions, x for unhealthy, ~ for leaving; a legend, bars of queues, and holds."""
    assert draw_board(snapshot(TEAMS), DECISION, width=80) == dedent("""\
        5 nodes, 4.8 of 16 GPUs held, 2 about to be, 1 unhealthy

        n1  eeea....     H100 80Gi, cpu 72 of 96 free, memory 928Gi free
        n2  [b5d3.2]~xa  A100, cpu 94 of 96 free
        n3  ..           H100 80Gi, cordoned
        n4  ..           H100 80Gi, not ready
        1 node without GPUs: 0 of 64 cores held

        a new (prod, starts)
        b notebook (nlp, 0.5 GPUs)
        c old (prod, leaves)
        d serve (prod, 0.3 GPUs)
        e train (nlp, 3 GPUs)

        prod      [#.........          ] holds 0.3 of quota 4, share 6, wants 9.3
        research  [#########...........] holds 3.5 of quota 8, share 3.5
          nlp     [#####++++           ] holds 3.5 of quota 2, share 3.5

        1 workload waits:
          huge (prod, 10m): OverLimit: asks for 7 GPUs; the limit of queue prod is 6, so
            it can never start""")


def test_without_a_decision_the_board_shows_what_is() -> None:
    """No places, no shares, no holds."""
    drawn = draw_board(snapshot(TEAMS))
    assert "n1  ddd.....     H100 80Gi" in drawn
    assert "prod      [##..................] holds 0.3 of quota 4" not in drawn
    assert "holds 0.3 of quota 4\n" in drawn
    assert "wait" not in drawn
    assert "share" not in drawn


def test_evictions_are_marked_and_told_with_whom_they_are_for() -> None:
    """`!` where somebody has to go; a line for each pair of who goes and for whom."""
    sketch = (
        Sketch("n1: aaaab...")
        .with_queues(queue("q", 1), queue("r", 7))
        .run("a", "q")
        .run("b", "r")
        .wait("c", "r", 5)
    )
    cluster = sketch.snapshot()
    evictions = (
        Eviction("a-2", "reclaim", "c"), Eviction("a-3", "reclaim", "c"), Eviction("b-0", "consolidate", "c", "n1", (DeviceShare(5, 1000),)),
    )  # fmt: skip
    drawn = draw_board(cluster, Decision(evictions=evictions))
    assert "n1  aa!!!b.." in drawn
    assert "! a: 2 tasks evicted for c (reclaim)\n! b: 1 task moved for c (consolidate)" in drawn
    assert "a a (q, 4 GPUs, is evicted)" in drawn


def test_places_that_wait_are_not_drawn_over_those_who_still_hold_the_room() -> None:
    """The picture never shows more than a whole device."""
    cluster = Sketch("n1: a").with_queues(queue("q", 1)).run("a", "q").wait("b", "q", 1).snapshot()
    place = Place("b-0", "n1", (DeviceShare(0, 1000),), ("a-0",))
    assert "\nn1  !  H100" in draw_board(cluster, Decision((place,), (Eviction("a-0", "reclaim", "b"),)))


def test_nodes_that_look_alike_are_one_line() -> None:
    """Neighbours by first and last name, others by their number; names count in them like people do."""
    rows = "\n".join(f"n{number}: {'a.' if number == 5 else '..'}" for number in range(12))
    cluster = Sketch(rows).with_queues(queue("q")).run("a", "q").snapshot()
    lines = draw_board(cluster).splitlines()
    assert [line.split("  ")[0] for line in lines[2:4]] == ["n0 and 10 alike", "n5"]
    empty = Sketch("\n".join(f"n{number}: ...." for number in range(1000))).snapshot()
    assert draw_board(empty).splitlines()[2] == "n0..n999 (1000 nodes)  ....  H100 80Gi"


def _large(nodes: int) -> Snapshot:
    """A cluster on which no two nodes look alike, with two queues for each node."""
    rows = []
    for number in range(nodes):
        rows.append(
            f"{{name: w{number}, queue: q{number}, request: {{gpu: 1}}, tasks: [{{name: w{number}-0, state: running, node: a-node-with-a-long-name-{number}, devices: [{{index: {number % 8}}}]}}]}}"
        )
    return snapshot(
        "nodes: [" + ", ".join(f"{{name: a-node-with-a-long-name-{number}, devices: {{count: 16, model: {'A100' if number % 3 else 'H100'}}}}}" for number in range(nodes))
        + "]\nqueues: [" + ", ".join(f"{{name: q{number}, quota: {{gpu: {number}}}}}" for number in range(2 * nodes))
        + "]\nworkloads: [" + ", ".join(rows) + "]"
    )  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_large_cluster_fits_the_terminal(width: int) -> None:
    """Whatever its size: no line is wider, and the lines are few; what isn't drawn is counted."""
    cluster = _large(300)
    holds = tuple(Hold(f"w{number}", "NoRoom", f"needs {number} GPUs on nodes " * 8) for number in range(300))
    drawn = draw_board(cluster, Decision(holds=holds), width=width)
    lines = drawn.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < 170
    assert "and 261 more nodes:" in lines
    assert "  A100: 174 nodes, 174 of 2,784 GPUs taken" in [line[:width] for line in lines] or width < 45
    assert "and 571 more queues" in lines
    assert "  and 285 more" in lines


def test_workloads_that_wait_for_the_same_thing_are_told_together() -> None:
    """The first by name, and how many more."""
    cluster = Sketch("n1: a").with_queues(queue("q")).run("a", "q").snapshot()
    holds = tuple(Hold(f"w{number}", "NoRoom", "needs 1 GPU") for number in range(5))
    assert "5 workloads wait:\n  w0 and 4 more: NoRoom: needs 1 GPU" in draw_board(
        cluster, Decision(holds=holds)
    )


def test_when_they_start_is_told_of_the_first() -> None:
    """As far as it is known."""
    cluster = Sketch("n1: a").with_queues(queue("q")).run("a", "q").snapshot()
    hold = Hold("w", "NoRoom", "needs 1 GPU", forecast_ms=cluster.now_ms + 90_000)
    assert "\n  w, starts in about 2m: NoRoom: needs 1 GPU" in draw_board(cluster, Decision(holds=(hold,)))
    more = (
        replace(hold, workload="v", forecast_ms=None),
        hold,
        replace(hold, workload="x", forecast_ms=1 << 41),
    )
    assert "v and 2 more, the first starts in about 2m: " in draw_board(cluster, Decision(holds=more))


def test_a_workload_has_one_letter_everywhere_and_none_is_the_sign_of_an_unhealthy_device() -> None:
    """Fifty-one workloads need no second letter."""
    text = "\n".join(
        f"n{number}: {'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwyz'[number]}." for number in range(51)
    )
    sketch = Sketch(text).with_queues(queue("q"))
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwyz":
        sketch.run(letter, "q")
    drawn = draw_board(sketch.snapshot(), width=300)
    assert "n0   a.  H100" in drawn
    assert not re.search(r"^n\d+ +x", drawn, re.MULTILINE)


def test_colour_changes_nothing_but_the_colour() -> None:
    """The same characters, and every colour is taken back."""
    cluster = snapshot(TEAMS)
    plain, coloured = (draw_board(cluster, DECISION, color=color) for color in (False, True))
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
    assert "\x1b" not in plain
    assert coloured.count("\x1b[0m") * 2 <= coloured.count("\x1b[") <= coloured.count("\x1b[0m") * 3


def test_what_is_held_on_unhealthy_devices_is_held() -> None:
    """The first line counts what the queues count, whatever has become of the devices."""
    cluster = snapshot("""
        nodes: [{name: n1, devices: [{}, {healthy: false}, {healthy: false}, {}]}]
        queues: [{name: q, quota: {gpu: 4}}]
        workloads:
          - name: a
            queue: q
            request: {gpu: 3}
            tasks: [{name: a-0, state: running, node: n1, devices: [{index: 0}, {index: 1}, {index: 2}]}]
    """)
    lines = draw_board(cluster, decide(cluster)).splitlines()
    assert lines[0] == "1 node, 3 of 4 GPUs held, 2 unhealthy"
    assert lines[2] == "n1  axx."
    assert "] holds 3 of quota 4" in lines[-1]


def test_narrow_lines_lose_whole_parts() -> None:
    """A number is told whole or not at all, and before the bar."""
    cluster = Sketch("n1: aaaaaaaa").with_queues(queue("a-queue", 120)).run("a", "a-queue").snapshot()
    whole = draw_board(cluster, decide(cluster), width=100).splitlines()[-1]
    assert whole == "a-queue  [##..................] holds 8 of quota 120, share 8"
    for width in range(40, len(whole)):
        (line,) = (
            line for line in draw_board(cluster, decide(cluster), width=width).splitlines() if "holds" in line
        )
        assert re.search(r"holds 8( of quota 120(, share 8)?)?$", line)
        assert len(line) <= width


def test_work_that_does_not_say_since_when_it_waits_has_no_age() -> None:
    """A snapshot need not tell; then nothing is made up."""
    cluster = snapshot("""
        now: 2026-11-23T12:00:00Z
        queues: [{name: q}]
        workloads: [{name: a, queue: q, request: {gpu: 1}, tasks: [{name: a-0}]}]
    """)
    assert "\n  a (q): " in draw_board(cluster, decide(cluster))


def test_an_empty_cluster_has_a_board() -> None:
    """It says so."""
    assert draw_board(Snapshot()) == "0 nodes, 0 of 0 GPUs held"
    assert (
        draw_board(snapshot("nodes: [{name: n, cpu: 4}]"))
        == "1 node, 0 of 0 GPUs held\n\n1 node and no GPU: 0 of 4 cores held"
    )


def test_names_of_any_length_leave_the_picture_readable() -> None:
    """They are cut, the picture is not."""
    name = "n" * 200
    cluster = snapshot(f"nodes: [{{name: {name}, devices: {{count: 8}}}}]\nqueues: [{{name: {name}}}]")
    drawn = draw_board(cluster, width=60)
    assert f"{'n' * 17}...  ........" in drawn
    assert max(map(len, drawn.splitlines())) <= 60


def test_the_board_of_what_was_decided_is_that_of_the_policy() -> None:
    """A decision of the real policy draws without a fault."""
    cluster = snapshot(TEAMS)
    assert "huge (prod, 10m): OverLimit" in draw_board(cluster, decide(cluster))
