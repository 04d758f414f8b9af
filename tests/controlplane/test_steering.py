"""The loop steers a real cluster: pods are bound, gangs start together, queues take back what is theirs, and everybody is told why."""

from __future__ import annotations

from controlplane.processes import eventually
from controlplane.stage import Stage


def test_pods_are_bound_where_they_fit(stage: Stage) -> None:
    """Packed on one node, as placement says, whatever was there before we came."""
    stage.node("n1", 4)
    stage.node("n2", 4)
    queue = stage.queue("a", 8)
    stage.pod("early", queue, 2)
    stage.steer()
    eventually(lambda: stage.where() != [""], "the pod that waited is bound")
    stage.pod("late", queue, 2)
    eventually(lambda: "" not in stage.where(), "both are bound")
    first, second = stage.where()
    assert first == second


def test_a_gang_starts_together_or_not_at_all(stage: Stage) -> None:
    """Six of eight GPUs are taken: the gang of four waits, is told so once, and starts when there is room for all of it."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    for number in range(3):
        stage.pod(f"b{number}", queue, 2)
    stage.steer()
    eventually(lambda: "" not in stage.where("b"), "those before it are bound")
    stage.gang("g", queue, 4)
    eventually(lambda: len(stage.where("g")) == 4, "its pods are there")
    (one, *_) = [name for name in stage.pods() if name.startswith("g")]
    eventually(lambda: "4 x 1 GPU together" in stage.told(one).get("message", ""), "it is told why it waits")
    assert stage.where("g") == ["", "", "", ""]
    assert stage.told(one)["reason"] == "Unschedulable"
    eventually(lambda: ("GangNoRoom", one) in stage.events(), "there is an event, too")
    stage.api.delete(f"{stage.pods_path}/b0")
    eventually(lambda: stage.where("g") == ["n1"] * 4, "the gang is bound")


def test_a_queue_takes_back_what_it_is_due(stage: Stage) -> None:
    """b used all of the cluster; the gang of a gets its four, and b keeps its own."""
    stage.node("n1", 8)
    a, b = stage.queue("a", 4), stage.queue("b", 4)
    for number in range(8):
        stage.pod(f"b{number}", b)
    stage.steer()
    eventually(lambda: "" not in stage.where("b"), "b is bound")
    stage.gang("g", a, 4)
    eventually(lambda: stage.where("g") == ["n1"] * 4, "a is bound")
    assert len(stage.where("b")) == 4
    assert len([name for reason, name in stage.events() if reason == "Reclaimed"]) == 4


def test_what_is_wrong_with_a_pod_is_told_on_it(stage: Stage) -> None:
    """And the others are served."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    stage.pod("wrong", queue, 1, annotations={"gpu-fraction": "1.5"})
    stage.pod("lost", f"{stage.name}-nobody")
    stage.pod("right", queue)
    eventually(lambda: stage.where("right") == ["n1"], "the sound one is bound")
    eventually(lambda: stage.told("wrong").get("reason") == "Invalid", "the fault is told")
    assert "gpu-fraction" in stage.told("wrong")["message"]
    eventually(
        lambda: stage.told("lost").get("reason") == "QueueNotFound", "a queue that isn't there is told"
    )


def test_a_wrong_pod_is_told_so_where_nothing_else_happens(stage: Stage) -> None:
    """It is in no snapshot, so that nothing is decided for it."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.pod("right", queue)
    stage.steer()
    eventually(lambda: stage.pods()["right"]["status"]["phase"] == "Running", "the sound one runs")
    eventually(lambda: _quiet(stage), "it has come to rest")
    stage.pod("wrong", queue, 1, annotations={"gpu-fraction": "1.5"})
    eventually(lambda: stage.told("wrong").get("reason") == "Invalid", "the fault is told")


def _quiet(stage: Stage) -> bool:
    """Whether cycles came in which nothing was decided."""
    found = stage.steering.status
    return found["cycles"] > found["decisions"]


def test_nobody_who_was_bound_is_told_that_they_wait(stage: Stage) -> None:
    """However fast pods come: what was to be told of a pod that was bound since is dropped."""
    stage.node("n1", 64)
    queue = stage.queue("a", 64)
    stage.steer()
    for number in range(8):
        stage.gang(f"g{number}", queue, 4)
    eventually(lambda: len(stage.where()) == 32 and "" not in stage.where(), "all are bound")
    stage.cluster.settle()
    assert {stage.told(name)["status"] for name in stage.pods()} == {"True"}


def test_evictions_that_a_budget_forbids_are_not_asked_for_again_and_again(stage: Stage) -> None:
    """The pods stay, and so does who wants their room; others can be taken instead."""
    stage.node("n1", 4)
    a, b = stage.queue("a", 4), stage.queue("b", 0)
    for number in range(2):
        stage.pod(f"kept{number}", b, labels={"app": "kept"})
    stage.pod("b0", b)
    stage.pod("b1", b)
    stage.post(
        f"/apis/policy/v1/namespaces/{stage.name}/poddisruptionbudgets",
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kept"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "kept"}}},
        },
    )  # fmt: skip
    stage.steer()
    # A budget counts pods that run; one that is just bound may always go.
    eventually(lambda: {one["status"]["phase"] for one in stage.pods().values()} == {"Running"}, "b runs")
    stage.pod("a0", a, 2)
    eventually(lambda: stage.where("a0") == ["n1"], "a gets its two")
    assert stage.where("kept") == ["n1", "n1"]
    assert stage.cluster.counts["evictions"] <= 4


def test_what_a_budget_keeps_is_known_before_it_is_asked_for(stage: Stage) -> None:
    """The disruption controller has counted: nobody but the two that may go is asked to."""
    stage.node("n1", 4)
    a, b = stage.queue("a", 4), stage.queue("b", 0)
    budgets = f"/apis/policy/v1/namespaces/{stage.name}/poddisruptionbudgets"
    stage.post(
        budgets,
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kept"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "kept"}}},
        },
    )  # fmt: skip
    stage.steer()
    for name in ("b0", "b1"):
        stage.pod(name, b)
    for name in ("kept0", "kept1"):  # the youngest, so the first to go
        stage.pod(name, b, labels={"app": "kept"})

    def counted() -> bool:
        status = stage.api.get(f"{budgets}/kept").json().get("status", {})
        return bool(status.get("currentHealthy") == 2 and status["disruptionsAllowed"] == 0)

    eventually(counted, "the budget is used up")
    stage.pod("a0", a, 2)
    eventually(lambda: stage.where("a0") == ["n1"], "a gets its two")
    assert stage.where("kept") == ["n1", "n1"]
    assert stage.cluster.counts["evictions"] == 2
