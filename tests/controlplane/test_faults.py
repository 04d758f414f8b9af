"""What goes wrong between a scheduler and its cluster; after each, the audit log proves that nothing was given out twice."""

from __future__ import annotations

import pytest

from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import QUEUES, Stage
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.policy.decide import decide


def test_the_api_server_is_killed_and_comes_back(stage: Stage, plane: ControlPlane) -> None:
    """What came before it went is bound, and so is what comes after; nothing is bound twice."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    stage.pod("before", queue)
    eventually(lambda: stage.where("before") == ["n1"], "the first is bound")
    plane.apiserver.kill()
    plane.apiserver.start()
    plane.await_ready()
    stage.pod("after", queue)
    eventually(lambda: stage.where("after") == ["n1"], "the second is bound")
    assert stage.where("before") == ["n1"]


def test_etcd_forgets_what_a_watch_would_go_on_from(stage: Stage, plane: ControlPlane) -> None:
    """Its server began anew and its history is gone: what is there is listed anew."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    stage.pod("before", queue)
    eventually(lambda: stage.where("before") == ["n1"], "the first is bound")
    plane.apiserver.kill()
    plane.apiserver.start()
    plane.await_ready()
    version = int(stage.api.get(stage.pods_path).json()["metadata"]["resourceVersion"])
    plane.compact(version)
    stage.pod("after", queue)
    eventually(lambda: stage.where("after") == ["n1"], "the second is bound")


def test_a_pod_is_gone_when_its_bind_arrives(stage: Stage) -> None:
    """Its room is free again, and the next decision gives it to somebody else."""
    stage.node("n1", 1)
    queue = stage.queue("a", 1)
    stage.cluster.start()
    stage.pod("gone", queue)
    name = f"{stage.name}/gone"
    stage.sees(lambda seen: name in tasks(seen), "it is seen")
    snapshot = stage.cluster.snapshot(stage.now_ms(), Policy())
    decision = decide(snapshot)
    assert [place.task for place in decision.places] == [name]
    stage.api.delete(f"{stage.pods_path}/gone")
    stage.cluster.carry_out(snapshot, decision)
    stage.cluster.settle()
    stage.sees(lambda seen: name not in tasks(seen), "it is seen to be gone")
    stage.pod("next", queue)
    stage.begin()
    eventually(lambda: stage.where() == ["n1"], "the next has its room")


def test_another_scheduler_takes_what_we_had_in_mind(stage: Stage) -> None:
    """What it bound is not there for us; ours wait, and come when it is gone."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    foreign = stage.template(queue, 4, name="foreign")
    foreign["spec"]["schedulerName"] = "somebody-else"
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **foreign})
    bind = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "foreign"},
        "target": {"kind": "Node", "name": f"{stage.name}-n1"},
    }
    stage.api.post(f"{stage.pods_path}/foreign/binding", json=bind).raise_for_status()
    stage.pod("ours", queue)
    eventually(
        lambda: stage.told("ours").get("reason") == "Unschedulable", "ours is told that there is no room"
    )
    assert stage.where("ours") == [""]
    stage.api.delete(f"{stage.pods_path}/foreign")
    eventually(lambda: stage.where("ours") == ["n1"], "ours is bound")


@pytest.mark.parametrize("how", ["cordoned", "tainted", "deleted"])
def test_a_node_goes_away_while_pods_come(stage: Stage, how: str) -> None:
    """Nothing new goes there."""
    stage.node("n1", 4)
    stage.node("n2", 4)
    queue = stage.queue("a", 8)
    stage.steer()
    path = f"/api/v1/nodes/{stage.name}-n1"
    if how == "deleted":
        stage.api.delete(path).raise_for_status()
    else:
        spec = (
            {"unschedulable": True}
            if how == "cordoned"
            else {"taints": [{"key": "gone", "effect": "NoExecute"}]}
        )
        stage.api.patch(
            path, json={"spec": spec}, headers={"content-type": "application/merge-patch+json"}
        ).raise_for_status()
    stage.sees_no_way_to("n1")
    for number in range(5):
        stage.pod(f"p{number}", queue)
    eventually(lambda: stage.where().count("n2") == 4, "n2 is full")
    waiting = next(name for name, row in stage.pods().items() if not row["spec"].get("nodeName"))
    eventually(lambda: bool(stage.told(waiting).get("message")), "the fifth is told")
    assert sorted(stage.where()) == ["", "n2", "n2", "n2", "n2"]


def test_a_queue_is_deleted_while_its_work_waits(stage: Stage) -> None:
    """Its pods are told so; made again, it serves them."""
    stage.node("n1", 1)
    queue = stage.queue("a", 1)
    stage.steer()
    stage.pod("first", queue)
    eventually(lambda: stage.where("first") == ["n1"], "the first is bound")
    stage.pod("second", queue)
    eventually(lambda: stage.told("second").get("reason") == "Unschedulable", "the second waits for room")
    stage.api.delete(f"{QUEUES}/{queue}").raise_for_status()
    eventually(lambda: stage.told("second").get("reason") == "QueueNotFound", "it waits for its queue")
    stage.queue("a", 1)
    stage.api.delete(f"{stage.pods_path}/first")
    eventually(lambda: stage.where("second") == ["n1"], "it is bound")


def test_a_tenant_floods_the_cluster_with_nonsense(stage: Stage) -> None:
    """Three hundred pods that are written wrongly; another tenant's is bound all the same."""
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    for number in range(300):
        stage.pod(f"bad{number}", queue, annotations={"gpu-fraction": "x" * 1000})
    stage.pod("good", queue)
    eventually(lambda: stage.where("good") == ["n1"], "the sound one is bound")
    eventually(lambda: stage.told("bad299").get("reason") == "Invalid", "the last of the others is told")
    assert set(stage.where("bad")) == {""}


def tasks(seen: Snapshot) -> set[str]:
    """What waits or runs."""
    return {task.name for row in seen.workloads for task in row.tasks}
