"""What holds for every route: errors in one shape, a token over TCP, an OpenAPI document that tells the truth."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gpumax.apps.server.app import create_app
from gpumax.apps.server.gate import Gate
from gpumax.ports.store_fake import MemoryStore
from server.harness import TOKEN, Served, promised, served


@pytest.fixture(scope="module")
def there() -> Iterator[Served]:
    """A server that no test here changes."""
    with served() as made:
        yield made


@pytest.fixture(scope="module")
def over_tcp(there: Served) -> Iterator[httpx.Client]:
    """A caller that comes over TCP and says nothing of itself."""
    with httpx.Client(base_url=there.url) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404), ("GET", "/workloads/", 404), ("PATCH", "/workloads", 405), ("POST", "/status", 405),
        ("GET", "/events?after=-1", 422), ("GET", "/events?after=99999999999999999999", 422), ("GET", "/watch?after=x", 422),
        ("GET", "/workloads/a/tasks/x/log", 422), ("GET", "/workloads/a/tasks/-1/log", 422), ("GET", "/workloads?limit=", 422),
        ("POST", "/workloads?dry_run=perhaps", 422),
    ],
)  # fmt: skip
def test_errors_have_one_shape(there: Served, method: str, path: str, status: int) -> None:
    """{"error": {"message", "faults"}} for what no route answers and for parameters that can't be."""
    response = there.client.request(method, f"/api/v1{path}")
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"]
    assert isinstance(error["faults"], list)
    assert (status == 422) == bool(error["faults"])


def test_an_internal_error_is_told_without_a_traceback(there: Served) -> None:
    """500 with a sentence, in the same shape."""

    class Broken(MemoryStore):
        def counts(self) -> Any:
            raise ZeroDivisionError("division by zero in the middle of it")

    site = type(there.site)(Broken(), there.site.loop, there.site.clock, there.site.feed, there.site.about)
    transport = httpx.ASGITransport(create_app(site), raise_app_exceptions=False)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/api/v1/status")

    response = asyncio.run(ask())
    assert response.status_code == 500
    message = response.json()["error"]["message"]
    assert message.startswith("internal error")
    assert "Traceback" not in message
    assert "in the middle of it" not in message


def test_tcp_wants_the_token_everywhere(there: Served, over_tcp: httpx.Client) -> None:
    """401 on every route of the API and beside it, and nothing is told."""
    for path, operations in promised()["paths"].items():
        if path != "/api/v1/healthz":
            for method in operations:
                response = over_tcp.request(method, path.replace("{index}", "0").replace("{name}", "a"))
                assert response.status_code == 401, path
                assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/api/v1/openapi.json", "/healthz/..", "/api/v1/healthz/x"):
        assert over_tcp.get(path).status_code == 401


@pytest.mark.parametrize(
    "value",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ],
)
def test_a_wrong_token_opens_nothing(over_tcp: httpx.Client, value: str) -> None:
    """Whatever it looks like."""
    headers = {b"Authorization": value.encode("latin-1")}
    assert over_tcp.get("/api/v1/status", headers=headers).status_code == 401


def test_a_request_can_not_claim_to_come_over_the_socket(there: Served, over_tcp: httpx.Client) -> None:
    """Neither its host nor a proxy's headers say where it comes from."""
    claims = {
        "Host": there.site.about.socket,
        "X-Forwarded-For": "",
        "X-Forwarded-Host": there.site.about.socket,
    }
    assert over_tcp.get("/api/v1/status", headers=claims).status_code == 401


def test_the_token_opens_over_tcp(over_tcp: httpx.Client) -> None:
    """The same API."""
    response = over_tcp.get("/api/v1/status", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200


def test_health_asks_for_no_token(over_tcp: httpx.Client) -> None:
    """It tells nothing but that the server answers."""
    for path in ("/healthz", "/api/v1/healthz"):
        assert over_tcp.get(path).json() == {"ok": True}


def test_only_its_owner_may_open_the_socket(there: Served) -> None:
    """Mode 0600."""
    mode = os.stat(there.site.about.socket).st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


def test_every_route_is_described(there: Served) -> None:
    """A summary, a description, a tag, an operation id of its own, and the shape of its errors."""
    document = there.client.get("/api/v1/openapi.json").json()
    assert document == promised()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    operations = [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) >= 20
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    for at, operation in operations:
        assert {"summary", "description", "tags"} <= operation.keys(), at
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{at}: {parameter['name']}"
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), at


def test_no_page_asks_another_host_for_scripts(there: Served) -> None:
    """There are no pages that browse the API."""
    for path in ("/docs", "/redoc", "/api/v1/docs"):
        assert there.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("server", "open_"),
    [
        (("/run/us.sock", None), True), (("/run/us.sock", 80), False), (("/run/them.sock", None), False), (("", None), False),
        (("127.0.0.1", 80), False), (("127.0.0.1", None), False), (None, False),
    ],
)  # fmt: skip
def test_only_our_own_socket_needs_no_token(server: tuple[str, int | None] | None, open_: bool) -> None:
    """What the connection's own end is decides; a doubt closes the gate, and so does a token that is empty."""
    passed = []

    async def app(*_: object) -> None:
        passed.append(True)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: object) -> None:
        pass

    for gate in (Gate(app, socket="/run/us.sock", token=TOKEN), Gate(app, socket="/run/us.sock", token="")):
        for header in ([], [(b"authorization", b"Bearer ")], [(b"authorization", b"Bearer wrong")]):
            passed.clear()
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/api/v1/status",
                "headers": header,
                "server": server,
            }
            asyncio.run(gate(scope, receive, send))
            assert bool(passed) == open_
