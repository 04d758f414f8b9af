"""Shares: quota first, the rest by priority and weight; checked by hand and against exact water-filling."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from board import Sketch, gpus, queue
from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.model.workload import Request, Task
from gpumax.policy.decide import decide
from gpumax.policy.share import Claim, divide


def claim(name: str, quota: float, want: float, weight: float | None = None, *, priority: int = 100, created: int = 0, usage: int = 0) -> Claim:  # fmt: skip
    weight_milli = round((weight if weight is not None else quota or 1) * 1000)
    return Claim(name, round(quota * 1000), round(want * 1000), weight_milli, priority, created, usage)


def shares(total: float, *claims: Claim, fairness_k: int = 1_000_000) -> list[float]:
    return [
        share / 1000 for share in divide(round(total * 1000), list(claims), unit=1000, fairness_k=fairness_k)
    ]


def test_everyone_gets_the_quota_that_is_wanted() -> None:
    assert shares(8, claim("a", 4, 9), claim("b", 4, 4)) == [4, 4]


def test_what_is_not_wanted_goes_to_others() -> None:
    assert shares(8, claim("a", 4, 9), claim("b", 4, 1)) == [7, 1]


def test_what_is_left_is_dealt_by_weight() -> None:
    assert shares(12, claim("a", 0, 99, 3), claim("b", 0, 99, 1)) == [9, 3]


def test_weight_defaults_to_the_quota() -> None:
    assert shares(16, claim("a", 6, 99), claim("b", 2, 99)) == [12, 4]


def test_weight_zero_gets_nothing_beyond_quota() -> None:
    assert shares(8, claim("a", 2, 99, 0), claim("b", 2, 4)) == [2, 4]


def test_higher_priority_is_filled_first() -> None:
    assert shares(8, claim("a", 1, 5, priority=2), claim("b", 1, 9, priority=1)) == [5, 3]


def test_the_odd_gpu_stays_in_its_priority() -> None:
    assert shares(
        5, claim("a", 0, 5, priority=2), claim("b", 0, 5, priority=2), claim("c", 0, 5, priority=1)
    ) == [3, 2, 0]


def test_leftover_gpus_go_by_largest_remainder_then_age_then_name() -> None:
    assert shares(5, claim("a", 0, 9, 2), claim("b", 0, 9, 1, created=1)) == [3, 2]
    assert shares(3, claim("a", 0, 9, created=2), claim("b", 0, 9, created=1)) == [1, 2]
    assert shares(3, claim("b", 0, 9), claim("a", 0, 9)) == [1, 2]


def test_gpus_are_dealt_whole_but_a_queue_that_lacks_less_gets_just_that() -> None:
    assert shares(4, claim("a", 0, 0.5), claim("b", 0, 9), claim("c", 0, 9)) == [0.5, 2, 1.5]


def test_quotas_beyond_what_there_is_are_cut_by_priority_then_in_proportion() -> None:
    assert shares(8, claim("a", 8, 8), claim("b", 8, 8), claim("c", 4, 4, priority=200)) == [2, 2, 4]
    assert shares(6, claim("a", 8, 9), claim("b", 4, 9)) == [4, 2]
    assert shares(1, claim("a", 1, 1), claim("b", 1, 1), claim("c", 1, 1)) == [0.334, 0.333, 0.333]


def test_a_cut_never_gives_more_than_is_wanted() -> None:
    assert shares(6, claim("a", 8, 1), claim("b", 8, 9)) == [1, 5]


def test_past_use_lowers_the_part() -> None:
    # w = 1/2 each; s_a = 1/2 + (1/2 - 1/2) = 1/2, s_b = 1/2 + 1/2 = 1
    assert shares(12, claim("a", 0, 99, usage=500_000), claim("b", 0, 99)) == [4, 8]
    assert shares(12, claim("a", 0, 99, usage=500_000), claim("b", 0, 99), fairness_k=0) == [6, 6]


def test_children_share_their_parents_share() -> None:
    queues = (queue("x", 6), queue("y", 2), queue("a", 9, parent="x"), queue("b", 1, parent="x"))
    sketch = Sketch("n1: ........").with_queues(*queues)
    sketch.wait("A", "a", tasks=8).wait("B", "b", tasks=8).wait("Y", "y", tasks=8)
    found = {
        share.queue: share.share / 1000
        for share in decide(sketch.snapshot()).shares
        if share.resource == "gpu"
    }
    assert found == {"x": 6, "y": 2, "a": 5.4, "b": 0.6}


def test_a_parents_demand_is_that_of_all_work_below_it_within_its_own_limit() -> None:
    queues = (
        queue("x", 4, limit=6),
        queue("y", 4),
        queue("a", 4, limit=1, parent="x"),
        queue("b", 0, parent="x"),
    )
    sketch = Sketch("n1: ........").with_queues(*queues).wait("A", "a", tasks=9).wait("Y", "y", tasks=2)
    found = {
        share.queue: share.share / 1000
        for share in decide(sketch.snapshot()).shares
        if share.resource == "gpu"
    }
    assert found == {"x": 6, "y": 2, "a": 1, "b": 0}


def test_a_cut_is_reported() -> None:
    sketch = (
        Sketch("n1: ....")
        .with_queues(queue("a", 4), queue("b", 4))
        .wait("A", "a", gpu=4)
        .wait("B", "b", gpu=4)
    )
    (warning,) = decide(sketch.snapshot()).warnings
    assert "quotas of gpu" in warning
    assert "8 of 4" in warning


def test_a_cut_says_how_much_of_the_quotas_is_wanted() -> None:
    """Three of each four."""
    sketch = Sketch("n1: ....").with_queues(queue("a", 4), queue("b", 4))
    (warning,) = decide(sketch.wait("A", "a", gpu=3).wait("B", "b", gpu=3).snapshot()).warnings
    assert "6 of 4" in warning


def test_releasing_work_counts_for_nobody() -> None:
    sketch = Sketch("n1: bb").with_queues(queue("b", 2)).run("b", "b", state_="releasing")
    (gpu,) = (share for share in decide(sketch.snapshot()).shares if share.resource == "gpu")
    assert (gpu.allocated, gpu.demand) == (0, 0)


def test_a_request_by_memory_counts_by_the_smallest_gpu_until_it_is_placed() -> None:
    sketch = Sketch("n1: .").with_queues(queue("q", 1)).wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=gpus(1, memory_mib=20_480)),))
    (gpu,) = (share for share in decide(sketch.snapshot()).shares if share.resource == "gpu")
    assert gpu.demand == 250


def test_cores_and_memory_are_divided_like_gpus() -> None:
    sketch = Sketch("n1: ..", Policy()).node("n1", cpu_milli=3000, memory_mib=3000)
    sketch.queues = [Queue("a", quota=Amounts(0, 1000, 0)), Queue("b")]
    for letter, name in (("A", "a"), ("B", "b")):
        sketch.wait(letter, name)
        request = gpus(0)
        sketch.change(
            letter, tasks=(Task(name=letter, request=type(request)(cpu_milli=3000, memory_mib=3000)),)
        )
    found = {(share.queue, share.resource): share.share for share in decide(sketch.snapshot()).shares}
    assert found["a", "cpu"] == 2000
    assert found["b", "cpu"] == 1000
    assert found["a", "memory"] == 1500


amounts = st.integers(0, 30).map(lambda halves: halves * 500)
claims = st.lists(
    st.builds(
        Claim, name=st.just(""), quota=amounts, want=amounts, weight=st.integers(0, 5).map(lambda n: n * 1000),
        priority=st.integers(1, 3), created_ms=st.integers(0, 3), usage=st.just(0),
    ),
    min_size=1, max_size=7,
).map(lambda rows: [row._replace(name=f"q{number}") for number, row in enumerate(rows)])  # fmt: skip


def water_fill(left: Fraction, rows: list[Claim], have: list[Fraction]) -> list[Fraction]:
    """Exact parts by weight, capped by want: raise one level until it meets a cap, again and again."""
    parts = list(have)
    while left > 0:
        open_rows = [i for i, row in enumerate(rows) if parts[i] < row.want and row.weight > 0]
        if not open_rows:
            break
        weight = sum(rows[i].weight for i in open_rows)
        rise = min((rows[i].want - parts[i]) / Fraction(rows[i].weight) for i in open_rows)
        rise = min(rise, left / weight)
        for i in open_rows:
            parts[i] += rise * rows[i].weight
        left -= rise * weight
    return parts


@given(st.integers(0, 60).map(lambda halves: halves * 500), claims)
def test_shares_are_exact_water_filling_up_to_one_gpu(total: int, rows: list[Claim]) -> None:
    found = divide(total, rows, unit=1000, fairness_k=1_000_000)
    assert sum(found) <= total
    for share, row in zip(found, rows, strict=True):
        assert 0 <= share <= row.want
    needs = [min(row.quota, row.want) for row in rows]
    if sum(needs) > total:
        return
    assert all(share >= need for share, need in zip(found, needs, strict=True))
    left = Fraction(total - sum(needs))
    parts = [Fraction(need) for need in needs]
    for priority in sorted({row.priority for row in rows}, reverse=True):
        members = [i for i, row in enumerate(rows) if row.priority == priority]
        exact = water_fill(left, [rows[i] for i in members], [parts[i] for i in members])
        for i, part in zip(members, exact, strict=True):
            assert abs(part - found[i]) <= 1000
        # Nothing is left to a lower priority while this one wants more.
        given_here = sum(found[i] - needs[i] for i in members)
        assert given_here == sum(exact) - sum(parts[i] for i in members)
        left -= given_here


@given(st.integers(0, 60).map(lambda halves: halves * 500), claims, st.randoms(use_true_random=False))
def test_the_order_of_queues_changes_no_share(total: int, rows: list[Claim], chance: object) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    straight = dict(
        zip([row.name for row in rows], divide(total, rows, unit=1000, fairness_k=0), strict=True)
    )
    crooked = dict(
        zip([row.name for row in shuffled], divide(total, shuffled, unit=1000, fairness_k=0), strict=True)
    )
    assert straight == crooked


def test_leftovers_of_a_cut_go_by_largest_remainder() -> None:
    # 3/7, 2/7 and 2/7 of a GPU are 428 4/7, 285 5/7 and 285 5/7 thousandths
    assert shares(1, claim("a", 3, 3), claim("b", 2, 2), claim("c", 2, 2)) == [0.428, 0.286, 0.286]


def test_who_has_used_far_more_than_its_part_gets_nothing_and_never_less() -> None:
    # w = 1/4 and s = 1/4 + (1/4 - 9/10) < 0
    assert shares(8, claim("a", 0, 99, 1, usage=900_000), claim("b", 0, 99, 3)) == [0, 8]


def test_cores_and_memory_are_dealt_to_the_last_unit() -> None:
    """Ten of each for three queues that want all: four, three and three."""
    sketch = Sketch("n1:").node("n1", cpu_milli=10, memory_mib=10)
    for name in "abc":
        sketch.queues.append(Queue(name))
        sketch.wait(name.upper(), name, request=Request(cpu_milli=10, memory_mib=10))
    found = {(row.queue, row.resource): row.share for row in decide(sketch.snapshot()).shares}
    assert [found[name, resource] for resource in ("cpu", "memory") for name in "abc"] == [4, 3, 3, 4, 3, 3]
