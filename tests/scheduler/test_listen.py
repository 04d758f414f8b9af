"""What the scheduler says of itself over HTTP, and to whom."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from controlplane.processes import free_ports
from engines.kubernetes.stub import Stub, refusal, says, story, stub
from gpumax.apps.scheduler.health import State
from gpumax.apps.scheduler.listen import Site, listening
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Anonymous
from gpumax.errors import GpumaxError, Refused

REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
RIGHT = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
WELL: Callable[[], State] = lambda: State(True, "ok")  # noqa: E731
Answer = tuple[int, str]


@contextmanager
def site(url: str, *, everywhere: bool = False, ready: Callable[[], State] = WELL) -> Iterator[str]:
    """A scheduler that listens; its address."""
    (port,) = free_ports(1)
    access = Access(name="test", server=url, credential=Anonymous())
    where = f"{'0.0.0.0' if everywhere else '127.0.0.1'}:{port}"
    with listening(where, Site(WELL, ready, lambda: b"gpumax_leader 1.0\n", access)):
        yield f"http://127.0.0.1:{port}"


async def ask(url: str, token: str = "") -> Answer:
    """The answer's status and text."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


def knows(served: Stub, *, authenticated: bool = True, allowed: bool = True) -> None:
    """The API server knows the token, and what its user may."""
    user = {"username": "system:serviceaccount:monitoring:prometheus", "groups": ["system:authenticated"]}
    served.plays(REVIEW, says(201, {"status": {"authenticated": authenticated, "user": user}}))
    served.plays(RIGHT, says(201, {"status": {"allowed": allowed}}))


@story
async def test_what_is_not_ready_is_said_in_words() -> None:
    """And that is another matter than whether it lives."""
    lost = State(False, "pods aren't known yet: nothing was listed yet")
    with site("http://127.0.0.1:1", ready=lambda: lost) as url:
        assert await ask(f"{url}/healthz") == (200, "ok\n")
        assert await ask(f"{url}/readyz") == (503, f"{lost.words}\n")


@story
async def test_on_loopback_metrics_are_open() -> None:
    """Nobody else gets there; the API server isn't asked."""
    with site("http://127.0.0.1:1") as url:
        assert await ask(f"{url}/metrics") == (200, "gpumax_leader 1.0\n")


@story
async def test_off_loopback_metrics_are_for_whom_the_cluster_lets_read_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller's token is reviewed, and its user's right to get the path; asked once, however often they come."""
    caplog.set_level(logging.DEBUG)
    async with stub() as served:
        knows(served)
        with site(served.url, everywhere=True) as url:
            assert await ask(f"{url}/healthz") == (200, "ok\n")
            status, words = await ask(f"{url}/metrics")
            assert (status, "Bearer TOKEN" in words) == (401, True)
            for _ in range(3):
                assert await ask(f"{url}/metrics", "s3cr3t") == (200, "gpumax_leader 1.0\n")
    review, right = served.asked
    assert review.json()["spec"] == {"token": "s3cr3t"}
    spec = right.json()["spec"]
    assert spec["user"] == "system:serviceaccount:monitoring:prometheus"
    assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    ("authenticated", "allowed", "status"), [(False, True, 401), (True, False, 403)], ids=["unknown", "forbidden"]
)  # fmt: skip
def test_others_are_told_what_is_missing(authenticated: bool, allowed: bool, status: int) -> None:
    """A token that nobody knows, and one of somebody without the right."""

    @story
    async def told() -> None:
        async with stub() as served:
            knows(served, authenticated=authenticated, allowed=allowed)
            with site(served.url, everywhere=True) as url:
                found, words = await ask(f"{url}/metrics", "other")
                assert found == status
                assert "token" in words

    told()


@story
async def test_where_the_cluster_cannot_be_asked_nobody_reads() -> None:
    """Whoever has no answer has no right."""
    async with stub() as served:
        served.plays(REVIEW, says(403, refusal(403, "Forbidden", "may not create tokenreviews")))
        with site(served.url, everywhere=True) as url:
            status, _ = await ask(f"{url}/metrics", "any")
            assert status == 503


def test_what_is_no_address_is_refused_at_once() -> None:
    """And so is one that somebody else has."""
    access = Access(name="test", server="http://127.0.0.1:1", credential=Anonymous())
    with pytest.raises(Refused, match="wanted HOST:PORT"), listening("8080", Site(WELL, WELL, bytes, access)):
        pass
    with site("http://127.0.0.1:1") as url:
        port = url.rpartition(":")[2]
        with pytest.raises(GpumaxError, match="is in use"), listening(f"127.0.0.1:{port}", Site(WELL, WELL, bytes, access)):  # fmt: skip
            pass


def test_json_lines_hold_what_a_record_says() -> None:
    """One object a line, whatever stands in the words."""
    from gpumax.apps.scheduler.logs import JsonLines

    record = logging.LogRecord("gpumax.kubernetes", logging.WARNING, "", 0, "%s\nwaits", ("ü",), None)
    record.context = {"pod": "x/y"}
    line = JsonLines().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("ts").endswith("Z")
    assert found == {"level": "warning", "logger": "gpumax.kubernetes", "message": "ü\nwaits", "pod": "x/y"}
