"""The webhook's server by itself: what it takes, what it refuses, and whom it lets in."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpumax.apps.cli.main import run
from gpumax.apps.webhook.certificates import Kept, advance
from gpumax.apps.webhook.server import MOST_BYTES, PATH, Server
from manifests import pod

HOST = "127.0.0.1"


def fresh() -> Kept:
    """Certificates that were made just now."""
    return advance(None, b"", [HOST], datetime.now(UTC))


@asynccontextmanager
async def listening(
    kept: Kept, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[httpx.AsyncClient]:
    """A server that shows this certificate, and somebody who trusts its authority and speaks this version."""
    server = Server(HOST, 0)
    server.show(kept)
    port = await server.start()
    context = ssl.create_default_context(cadata=kept.authorities.decode())
    context.minimum_version = context.maximum_version = tls
    try:
        async with httpx.AsyncClient(
            base_url=f"https://{HOST}:{port}", verify=context, trust_env=False
        ) as client:
            yield client
    finally:
        await server.stop()


def question(document: dict[str, Any]) -> bytes:
    """What the API server would ask about a pod."""
    request = {"uid": "u", "kind": {"kind": "Pod"}, "object": document}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "request": request}).encode()


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_whoever_trusts_the_authority_is_answered(tls: ssl.TLSVersion) -> None:
    """Over TLS 1.2 and 1.3; and whoever asks whether it lives."""
    async with listening(fresh(), tls) as client:
        answer = await client.post(PATH, content=question(pod("p")))
        assert answer.json()["response"] == {"uid": "u", "allowed": True}
        assert (await client.get("/healthz")).text == "ok"


@pytest.mark.anyio
async def test_what_is_no_question_is_refused_and_it_goes_on() -> None:
    """Too long, nonsense, another path or method."""
    async with listening(fresh()) as client:
        assert (await client.post(PATH, content=b"x" * (MOST_BYTES + 1))).status_code == 413
        assert (await client.post(PATH, content=b"[" * 100_000)).status_code == 400
        assert (await client.post(PATH, content=b"")).status_code == 400
        assert (await client.get(PATH)).status_code == 405
        assert (await client.post("/", content=question(pod("p")))).status_code == 404
        large = question(pod("p", annotations={"note": "x" * 2_000_000}))
        assert (await client.post(PATH, content=large)).status_code == 200


@pytest.mark.anyio
async def test_a_new_certificate_is_shown_without_a_restart() -> None:
    """Who trusts the next authority alone is answered as soon as it is used."""
    first, second = fresh(), fresh()
    server = Server(HOST, 0)
    server.show(first)
    port = await server.start()
    shown = []
    try:
        for kept in (first, second):
            server.show(kept)
            context = ssl.create_default_context(cadata=kept.authorities.decode())
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                shown.append((await client.get(f"https://{HOST}:{port}/healthz")).status_code)
    finally:
        await server.stop()
    assert shown == [200, 200]


def test_keys_leave_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not longer than it takes to read them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Server(HOST, 0).show(fresh())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [(("--listen", "9443"), "wanted HOST:PORT"), (("--service", "webhook"), "wanted NAMESPACE/NAME")],
)
def test_what_the_command_can_t_use_is_refused_in_a_line(
    options: tuple[str, str], wanted: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked of a cluster."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert run(["webhook", *options]) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert len(said.splitlines()) == 1


def test_without_its_package_it_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of a plain installation."""
    for name in [name for name in sys.modules if name.startswith("gpumax.apps.webhook")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert run(["webhook"]) == 2
    assert "pip install 'gpumax[webhook]'" in capsys.readouterr().err
