"""The kinds of owners that are known, by API group and kind: names of fields and labels are those of the kinds' own documents."""

from __future__ import annotations

from typing import Final

from gpumax.engines.kubernetes.documents import at, number, rows, text
from gpumax.engines.kubernetes.grouping.kind import BUILD, INFERENCE, Kind, Role, Roles, one
from gpumax.engines.kubernetes.views import Document

SET_MEMBER: Final = "jobset.sigs.k8s.io/replicatedjob-name"
KUBEFLOW_TYPE: Final = "training.kubeflow.org/replica-type"
KUBEFLOW_ROLE: Final = "training.kubeflow.org/job-role"


def _job(job: Document) -> Roles:
    """An indexed job all of whose indexes run at once is a gang, as upstream's own gang scheduling has it; others are independent pods."""
    side_by_side = number(job, "spec", "parallelism")
    indexed = text(job, "spec", "completionMode") == "Indexed"
    together = indexed and number(job, "spec", "completions", unset=0) == side_by_side
    return (Role("", side_by_side if together and side_by_side else 1),)


def _job_set(jobs: Document) -> Roles:
    """A role for each replicated job; those that start after others come later."""
    in_order = text(jobs, "spec", "startupPolicy", "startupPolicyOrder") == "InOrder"
    roles = []
    for index, job in enumerate(rows(jobs, "spec", "replicatedJobs")):
        spec = at(job, "template", "spec")
        each = number(spec, "parallelism")
        each = min(each, number(spec, "completions", unset=each))
        if least := each * number(job, "replicas"):
            name = text(job, "name")
            later = bool((in_order and index) or rows(job, "dependsOn"))
            roles.append(Role(name, least, {SET_MEMBER: name}, later))
    return tuple(roles) or one(jobs)


def _kubeflow(specs: str) -> Kind:
    """Kinds with `replicaSpecs`: a role each; minAvailable of the scheduling policy counts for all together."""

    def roles(job: Document) -> Roles:
        replicas = at(job, "spec", specs)
        found = [
            Role(
                role.lower(), number(spec, "replicas"),
                {KUBEFLOW_TYPE: role.lower()},
            )
            for role, spec in sorted(replicas.items() if isinstance(replicas, dict) else ())
            if number(spec, "replicas")
        ]  # fmt: skip
        least = number(job, "spec", "elasticPolicy", "minReplicas", unset=0)
        if least:
            found = [
                role._replace(min=min(role.min, least)) if role.name == "worker" else role for role in found
            ]
        together = number(job, "spec", "runPolicy", "schedulingPolicy", "minAvailable", unset=0)
        if together and together != sum(role.min for role in found):
            # A sum says nothing of the roles, so all tasks are one.
            return (Role("", together),)
        return tuple(found) or one(job)

    return Kind(roles)


def _mpi(job: Document) -> Roles:
    """Launcher and workers. Where the launcher waits for the workers to be ready, it comes later."""
    replicas = at(job, "spec", "mpiReplicaSpecs")
    workers = number(replicas, "Worker", "replicas", unset=0)
    waits = text(job, "spec", "launcherCreationPolicy") == "WaitForWorkersReady"
    launcher = Role("launcher", 1, {KUBEFLOW_ROLE: "launcher"}, waits and workers > 0)
    together = number(job, "spec", "runPolicy", "schedulingPolicy", "minAvailable", unset=0)
    if together and not launcher.later:
        return (Role("", together),)
    if not workers:
        return (launcher,)
    least = min(together or workers, workers)
    return launcher, Role("worker", least, {KUBEFLOW_ROLE: "worker"})


def _ray(cluster: Document) -> Roles:
    """The head, and of each group of workers as many as it starts with; as few as it may shrink to, where Ray scales it."""
    scales = at(cluster, "spec", "enableInTreeAutoscaling") is True
    roles = [Role("head", 1, {"ray.io/node-type": "head"})]
    for group in rows(cluster, "spec", "workerGroupSpecs"):
        fewest = number(group, "minReplicas", unset=0)
        replicas = fewest if scales else max(number(group, "replicas", unset=fewest), fewest)
        hosts = max(number(group, "numOfHosts"), 1)
        name = text(group, "groupName")
        if at(group, "suspend") is True or not name:
            continue
        # Extras of a group without a minimum are tasks of the head's role.
        if replicas:
            roles.append(Role(f"worker/{name}", replicas * hosts, {"ray.io/group": name}))
    return tuple(roles)


def _leader_worker(workers: Document) -> Roles:
    """Each replica is a gang of its size. Where workers wait for their leader, they come later."""
    size = number(workers, "spec", "leaderWorkerTemplate", "size")
    if text(workers, "spec", "startupPolicy") == "LeaderReady" and size > 1:
        leader = {"leaderworkerset.sigs.k8s.io/worker-index": "0"}
        return Role("leader", 1, leader), Role("worker", size - 1, later=True)
    return (Role("", max(size, 1)),)


KINDS: Final[dict[tuple[str, str], Kind]] = {
    ("", "Pod"): Kind(one),  # a driver that makes its executors itself
    ("", "ReplicationController"): Kind(one, "pod", INFERENCE),
    ("apps", "ReplicaSet"): Kind(one, "pod", INFERENCE),
    ("apps", "Deployment"): Kind(one, "pod", INFERENCE),
    ("apps", "StatefulSet"): Kind(one, "pod", INFERENCE),
    ("apps", "DaemonSet"): Kind(one, "pod", INFERENCE),
    ("serving.knative.dev", "Service"): Kind(one, "pod", INFERENCE),
    ("serving.knative.dev", "Revision"): Kind(one, "pod", INFERENCE),
    ("batch", "Job"): Kind(_job),
    ("jobset.x-k8s.io", "JobSet"): Kind(_job_set),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): Kind(
        _leader_worker, "leaderworkerset.sigs.k8s.io/group-index", INFERENCE
    ),
    ("kubeflow.org", "PyTorchJob"): _kubeflow("pytorchReplicaSpecs"),
    ("kubeflow.org", "TFJob"): _kubeflow("tfReplicaSpecs"),
    ("kubeflow.org", "XGBoostJob"): _kubeflow("xgbReplicaSpecs"),
    ("kubeflow.org", "PaddleJob"): _kubeflow("paddleReplicaSpecs"),
    ("kubeflow.org", "JAXJob"): _kubeflow("jaxReplicaSpecs"),
    ("kubeflow.org", "MPIJob"): Kind(_mpi),
    ("kubeflow.org", "Notebook"): Kind(one, priority=BUILD),
    ("ray.io", "RayCluster"): Kind(_ray),
    ("argoproj.io", "Workflow"): Kind(one, "pod"),
    ("tekton.dev", "PipelineRun"): Kind(one, "pod"),
    ("tekton.dev", "TaskRun"): Kind(one, "pod"),
    ("sparkoperator.k8s.io", "SparkApplication"): Kind(one),
}

PASSED: Final = frozenset(
    (
        ("batch", "CronJob"),
        ("trainer.kubeflow.org", "TrainJob"),
        ("ray.io", "RayJob"),
        ("ray.io", "RayService"),
        ("serving.knative.dev", "Configuration"),
        ("serving.knative.dev", "Route"),
        ("argoproj.io", "CronWorkflow"),
        ("sparkoperator.k8s.io", "ScheduledSparkApplication"),
    )
)
"""Owners of owners that say nothing of gangs themselves: what they own does."""

UNKNOWN: Final = Kind(one)
"""An owner of a kind that nobody described: its pods are one workload, of which one task is enough."""
