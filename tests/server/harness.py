"""The API on a Unix socket, over a store and an engine in memory and the real loop; and what its OpenAPI document promises."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, NamedTuple, cast

import httpx

from gpumax.apps.cli.stream import Message, messages
from gpumax.apps.server import doors
from gpumax.apps.server.app import create_app
from gpumax.apps.server.feed import Feed, TellingStore
from gpumax.apps.server.gate import Gate
from gpumax.apps.server.site import About, Site
from gpumax.apps.server.submit import make_first_queue
from gpumax.apps.server.web import Web
from gpumax.loop.cycle import Loop
from gpumax.model.node import Device, Node
from gpumax.ports.clock import ManualClock
from gpumax.ports.engine_fake import FakeEngine
from gpumax.ports.journal import MemoryJournal
from gpumax.ports.store_fake import MemoryStore

PATIENCE_S: Final = 30.0
START_MS: Final = 1_767_225_600_000  # the beginning of 2026
TOKEN: Final = "t" * 43

Item = dict[str, Any]


def machine(name: str = "n1", gpus: int = 8, cpu: int = 64) -> Node:
    """A node with 80 GiB GPUs."""
    devices = tuple(Device(index, "H100", 80 << 10) for index in range(gpus))
    return Node(name, cpu_milli=cpu * 1000, memory_mib=512 << 10, devices=devices)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: httpx.Headers


class Served:
    """A server of the test's own."""

    def __init__(
        self, site: Site, engine: FakeEngine, clock: ManualClock, client: httpx.Client, url: str
    ) -> None:
        self.site = site
        self.engine = engine
        self.clock = clock
        self.client = client
        self.url = url
        self.data = site.about.data

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: dict[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """One request; every JSON answer is held against the OpenAPI document."""
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        response = self.client.request(
            method, f"/api/v1{path}", content=content, headers=headers, params=_words(query)
        )
        told = response.headers.get("content-type", "") == "application/json"
        answer = Answer(response.status_code, response.json() if told else response.content, response.headers)
        if told:
            conforms(promised(), method, f"/api/v1{path}", answer)
        return answer

    def get(self, path: str, **query: Any) -> Any:
        """The body of an answer with status 200."""
        answer = self.ask("GET", path, **query)
        assert answer.status == 200, answer
        return answer.body

    def submit(self, body: object, **query: Any) -> list[Item]:
        """What became of a file that is taken."""
        answer = self.ask("POST", "/workloads", body=body, **query)
        assert answer.status == 201, answer
        items: list[Item] = answer.body["items"]
        return items

    @contextmanager
    def stream(self, path: str, *, last: str | None = None, **query: object) -> Iterator[Iterator[Message]]:
        """The events of a stream, as they come."""
        headers = {"Last-Event-ID": last} if last is not None else {}
        with self.client.stream("GET", f"/api/v1{path}", headers=headers, params=_words(query)) as response:
            assert response.status_code == 200, response.read()
            yield messages(line.encode() + b"\n" for line in response.iter_lines())

    def eventually(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, what
            self.site.settle()

    def write_log(self, name: str, data: bytes, index: int = 0) -> Path:
        """Append to a task's log, as a supervisor does."""
        found = self.site.store.find(name)
        assert found is not None
        path = self.data / "logs" / found[0].id / f"{index}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
        return path


@cache
def promised() -> Item:
    """The OpenAPI document, which says the same of every server."""
    return create_app(cast(Site, None)).openapi()


def _words(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}


@contextmanager
def served(nodes: Sequence[Node] | None = None) -> Iterator[Served]:
    """A server for one test; it is gone afterwards."""
    with ExitStack() as stack:
        data = Path(tempfile.mkdtemp(prefix="gm-", dir="/tmp"))
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        clock, feed = ManualClock(START_MS), Feed()
        store = TellingStore(MemoryStore(), feed)
        make_first_queue(store, clock)
        engine = FakeEngine([machine()] if nodes is None else nodes, clock=clock)
        loop = Loop(store, engine, MemoryJournal(), clock, data)

        def wake() -> None:
            loop.wake()

        engine.wake = wake
        path = doors.socket_path(data)
        sockets = [
            stack.enter_context(doors.unix_socket(path)),
            stack.enter_context(doors.tcp_socket("127.0.0.1:0")),
        ]
        about = About(data, 1, str(path), None, START_MS, "fake", ("a note",), True)
        site = Site(store, loop, clock, feed, about)
        ready = Event()
        web = Web(Gate(create_app(site), socket=str(path), token=TOKEN), feed, ready.set)
        for work, end in ((loop.run, loop.stop), (lambda: web.serve_on(sockets), web.end)):
            thread = Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, PATIENCE_S)
            stack.callback(end)
        assert ready.wait(PATIENCE_S)
        transport = httpx.HTTPTransport(uds=str(path))
        client = stack.enter_context(
            httpx.Client(transport=transport, base_url="http://here", timeout=PATIENCE_S)
        )
        yield Served(site, engine, clock, client, doors.url_of(sockets[1]))


def conforms(document: Item, method: str, path: str, answer: Answer) -> None:
    """Hold an answer against what the OpenAPI document says of it."""
    plain = path.partition("?")[0]
    for pattern, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), plain) and method.lower() in operations:
            responses = operations[method.lower()]["responses"]
            assert str(answer.status) in responses, (
                f"{method} {path} answers {answer.status}, which it doesn't promise"
            )
            schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
            _check(schema, answer.body, document, f"{method} {path}")
            return


def _check(schema: Item, value: Any, document: Item, at: str) -> None:
    if "$ref" in schema:
        _check(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value, document, at)
    elif "anyOf" in schema:
        faults = []
        for option in schema["anyOf"]:
            try:
                return _check(option, value, document, at)
            except AssertionError as error:
                faults.append(str(error))
        raise AssertionError(f"{at}: fits none: {faults}")
    elif "enum" in schema:
        assert value in schema["enum"], f"{at}: {value!r}"
    elif "const" in schema:
        assert value == schema["const"], f"{at}: {value!r}"
    else:
        _check_type(schema, value, document, at)
    return None


_TYPES: Final = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def _check_type(schema: Item, value: Any, document: Item, at: str) -> None:
    kind = schema.get("type")
    if kind is None:
        return
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    assert fits, f"{at}: {value!r} is no {kind}"
    if kind == "array":
        for index, item in enumerate(value):
            _check(schema.get("items", {}), item, document, f"{at}[{index}]")
    elif kind == "object":
        known = schema.get("properties", {})
        assert set(schema.get("required", ())) <= value.keys(), (
            f"{at}: lacks {set(schema['required']) - value.keys()}"
        )
        more = schema.get("additionalProperties", not known)
        for name, part in value.items():
            assert name in known or more, f"{at}: has {name}, which isn't promised"
            _check(known.get(name, more if isinstance(more, dict) else {}), part, document, f"{at}.{name}")
