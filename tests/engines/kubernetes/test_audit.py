"""The checker of audit logs finds what it is for, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from audit import check
from gpumax.engines.kubernetes.claims import status
from gpumax.engines.kubernetes.grants import Amount, Given, Grant, written
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device
from manifests import node, pod

Entry = dict[str, Any]


class Log:
    """A log being written, two seconds a line: more than what others did may be unseen for."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.now_s = 0

    def add(self, verb: str, resource: str, name: str, **fields: Any) -> Log:
        """One answered request."""
        self.now_s += fields.pop("after_s", 2)
        about: dict[str, Any] = {
            "resource": resource,
            "name": name,
            "namespace": "ml" if resource in ("pods", "leases") else "",
        }
        part = fields.pop("part", "")
        minutes, seconds = divmod(self.now_s, 60)
        self.entries.append(
            {
                "stage": "ResponseComplete", "verb": verb, "user": {"username": fields.pop("user", "r1")}, "objectRef": about | ({"subresource": part} if part else {}),
                "requestReceivedTimestamp": f"2026-01-01T00:{minutes:02}:{seconds:02}.000000Z",
                "responseStatus": {"code": fields.pop("code", 200)}, **fields,
            }
        )  # fmt: skip
        return self

    def make(self, name: str, gpu: int = 1, **fields: Any) -> Log:
        """Somebody makes a pod."""
        how = {key: fields.pop(key) for key in ("after_s", "user") if key in fields}
        return self.add("create", "pods", name, responseObject=pod(name, **{"gpu": gpu, **fields}), **how)

    def offer(self, devices: int, memory_mib: int = 81_920) -> Log:
        """An agent publishes devices."""
        rows = [Device(index, "H100", memory_mib) for index in range(devices)]
        body = slice_of("n1", "uid-n1", rows, {index: f"GPU-{index}" for index in range(devices)})
        return self.change({"kind": "ResourceSlice", **body}, "resourceslices")

    def claim(self, name: str, milli: int, index: int = 0, to: str = "n1") -> Log:
        """A claim is allocated."""
        grant = Grant({index: Amount(milli)})
        pod = {"namespace": "ml", "name": name, "uid": f"uid-ml-{name}"}
        answer = {"status": msgspec.json.decode(msgspec.json.encode(status(to, pod, Given(grant))))}
        about = {"resource": "resourceclaims", "namespace": "ml", "name": f"gpumax-{name}"}
        return self.add("patch", "resourceclaims", name, objectRef=about, responseObject=answer)

    def bind(self, name: str, to: str = "n1", milli: int = 0, **fields: Any) -> Log:
        """Somebody binds it, with a part of the first device."""
        meta: dict[str, Any] = {"name": name, "uid": f"uid-ml-{name}"}
        if milli:
            meta["annotations"] = {"gpumax.dev/devices": written(Grant({0: Amount(milli)}))}
        asked = {"metadata": meta, "target": {"name": to}}
        return self.add("create", "pods", name, part="binding", requestObject=asked, **fields)

    def start(self, *names: str, gpu: int = 1, **fields: Any) -> Log:
        """Pods are made and bound."""
        for name in names:
            self.make(name, gpu, **fields).bind(name)
        return self

    def finish(self, name: str, phase: str = "Succeeded") -> Log:
        """It succeeds, or fails."""
        return self.add(
            "patch", "pods", name, part="status", responseObject=pod(name, phase=phase, node="n1")
        )

    def change(self, document: Entry, resource: str, **fields: Any) -> Log:
        """Somebody makes or changes an object."""
        return self.add("patch", resource, document["metadata"]["name"], responseObject=document, **fields)

    def limit(self, name: str, most: float | str, parent: str = "", **fields: Any) -> Log:
        """A queue gets a limit of GPUs."""
        spec = {"limit": {"gpu": most}, **({"parent": parent} if parent else {})}
        return self.change({"kind": "Queue", "metadata": {"name": name}, "spec": spec}, "queues", **fields)

    def renew(self, user: str) -> Log:
        """A replica takes the lease, or renews it."""
        return self.add("patch", "leases", "gpumax", user=user)

    def evict(self, name: str) -> Log:
        """It is told to go; with grace it holds its room until it has gone."""
        return self.add("create", "pods", name, part="eviction", responseObject={"kind": "Status"})

    def drop(self, name: str, grace_s: int = 0) -> Log:
        """It is deleted, at once or with grace."""
        gone = pod(name, node="n1")
        gone["metadata"]["deletionGracePeriodSeconds"] = grace_s
        return self.add("delete", "pods", name, responseObject=gone)


def log(gpus: int = 2, labels: dict[str, str] | None = None) -> Log:
    """A node comes."""
    return Log().add("create", "nodes", "n1", responseObject=node("n1", gpus, **(labels or {})))


def claimed(name: str) -> dict[str, Any]:
    """Fields of a pod with a claim."""
    return {"gpu": 0, "resourceClaims": [{"name": "gpumax", "resourceClaimName": f"gpumax-{name}"}]}


def part(written: str, **more: str) -> dict[str, Any]:
    """A pod that asks for a part of a device."""
    return {"gpu": 0, "annotations": {"gpu-fraction": written, **more}}


def job(size: int, **spec: Any) -> Entry:
    """An indexed Job all of whose pods run at once."""
    meta = {"name": "j", "namespace": "ml", "uid": "uid-j"}
    together = {"completionMode": "Indexed", "completions": size, "parallelism": size}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": together | spec}


def gang(**spec: Any) -> Entry:
    """The object of the gang g."""
    return {"kind": "Gang", "metadata": {"name": "g", "namespace": "ml"}, "spec": spec}


FOREIGN: dict[str, Any] = {"scheduler": "another"}
A: dict[str, Any] = {"labels": {"gpumax.dev/queue": "a"}}
LABEL: dict[str, Any] = {"labels": {"gpumax.dev/gang": "g"}}
JOB: dict[str, Any] = {"owner": job(2)}
MEMORY = {"nvidia.com/gpu.memory": "40960"}
GANG: dict[str, Any] = {"labels": {"gpumax.dev/gang": "g"}, "annotations": {"gpumax.dev/min": "2"}}


@pytest.mark.parametrize(
    "entries",
    [
        log().start("a", "b"),
        log().start("a", gpu=2).finish("a").start("b", gpu=2),
        log().start("a", gpu=2).finish("a", "Failed").start("b", gpu=2),
        log().start("a", gpu=2).drop("a").start("b", gpu=2),
        log().start("a", gpu=2).drop("a", 30).drop("a").start("b", gpu=2),
        log().start("a", gpu=2).make("b", 2).bind("b", code=409),
        log().start("a", gpu=2, terminationGracePeriodSeconds=0).evict("a").start("b", gpu=2),
        # Parts of devices
        log().start("a", "b", **part("0.5")).start("c", **part("0.7")).start("d", **part("0.3")),
        log().start("a", "b", **part("0.6")),
        log(2, MEMORY).start("a", "b", **part("", **{"gpu-memory": "20480"})).start("c"),
        log(3).start("a", **part("0.5", **{"gpu-fraction-num-devices": "3"})).start("b", "c", "d", **part("0.5")),
        # What others did this moment
        log().make("a").make("f", 2, **FOREIGN).bind("f").bind("a", after_s=1),
        log().make("a", 2).change(node("n1", 1), "nodes").bind("a", after_s=1),
        log().make("a", 2, **A).limit("a", 1).bind("a", after_s=1),
        log().start("f", gpu=8, scheduler="somebody-else"),
        log(0).offer(1).start("a", "b", **part("0.5")),
        log(0).offer(1).start("a", "b", **part("", **{"gpu-memory": "40Gi"})),
        # Limits
        log(8).limit("a", 2).start("a", gpu=2, **A),
        log(8).limit("a", "unlimited").start("a", gpu=8, **A),
        log(8).limit("a", 2).start("a", gpu=2, **A).limit("a", 1).start("b", **A | part("0.5") | {"labels": {}}),
        log(8).limit("a", "nonsense").start("a", gpu=8, **A),
        log(8).limit("a", 2).make("a", 2, **A).drop("a").start("b", gpu=2, **A),
        # Gangs
        log().start("a", "b", **GANG).finish("a").make("x", after_s=60).finish("b"),
        log().change(job(2), "jobs").start("a", "b", **JOB),
        log().change(job(2), "jobs").start("a", "b", **JOB).finish("a").make("x", after_s=60),
        log().change(job(2, parallelism=1), "jobs").start("a", **JOB).make("x", after_s=60),
        log().change(gang(min=2), "gangs").start("a", "b", **LABEL).drop("a").drop("b").make("x", after_s=60),
        log(8).start("a", "b", **GANG).drop("a").make("c", 1, **GANG).bind("c", after_s=10),
        # Who steers
        log().renew("r1").start("a").renew("r2").make("b", user="r2").bind("b", user="r2"),
        # Parts that are given out by name
        log().make("a", 0).bind("a", milli=600).finish("a").make("b", 0).bind("b", milli=600),
        log().make("a", **claimed("a")).claim("a", 600).bind("a", milli=600),
    ],
)  # fmt: skip
def test_sound_logs_pass(entries: Log) -> None:
    """Room that ended is room; what was refused never was; a gang that comes and goes in time is whole; nobody knows what others just did."""
    assert check(entries.entries, limits={"": 12}, together_s=5, deadline_s=20, lease="ml/gpumax") == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (log().start("a", gpu=2).start("b"), "node n1 holds 3 GPUs of 2 with ml/b"),
        (log().start("a", gpu=2).drop("a", 30).start("b", gpu=2), "node n1 holds 4 GPUs of 2"),
        (log().start("a", gpu=2).evict("a").start("b", gpu=2), "node n1 holds 4 GPUs of 2"),
        (log().start("a", gpu=2, **FOREIGN).start("b"), "node n1 holds 3 GPUs of 2"),
        (log().change(node("n1", 1), "nodes").start("a", gpu=2), "node n1 holds 2 GPUs of 1"),
        (log().add("delete", "nodes", "n1").start("a"), "node n1 holds 1 GPUs of 0"),
        (log(8).start("a").bind("a", "n2"), "ml/a was bound to n2 while it was on n1"),
        # Parts that are given out by name
        (log().make("a", 0).bind("a", milli=600).make("b", 0).bind("b", milli=600), "device 0 of node n1 holds 1200 of 1000"),
        (log().make("a", **claimed("a")).bind("a", milli=600), "ml/a was bound with {'0': {'milli': 600}}, and its claim says None"),
        (log().make("a", **claimed("a")).claim("a", 500).bind("a", milli=600), "ml/a was bound with"),
        (log().make("a", **claimed("a")).claim("a", 600, 1).bind("a", milli=600), "ml/a was bound with"),
        (log().make("a", **claimed("a")).claim("a", 600, to="n2").bind("a", milli=600), "ml/a was bound with"),
        (log(8).bind("a"), "ml/a was bound, and nobody made it"),
        (
            log().make("a", 1, containers=[{"resources": {"requests": {"cpu": "65"}}}]).bind("a"),
            "node n1 holds 65 cores of 64",
        ),
        (
            log().make("a", 1, containers=[{"resources": {"requests": {"memory": "513Gi"}}}]).bind("a"),
            "node n1 holds 513 GiB of memory of 512",
        ),
        # Parts of devices
        (log().start("a", "b", "c", **part("0.6")), "a device of node n1 is over-full with ml/c"),
        (log().start("a").start("b", "c", **part("0.51")), "node n1 holds 2.02 GPUs of 2"),
        (
            log(2, MEMORY).start("a", "b", "c", **part("", **{"gpu-memory": "24Gi"})),
            "a device of node n1 is over-full with ml/c",
        ),
        (
            log(3).start("a").start("b", **part("0.5", **{"gpu-fraction-num-devices": "3"})),
            "a device of node n1 is over-full with ml/b",
        ),
        (log(0).offer(1).start("a", "b", **part("0.6")), "node n1 holds 1.2 GPUs of 1"),
        (log(0).offer(1).start("a", "b", **part("", **{"gpu-memory": "41Gi"})), "node n1 holds 1.026 GPUs of 1"),
        # Limits
        (log(16).start("a", gpu=13), "queue  holds 13 GPUs of 12 by its limit"),
        (log(8).limit("a", 2).start("a", gpu=3, **A), "queue a holds 3 GPUs of 2 by its limit with ml/a"),
        (log(8).limit("a", "1500m").start("a", gpu=2, **A), "queue a holds 2 GPUs of 1.5"),
        (log(8).limit("top", 2).limit("a", 8, "top").start("a", gpu=3, **A), "queue top holds 3 GPUs of 2"),
        (log(8).limit("a", 4).limit("a", 2).start("a", gpu=3, **A), "queue a holds 3 GPUs of 2"),
        # Gangs
        (log(8).start("a", **GANG).make("b", after_s=6), "gang ml/gang/g has 1 of 2 for 6 s"),
        (log(8).change(job(2), "jobs").start("a", **JOB).make("b", after_s=6), "gang ml/job/j has 1 of 2"),
        (log(8).change(gang(min=3), "gangs").start("a", **LABEL).make("b", after_s=6), "gang ml/gang/g has 1 of 3"),
        (
            log(8).change(gang(groups=[{"min": 1}, {"min": 2}]), "gangs").start("a", **LABEL).make("b", after_s=6),
            "gang ml/gang/g has 1 of 3",
        ),
        (log(8).start("a", "b", **GANG).drop("a").make("c", after_s=21), "gang ml/gang/g has 1 of 2 for 21 s"),
        # Who steers
        (log().renew("r1").renew("r2").start("a"), "r1 wrote to ml/a while r2 held the lease"),
        (log().renew("r1").make("a", after_s=16), "r1 wrote to ml/a 16 s after it renewed the lease"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(entries: Log, told: str) -> None:
    """Over-full, bound twice, over a limit, in parts for too long, written by who didn't steer: each with its moment."""
    found = check(entries.entries, limits={"": 12}, together_s=5, deadline_s=20, lease="ml/gpumax")
    assert any(line.startswith(told) for line in found), found
    assert ", at 2026-01-01T00:" in found[0]


def test_what_was_so_before_is_somebody_elses_to_judge() -> None:
    """A test that shares a cluster asks from its own beginning on; what began earlier still holds its room."""
    entries = log(2).start("a", gpu=3).make("b", 1).entries
    began = entries[-1]["requestReceivedTimestamp"]
    assert check(entries) != []
    assert check(entries, since=began) == []
    again = log(2).start("a", gpu=3).start("b", gpu=1).entries
    assert [line.partition(" with ")[0] for line in check(again, since=began)] == [
        "node n1 holds 4 GPUs of 2"
    ]
