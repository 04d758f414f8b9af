"""A stand-in for the kubelet, as far as plugins meet it: it speaks its protocols over its sockets, and reads what the container runtime would read."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def _answers(work: Callable[..., Message], asked: type[Message], answer: type[Message]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        work, request_deserializer=asked.FromString, response_serializer=answer.SerializeToString
    )


class Kubelet:
    """Of one node, in a folder of its own. knows: the services that it speaks."""

    def __init__(self, folder: Path, *, knows: tuple[str, ...] = tuple(KNOWN)) -> None:
        self.folder = folder
        self.cdi = folder / "cdi"
        self._knows = knows
        self._drivers: dict[str, tuple[Path, str]] = {}
        self.plugins: dict[str, Path] = {}
        self._offered: dict[str, list[str]] = {}
        self._held: dict[tuple[str, str, str, str], list[str]] = {}
        self._servers: list[grpc.Server] = []
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

    # Device plugins

    def serve(self) -> None:
        """Start, once more if we ran: whoever registered with an earlier one is forgotten, and all sockets of plugins are removed."""
        self.stop()
        folder = self.folder / "device-plugins"
        for socket in folder.glob("*.sock"):
            socket.unlink()
        self.plugins, self._offered = {}, {}
        own = {"Register": _answers(self._register, wire.RegisterRequest, wire.Empty)}
        who = {"List": _answers(self._list, wire.Empty, wire.AllPodResources)}
        (self.folder / "pod-resources").mkdir(exist_ok=True)
        self._serve(self.folder / "pod-resources" / "kubelet.sock", "v1.PodResourcesLister", who)
        self._serve(folder / "kubelet.sock", "v1beta1.Registration", own)

    def stop(self) -> None:
        """End all that we serve."""
        for server in self._servers:
            server.stop(grace=None).wait()
        self._servers = []

    def offered(self, resource: str) -> int:
        """How many healthy devices a plugin has; as the node's status says it."""
        if resource not in self.plugins:
            return 0
        if resource not in self._offered:
            path = self.plugins[resource]
            with grpc.insecure_channel(f"unix:{path}") as channel:
                watch = channel.unary_stream(
                    "/v1beta1.DevicePlugin/ListAndWatch",
                    request_serializer=wire.Empty.SerializeToString,
                    response_deserializer=wire.PluginDevices.FromString,
                )
                stream = watch(wire.Empty(), timeout=SECONDS, wait_for_ready=True)
                first = next(iter(stream))
                self._offered[resource] = [row.id for row in first.devices if row.health == "Healthy"]
                stream.cancel()
        return len(self._offered[resource])

    def admit(self, pod: dict[str, Any], resource: str) -> list[str]:
        """Take a pod in: each container that asks gets devices of the plugin. Names for the container runtime."""
        names = []
        for container in pod["spec"]["containers"]:
            count = int((container["resources"].get("limits") or {}).get(resource, 0))
            if not count:
                continue
            held = {one for row in self._held.values() for one in row}
            ids = [one for one in self._offered[resource] if one not in held][:count]
            asked = wire.AllocateRequest(container_requests=[wire.ContainerIds(devices_ids=ids)])
            path = self.plugins[resource]
            answer = call(path, "/v1beta1.DevicePlugin/Allocate", asked, wire.AllocateResponse)
            meta = pod["metadata"]
            self._held[meta["namespace"], meta["name"], container["name"], resource] = ids
            names += [row.name for row in answer.container_responses[0].cdi_devices]
        return names

    def start(self, pod: dict[str, Any], resource: str) -> None:
        """What comes before a pod's containers start. RpcError with the plugin's words where it says no."""
        for (space, name, _, held), ids in self._held.items():
            if (space, name, held) == (pod["metadata"]["namespace"], pod["metadata"]["name"], resource):
                asked = wire.ContainerIds(devices_ids=ids)
                call(self.plugins[resource], "/v1beta1.DevicePlugin/PreStartContainer", asked, wire.Empty)

    def forget(self, pod: dict[str, Any]) -> None:
        """The pod is over: its devices are free."""
        meta = pod["metadata"]
        for key in [key for key in self._held if key[:2] == (meta["namespace"], meta["name"])]:
            del self._held[key]

    def _serve(self, path: Path, name: str, methods: dict[str, Any]) -> None:
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
        path.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        self._servers.append(server)

    def _register(self, asked: wire.RegisterRequest, _: object) -> wire.Empty:
        assert asked.version == "v1beta1"
        self._offered.pop(asked.resource_name, None)
        self.plugins[asked.resource_name] = self.folder / "device-plugins" / asked.endpoint
        return wire.Empty()

    def _list(self, _asked: wire.Empty, _: object) -> wire.AllPodResources:
        rows = []
        for (space, name, container, resource), ids in self._held.items():
            held = wire.HeldDevices(resource_name=resource, device_ids=ids)
            there = wire.PodContainer(name=container, devices=[held])
            rows.append(wire.PodResources(name=name, namespace=space, containers=[there]))
        return wire.AllPodResources(pod_resources=rows)

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
