"""A disruption budget that allows nothing keeps its pods from being asked to go; the decision takes others."""

from __future__ import annotations

import pytest

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide
from manifests import NOW_MS, Document, assembled, node, pod, queue, see


def budget(selector: Document | None, *, allowed: int = 0, namespace: str = "ml") -> Document:
    """A budget that allows so many evictions now."""
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "kept", "namespace": namespace},
        "spec": {} if selector is None else {"selector": selector},
        "status": {"disruptionsAllowed": allowed},
    }


def running(name: str, **labels: str) -> Document:
    """A pod of queue b that holds a GPU, and is ready."""
    made = pod(name, labels={"gpumax.dev/queue": "b", **labels}, gpu=1, node="n1", phase="Running")
    made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return made


def contested(*more: Document) -> Assembly:
    """Queue b holds both GPUs with app=kept and app=free; a asks for its one."""
    asker = pod("a", labels={"gpumax.dev/queue": "a"}, gpu=1)
    both = running("kept", app="kept"), running("free", app="free")
    return assembled(node("n1", 2), queue("a", 1), queue("b", 0), *both, asker, *more)


def evicted(assembly: Assembly) -> set[str]:
    """Who goes by the next decision."""
    return {row.task for row in decide(assembly.snapshot(NOW_MS, Policy())).evictions}


SELECTORS: list[tuple[Document | None, set[str] | None]] = [
    ({"matchLabels": {"app": "kept"}}, {"ml/free"}),
    ({"matchLabels": {"app": "free"}}, {"ml/kept"}),
    ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["free"]}]}, {"ml/free"}),
    ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, set()),
    ({"matchLabels": {"app": "kept"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}, None),
    ({}, set()),
    (None, None),
]


@pytest.mark.parametrize(("selector", "gone"), SELECTORS)
def test_whom_a_budget_keeps_is_not_asked_to_go(selector: Document | None, gone: set[str] | None) -> None:
    """An empty selector means all pods of the namespace, none no pod; None: as if there were no budget."""
    wanted = evicted(contested()) if gone is None else gone
    assert evicted(contested(budget(selector))) == wanted


def test_a_budget_with_room_keeps_nobody() -> None:
    """And neither does one of another namespace."""
    free = evicted(contested())
    assert evicted(contested(budget({}, allowed=1))) == free
    assert evicted(contested(budget({}, namespace="other"))) == free


def test_a_budget_is_followed() -> None:
    """As it is used up, allows something again, and goes."""
    assembly = contested(budget({}, allowed=1))
    assert len(evicted(assembly)) == 1
    see(assembly, budget({}))
    assert evicted(assembly) == set()
    see(assembly, budget({}, allowed=1))
    assert len(evicted(assembly)) == 1
    see(assembly, budget({}))
    assembly.see_budget("ml", "kept", None)
    assert len(evicted(assembly)) == 1


def test_a_pod_that_is_not_ready_may_be_asked_for() -> None:
    """The API server lets such pods go."""
    assembly = contested(budget({}))
    see(assembly, pod("free", labels={"gpumax.dev/queue": "b"}, gpu=1, node="n1", phase="Running"))
    assert evicted(assembly) == {"ml/free"}
