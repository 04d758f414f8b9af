"""Which pods are one workload, and how many of each role start together: kind by kind."""

from __future__ import annotations

from typing import Any

import pytest

from gpumax.engines.kubernetes.grouping.declared import declared
from gpumax.formats.shape import Bad
from gpumax.model.snapshot import Policy
from manifests import Document, assembled, gangs, owned, pod, see, several, snapshot, written

JOBSET = "jobset.sigs.k8s.io/replicatedjob-name"
TYPE = "training.kubeflow.org/replica-type"
ROLE = "training.kubeflow.org/job-role"


def job(name: str = "train", **spec: Any) -> Document:
    """A Job."""
    document = written(f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}")
    return {**document, "spec": spec}


def test_an_indexed_job_all_of_whose_pods_run_at_once_is_a_gang() -> None:
    """completions == parallelism: each waits for all, as upstream's own gang scheduling has it."""
    owner = job(completionMode="Indexed", completions=4, parallelism=4)
    assert gangs(snapshot(owner, *several(4, "train", owner=owner))) == {"ml/job/train": {"": (4, 4)}}


@pytest.mark.parametrize(
    "spec",
    [
        {"completions": 100, "parallelism": 4},
        {"completionMode": "Indexed", "completions": 100, "parallelism": 4},
        {"completionMode": "NonIndexed", "completions": 4, "parallelism": 4},
        {},
    ],
)
def test_a_job_of_independent_pods_starts_with_one(spec: dict[str, Any]) -> None:
    """A queue of work, index by index or not: one pod is enough."""
    owner = job(**spec)
    assert gangs(snapshot(owner, *several(4, "train", owner=owner))) == {"ml/job/train": {"": (1, 4)}}


@pytest.mark.parametrize("key", ["gpumax.dev/min", "kai.scheduler/batch-min-member"])
def test_an_annotation_gives_the_minimum_of_a_job(key: str) -> None:
    """On the job, by our name or by the peer's."""
    owner = job(completions=100, parallelism=4)
    owner["metadata"]["annotations"] = {key: "3"}
    assert gangs(snapshot(owner, *several(4, "train", owner=owner))) == {"ml/job/train": {"": (3, 4)}}


def test_tasks_that_are_done_are_not_waited_for() -> None:
    """Two of four indexes are complete, and one failed and was made anew: what is left may run."""
    owner = job(completionMode="Indexed", completions=4, parallelism=4)
    pods = several(4, "train", owner=owner)
    for one, phase in zip(pods, ("Succeeded", "Succeeded", "Running", "Failed"), strict=True):
        one["status"]["phase"] = phase
        one["spec"]["nodeName"] = "n1"
    found = snapshot(owner, *pods, pod("train-3-again", owner=owner))
    assert gangs(found) == {"ml/job/train": {"": (2, 4)}}
    assert [task.state for task in found.workloads[0].tasks] == [
        "succeeded",
        "succeeded",
        "running",
        "pending",
    ]


def test_a_job_set_has_a_role_for_each_replicated_job() -> None:
    """replicas x parallelism of each; a Trainer's job is the set that it makes."""
    trainer = written("apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: llm}")
    jobs = owned(
        written("""
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: llm}
spec:
  replicatedJobs:
  - {name: launcher, replicas: 1, template: {spec: {parallelism: 1, completions: 1}}}
  - {name: node, replicas: 2, template: {spec: {parallelism: 4, completions: 4}}}
"""),
        trainer,
    )
    first, second = owned(job("llm-launcher-0"), jobs), owned(job("llm-node-0"), jobs)
    found = snapshot(
        trainer, jobs, first, second,
        pod("launcher", owner=first, labels={JOBSET: "launcher"}), *several(8, "node", owner=second, labels={JOBSET: "node"}),
    )  # fmt: skip
    assert gangs(found) == {"ml/jobset/llm": {"launcher": (1, 1), "node": (8, 8)}}
    assert [task.name for task in found.workloads[0].tasks if task.priority] == ["ml/launcher"]


def test_jobs_that_start_after_others_are_not_waited_for() -> None:
    """In order: the second comes to be when the first is ready, and would never come if the first waited for it."""
    jobs = written("""
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: llm}
spec:
  startupPolicy: {startupPolicyOrder: InOrder}
  replicatedJobs:
  - {name: data, replicas: 1, template: {spec: {parallelism: 2, completions: 2}}}
  - {name: node, replicas: 1, template: {spec: {parallelism: 4, completions: 4}}}
""")
    first = owned(job("llm-data-0"), jobs)
    early = several(2, "data", owner=first, labels={JOBSET: "data"})
    assert gangs(snapshot(jobs, first, *early)) == {"ml/jobset/llm": {"data": (2, 2)}}
    second = owned(job("llm-node-0"), jobs)
    late = several(4, "node", owner=second, labels={JOBSET: "node"})
    found = gangs(snapshot(jobs, first, second, *early, *late))
    assert found == {"ml/jobset/llm": {"data": (2, 2), "node": (4, 4)}}


def pytorch(extra: str = "") -> Document:
    """A job of Kubeflow's first trainer."""
    return written(f"""
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {{name: bert}}
spec:
  pytorchReplicaSpecs: {{Master: {{replicas: 1}}, Worker: {{replicas: 3}}}}
{extra}
""")


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ("", {"master": (1, 1), "worker": (3, 3)}),
        ("  elasticPolicy: {minReplicas: 2, maxReplicas: 6}", {"master": (1, 1), "worker": (2, 3)}),
        ("  runPolicy: {schedulingPolicy: {minAvailable: 2}}", {"": (2, 4)}),
        ("  runPolicy: {schedulingPolicy: {minAvailable: 4}}", {"master": (1, 1), "worker": (3, 3)}),
    ],
)
def test_a_kubeflow_job_has_its_replica_types_as_roles(extra: str, wanted: dict[str, object]) -> None:
    """An elastic one may start smaller; its own minimum counts for all together."""
    owner = pytorch(extra)
    pods = [
        pod("bert-master-0", owner=owner, labels={TYPE: "master"}),
        *several(3, "bert-worker", owner=owner, labels={TYPE: "worker"}),
    ]
    assert gangs(snapshot(owner, *pods)) == {"ml/pytorchjob/bert": wanted}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("TFJob", "tfReplicaSpecs"),
        ("XGBoostJob", "xgbReplicaSpecs"),
        ("PaddleJob", "paddleReplicaSpecs"),
        ("JAXJob", "jaxReplicaSpecs"),
    ],
)
def test_other_kubeflow_jobs_differ_in_a_name(kind: str, field: str) -> None:
    """The field of their replicas."""
    owner = written(
        f"apiVersion: kubeflow.org/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{{field}: {{Worker: {{replicas: 2}}}}}}"
    )
    found = snapshot(owner, *several(2, "w", owner=owner, labels={TYPE: "worker"}))
    assert gangs(found) == {f"ml/{kind.lower()}/x": {"worker": (2, 2)}}


@pytest.mark.parametrize("version", ["v1", "v2beta1"])
@pytest.mark.parametrize("waits", [False, True])
def test_an_mpi_job_waits_for_its_launcher_only_where_that_comes_at_once(
    version: str, *, waits: bool
) -> None:
    """The launcher's pod belongs to a Job of the MPIJob; where it waits for the workers, it comes later."""
    policy = "launcherCreationPolicy: WaitForWorkersReady, " if waits else ""
    owner = written(
        f"apiVersion: kubeflow.org/{version}\nkind: MPIJob\nmetadata: {{name: horovod}}\n"
        f"spec: {{{policy}mpiReplicaSpecs: {{Launcher: {{replicas: 1}}, Worker: {{replicas: 2}}}}}}"
    )
    workers = several(2, "w", owner=owner, labels={ROLE: "worker"})
    early = gangs(snapshot(owner, *workers))
    assert early == {"ml/mpijob/horovod": {"worker": (2, 2)} | ({} if waits else {"launcher": (1, 0)})}
    inner = owned(job("horovod-launcher"), owner)
    found = gangs(snapshot(owner, inner, *workers, pod("l", owner=inner, labels={ROLE: "launcher"})))
    assert found == {"ml/mpijob/horovod": {"worker": (2, 2), "launcher": (1, 1)}}


@pytest.mark.parametrize(
    ("scales", "wanted"),
    [
        (False, {"head": (1, 1), "worker/big": (4, 4), "worker/small": (3, 3)}),
        (True, {"head": (1, 4), "worker/big": (2, 4)}),
    ],
)
def test_a_ray_cluster_starts_with_its_head_and_workers(*, scales: bool, wanted: dict[str, object]) -> None:
    """As many as it asks for; where Ray scales it, as few as it may have, and the rest are extras."""
    job_of_ray = written("apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: sim}")
    owner = owned(
        written(f"""
apiVersion: ray.io/v1
kind: RayCluster
metadata: {{name: sim-x7}}
spec:
  enableInTreeAutoscaling: {str(scales).lower()}
  workerGroupSpecs:
  - {{groupName: big, replicas: 2, minReplicas: 1, numOfHosts: 2}}
  - {{groupName: small, replicas: 3, minReplicas: 0}}
"""),
        job_of_ray,
    )
    pods = [
        pod("head", owner=owner, labels={"ray.io/node-type": "head", "ray.io/group": "headgroup"}),
        *several(4, "big", owner=owner, labels={"ray.io/node-type": "worker", "ray.io/group": "big"}),
        *several(3, "small", owner=owner, labels={"ray.io/node-type": "worker", "ray.io/group": "small"}),
    ]
    found = gangs(snapshot(job_of_ray, owner, *pods))
    assert found == {"ml/raycluster/sim-x7": wanted}


def test_who_submits_to_ray_is_not_part_of_the_cluster() -> None:
    """The submitter comes when the cluster is ready: a gang of both would wait for ever."""
    job_of_ray = written("apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {name: sim}")
    submitter = owned(job("sim-submit"), job_of_ray)
    assert gangs(snapshot(job_of_ray, submitter, pod("s", owner=submitter))) == {
        "ml/job/sim-submit": {"": (1, 1)}
    }


def leaders(policy: str = "LeaderCreated") -> tuple[Document, ...]:
    """A LeaderWorkerSet of two replicas of three, and what stands between it and its pods."""
    top = written(f"""
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {{name: llama}}
spec: {{replicas: 2, startupPolicy: {policy}, leaderWorkerTemplate: {{size: 3}}}}
""")
    return top, owned(written("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: llama}"), top)


def test_each_replica_of_a_leader_and_its_workers_is_a_gang() -> None:
    """Workers belong to a set that belongs to their leader's pod."""
    top, set_ = leaders()
    group, index = "leaderworkerset.sigs.k8s.io/group-index", "leaderworkerset.sigs.k8s.io/worker-index"
    documents: list[Document] = [top, set_]
    for number in "01":
        leader = pod(f"llama-{number}", owner=set_, labels={group: number, index: "0"})
        inner = owned(
            written(f"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: llama-{number}}}"), leader
        )
        documents += [leader, inner]
        documents += [
            pod(f"llama-{number}-{worker}", owner=inner, labels={group: number, index: str(worker)})
            for worker in (1, 2)
        ]
    found = snapshot(*documents)
    assert gangs(found) == {
        "ml/leaderworkerset/llama-0": {"": (3, 3)},
        "ml/leaderworkerset/llama-1": {"": (3, 3)},
    }
    assert {workload.priority for workload in found.workloads} == {125}


def test_workers_that_wait_for_their_leader_come_later() -> None:
    """Before there are any, the leader starts alone."""
    top, set_ = leaders("LeaderReady")
    labels = {
        "leaderworkerset.sigs.k8s.io/group-index": "0",
        "leaderworkerset.sigs.k8s.io/worker-index": "0",
    }
    found = gangs(snapshot(top, set_, pod("llama-0", owner=set_, labels=labels)))
    assert found == {"ml/leaderworkerset/llama-0": {"leader": (1, 1)}}


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}",
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: web}",
        "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata: {name: web}",
    ],
)
def test_pods_of_services_and_of_pipelines_are_each_on_their_own(text: str) -> None:
    """Through whatever stands between: a ReplicaSet, a revision, a TaskRun."""
    owner = written(text)
    between = owned(written("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-5d}"), owner)
    found = gangs(snapshot(owner, between, *several(2, "web", owner=between)))
    assert found == {"ml/pod/web-0": {"": (1, 1)}, "ml/pod/web-1": {"": (1, 1)}}


def test_spark_starts_with_its_driver() -> None:
    """Executors belong to the driver's pod, which makes them when it runs."""
    owner = written("apiVersion: sparkoperator.k8s.io/v1beta2\nkind: SparkApplication\nmetadata: {name: etl}")
    driver = pod("etl-driver", owner=owner)
    assert gangs(snapshot(owner, driver, *several(2, "exec", owner=driver))) == {
        "ml/sparkapplication/etl": {"": (1, 3)}
    }
    alone = pod("shell-driver")
    assert gangs(snapshot(alone, *several(2, "exec", owner=alone))) == {"ml/pod/shell-driver": {"": (1, 3)}}


def test_pods_that_nobody_owns_are_each_on_their_own() -> None:
    """A pod is a workload of one task."""
    assert gangs(snapshot(pod("a"), pod("b"))) == {"ml/pod/a": {"": (1, 1)}, "ml/pod/b": {"": (1, 1)}}


def test_pods_of_an_unknown_kind_are_one_workload_that_starts_with_one() -> None:
    """Nobody described it; nothing waits for what may never come."""
    owner = written("apiVersion: example.com/v1\nkind: Sweep\nmetadata: {name: lr}")
    assert gangs(snapshot(owner, *several(3, "lr", owner=owner))) == {"ml/sweep/lr": {"": (1, 3)}}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"min": 2}, {"ml/sweep/lr": {"": (2, 3)}}),
        ({"min": ".spec.trials[1].least"}, {"ml/sweep/lr": {"": (3, 3)}}),
        ({"each": "pod"}, {f"ml/pod/lr-{number}": {"": (1, 1)} for number in range(3)}),
        ({"each": "label:trial"}, {"ml/sweep/lr-7": {"": (1, 3)}}),
        (
            {"roles": [{"name": "a", "min": 1, "labels": {"part": "a"}}, {"name": "b", "min": ".spec.b"}]},
            {"ml/sweep/lr": {"a": (1, 0), "b": (2, 3)}},
        ),
    ],
)
def test_a_rule_describes_a_kind(rule: dict[str, object], wanted: dict[str, object]) -> None:
    """What is one workload, and how many start together: numbers, or where they stand in the owner."""
    owner = written(
        "apiVersion: example.com/v1\nkind: Sweep\nmetadata: {name: lr}\nspec: {b: 2, trials: [{least: 1}, {least: 3}]}"
    )
    kinds = declared([{"kind": "Sweep.example.com", **rule}])
    found = snapshot(owner, *several(3, "lr", owner=owner, labels={"trial": "7"}), kinds=kinds)
    assert gangs(found) == wanted


def test_rules_tell_all_their_faults_at_once() -> None:
    """Each at its place."""
    with pytest.raises(Bad) as caught:
        declared([{"kind": "sweep", "min": -1}, {"each": "node"}])
    assert {".".join(map(str, wrong.path)) for wrong in caught.value.wrongs} == {
        "0.kind", "0.min", "1.kind", "1.each"
    }  # fmt: skip


@pytest.mark.parametrize("key", ["gpumax.dev/gang", "scheduling.x-k8s.io/pod-group"])
def test_a_label_and_a_minimum_make_a_gang_of_plain_pods(key: str) -> None:
    """Whoever owns them."""
    pods = several(3, "p", labels={key: "ring"}, annotations={"gpumax.dev/min": "2"})
    assert gangs(snapshot(*pods)) == {"ml/gang/ring": {"": (2, 3)}}


def test_a_gang_object_gives_groups_of_groups() -> None:
    """Our own: min, parent and topology of each."""
    gang = written("""
apiVersion: gpumax.dev/v1alpha1
kind: Gang
metadata: {name: ring}
spec:
  groups:
  - {name: all}
  - {name: a, min: 1, parent: all, topology: {required: rack}}
  - {name: b, min: 2, parent: all}
""")
    racks = written(
        "apiVersion: gpumax.dev/v1alpha1\nkind: Topology\nmetadata: {name: t}\nspec: {levels: [zone, rack]}"
    )
    pods = [pod("a-0", labels={"gpumax.dev/gang": "ring", "gpumax.dev/group": "a"})]
    pods += several(2, "b", labels={"gpumax.dev/gang": "ring", "gpumax.dev/group": "b"})
    found = snapshot(racks, gang, *pods)
    assert gangs(found) == {"ml/gang/ring": {"a": (1, 1), "all": (0, 0), "b": (2, 2)}}
    wish = found.workloads[0].groups[0].topology
    assert wish is not None
    assert wish.required == "rack"


def test_the_peers_pod_group_is_read() -> None:
    """minMember, subGroups and levels by its names; pods name it by annotation."""
    group = written("""
apiVersion: scheduling.run.ai/v2alpha2
kind: PodGroup
metadata: {name: pg}
spec: {subGroups: [{name: decode, minMember: 2}, {name: prefill, minMember: 1}]}
""")
    pods = several(
        2, "d", labels={"kai.scheduler/subgroup-name": "decode"}, annotations={"pod-group-name": "pg"}
    )
    pods = [
        *pods,
        pod("p", labels={"kai.scheduler/subgroup-name": "prefill"}, annotations={"pod-group-name": "pg"}),
    ]
    assert gangs(snapshot(group, *pods)) == {"ml/gang/pg": {"decode": (2, 2), "prefill": (1, 1)}}


def test_the_clusters_own_groups_are_honoured() -> None:
    """scheduling.k8s.io: minCount and the label of a level, whatever the owners say; without its object nobody starts."""
    owner = job(completionMode="Indexed", completions=3, parallelism=3)
    pods = several(3, "train", owner=owner, schedulingGroup={"podGroupName": "g"})
    waiting = assembled(owner, *pods)
    assert waiting.snapshot(0, Policy()).workloads == ()
    assert "wanted a PodGroup of that name" in str(waiting.faults["ml/train-0"][0])
    group = written("""
apiVersion: scheduling.k8s.io/v1beta1
kind: PodGroup
metadata: {name: g}
spec: {schedulingPolicy: {gang: {minCount: 2}}, schedulingConstraints: {topology: [{key: rack}]}}
""")
    found = snapshot(owner, group, *pods)
    assert gangs(found) == {"ml/podgroup/g": {"": (2, 3)}}
    wish = found.workloads[0].topology
    assert wish is not None
    assert (wish.name, wish.required) == ("label/rack", "rack")
    assert [topology.levels for topology in found.topologies] == [("rack",)]
    basic = written(
        "apiVersion: scheduling.k8s.io/v1beta1\nkind: PodGroup\nmetadata: {name: g}\nspec: {schedulingPolicy: {basic: {}}}"
    )
    assert gangs(snapshot(owner, basic, *pods)) == {"ml/podgroup/g": {"": (1, 3)}}


def test_pods_whose_owner_is_not_known_yet_are_not_guessed_at() -> None:
    """Until it was looked up: a gang must not start as a single pod because its maker came late."""
    owner = job(completionMode="Indexed", completions=2, parallelism=2)
    assembly = assembled(*several(2, "train", owner=owner))
    assert assembly.snapshot(0, Policy()).workloads == ()
    assert [owner.name for _, owner in assembly.missing] == ["train"]
    see(assembly, owner)
    assert gangs(assembly.snapshot(0, Policy())) == {"ml/job/train": {"": (2, 2)}}
    assert assembly.missing == []


def test_a_maker_that_is_gone_leaves_pods_that_start_one_by_one() -> None:
    """Looked up, and not there."""
    owner = job(completionMode="Indexed", completions=2, parallelism=2)
    assembly = assembled(*several(2, "train", owner=owner))
    assembly.see_owner(owner["metadata"]["uid"], None)
    assert gangs(assembly.snapshot(0, Policy())) == {"ml/job/train": {"": (1, 2)}}
