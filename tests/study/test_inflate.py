"""A cluster is filled as the FGD paper does it: what comes, in which order, and what is counted."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gpumax.errors import Refused
from gpumax.formats.scenario import POLICIES
from gpumax.model.study import Effort, Run, Scenario
from gpumax.study.inflate import RULES, inflate
from gpumax.study.inflate.draw import drawn, milli, shuffled
from study.fields import arrival, node

NODES = tuple(node(at, 4) for at in range(10))
COME = tuple(
    arrival(at, *((1, 300), (1, 700), (1, 1000), (2, 1000))[at % 4], cpu=1_000 * (at % 3)) for at in range(40)
)
SCENARIO = Scenario("small", "inflate", NODES, arrivals=COME)


def played(policy: str, seed: int = 42, scenario: Scenario = SCENARIO) -> Run:
    """Without what deciding cost."""
    return replace(inflate(scenario, policy, seed, lambda _: None), scheduler=Effort(0, 0.0, 0.0))


def test_all_of_the_list_comes_and_then_copies_of_it() -> None:
    """Until the next would ask for more than was said."""
    rows = drawn(COME, 52_000, 42)
    assert sorted(row.name for row in rows[:40]) == [row.name for row in COME]
    assert {row.name.partition("-copy-")[0] for row in rows[40:]} <= {row.name for row in COME}
    assert 51_000 <= sum(map(milli, rows)) <= 53_000
    assert len({row.name for row in rows}) == len(rows)


def test_of_a_list_that_asks_for_too_much_some_are_left_out() -> None:
    """Any of them."""
    rows = drawn(COME, 20_000, 42)
    assert 18_000 <= sum(map(milli, rows)) <= 20_000
    assert {row.name for row in rows} < {row.name for row in COME}


def test_the_order_of_rows_in_a_file_does_not_matter() -> None:
    """Arrivals and nodes are sorted by name before they are shuffled."""
    assert drawn(COME, 52_000, 42) == drawn(COME[::-1], 52_000, 42)
    assert shuffled(NODES, 42) == shuffled(NODES[::-1], 42)


def test_seeds_give_other_orders() -> None:
    """Of arrivals and of nodes, and of their names, by which equal nodes are told apart."""
    assert drawn(COME, 52_000, 42) != drawn(COME, 52_000, 43)
    nodes = shuffled(NODES, 42)
    assert [row.name for row in nodes] == sorted(row.name for row in nodes)
    assert [row.name[-3:] for row in nodes] != [row.name[-3:] for row in shuffled(NODES, 43)]


@pytest.mark.parametrize("policy", sorted(RULES))
def test_equal_seeds_give_equal_runs(policy: str) -> None:
    """To the last digit."""
    assert played(policy) == played(policy)


@pytest.mark.parametrize("policy", sorted(RULES))
def test_never_more_is_given_than_was_asked_for(policy: str) -> None:
    """By percent of the capacity that was asked for; nobody leaves, so it never falls."""
    run = played(policy)
    parts = {int(percent): part for percent, part in run.allocation.items()}
    assert list(parts) == list(range(131))
    assert all(part <= (percent + 0.5) / 100 and part <= 1 for percent, part in parts.items())
    assert list(parts.values()) == sorted(parts.values())
    assert run.use.requested == pytest.approx(parts[130], abs=0.02)


def test_all_is_given_as_long_as_there_is_room_for_all() -> None:
    """A tenth of the capacity: whatever the rule, everybody finds a place."""
    run = played("bestfit", scenario=replace(SCENARIO, arrived=100))
    assert run.use.requested == pytest.approx(0.1, abs=0.03)
    assert run.placed == run.arrived.workloads


def test_what_no_empty_cluster_could_hold_is_counted() -> None:
    """It has its attempt, too."""
    come = (*COME, arrival(99, 8))
    run = played("bestfit", scenario=replace(SCENARIO, arrivals=come))
    assert run.arrived.never == 1


def test_who_interrupts_gets_what_came_until_then() -> None:
    """And is told that it is not all."""

    def stop(part: float) -> None:
        if part > 0.5:
            raise KeyboardInterrupt

    run = inflate(SCENARIO, "bestfit", 42, stop)
    assert not run.finished
    assert 60 <= max(map(int, run.allocation)) <= 75


def test_an_unknown_rule_is_named() -> None:
    """With those that there are."""
    with pytest.raises(Refused, match=r"wurst.*bestfit"):
        inflate(SCENARIO, "wurst", 42, lambda _: None)


def test_every_rule_can_be_named_in_a_scenario() -> None:
    """And no other."""
    assert set(POLICIES["inflate"]) == set(RULES)
