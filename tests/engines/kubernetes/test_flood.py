"""One tenant makes twenty thousand pods, half of them nonsense, each with much that nobody reads: another is served at once, and memory stays small."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from aiohttp import web

from controlplane.processes import eventually
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Anonymous
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.telling import told
from gpumax.loop.steer import Steering
from gpumax.ports.clock import SystemClock
from gpumax.ports.journal import MemoryJournal

PODS = 20_000
NOTES = "n" * 10_000
END = {"resourceVersion": "100000", "annotations": {"k8s.io/initial-events-end": "true"}}
MOST_MIB = 200


def named(name: str, **more: Any) -> dict[str, Any]:
    """The metadata of an object."""
    return {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def pod(space: str, name: str, queue: str, annotations: dict[str, str]) -> dict[str, Any]:
    """A pod that waits for a GPU; one that asks for a part of it by annotation asks for no whole one."""
    limits = {} if "gpu-fraction" in annotations else {"nvidia.com/gpu": "1"}
    return {
        "metadata": named(name, namespace=space, labels={"gpumax.dev/queue": queue}, annotations=annotations),
        "spec": {
            "schedulerName": "gpumax",
            "containers": [{"name": "main", "resources": {"limits": limits}}],
        },
        "status": {"phase": "Pending"},
    }


def flood(pods: int) -> Iterator[dict[str, Any]]:
    """What the tenant makes."""
    for number in range(pods):
        wrong = {"gpu-fraction": "x" * 5000} if number % 2 else {}
        yield pod("flood", f"p{number:05}", "small", {"notes": NOTES, **wrong})


def room() -> dict[str, Any]:
    """The only node."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": named("n1"),
        "spec": {},
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": ready},
    }


def queue(name: str, quota: int, limit: int) -> dict[str, Any]:
    """A queue."""
    return {"metadata": named(name), "spec": {"quota": {"gpu": quota}, "limit": {"gpu": limit}}}


class Server:
    """Says what is there, takes every write, and remembers it. Another tenant's pod comes when `flooded` is set."""

    def __init__(self, pods: int = PODS) -> None:
        self._pods = pods
        self.words: list[str] = []
        self.bound: list[str] = []
        self.flooded = threading.Event()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(30)

    def close(self) -> None:
        """The end of it."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _listen(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _end(self) -> None:
        await self._runner.cleanup()
        watches = asyncio.all_tasks() - {asyncio.current_task()}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.method != "GET":
            self._write(request.path, body)
            return web.json_response({})
        if request.path == "/apis/gpumax.dev/v1alpha1":
            row = {"name": "queues", "kind": "Queue", "namespaced": False, "verbs": ["watch"]}
            return web.json_response({"resources": [row]})
        if "watch" in request.query:
            return await self._stream(request)
        return web.json_response({}, status=404)

    def _write(self, path: str, body: bytes) -> None:
        if path.endswith("/binding"):
            self.bound.append(path)
        elif path.endswith("/status") and "/pods/" in path:
            self.words.append(json.loads(body)["status"]["conditions"][0]["message"])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        rows = {
            "pods": flood(self._pods),
            "nodes": iter([room()]),
            "queues": iter([queue("small", 4, 4), queue("other", 4, 8)]),
        }
        told = web.StreamResponse()
        await told.prepare(request)
        for row in rows.get(kind, ()):
            await told.write(json.dumps({"type": "ADDED", "object": row}).encode() + b"\n")
        await told.write(json.dumps({"type": "BOOKMARK", "object": {"metadata": END}}).encode() + b"\n")
        if kind == "pods":
            while not self.flooded.is_set():
                await asyncio.sleep(0.01)
            other = pod("other", "good", "other", {})
            other["metadata"]["resourceVersion"] = "100001"
            await told.write(json.dumps({"type": "ADDED", "object": other}).encode() + b"\n")
        await asyncio.Event().wait()
        return told


@pytest.fixture
def server() -> Iterator[Server]:
    """The API server of that cluster."""
    made = Server()
    yield made
    made.close()


@contextmanager
def steered(server: Server) -> Iterator[None]:
    """Somebody steers it."""
    loops: list[Steering] = []
    cluster = KubernetesCluster(
        Access(name="flood", server=server.url, credential=Anonymous()),
        lambda: [loop.wake() for loop in loops],
    )
    steering = Steering(cluster, MemoryJournal(), SystemClock())
    cluster.start()
    loops.append(steering)
    thread = threading.Thread(target=steering.run)
    thread.start()
    try:
        yield
    finally:
        steering.stop()
        thread.join()
        cluster.close()


def test_nobody_else_suffers_from_a_flood_of_pods(server: Server) -> None:
    """While thousands are still to be told why they wait, the other tenant's pod is bound; words are short, and what nobody reads isn't kept."""
    before = psutil.Process().memory_info().rss
    with steered(server):
        eventually(lambda: len(server.words) > 100, "the flood is being told")
        server.flooded.set()
        eventually(lambda: any("/other/" in path for path in server.bound), "the other is bound")
        kept_mib = (psutil.Process().memory_info().rss - before) / (1 << 20)
    assert len(server.bound) == 5, "as many of the flood as its queue may have, and the other"
    assert len(server.words) < PODS / 4, "words for all of them would have come first"
    assert max(len(words.encode()) for words in server.words) <= 1000
    assert kept_mib < MOST_MIB


def test_who_is_bound_does_not_wait_until_words_are_found_for_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here they are found when the binds have come, and not before."""
    server = Server(pods=12)
    late: list[bool] = []

    def words(*given: Any) -> Any:
        eventually(lambda: len(server.bound) == 4, "the binds have come", patience_s=20)
        late.append(True)
        return told(*given)

    monkeypatch.setattr("gpumax.engines.kubernetes.cluster.told", words)
    try:
        with steered(server):
            eventually(lambda: bool(late), "words are looked for, and the binds have come")
            eventually(lambda: len(server.words) >= 8, "the others are told")
    finally:
        server.close()
