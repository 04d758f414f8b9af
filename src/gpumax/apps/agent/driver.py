"""Claims on this node are made ready and given up again, as the kubelet asks (Dynamic Resource Allocation)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from gpumax.apps.agent.giving import Place, give, keep, take_back
from gpumax.apps.agent.parts import Origin, Parts
from gpumax.apps.agent.wire import kubelet_pb2 as wire
from gpumax.engines.kubernetes.claims import Claim, grant_in, results_on
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.offers import device_name
from gpumax.errors import GpumaxError, Refused

_log: Final = logging.getLogger("gpumax.agent")

Read = Callable[[str, str], Awaitable[Claim]]
"""A claim by namespace and name, as the API has it now."""


class Driver:
    """The same claim may be asked for again at any time: what is written then is the same."""

    def __init__(self, place: Place, parts: Parts, read: Read) -> None:
        self._place = place
        self._parts = parts
        self._read = read
        # A sweep looks at a claim and acts on it: nobody may make it ready in between.
        self._alone = asyncio.Lock()

    async def prepare(self, asked: wire.Claims, _: object) -> wire.PreparedClaims:
        """Make claims ready, each by itself."""
        return wire.PreparedClaims(claims={claim.uid: await self._prepared(claim) for claim in asked.claims})

    async def unprepare(self, asked: wire.Claims, _: object) -> wire.UnpreparedClaims:
        """Give claims up. This needs nobody but us: the claim itself may be gone by now."""
        return wire.UnpreparedClaims(
            claims={claim.uid: await self._unprepared(claim) for claim in asked.claims}
        )

    async def sweep(self) -> None:
        """Write again what a reboot took, and remove what nobody has a claim to any more, though nobody told us."""
        self._parts.clean()
        for key, origin in self._parts.kept().items():
            async with self._alone:
                try:
                    if self._parts.has(key):
                        await self._swept(origin)
                except (GpumaxError, OSError) as error:
                    # Who can't be asked may still be there.
                    _log.warning("claim %s/%s: %s", origin.namespace, origin.name, error)
        await asyncio.to_thread(keep, self._place, self._parts)

    async def _swept(self, origin: Origin) -> None:
        try:
            claim = await self._read(origin.namespace, origin.name)
            if claim.metadata.uid == origin.uid and results_on(claim, self._place.node):
                await asyncio.to_thread(self._write, claim)
                return
        except ApiRefused as error:
            if error.code != 404:
                raise
        _log.info("claim %s/%s is over: its part is removed", origin.namespace, origin.name)
        await asyncio.to_thread(take_back, self._place, self._parts, origin.uid)

    async def _prepared(self, asked: wire.Claim) -> wire.PreparedClaim:
        try:
            async with self._alone:
                claim = await self._read(asked.namespace, asked.name)
                if claim.metadata.uid != asked.uid:
                    raise Refused(
                        f"it is another one now: found uid {claim.metadata.uid}, wanted {asked.uid}"
                    )
                names = await asyncio.to_thread(self._write, claim)
        except (GpumaxError, OSError) as error:
            _log.warning("claim %s/%s can't be made ready: %s", asked.namespace, asked.name, error)
            return wire.PreparedClaim(error=f"claim {asked.namespace}/{asked.name}: {error}")
        # One part, whatever the number of its devices: the first of them carries it.
        devices = [
            wire.PreparedDevice(
                request_names=[row.request],
                pool_name=row.pool,
                device_name=row.device,
                cdi_device_ids=names.pop(row.request, []),
                share_id=row.share_id or None,
            )
            for row in results_on(claim, self._place.node)
        ]
        return wire.PreparedClaim(devices=devices)

    async def _unprepared(self, asked: wire.Claim) -> wire.UnpreparedClaim:
        try:
            async with self._alone:
                await asyncio.to_thread(take_back, self._place, self._parts, asked.uid)
        except (GpumaxError, OSError) as error:
            return wire.UnpreparedClaim(error=f"claim {asked.namespace}/{asked.name}: {error}")
        return wire.UnpreparedClaim()

    def _write(self, claim: Claim) -> dict[str, list[str]]:
        """Write the parts of a claim; their names for the runtime, by request. Only what the scheduler allocated counts."""
        place, meta = self._place, claim.metadata
        rows = results_on(claim, place.node)
        if not rows:
            raise Refused(f"nothing of node {place.node} is allocated to it")
        grant = grant_in(claim)
        if grant is None or {device_name(index) for index in grant.devices} != {row.device for row in rows}:
            raise Refused(
                "its allocation doesn't say how much of each GPU it has; gpumax's scheduler writes that"
            )
        requests = dict.fromkeys(row.request for row in rows)
        found = {}
        for request in requests:
            there = {row.device for row in rows if row.request == request}
            own = {index: part for index, part in grant.devices.items() if device_name(index) in there}
            # Containers of a pod that each have devices of their own.
            key = meta.uid if len(requests) == 1 else f"{meta.uid}-{request}"
            origin = Origin(meta.namespace, meta.name, meta.uid, *_user(claim))
            found[request] = give(place, self._parts, key, origin, replace(grant, devices=own))
        return found


def _user(claim: Claim) -> tuple[str, str]:
    """Name and uid of the pod that uses a claim; empty where none does."""
    users = claim.status.reserved_for if claim.status is not None else ()
    return next(((user.name, user.uid) for user in users or () if user.resource == "pods"), ("", ""))
