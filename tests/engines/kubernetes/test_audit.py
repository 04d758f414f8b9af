"""The checker of audit logs finds what it is for, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from audit import check
from gpumax.engines.kubernetes.claims import status
from gpumax.engines.kubernetes.grants import Amount, Grant, written
from manifests import node, pod

Entry = dict[str, Any]


class Log:
    """A log being written, a second a line."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.now_s = 0

    def add(self, verb: str, resource: str, name: str, **fields: Any) -> Log:
        """One answered request."""
        self.now_s += 1
        about: dict[str, Any] = {
            "resource": resource,
            "name": name,
            "namespace": "ml" if resource == "pods" else "",
        }
        part = fields.pop("part", "")
        minutes, seconds = divmod(self.now_s, 60)
        self.entries.append(
            {
                "stage": "ResponseComplete", "verb": verb, "objectRef": about | ({"subresource": part} if part else {}),
                "requestReceivedTimestamp": f"2026-01-01T00:{minutes:02}:{seconds:02}.000000Z",
                "responseStatus": {"code": fields.pop("code", 200)}, **fields,
            }
        )  # fmt: skip
        return self

    def make(self, name: str, gpu: int = 1, **fields: Any) -> Log:
        """Somebody makes a pod."""
        return self.add("create", "pods", name, responseObject=pod(name, gpu=gpu, **fields))

    def claim(self, name: str, milli: int, index: int = 0, to: str = "n1") -> Log:
        """A claim is allocated."""
        grant = Grant({index: Amount(milli)})
        pod = {"namespace": "ml", "name": name, "uid": f"uid-ml-{name}"}
        answer = {"status": msgspec.json.decode(msgspec.json.encode(status(to, pod, grant)))}
        about = {"resource": "resourceclaims", "namespace": "ml", "name": f"gpumax-{name}"}
        return self.add("patch", "resourceclaims", name, objectRef=about, responseObject=answer)

    def bind(self, name: str, to: str = "n1", code: int = 201, milli: int = 0) -> Log:
        """Somebody binds it, with a part of the first device."""
        meta: dict[str, Any] = {"name": name, "uid": f"uid-ml-{name}"}
        if milli:
            meta["annotations"] = {"gpumax.dev/devices": written(Grant({0: Amount(milli)}))}
        asked = {"metadata": meta, "target": {"name": to}}
        return self.add("create", "pods", name, part="binding", code=code, requestObject=asked)

    def finish(self, name: str) -> Log:
        """It succeeds."""
        return self.add(
            "patch", "pods", name, part="status", responseObject=pod(name, phase="Succeeded", node="n1")
        )

    def evict(self, name: str) -> Log:
        """It is told to go; with grace it holds its room until it has gone."""
        return self.add("create", "pods", name, part="eviction", responseObject={"kind": "Status"})

    def drop(self, name: str, grace_s: int = 0) -> Log:
        """It is deleted, at once or with grace."""
        gone = pod(name, node="n1")
        gone["metadata"]["deletionGracePeriodSeconds"] = grace_s
        return self.add("delete", "pods", name, responseObject=gone)


def log(gpus: int = 2) -> Log:
    """A node comes."""
    return Log().add("create", "nodes", "n1", responseObject=node("n1", gpus))


def claimed(name: str) -> dict[str, Any]:
    """Fields of a pod with a claim."""
    return {"gpu": 0, "resourceClaims": [{"name": "gpumax", "resourceClaimName": f"gpumax-{name}"}]}


GANG: dict[str, Any] = {"labels": {"gpumax.dev/gang": "g"}, "annotations": {"gpumax.dev/min": "2"}}


@pytest.mark.parametrize(
    "entries",
    [
        log().make("a").bind("a").make("b").bind("b"),
        log().make("a", 2).bind("a").finish("a").make("b", 2).bind("b"),
        log().make("a", 2).bind("a").drop("a").make("b", 2).bind("b"),
        log().make("a", 2).bind("a").drop("a", 30).drop("a").make("b", 2).bind("b"),
        log().make("a", 2).bind("a").make("b", 2).bind("b", code=409),
        log().make("a", 2, terminationGracePeriodSeconds=0).bind("a").evict("a").make("b", 2).bind("b"),
        log().make("a", **GANG).make("b", **GANG).bind("a").bind("b").finish("a").finish("b"),
        log().make("a", 0).bind("a", milli=600).finish("a").make("b", 0).bind("b", milli=600),
        log().make("a", **claimed("a")).claim("a", 600).bind("a", milli=600),
    ],
)  # fmt: skip
def test_sound_logs_pass(entries: Log) -> None:
    """Room that ended is room; what was refused never was; a gang that comes and goes in time is whole."""
    assert check(entries.entries, limits={"": 2}, deadline_s=5) == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (log().make("a", 2).bind("a").make("b").bind("b"), "node n1 holds 3 GPUs of 2"),
        (log().make("a", 2).bind("a").drop("a", 30).make("b", 2).bind("b"), "node n1 holds 4 GPUs of 2"),
        (log().make("a", 2).bind("a").evict("a").make("b", 2).bind("b"), "node n1 holds 4 GPUs of 2"),
        (log().make("a", 0).bind("a", milli=600).make("b", 0).bind("b", milli=600), "device 0 of node n1 holds 1200 of 1000"),
        (log().make("a", **claimed("a")).bind("a", milli=600), "ml/a was bound with {'0': {'milli': 600}}, and its claim says None"),
        (log().make("a", **claimed("a")).claim("a", 500).bind("a", milli=600), "ml/a was bound with"),
        (log().make("a", **claimed("a")).claim("a", 600, 1).bind("a", milli=600), "ml/a was bound with"),
        (log().make("a", **claimed("a")).claim("a", 600, to="n2").bind("a", milli=600), "ml/a was bound with"),
        (log(8).make("a").bind("a").bind("a", "n2"), "ml/a was bound to n2 while it was on n1"),
        (log(8).bind("a"), "ml/a was bound, and nobody made it"),
        (log(8).make("a", 3).bind("a"), "queue  holds 3 GPUs, over its limit of 2"),
        (log(8).make("a", **GANG).bind("a").make("b").make("c").make("d").make("e").make("f").make("g"), "gang ml/g"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(entries: Log, told: str) -> None:
    """Over-full, bound twice, over a limit, in parts for too long: each with its moment."""
    found = check(entries.entries, limits={"": 2}, deadline_s=5)
    assert any(line.startswith(told) for line in found), found
