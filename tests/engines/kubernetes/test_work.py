"""Workload files as objects: what a file says arrives at the scheduler, and at the container; what can't is told."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from gpumax.apps.kubernetes.create import New, make, prepare
from gpumax.apps.kubernetes.imagine import show
from gpumax.apps.kubernetes.logs import task_pod
from gpumax.apps.kubernetes.site import Site, works
from gpumax.apps.server.views import reason_of
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.channels import exit_code
from gpumax.engines.kubernetes.client.connection import Request as Call
from gpumax.engines.kubernetes.client.errors import ApiRefused, Status
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.requests import read_request
from gpumax.engines.kubernetes.views import Pod, PodSpec
from gpumax.engines.kubernetes.work import pack as packing
from gpumax.engines.kubernetes.work.manifest import Confined, Ground
from gpumax.engines.kubernetes.work.pack import pack
from gpumax.engines.kubernetes.work.records import Work, name_of, read
from gpumax.engines.kubernetes.work.specs import read_spec
from gpumax.engines.kubernetes.work.unfit import unfit
from gpumax.engines.kubernetes.work.views import Job, SeenPod
from gpumax.errors import BadFile, GpumaxError
from gpumax.formats.parsed import Parsed
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import DeviceLimit, Workload

GROUND = Ground("gpumax")
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def spec_of(**fields: Any) -> WorkloadSpec:
    """A workload file's workload."""
    document = {"name": "w", "project": "q", "run": "true", "workdir": "/", **fields}
    parsed = Parsed(document, lambda _path: None)
    _, (spec,) = load_workloads([parsed], base="/", queues=[Queue("q")], default_project="q")
    return spec


def made(spec: WorkloadSpec, ground: Ground = GROUND) -> New:
    """Its objects."""
    assert unfit(spec, ground) == []
    return prepare(spec, ground, 0)


def container(new: New, job: int = 0) -> Any:
    """The container of a Job's tasks."""
    return new.objects.jobs[job].body["spec"]["template"]["spec"]["containers"][0]


def variables(new: New, job: int = 0) -> dict[str, Any]:
    """Its environment: values, or where they come from."""
    return {row["name"]: row.get("value", row.get("valueFrom")) for row in container(new, job)["env"]}


def scheduled(new: New) -> Workload:
    """What the scheduler makes of it."""
    assembly = Assembly()
    pods = {item.name: item.body["spec"]["template"] for item in new.objects.jobs}
    show(assembly, new, pods, "ns")
    (workload,) = assembly.snapshot(0, Policy()).workloads
    assert assembly.faults == {}
    return workload


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"priority": "build", "max_duration": "90s", "labels": {"app": "x"}},
        {"priority": "low", "preemptible": False, "tasks": 3, "resources": {"gpu": 2, "cpu": "500m", "memory": "3Gi"}},
        {"preemptible": "semi", "resources": {"gpu": 0.5}},
        {"resources": {"gpu": 0.001, "devices": 2}},
        {"resources": {"gpu": {"memory": "20Gi"}, "cpu": 1.5}},
        {"resources": {"gpu": 0.5, "limit": {"gpu": 1}, "swap": True, "mode": "strict"}},
        {"resources": {"gpu": {"memory": "4Gi"}, "limit": {"gpu_memory": "10Gi"}, "swap": True}},
        {"resources": {"extended": {"rdma/hca": 1}}},
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "rack", "labelSelector": {"matchLabels": {"app": "x"}}}
                    ]
                }
            }
        },
    ],
)  # fmt: skip
def test_what_a_file_says_arrives(fields: dict[str, Any]) -> None:
    """The scheduler reads of the pods what the file says of its tasks, word for word."""
    spec = spec_of(**fields)
    workload = scheduled(made(spec))
    (group,) = spec.groups
    assert (workload.queue, workload.priority, workload.preemptible) == (
        spec.project,
        spec.priority,
        spec.preemptible,
    )
    assert workload.max_duration_ms == spec.max_duration_ms
    assert [own.min for own in workload.groups] == [group.max]
    assert [task.request for task in workload.tasks] == [group.request] * group.max
    assert {task.affinity for task in workload.tasks} == {group.affinity}
    assert all(spec.labels.items() <= task.labels.items() for task in workload.tasks)


def test_how_a_part_is_shared_arrives() -> None:
    """Also where a file's Job is read again by what its pods say. Of whole devices nothing is said: they aren't shared."""
    sharing = {"swap": True, "mode": "strict"}
    spec = spec_of(resources={"gpu": 0.5, "limit": {"gpu_memory": "60Gi"}, **sharing})
    job = made(spec).objects.jobs[0].body
    template = msgspec.json.decode(msgspec.json.encode(job["spec"]["template"]), type=Pod)
    asked = read_request(template, [])
    assert (asked.swap, asked.strict, asked.request.limit) == (True, True, DeviceLimit(0, 60 << 10))
    del job["metadata"]["annotations"][keys.FILE]
    (group,) = read_spec([msgspec.json.decode(msgspec.json.encode(job), type=Job)]).groups
    assert (group.swap, group.strict, group.request) == (True, True, spec.groups[0].request)
    whole = made(spec_of(resources={"gpu": 1, **sharing})).objects.jobs[0].body["spec"]["template"]
    assert whole["metadata"]["annotations"] == {}


def test_a_queue_of_a_long_name_arrives() -> None:
    """Longer than a label may be."""
    name = "q" * 100
    parsed = Parsed({"name": "w", "project": name, "run": "true", "workdir": "/"}, lambda _path: None)
    _, (spec,) = load_workloads([parsed], base="/", queues=[Queue(name)], default_project=name)
    new = made(spec)
    assert scheduled(new).queue == name
    assert name not in new.objects.jobs[0].body["spec"]["template"]["metadata"]["labels"].values()


def test_groups_arrive() -> None:
    """Each with its minimum and its own request, in one workload."""
    groups = [{"name": "b", "tasks": 2, "resources": {"gpu": 1}}, {"name": "a", "resources": {"cpu": 1}}]
    workload = scheduled(made(spec_of(groups=groups)))
    assert [(group.name, group.min) for group in workload.groups] == [("a", 1), ("b", 2)]
    asked = sorted((task.group, bool(task.request.gpu)) for task in workload.tasks)
    assert asked == [("a", False), ("b", True), ("b", True)]


def test_a_model_is_a_label() -> None:
    """A model means the nodes whose label has all its words; several are tried in their order."""
    ground = Ground("gpumax", [H100, {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}])
    new = made(spec_of(resources={"gpu": ["A100:2", "H100:2"]}), ground)
    node = new.objects.jobs[0].body["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchExpressions"][0]["values"] for term in terms] == [
        ["NVIDIA-A100-SXM4-40GB"],
        ["NVIDIA-H100-80GB-HBM3"],
    ]
    weights = [row["weight"] for row in node["preferredDuringSchedulingIgnoredDuringExecution"]]
    assert weights == sorted(weights, reverse=True)
    assert container(new)["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_a_model_that_no_node_has_is_looked_for_where_models_stand() -> None:
    """So the scheduler can tell which there are, whoever made them."""
    for labels, keys_ in (
        ([], ["nvidia.com/gpu.product"]),
        ([{"amd.com/gpu.product-name": "MI300X"}], ["amd.com/gpu.product-name"]),
        (
            [{"amd.com/gpu.product-name": "MI300X"}, H100],
            ["amd.com/gpu.product-name", "nvidia.com/gpu.product"],
        ),
    ):
        new = made(spec_of(resources={"gpu": "Z999"}), Ground("gpumax", labels))
        node = new.objects.jobs[0].body["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        terms = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert [row["matchExpressions"][0]["key"] for row in terms] == keys_
        assert {row["matchExpressions"][0]["values"][0] for row in terms} == {"Z999"}


def test_words_arrive_as_they_are() -> None:
    """Kubernetes would put variables into `$(NAME)` and make one dollar of two."""
    new = made(spec_of(run=["echo", "$(HOME)", "$$", "$x"], env={"A": "$(B)"}))
    assert container(new)["command"] == ["echo", "$$(HOME)", "$$$$", "$$x"]
    assert variables(new)["A"] == "$$(B)"


def test_launchers_find_what_they_know() -> None:
    """Ranks follow from the Job's index, and all meet at rank 0's name."""
    new = made(spec_of(tasks=4, resources={"gpu": 2}))
    env = variables(new)
    assert env["RANK"] == {
        "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
    }
    assert (env["WORLD_SIZE"], env["MASTER_ADDR"], env["NODE_RANK"]) == ("4", "w-0.w", "$(RANK)")
    assert (env["PET_NNODES"], env["PET_NPROC_PER_NODE"], env["GPUMAX_TASK"]) == ("4", "2", "w-$(RANK)")
    assert env["GPUMAX_RUN"] == new.record.id
    names = [row["name"] for row in container(new)["env"]]
    assert names.index("RANK") < min(names.index(name) for name in ("NODE_RANK", "GPUMAX_TASK"))


def test_setup_comes_before_the_command() -> None:
    """In a shell of its own, as on one machine; the command is not touched by it."""
    command = container(made(spec_of(setup="pip install x", run=["python", "train.py"])))["command"]
    assert command[:2] == ["/bin/sh", "-c"]
    assert command[3:] == ["pip install x", "python", "train.py"]


def test_secrets_are_named_never_told() -> None:
    """The value is the cluster's to give."""
    env = variables(made(spec_of(secrets=["HF_TOKEN"])))
    assert env["HF_TOKEN"] == {"secretKeyRef": {"name": "gpumax-secrets", "key": "HF_TOKEN"}}


def test_a_secret_that_is_not_there_is_told() -> None:
    """With those that there are, each at its place; where that may not be seen, nothing is said."""
    spec = spec_of(secrets=["HF_TOKEN", "WANDB"])
    assert unfit(spec, GROUND) == []
    assert unfit(spec, GROUND._replace(secrets=frozenset(("HF_TOKEN", "WANDB", "X")))) == []
    (fault,) = unfit(spec, GROUND._replace(secrets=frozenset(("HF_TOKEN", "X"))))
    assert (fault.path, fault.found) == ("secrets[1]", "WANDB")
    assert "which has HF_TOKEN, X" in fault.wanted
    none = unfit(spec, GROUND._replace(secrets=frozenset()))
    assert [fault.path for fault in none] == ["secrets[0]", "secrets[1]"]
    assert "kubectl create secret generic gpumax-secrets" in none[0].wanted


@pytest.mark.parametrize("user", [1000, None])
def test_pods_pass_the_profile_restricted_where_they_have_to(user: int | None, tmp_path: Path) -> None:
    """All that it asks for, also of what unpacks their files; as a user of no rights, or as whom the cluster chooses."""
    (tmp_path / "train.py").write_text("print()")
    new = made(spec_of(workdir=str(tmp_path), env={"A": "1"}), Ground("gpumax", confined=Confined(user)))
    spec = new.objects.jobs[0].body["spec"]["template"]["spec"]
    whole = spec["securityContext"]
    assert (whole["runAsNonRoot"], whole["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert [whole.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")] == [user] * 3
    for one in (*spec["containers"], *spec["initContainers"]):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
    assert variables(new)["HOME"] == "/tmp"
    own = made(spec_of(env={"HOME": "/data"}), Ground("gpumax", confined=Confined(user)))
    assert variables(own)["HOME"] == "/data"


def test_elsewhere_pods_are_who_their_image_says() -> None:
    """An image may need root to install what its setup asks for."""
    spec = made(spec_of()).objects.jobs[0].body["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert "capabilities" not in spec["containers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"priority": 60}, "priority"),
        ({"tasks": {"min": 1, "max": 2}}, "tasks"),
        ({"tasks": 2, "retries": {"max": 1}}, "retries"),
        ({"max_duration": "1h", "retries": {"max": 1}}, "retries"),
        ({"checkpoint": {"path": "x"}}, "checkpoint"),
        ({"labels": {"runai/queue": "x"}}, 'labels["runai/queue"]'),
        ({"labels": {"gpumax.dev/anything": "x"}}, 'labels["gpumax.dev/anything"]'),
        ({"resources": {"gpu": ["H100:2", "A100:4"]}}, "resources.gpu[1]"),
        ({"name": "n" * 62, "tasks": 2}, "name"),
    ],
)
def test_what_cannot_arrive_is_told(fields: dict[str, Any], path: str) -> None:
    """At its place in the file."""
    faults = unfit(spec_of(**fields), GROUND)
    assert faults[0].path == path


def test_a_directory_is_packed_the_same_each_time(tmp_path: Path) -> None:
    """Without caches and history; links stay links, and whose the files are means nothing elsewhere."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("print()")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    os.symlink("/etc/hostname", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    packed = pack(tmp_path)
    assert packed == pack(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        rows = {row.name: row for row in archive}
    assert sorted(rows) == ["link", "src/train.py"]
    assert rows["link"].issym()
    assert {row.uid for row in rows.values()} == {0}


def test_keys_stay_here(tmp_path: Path) -> None:
    """Whoever submits from the home directory doesn't mean to show the namespace what opens other doors."""
    for name in (".ssh", "deep/.aws"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "secret").write_text("key")
    (tmp_path / ".netrc").write_text("password")
    os.symlink("/somewhere/.kube", tmp_path / ".kube")
    (tmp_path / "train.py").write_text("print()")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path))) as archive:
        assert archive.getnames() == ["train.py"]


def test_what_is_too_large_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said how large it is, and what would help."""
    (tmp_path / "random").write_bytes(os.urandom(packing.MOST_PACKED + 1))
    with pytest.raises(BadFile, match="bytes when packed; wanted at most 1,000,000"):
        pack(tmp_path)
    monkeypatch.setattr(packing, "MOST_BYTES", 10)
    with pytest.raises(BadFile, match="--workdir"):
        pack(tmp_path)


def job(new: New, index: int = 0, **status: Any) -> Job:
    """The Job as the API would give it."""
    body = new.objects.jobs[index].body
    meta = {**body["metadata"], "uid": f"u{index}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return msgspec.convert({**body, "metadata": meta, "status": status}, Job)


def pod(name: str, index: int, **status: Any) -> SeenPod:
    """A pod of the Job `w`."""
    labels = {"batch.kubernetes.io/job-name": "w", "batch.kubernetes.io/job-completion-index": str(index)}
    meta = {
        "name": name,
        "uid": name,
        "labels": labels,
        "creationTimestamp": f"2026-01-01T00:00:{len(name):02}Z",
    }
    document = {"metadata": meta, "spec": {"nodeName": "n1"}, "status": status}
    return msgspec.json.decode(msgspec.json.encode(document), type=SeenPod)


def test_records_say_what_was_submitted() -> None:
    """The file that stands on the Job is read back as it was."""
    spec = spec_of(
        tasks=2, env={"A": "1"}, labels={"app": "x"}, priority="build", setup="x", resources={"gpu": "H100:2"}
    )
    record, tasks = read(Work((job(made(spec)),)))
    assert record.spec == spec
    assert [task.name for task in tasks] == ["w-0", "w-1"]
    assert record.state == "suspended"


def test_the_newest_attempt_counts() -> None:
    """Of several pods of one index it is the one that hasn't failed."""
    new = made(spec_of(tasks=2))
    failed = pod("w-0-aaaaaaa", 0, phase="Failed")
    runs = pod("w-0-b", 0, phase="Running")
    _, tasks = read(Work((job(new),), (failed, runs)))
    assert [(task.state, task.attempt) for task in tasks] == [("running", "w-0-b"), ("pending", None)]


@pytest.mark.parametrize(
    ("reason", "code"), [("Unschedulable", "NoRoom"), ("OverLimit", "OverLimit"), ("NotAllowed", None)]
)
def test_why_it_waits_is_what_was_written_last(reason: str, code: str | None) -> None:
    """An older event that tells of another reason is history."""
    row = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "words"}
    waits = replace(pod("w-0", 0, phase="Pending", conditions=[row]), spec=PodSpec())
    found = job(made(spec_of()))
    found.spec["suspend"] = False
    record, (task,) = read(Work((found,), (waits,), {"w-0": "NoRoom"}))
    assert (record.hold.code if record.hold is not None else None) == code
    assert code == reason or task.reason == "words"


def test_what_keeps_a_placed_task_from_beginning_is_told() -> None:
    """An image that isn't there, a secret that has gone: it holds its GPUs, so `ps` says so; once it runs that is over."""
    waits = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    begins = {"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}
    new = made(spec_of(tasks=2))
    stuck = pod("w-1-a", 1, phase="Pending", containerStatuses=[waits])
    first = pod("w-0-a", 0, phase="Pending", containerStatuses=[begins])
    record, tasks = read(Work((job(new),), (first, stuck)))
    assert (record.state, record.objection) == ("running", "w-1: ImagePullBackOff: no such image")
    assert reason_of(record, tasks) == record.objection
    runs = pod("w-1-a", 1, phase="Running", containerStatuses=[])
    assert read(Work((job(new),), (first, runs)))[0].objection == ""


def test_how_a_task_failed_is_told() -> None:
    """Its exit code; what the cluster says of it, where that says more."""
    new = made(spec_of())
    end = {
        "name": "main",
        "state": {
            "terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:01:00Z"}
        },
    }
    over = [
        {
            "type": "Failed",
            "status": "True",
            "reason": "BackoffLimitExceeded",
            "lastTransitionTime": "2026-01-01T00:01:01Z",
        }
    ]
    record, (task,) = read(
        Work((job(new, conditions=over),), (pod("w-0-a", 0, phase="Failed", containerStatuses=[end]),))
    )
    assert (record.state, record.reason) == ("failed", "OOMKilled: exit code 137")
    assert task.exit_code == 137


@pytest.mark.parametrize(
    "written", ["", "{", "[]", '{"name": 3}', '{"name": "w", "run": "x", "project": "q", "queue": 1}']
)
def test_what_tenants_wrote_on_a_job_breaks_nothing(written: str) -> None:
    """Nonsense in the place of the file: the template tells."""
    found = job(made(spec_of(tasks=2, resources={"gpu": 2})))
    found.metadata.annotations[keys.FILE] = written  # type: ignore[index]
    record, tasks = read(Work((found,)))
    assert (record.spec.project, len(tasks)) == ("q", 2)
    assert record.spec.groups[0].request.gpu[0].devices == 2


def test_a_command_tells_its_exit_code() -> None:
    """By the status at its end."""
    told = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
    }
    assert exit_code(msgspec.json.encode({"status": "Success"})) == 0
    assert exit_code(msgspec.json.encode(told)) == 7
    with pytest.raises(GpumaxError, match="no such file"):
        exit_code(msgspec.json.encode({"status": "Failure", "message": "no such file"}))


def test_a_job_set_is_one_workload() -> None:
    """Its Jobs are of one name, and their tasks are counted on from one to the next."""
    owner = {
        "kind": "JobSet",
        "name": "set",
        "uid": "s",
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "controller": True,
    }
    template = {"spec": {"schedulerName": "gpumax", "containers": [{"name": "c"}]}}
    jobs = [
        msgspec.convert(
            {
                "metadata": {"name": f"set-{role}-0", "uid": role, "ownerReferences": [owner]},
                "spec": {"completions": size, "parallelism": size, "template": template},
            },
            Job,
        )
        for role, size in (("leader", 1), ("worker", 2))
    ]
    (work,) = works(jobs, (), (), "gpumax")
    record, tasks = read(work)
    assert (work.kind, name_of(work.jobs[0]), record.state) == ("JobSet", "set", "pending")
    assert [task.index for task in tasks] == [0, 1, 2]
    assert task_pod(work, 2)[1].metadata.name == "set-worker-0"


class Refusing:
    """An API that makes objects, until it refuses one, by the plural of its kind; silent: or doesn't answer."""

    def __init__(self, refuses: str, *, silent: bool = False) -> None:
        self.asked = asyncio.Event()
        self._silent = silent
        self.access = Access("test", "https://nowhere")
        self.there: dict[str, Any] = {}
        self._refuses = refuses

    async def create(self, kind: Kind[Any], body: Any, _namespace: str) -> Any:
        if kind.plural == self._refuses:
            self.asked.set()
            if self._silent:
                await asyncio.Event().wait()
            raise ApiRefused(403, Status(message="no more of these"))
        name = body["metadata"]["name"]
        assert body["kind"] != "Job" or body["spec"]["suspend"] is True
        meta = {**body["metadata"], "uid": f"uid-{name}"}
        self.there[f"{kind.plural}/{name}"] = msgspec.convert({**body, "metadata": meta}, Job)
        return self.there[f"{kind.plural}/{name}"]

    async def get(self, kind: Kind[Any], name: str, _namespace: str) -> Any:
        if f"{kind.plural}/{name}" not in self.there:
            raise ApiRefused(404, Status(message="not there"))
        return self.there[f"{kind.plural}/{name}"]

    async def write(self, call: Call) -> bytes:
        """A deletion, with all that it owns."""
        assert call.method == "DELETE"
        assert b'"propagationPolicy":"Background"' in call.body
        head = self.there.pop(call.path.partition("/namespaces/default/")[2])
        self.there = {
            key: one
            for key, one in self.there.items()
            if not any(row.uid == head.metadata.uid for row in one.metadata.owner_references)
        }
        return b""


@pytest.mark.parametrize("refuses", ["services", "gangs", "secrets"])
def test_all_of_it_is_made_or_nothing_stays(refuses: str, tmp_path: Path) -> None:
    """Whatever the API server refuses in the middle: what was made by then goes, and the refusal is told."""
    (tmp_path / "train.py").write_text("")
    new = made(spec_of(workdir=str(tmp_path), groups=[{"name": "a"}, {"name": "b"}]))
    api = Refusing(refuses)
    with pytest.raises(ApiRefused, match="no more of these"):
        asyncio.run(make(Site(cast(Api, api), "gpumax"), [made(spec_of(name="first")), new]))
    assert api.there == {}


def test_who_is_interrupted_leaves_nothing() -> None:
    """Ctrl-C while it is made, which cancels the making: what was made by then goes."""
    api = Refusing("services", silent=True)

    async def interrupted() -> None:
        making = asyncio.create_task(make(Site(cast(Api, api), "gpumax"), [made(spec_of(tasks=2))]))
        await api.asked.wait()
        assert list(api.there) == ["jobs/w"]
        making.cancel()
        await asyncio.wait({making})
        assert making.cancelled()

    asyncio.run(interrupted())
    assert api.there == {}


def test_what_somebody_else_made_meanwhile_stays() -> None:
    """A name that was taken between the dry run and the making is theirs."""
    api = Refusing("jobs")
    theirs = job(made(spec_of()))
    api.there["jobs/w"] = theirs
    with pytest.raises(ApiRefused):
        asyncio.run(make(Site(cast(Api, api), "gpumax"), [made(spec_of())]))
    assert api.there == {"jobs/w": theirs}
