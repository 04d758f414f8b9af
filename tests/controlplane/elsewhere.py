"""Somebody's cluster, as far as a stage needs one: it is written to by what KUBECONFIG names, and never stopped, cut or compacted."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import httpx
import yaml

from controlplane.kubelets import kubelets
from controlplane.plane import ADMIN
from controlplane.processes import PATIENCE_S, Program, eventually, free_ports

Document = dict[str, Any]


class Elsewhere:
    """The cluster of a kubeconfig's current context; its user is one with all rights, by a certificate or a token."""

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        self._file = Path(kubeconfig.split(os.pathsep)[0])
        self._folder = folder
        self.api = _client(yaml.safe_load(self._file.read_text()), self._file.parent)

    def kubeconfig(self, user: str = ADMIN, *_groups: str) -> Path:
        """The file; no other user is made here."""
        assert user == ADMIN, f"nobody can be {user} on somebody's cluster"
        return self._file

    def await_account(self, namespace: str) -> None:
        """Wait until a namespace has its service account; until then every pod is refused there."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        eventually(lambda: self.api.get(path).status_code == 200, f"{namespace} has its account")

    def start_kwok(self) -> Program:
        """What plays the kubelets of the nodes that a test makes, and of no others."""
        (port,) = free_ports(1)
        flags = (
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        )
        program = kubelets(self._file, port, self._folder, *flags, jobs_end=True)
        program.start()
        return program

    @property
    def audit_end(self) -> int:
        """Nothing was written."""
        return 0

    def audited(self, start: int = 0) -> list[Document]:
        """Nobody keeps a log of audits for us there."""
        return []

    def stop(self) -> None:
        """Let go."""
        self.api.close()


def _client(config: Document, where: Path) -> httpx.Client:
    """Plain HTTP, which shares no code with what is tested."""
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    tls = ssl.create_default_context(cadata=_text(cluster, "certificate-authority", where))
    if certificate := _text(user, "client-certificate", where):
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder) / "both.pem"
            both.touch(mode=0o600)
            both.write_text(f"{certificate}\n{_text(user, 'client-key', where)}")
            tls.load_cert_chain(both)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    assert certificate or headers, (
        "the tests want a client certificate or a token in KUBECONFIG, of a user with all rights"
    )
    return httpx.Client(
        base_url=cluster["server"], verify=tls, headers=headers, timeout=PATIENCE_S, trust_env=False
    )


def _named(rows: list[Document], name: str) -> Document:
    return next(row for row in rows if row["name"] == name)


def _text(part: Document, key: str, where: Path) -> str | None:
    """What stands in the file, or in one that it names."""
    if data := part.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return (where / part[key]).read_text() if key in part else None
