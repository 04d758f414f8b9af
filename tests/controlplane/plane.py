"""A control plane of Kubernetes on 127.0.0.1: etcd, kube-apiserver, kube-controller-manager; kube-scheduler and kwok on request."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import yaml

from controlplane.build import built
from controlplane.certificates import Authority
from controlplane.crowd import crowd
from controlplane.kubelets import kubelets
from controlplane.middle import Middle
from controlplane.processes import HOST, PATIENCE_S, Program, eventually, free_ports
from controlplane.wire import Wire

ADMIN: Final = "admin"

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}]},
        {
            "level": "RequestResponse",
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            "resources": [
                {
                    "group": "",
                    "resources": [
                        "pods",
                        "pods/binding",
                        "pods/eviction",
                        "pods/status",
                        "nodes",
                        "nodes/status",
                    ],
                },
                {"group": "batch", "resources": ["jobs"]},
                {"group": "gpumax.dev"},
                {
                    "group": "resource.k8s.io",
                    "resources": ["resourceclaims", "resourceclaims/status", "resourceslices"],
                },
            ],
        },
        {"level": "Metadata"},
    ],
}
"""What happened to pods, nodes, jobs and our objects is kept whole, so that a checker can go through it afterwards; of the rest, that it happened."""
AUDIT_MIB: Final = 1 << 20
"""Of one file of that log. With no word of it a new one begins after 100 MiB, and what was before would be proven no more."""


class ControlPlane:
    """One control plane, in a directory of its own. Its programs can be killed and started again one by one."""

    def __init__(self, version: str, directory: Path, *api_flags: str) -> None:
        self.version = version
        self.directory = directory
        self.bin = built(version)
        directory.mkdir(parents=True, exist_ok=True)
        self.audit_log = directory / "audit.log"
        self.authority = Authority(directory / "keys")
        self._identities: dict[tuple[str, ...], tuple[Path, Path]] = {}
        etcd, peer, secure, controllers = free_ports(4)
        self.url = f"https://{HOST}:{secure}"
        self._etcd_url = f"http://{HOST}:{etcd}"
        self.etcd = self._etcd(self._etcd_url, f"http://{HOST}:{peer}")
        self.apiserver = self._apiserver(secure, api_flags)
        self.controllers = self._controllers(controllers)
        self._more: list[Program] = []
        self.api = self.client(ADMIN, "system:masters")

    def start(self) -> None:
        """Start it, and wait until it serves and has made what every namespace has."""
        self.etcd.start()
        self.apiserver.start()
        self.await_ready()
        self.controllers.start()
        self.await_account("default")

    def await_ready(self) -> None:
        """Wait until the API server says that it is ready."""
        eventually(self._ready, "the API server is ready", self.etcd, self.apiserver)

    def await_account(self, namespace: str) -> None:
        """Wait until a namespace has its service account; until then every pod is refused there."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        eventually(
            lambda: self.api.get(path).status_code == 200, f"{namespace} has its account", self.controllers
        )

    def stop(self) -> None:
        """End all of it. Nothing of it is worth a clean end, and a clean one takes long."""
        self.api.close()
        for program in (*self._more, self.controllers, self.apiserver, self.etcd):
            program.kill()

    def kubeconfig(self, user: str = ADMIN, *groups: str) -> Path:
        """A kubeconfig of this user in these groups, all it needs inside; the administrator's if none is named."""
        who = (user, *(groups or (("system:masters",) if user == ADMIN else ())))
        path = self.directory / f"{'+'.join(who).replace(':', '-')}.kubeconfig"
        certificate, key = self._identity(*who)
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": _packed(self.authority.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _packed(certificate),
                        "client-key-data": _packed(key),
                    },
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        return _kept(path, yaml.safe_dump(content))

    def token(self, namespace: str, account: str, pod: dict[str, Any] | None = None) -> str:
        """A token of a service account, as the kubelet would put it into this pod: it says on which node that is."""
        meta = pod["metadata"] if pod else {}
        of = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]} if pod else None
        spec = {"boundObjectRef": of}
        answer = self.api.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        return str(answer.raise_for_status().json()["status"]["token"])

    def kubeconfig_of_account(self, namespace: str, account: str, pod: dict[str, Any] | None = None) -> Path:
        """The way here for a service account."""
        config = yaml.safe_load(self.kubeconfig().read_text())
        config["users"][0]["user"] = {"token": self.token(namespace, account, pod)}
        return _kept(self.directory / f"{namespace}-{account}.kubeconfig", yaml.safe_dump(config))

    def kubeconfig_over(self, wire: Wire) -> Path:
        """The administrator's kubeconfig, for the way over a wire."""
        text = self.kubeconfig().read_text().replace(self.url, f"https://{HOST}:{wire.port}")
        return _kept(self.directory / f"over-{wire.port}.kubeconfig", text)

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A wire to the API server that can be cut and held up."""
        wire = Wire(HOST, int(self.url.rsplit(":", 1)[1]))
        try:
            yield wire
        finally:
            wire.close()

    @contextmanager
    def middle(self, user: str = ADMIN) -> Iterator[Middle]:
        """Somebody between clients and the API server, who passes on as this user, with all rights."""
        middle = Middle(self.url, self.authority, self._identity(user, "system:masters"), self.directory)
        try:
            yield middle
        finally:
            middle.close()

    def client(self, user: str, *groups: str) -> httpx.Client:
        """Plain HTTP as this user, which shares no code with what is tested."""
        return httpx.Client(
            base_url=self.url, verify=self.context(user, *groups), timeout=PATIENCE_S, trust_env=False
        )

    def context(self, user: str, *groups: str) -> ssl.SSLContext:
        """What a connection as this user shows and trusts."""
        certificate, key = self._identity(user, *groups)
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(certificate, key)
        return context

    def crowd(self, path: str, documents: Iterable[dict[str, Any]]) -> None:
        """Make thousands of objects as the administrator; see `crowd`."""
        crowd(self.url, self.context(ADMIN, "system:masters"), path, documents)

    def start_scheduler(self, *flags: str) -> Program:
        """Kubernetes' own scheduler, of the same version."""
        (port,) = free_ports(1)
        config = self.kubeconfig("system:kube-scheduler")
        program = self._program(
            "kube-scheduler", "--kubeconfig", config, "--authentication-kubeconfig", config,
            "--authorization-kubeconfig", config, "--leader-elect=false", "--bind-address", HOST,
            "--secure-port", port, "--kube-api-qps=1000", "--kube-api-burst=2000", *flags,
        )  # fmt: skip
        return self._also(program)

    def start_kwok(self, *, jobs_end: bool = True) -> Program:
        """Kubelets of all nodes. jobs_end: pods of Jobs are done at once.

        All of them print what `prints` says, and a command in any of them runs here, in an empty environment.
        """
        (port,) = free_ports(1)
        certificate, key = self.authority.server("kubelet", HOST)
        flags = [
            "--manage-all-nodes=true", "--node-ip", HOST, "--node-port", str(port),
            "--tls-cert-file", str(certificate), "--tls-private-key-file", str(key),
        ]  # fmt: skip
        return self._also(
            kubelets(self.kubeconfig(), port, self.directory, *flags, jobs_end=jobs_end, more=self._played())
        )

    def prints(self, text: str) -> None:
        """What all containers have printed from now on."""
        lines = "".join(f"2026-01-01T00:00:00Z stdout F {line}\n" for line in text.splitlines())
        (self.directory / "printed.log").write_text(lines)

    def _played(self) -> Iterator[dict[str, Any]]:
        self.prints("")
        for kind, spec in (
            ("ClusterLogs", {"logs": [{"logsFile": str(self.directory / "printed.log"), "follow": True}]}),
            ("ClusterExec", {"execs": [{"local": {"workDir": str(self.directory)}}]}),
        ):
            yield {
                "apiVersion": "kwok.x-k8s.io/v1alpha1",
                "kind": kind,
                "metadata": {"name": "all"},
                "spec": spec,
            }

    def compact(self, version: int) -> None:
        """Have etcd forget all that happened before a version."""
        body = {"revision": version, "physical": True}
        httpx.post(f"{self._etcd_url}/v3/kv/compaction", json=body, trust_env=False).raise_for_status()

    @property
    def audit_end(self) -> int:
        """How long the log of audits is now."""
        return self.audit_log.stat().st_size if self.audit_log.exists() else 0

    def audited(self, start: int = 0) -> list[dict[str, Any]]:
        """What the API server was asked to do and answered, in the order of its log, from there on."""
        if not self.audit_log.exists():
            return []
        with self.audit_log.open("rb") as log:
            log.seek(max(start - 1, 0))
            # What follows the last line's end is still being written.
            lines = log.read().split(b"\n")[1 if start else 0 : -1]
        return [json.loads(line) for line in lines]

    def _also(self, program: Program) -> Program:
        program.start()
        self._more.append(program)
        return program

    def _etcd(self, url: str, peer: str) -> Program:
        return self._program(
            "etcd", "--data-dir", self.directory / "etcd", "--name", "test",
            "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"test={peer}",
            "--unsafe-no-fsync", "--quota-backend-bytes", 8 << 30, "--log-level", "warn",
        )  # fmt: skip

    def _apiserver(self, port: int, flags: tuple[str, ...]) -> Program:
        certificate, key = self.authority.server("kube-apiserver", HOST, "localhost")
        public, private = self.authority.signing_pair("service-accounts")
        policy = self.directory / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        return self._program(
            "kube-apiserver", "--etcd-servers", self._etcd_url, "--bind-address", HOST, "--secure-port", port,
            "--tls-cert-file", certificate, "--tls-private-key-file", key, "--client-ca-file", self.authority.certificate,
            "--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction",
            "--service-account-issuer", self.url, "--service-account-key-file", public,
            "--service-account-signing-key-file", private, "--service-cluster-ip-range", "10.0.0.0/24",
            "--endpoint-reconciler-type", "none", "--allow-privileged=true", "--profiling=false",
            "--audit-policy-file", policy, "--audit-log-path", self.audit_log, "--audit-log-maxsize", AUDIT_MIB, *flags,
        )  # fmt: skip

    def _controllers(self, port: int) -> Program:
        return self._program(
            "kube-controller-manager", "--kubeconfig", self.kubeconfig(), "--bind-address", HOST, "--secure-port", port,
            "--service-account-private-key-file", self.directory / "keys" / "service-accounts.key",
            "--root-ca-file", self.authority.certificate, "--use-service-account-credentials", "--leader-elect=false",
            "--allocate-node-cidrs=false",
        )  # fmt: skip

    def _program(self, name: str, *words: object) -> Program:
        return Program([str(self.bin / name), *map(str, words)], self.directory / f"{name}.log")

    def _identity(self, user: str, *groups: str) -> tuple[Path, Path]:
        who = (user, *groups)
        if who not in self._identities:
            self._identities[who] = self.authority.client(*who)
        return self._identities[who]

    def _ready(self) -> bool:
        try:
            return self.api.get("/readyz").text == "ok"
        except httpx.TransportError:
            return False


class Cluster(NamedTuple):
    """A cluster to test against. kubeconfig: files as the environment names them; own: None where it is somebody's."""

    kubeconfig: str
    own: ControlPlane | None


def _kept(path: Path, text: str) -> Path:
    """A file that only we may read, whole at any moment: programs that were just started may be about to read it."""
    if not path.exists() or path.read_text() != text:
        fresh = path.with_name(f".{path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(text)
        fresh.replace(path)
    return path


def _packed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
