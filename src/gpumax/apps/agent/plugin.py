"""Parts without claims: a device plugin for clusters in which Dynamic Resource Allocation is off.

Its devices are tickets, all alike: a container that asks for one gets whatever its pod was given. Whose a ticket is nobody tells a plugin as it
is allocated; but before a container starts the kubelet waits for us, and by then it says so itself to whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from gpumax.apps.agent.giving import Place, give, keep, take_back
from gpumax.apps.agent.parts import Origin, Parts, cdi_id
from gpumax.apps.agent.wire import kubelet_pb2 as wire
from gpumax.apps.agent.wire.services import KUBELET, PLUGIN, POD_RESOURCES, asked, served, stream, unary
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.grants import read_grant
from gpumax.engines.kubernetes.views import Pod
from gpumax.errors import GpumaxError, Refused

TICKETS: Final = 256
"""More containers with parts than a node runs pods."""
VERSION: Final = "v1beta1"
LOOK_S: Final = 2.0
"""How often it is looked whether the kubelet started anew."""
_OVER: Final = ("Succeeded", "Failed")
_log: Final = logging.getLogger("gpumax.agent")

Read = Callable[[str, str], Awaitable[Pod]]
"""A pod by namespace and name, as the API has it now."""


class Plugin:
    """What the kubelet asks of a device plugin. folder: the kubelet's."""

    def __init__(self, place: Place, parts: Parts, read: Read, kubelet: Path) -> None:
        self._place = place
        self._parts = parts
        self._read = read
        self._who = kubelet / "pod-resources" / "kubelet.sock"
        self._alone = asyncio.Lock()

    async def options(self, _asked: wire.Empty, _: object) -> wire.PluginOptions:
        """We are asked before each start. Which ticket a container gets is all the same to us."""
        return wire.PluginOptions(pre_start_required=True)

    async def tickets(self, _asked: wire.Empty, _: object) -> AsyncIterator[wire.PluginDevices]:
        """All tickets, and nothing new ever: how the devices are, the node's annotation says."""
        yield wire.PluginDevices(
            devices=[wire.PluginDevice(id=f"ticket-{number}", health="Healthy") for number in range(TICKETS)]
        )
        await asyncio.Event().wait()

    async def allocate(self, asked: wire.AllocateRequest, _: object) -> wire.AllocateResponse:
        """The name under which the runtime will find the part; what it is, is written before the container starts."""
        return wire.AllocateResponse(
            container_responses=[
                wire.ContainerDevices(cdi_devices=[wire.CdiDevice(name=cdi_id(min(row.devices_ids)))])
                for row in asked.container_requests
            ]
        )

    async def before_start(self, asked: wire.ContainerIds, context: Any) -> wire.Empty:
        """Write what the container gets. It doesn't start where that can't be done, and is tried again."""
        try:
            async with self._alone:
                await self._write(min(asked.devices_ids, default=""))
        except (GpumaxError, OSError, grpc.aio.AioRpcError) as error:
            words = (error.details() or "") if isinstance(error, grpc.aio.AioRpcError) else str(error)
            _log.warning("a container can't start: %s", words)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, words)
        return wire.Empty()

    async def sweep(self) -> None:
        """Remove the parts of pods that are over."""
        self._parts.clean()
        for ticket, origin in self._parts.kept().items():
            async with self._alone:
                try:
                    if self._parts.kept().get(ticket) == origin and await self._over(origin):
                        _log.info("pod %s/%s is over: its part is removed", origin.namespace, origin.name)
                        await asyncio.to_thread(take_back, self._place, self._parts, ticket)
                except (GpumaxError, OSError) as error:
                    _log.warning("pod %s/%s: %s", origin.namespace, origin.name, error)
        await asyncio.to_thread(keep, self._place, self._parts)

    async def _over(self, origin: Origin) -> bool:
        try:
            pod = await self._read(origin.namespace, origin.name)
        except ApiRefused as error:
            if error.code == 404:
                return True
            raise
        return pod.metadata.uid != origin.uid or pod.status.phase in _OVER

    async def _write(self, ticket: str) -> None:
        space, name = await self._holder(ticket)
        pod = await self._read(space, name)
        text = (pod.metadata.annotations or {}).get(keys.GIVEN)
        grant = read_grant(text) if text and pod.spec.node_name == self._place.node else None
        if grant is None or not grant.devices:
            raise Refused(
                f"pod {space}/{name} was given no part of a GPU here; gpumax's scheduler writes that, and only it may "
                f"(annotation {keys.GIVEN})"
            )
        origin = Origin(space, name, pod.metadata.uid, name, pod.metadata.uid)
        await asyncio.to_thread(give, self._place, self._parts, ticket, origin, grant)

    async def _holder(self, ticket: str) -> tuple[str, str]:
        """Namespace and name of the pod that the kubelet gave a ticket."""
        everybody = await asked(self._who, f"/{POD_RESOURCES}/List", wire.Empty(), wire.AllPodResources)
        for pod in everybody.pod_resources:
            for container in pod.containers:
                for held in container.devices:
                    if held.resource_name == keys.PART and ticket in held.device_ids:
                        return pod.namespace, pod.name
        raise Refused(f"the kubelet knows nobody who has {ticket} of {keys.PART}")


async def offer(kubelet: Path, plugin: Plugin) -> None:
    """Serve the plugin, and register it with every kubelet that starts, until cancelled: a new one knows nobody, and removes all sockets."""
    folder = kubelet / "device-plugins"
    own, theirs = folder / "gpumax.sock", folder / "kubelet.sock"
    work = {
        "GetDevicePluginOptions": unary(plugin.options, wire.Empty, wire.PluginOptions),
        "ListAndWatch": stream(plugin.tickets, wire.Empty, wire.PluginDevices),
        "Allocate": unary(plugin.allocate, wire.AllocateRequest, wire.AllocateResponse),
        "PreStartContainer": unary(plugin.before_start, wire.ContainerIds, wire.Empty),
    }
    about = wire.RegisterRequest(
        version=VERSION,
        endpoint=own.name,
        resource_name=keys.PART,
        options=wire.PluginOptions(pre_start_required=True),
    )
    while True:
        async with served(own, {PLUGIN: work}):
            seen = _which(theirs)
            try:
                await asked(theirs, f"/{KUBELET}/Register", about, wire.Empty)
                _log.info("the kubelet knows this plugin")
            except grpc.aio.AioRpcError as error:
                _log.warning("the kubelet can't be told of this plugin: %s", error.details())
                seen = None
            await asyncio.sleep(LOOK_S)
            while seen is not None and own.exists() and _which(theirs) == seen:
                await asyncio.sleep(LOOK_S)


def _which(socket: Path) -> tuple[int, int] | None:
    """Which socket it is: another one of the same name is another kubelet."""
    try:
        found = socket.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
