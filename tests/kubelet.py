"""A stand-in for the kubelet, as far as plugins meet it: it speaks its protocols over its sockets, and reads what the container runtime would read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import Message

from gpumax.apps.agent.wire import kubelet_pb2 as wire

SECONDS: Final = 20.0
KNOWN: Final = {
    "v1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    "v1beta1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
}
"""Services of drivers that this kubelet speaks, newest first."""


class Added(NamedTuple):
    """What a container gets by CDI."""

    env: dict[str, str]
    mounts: dict[str, str]


def call(socket: Path, method: str, asked: Message, answer: type[Message]) -> Any:
    """One call over a socket."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(
            method, request_serializer=type(asked).SerializeToString, response_deserializer=answer.FromString
        )
        return ask(asked, timeout=SECONDS, wait_for_ready=True)


class Kubelet:
    """Of one node, in a folder of its own. knows: the services that it speaks."""

    def __init__(self, folder: Path, *, knows: tuple[str, ...] = tuple(KNOWN)) -> None:
        self.folder = folder
        self.cdi = folder / "cdi"
        self._knows = knows
        self._drivers: dict[str, tuple[Path, str]] = {}
        for name in ("plugins", "plugins_registry", "device-plugins"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.cdi.mkdir(exist_ok=True)

    # Drivers of claims

    def look(self) -> list[str]:
        """Look for drivers that put a socket into our folder, ask each who it is, and tell it. Returns their names."""
        self._drivers = {}
        for socket in sorted((self.folder / "plugins_registry").glob("*.sock")):
            info = call(socket, "/pluginregistration.Registration/GetInfo", wire.Empty(), wire.PluginInfo)
            service = next((name for name in info.supported_versions if name in self._knows), "")
            taken = info.type == "DRAPlugin" and bool(service)
            status = wire.RegistrationStatus(plugin_registered=taken, error="" if taken else "not understood")
            call(socket, "/pluginregistration.Registration/NotifyRegistrationStatus", status, wire.Empty)
            if taken:
                self._drivers[info.name] = Path(info.endpoint), KNOWN[service]
        return list(self._drivers)

    def prepare(self, claim: dict[str, Any], driver: str = "gpu.gpumax.dev") -> list[str]:
        """Have a claim made ready. Its names for the container runtime. AssertionError with the driver's words where it fails."""
        answer = self._ask(driver, "NodePrepareResources", claim, wire.PreparedClaims)
        (key, prepared), *more = answer.claims.items()
        assert (key, more) == (claim["metadata"]["uid"], [])
        assert not prepared.error, prepared.error
        results = claim["status"]["allocation"]["devices"]["results"]
        wanted = [(row["pool"], row["device"], [row["request"]], row.get("shareID", "")) for row in results]
        assert [
            (row.pool_name, row.device_name, list(row.request_names), row.share_id)
            for row in prepared.devices
        ] == wanted
        return [name for row in prepared.devices for name in row.cdi_device_ids]

    def unprepare(self, claim: dict[str, Any], driver: str = "gpu.gpumax.dev") -> None:
        """Have it given up."""
        answer = self._ask(driver, "NodeUnprepareResources", claim, wire.UnpreparedClaims)
        assert [(key, row.error) for key, row in answer.claims.items()] == [(claim["metadata"]["uid"], "")]

    def _ask(self, driver: str, method: str, claim: dict[str, Any], answer: type[Message]) -> Any:
        socket, service = self._drivers[driver]
        meta = claim["metadata"]
        asked = wire.Claims(
            claims=[wire.Claim(namespace=meta["namespace"], uid=meta["uid"], name=meta["name"])]
        )
        return call(socket, f"/{service}/{method}", asked, answer)

    # The container runtime

    def added(self, names: list[str]) -> Added:
        """What a container gets that is started with these CDI devices. AssertionError where one is not to be found."""
        env: dict[str, str] = {}
        mounts: dict[str, str] = {}
        specs = [json.loads(path.read_text()) for path in sorted(self.cdi.glob("*.json"))]
        for name in names:
            kind, _, device = name.partition("=")
            found = [
                row["containerEdits"]
                for spec in specs
                for row in spec["devices"]
                if spec["kind"] == kind and row["name"] == device
            ]
            assert len(found) == 1, f"unresolvable CDI devices {name}"
            env |= dict(line.split("=", 1) for line in found[0].get("env", ()))
            mounts |= {row["containerPath"]: row["hostPath"] for row in found[0].get("mounts", ())}
        return Added(env, mounts)
