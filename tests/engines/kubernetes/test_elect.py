"""What a replica says that waits for the lease, or can't have it; and what one says that steers without any beside another."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from engines.kubernetes.stub import Json, Stub, api_of, page, refusal, says, story, stub
from gpumax.engines.kubernetes import others
from gpumax.engines.kubernetes.elect import AGAIN_S, Voice, in_words, stand
from gpumax.engines.kubernetes.lease import Candidate, Fence, LeaseSpec, labels_of
from gpumax.engines.kubernetes.others import LookOut

LEASES = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
ALL = "/apis/coordination.k8s.io/v1/leases"


class Clock:
    """A steady clock that is told to move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since it was asked last, but for what is said of the way to the server."""
    words = [row.getMessage() for row in caplog.records if row.module != "connection"]
    caplog.clear()
    return words


def test_a_standby_says_for_whom_it_waits_once(caplog: pytest.LogCaptureFixture) -> None:
    """And again when that is another one."""
    caplog.set_level(logging.INFO, "gpumax.kubernetes")
    voice = Voice("ns/gpumax")
    for _ in range(2):
        voice.well(LeaseSpec(holder_identity="one", lease_transitions=3))
    (words,) = said(caplog)
    assert "waiting: one holds the lease ns/gpumax, epoch 3" in words
    voice.well(LeaseSpec(holder_identity="two", lease_transitions=4))
    assert "two holds" in said(caplog)[0]
    voice.well(None)
    assert said(caplog) == []


def test_what_keeps_a_replica_from_ever_scheduling_is_said_again_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not at each try, and not only once: logs are read at their end."""
    clock = Clock()
    voice = Voice("ns/gpumax", clock)
    for _ in range(3):
        voice.trouble("no such namespace")
    assert said(caplog) == ["no such namespace"]
    clock.now_s += AGAIN_S
    voice.trouble("no such namespace")
    voice.trouble("no right")
    assert said(caplog) == ["no such namespace", "no right"]


async def stands(
    server: Stub, candidate: Candidate, fence: Fence, until: Any, labels: dict[str, str] | None = None
) -> None:
    """Stand for leader until it is so."""
    async with api_of(server) as api:
        task = asyncio.create_task(stand(api, "ns", "gpumax", candidate, fence, lambda: None, labels or {}))
        while not until():
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@story
async def test_a_namespace_that_is_not_there_is_named_with_what_to_do() -> None:
    """The replica isn't ready, and says so for the probe, too."""
    fence, before = Fence(), Fence().trouble
    async with stub() as server:
        server.plays(f"{LEASES}/gpumax", says(404, refusal(404, "NotFound", 'leases "gpumax" not found')))
        server.plays(LEASES, says(404, refusal(404, "NotFound", 'namespaces "ns" not found')))
        await stands(server, Candidate("me"), fence, lambda: fence.trouble != before)
    assert fence.trouble.startswith(
        "lease ns/gpumax: there is no namespace ns, so this replica schedules nothing"
    )
    assert "kubectl create namespace ns" in fence.trouble


@story
async def test_a_right_that_lacks_is_named() -> None:
    """As the API server says it, and what grants it."""
    fence, before = Fence(), Fence().trouble
    async with stub() as server:
        server.plays(f"{LEASES}/gpumax", says(403, refusal(403, "Forbidden", 'user "x" may not get leases')))
        await stands(server, Candidate("me"), fence, lambda: fence.trouble != before)
    assert 'user "x" may not get leases' in fence.trouble
    assert "`get`, `create` and `patch` of leases in namespace ns" in fence.trouble


def test_what_nobody_answers_is_said_as_it_is() -> None:
    """Nobody is told to make a namespace for that."""
    assert in_words("ns", "gpumax", TimeoutError()) == "lease ns/gpumax: no answer within 5 s"


@story
async def test_a_lease_says_pods_of_which_scheduler_it_is_about() -> None:
    """So that others find it; one of an older version gets the label when it is renewed."""
    fence = Fence()
    old: Json = {"metadata": {"name": "gpumax", "resourceVersion": "7"}, "spec": {}}
    async with stub() as server:
        server.plays(f"{LEASES}/gpumax", says(200, old))
        await stands(server, Candidate("me"), fence, lambda: fence.open, labels_of("gpumax"))
        (patch, *_) = [asked.json() for asked in server.asked if asked.method == "PATCH"]
    assert patch["metadata"]["labels"] == {"gpumax.dev/scheduler": "gpumax"}
    assert len(labels_of("x" * 62 + "." + "y" * 9)["gpumax.dev/scheduler"]) == 62


def lease(holder: str, version: int, renewed_s: float) -> Json:
    """As the API server lists it."""
    moment = datetime.fromtimestamp(renewed_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "metadata": {"name": "gpumax", "namespace": "ns", "resourceVersion": str(version)},
        "spec": {"holderIdentity": holder, "renewTime": moment, "leaseTransitions": 3},
    }


@story
async def test_who_holds_a_lease_is_known_by_its_age_or_by_its_changes() -> None:
    """One that was renewed lately lives, and so does one that changes whatever its clock says; one of somebody who is gone, or of nobody, counts for nothing."""
    long_ago, now_s = 1e9, time.time()
    async with stub() as server:
        lists = [
            page(1, lease("one", 1, now_s)), page(2, lease("two", 2, long_ago)), page(3, lease("two", 3, long_ago)),
            page(3, lease("two", 3, long_ago)), page(4, lease("", 4, now_s)),
        ]  # fmt: skip
        server.plays(ALL, *(says(200, each) for each in lists))
        async with api_of(server) as api:
            out = LookOut(api, "gpumax")
            found = [await out.others() for _ in lists]
        assert {asked.query["labelSelector"] for asked in server.asked} == {"gpumax.dev/scheduler=gpumax"}
    assert found == [{"ns/gpumax": "one"}, {"ns/gpumax": "two"}, {"ns/gpumax": "two"}, {}, {}]


@story
async def test_who_steers_alone_beside_another_is_warned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with what to do; where nobody lets it look, it says that and goes on."""
    caplog.set_level(logging.INFO, "gpumax.kubernetes")
    monkeypatch.setattr(others, "EVERY_S", 0)
    there = says(200, page(1, lease("one", 1, time.time())))
    async with stub() as server:
        server.plays(ALL, there, there, says(200, page(2)), says(403, refusal(403, "Forbidden")))
        async with api_of(server) as api:
            await LookOut(api, "gpumax").run()
    warned, gone, unknown = said(caplog)
    assert "are scheduled by one, too, which holds the lease ns/gpumax" in warned
    assert "--dry-run" in warned
    assert gone == "nobody holds the lease ns/gpumax any more"
    assert "no right to list leases" in unknown
