"""Stand for leader, and stay it while the lease is renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.lease import LEASES, RETRY_S, Candidate, Fence, Lease
from gpumax.errors import GpumaxError

ANSWER_S: Final = 5.0
GIVE_BACK_S: Final = 2.0
_log: Final = logging.getLogger("gpumax.kubernetes")


async def stand(
    api: Api, namespace: str, name: str, candidate: Candidate, fence: Fence, changed: Callable[[], None]
) -> None:
    """Until cancelled; then the lease is given back. `changed` is called when we begin to steer. What fails is tried again; the fence closes by itself in time."""
    try:
        await _stay(api, namespace, name, candidate, fence, changed)
    finally:
        if fence.open:
            fence.close()
            await _give_back(api, namespace, name, candidate)


async def _stay(
    api: Api, namespace: str, name: str, candidate: Candidate, fence: Fence, changed: Callable[[], None]
) -> None:
    steered = False
    while True:
        steered = _noted(fence, steered, changed)  # it may have closed while we slept
        try:
            async with asyncio.timeout(ANSWER_S):
                await _step(api, namespace, name, candidate, fence)
            fence.trouble = ""
        except (GpumaxError, TimeoutError) as error:
            words = f"lease {namespace}/{name}: {str(error) or f'no answer within {ANSWER_S:g} s'}"
            if words != fence.trouble:
                _log.warning("%s", words)
            fence.trouble = words
        steered = _noted(fence, steered, changed)
        await asyncio.sleep(RETRY_S)


async def _give_back(api: Api, namespace: str, name: str, candidate: Candidate) -> None:
    """So that nobody has to wait until it runs out, as it does if this fails."""
    with suppress(GpumaxError, TimeoutError):
        async with asyncio.timeout(GIVE_BACK_S):
            lease = await api.get(LEASES, name, namespace)
            if lease.spec.holder_identity == candidate.identity:
                version = {"resourceVersion": lease.metadata.resource_version}
                given = {"metadata": version, "spec": {"holderIdentity": ""}}
                await api.patch(LEASES, name, given, namespace)


def _noted(fence: Fence, steered: bool, changed: Callable[[], None]) -> bool:
    """Say so where we have begun to steer, or ceased to. Returns whether we steer."""
    steers = fence.open
    if steers and not steered:
        about = {"event": "leadership", "steers": True, "epoch": fence.epoch}
        _log.info("steering, epoch %s", fence.epoch, extra={"context": about})
        changed()
    elif steered and not steers:
        about = {"event": "leadership", "steers": False, "epoch": fence.epoch}
        why = fence.trouble or "another replica does"
        _log.warning("steering no longer: %s", why, extra={"context": about})
    return steers


async def _step(api: Api, namespace: str, name: str, candidate: Candidate, fence: Fence) -> None:
    asked_s = monotonic()
    lease: Lease | None
    try:
        lease = await api.get(LEASES, name, namespace)
    except ApiRefused as error:
        if error.code != 404:
            raise
        lease = None
    move = candidate.move(lease, monotonic())
    if move == "wait":
        fence.close()
        return
    spec = candidate.spec(lease, move)
    try:
        if lease is None:
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.name,
                "metadata": {"name": name},
                "spec": spec,
            }
            await api.create(LEASES, body, namespace)
        else:
            version = {"resourceVersion": lease.metadata.resource_version}
            await api.patch(LEASES, name, {"metadata": version, "spec": spec}, namespace)
    except ApiRefused as error:
        if error.code != 409:
            raise
        # Somebody was faster.
        return
    fence.renewed(asked_s, spec["leaseTransitions"], candidate.identity)
