"""A small server on a Unix socket that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

Item = dict[str, Any]

PREFIX = "/api/v1"


class Request(NamedTuple):
    """What a client sent. path: without the prefix."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Answer(NamedTuple):
    """What goes back; several pieces go out one by one. status 0: the connection breaks without an answer."""

    status: int
    pieces: Iterable[bytes]
    kind: str = "application/json"


def ok(document: object, status: int = 200) -> Answer:
    """A JSON document."""
    return Answer(status, [json.dumps(document).encode()])


def error(status: int, message: str, faults: list[Item] | None = None) -> Answer:
    """An error, as the API writes it."""
    return ok({"error": {"message": message, "faults": faults or []}}, status)


def text(*pieces: bytes) -> Answer:
    """A log."""
    return Answer(200, pieces, "text/plain")


def events(*messages: str) -> Answer:
    """A stream of server-sent events that ends after these."""
    return Answer(200, [f"{message}\n\n".encode() for message in messages], "text/event-stream")


BREAK = Answer(0, [])
"""The connection is closed in place of an answer."""

Handler = Callable[[Request], Answer]


class FakeApi:
    """Answers `METHOD /path`; 404 for anything it wasn't told of."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.socket = data / "server.sock"
        self.seen: list[Request] = []
        self._routes: dict[str, Handler] = {}
        self._server = _Server(self)
        (data / "server.json").write_text(json.dumps({"pid": os.getpid(), "socket": str(self.socket)}))
        # An open stream of a test that is over must not keep the next one waiting.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, route: str, *answers: Answer | Handler) -> None:
        """Answer this route with these in turn, then with the last one for ever."""
        left = list(answers)

        def handle(request: Request) -> Answer:
            answer = left.pop(0) if len(left) > 1 else left[0]
            return answer if isinstance(answer, Answer) else answer(request)

        self._routes[route] = handle

    def answer(self, request: Request) -> Answer:
        """The answer to a request."""
        self.seen.append(request)
        found = self._routes.get(f"{request.method} {request.path}")
        return found(request) if found else error(404, f"there is nothing at {request.path}")

    def asked(self, route: str) -> list[Request]:
        """The requests of a route."""
        return [request for request in self.seen if f"{request.method} {request.path}" == route]

    def close(self) -> None:
        """Stop answering; the socket's file stays, as after a kill -9."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, UnixStreamServer):
    def __init__(self, api: FakeApi) -> None:
        self.api = api
        super().__init__(str(api.socket), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            parts.path.removeprefix(PREFIX),
            dict(parse_qsl(parts.query)),
            body,
            dict(self.headers),
        )
        self._send(self.server.api.answer(request))

    def _send(self, answer: Answer) -> None:
        if not answer.status:
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Tests don't print what they ask."""


def workload(name: str = "train", **more: Any) -> Item:
    """A workload as GET /workloads tells it: running on two GPUs, unless more says otherwise."""
    return {
        "name": name,
        "id": f"{name}-id",
        "project": "team-a",
        "kind": "training",
        "priority": 50,
        "preemptible": True,
        "state": "running",
        "wish": "run",
        "gpu": 2,
        "tasks": {"running": 1, "done": 0, "total": 1},
        "submitted": "2026-01-01T10:00:00Z",
        "started": "2026-01-01T10:00:01Z",
        "ended": None,
        "runs": 1,
        "evictions": 0,
        "failures": 0,
        "nodes": ["n1"],
        "hold": None,
        "reason": "",
        "device_seconds": 120.0,
        **more,
    }


def task(index: int = 0, name: str = "train-0", **more: object) -> Item:
    """A task as GET /workloads/NAME tells it."""
    return {
        "index": index,
        "name": name,
        "group": "",
        "state": "running",
        "node": "n1",
        "devices": [{"index": 0, "milli": 1000}, {"index": 1, "milli": 1000}],
        "started": "2026-01-01T10:00:01Z",
        "ended": None,
        "exit_code": None,
        "reason": "",
        "cause": None,
        "for": "",
        **more,
    }


HELD = {
    "code": "NoRoom",
    "message": "needs 4 GPUs on one node; n1 has 2 free",
    "nodes": {"NotEnoughGpu": 1},
    "short": {"gpu": 2},
    "forecast": None,
}
"""A hold."""


def queue(name: str, **more: object) -> Item:
    """A queue as GET /queues tells it, with a quota of eight GPUs of which it holds six."""
    return {
        "name": name,
        "parent": None,
        "priority": 100,
        "quota": {"gpu": 8},
        "limit": {},
        "weight": {"gpu": 8, "cpu": 1, "memory": 1},
        "preempt_min_runtime": None,
        "reclaim_min_runtime": None,
        "shares": [{"resource": "gpu", "quota": 8, "share": 8, "allocated": 6, "demand": 7}],
        "waiting": 1,
        "running": 3,
        **more,
    }


def page(*items: Item, after: object = None) -> Answer:
    """A page of a list."""
    return ok({"items": list(items), "next": after})
