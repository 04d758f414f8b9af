"""Stand for leader, and stay it while the lease is renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.lease import LEASE_S, LEASES, RETRY_S, Candidate, Fence, Lease, LeaseSpec
from gpumax.errors import GpumaxError

ANSWER_S: Final = 5.0
GIVE_BACK_S: Final = 2.0
AGAIN_S: Final = 60.0
"""How often is said again what keeps a replica from holding the lease: nothing is scheduled meanwhile, and logs are read at their end."""
NO_LABELS: Final[Mapping[str, str]] = {}
_log: Final = logging.getLogger("gpumax.kubernetes")


async def stand(
    api: Api,
    namespace: str,
    name: str,
    candidate: Candidate,
    fence: Fence,
    changed: Callable[[], None],
    labels: Mapping[str, str] = NO_LABELS,
) -> None:
    """Until cancelled; then the lease is given back. `changed` is called when we begin to steer. labels: by which others find the lease. What fails is tried
    again; the fence closes by itself in time.
    """
    try:
        await _stay(api, namespace, name, candidate, fence, changed, labels)
    finally:
        if fence.open:
            fence.close()
            await _give_back(api, namespace, name, candidate)


async def _stay(
    api: Api,
    namespace: str,
    name: str,
    candidate: Candidate,
    fence: Fence,
    changed: Callable[[], None],
    labels: Mapping[str, str],
) -> None:
    steered = False
    voice = Voice(f"{namespace}/{name}")
    while True:
        steered = _noted(fence, steered, changed)  # it may have closed while we slept
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await _step(api, namespace, name, candidate, fence, labels)
            fence.trouble = ""
            fence.other = found.spec if found is not None else None
            voice.well(fence.other)
        except (GpumaxError, TimeoutError) as error:
            fence.trouble = in_words(namespace, name, error)
            voice.trouble(fence.trouble)
        steered = _noted(fence, steered, changed)
        await asyncio.sleep(RETRY_S)


class Voice:
    """What a replica says of the lease while it doesn't hold it: at once what is new, and again after a while what keeps it from ever doing so."""

    def __init__(self, lease: str, now_s: Callable[[], float] = monotonic) -> None:
        self._lease = lease
        self._now_s = now_s
        self._trouble = ""
        self._said_s = float("-inf")
        self._holder: str | None = None

    def well(self, other: LeaseSpec | None) -> None:
        """The lease was looked at. other: who holds it, where that is somebody else."""
        self._trouble = ""
        holder = other.holder_identity if other is not None else None
        if other is not None and holder != self._holder:
            _log.info(
                "waiting: %s holds the lease %s, epoch %s; whoever holds it schedules, and this replica takes over %s s after it was renewed last",
                holder, self._lease, other.lease_transitions or 0, other.lease_duration_seconds or LEASE_S,
            )  # fmt: skip
        self._holder = holder

    def trouble(self, words: str) -> None:
        """It could not be looked at, or not be taken."""
        now_s = self._now_s()
        if words != self._trouble or now_s - self._said_s >= AGAIN_S:
            _log.warning("%s", words)
            self._said_s = now_s
        self._trouble, self._holder = words, None


def in_words(namespace: str, name: str, error: Exception) -> str:
    """Why the lease can't be held, and what to do about that."""
    lease = f"lease {namespace}/{name}"
    if isinstance(error, ApiRefused) and error.code == 404:
        return (
            f"{lease}: there is no namespace {namespace}, so this replica schedules nothing; `kubectl create namespace {namespace}` "
            "makes it, or name a lease in another one by --lease NAMESPACE/NAME"
        )
    if isinstance(error, ApiRefused) and error.code == 403:
        return (
            f"{lease}: no right to use it, so this replica schedules nothing ({error.message}); it takes `get`, `create` and `patch` of leases in "
            f"namespace {namespace}, as the chart's role gpumax there grants it"
        )
    return f"{lease}: {str(error) or f'no answer within {ANSWER_S:g} s'}"


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


async def _step(
    api: Api, namespace: str, name: str, candidate: Candidate, fence: Fence, labels: Mapping[str, str]
) -> Lease | None:
    """Take it, renew it or leave it. Returns the lease where somebody else holds it."""
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
        return lease
    spec = candidate.spec(lease, move)
    try:
        if lease is None:
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.name,
                "metadata": {"name": name, "labels": labels},
                "spec": spec,
            }
            await api.create(LEASES, body, namespace)
        else:
            meta = {"resourceVersion": lease.metadata.resource_version, "labels": labels}
            await api.patch(LEASES, name, {"metadata": meta, "spec": spec}, namespace)
    except ApiRefused as error:
        if error.code != 409:
            raise
        # Somebody was faster.
        return None
    fence.renewed(asked_s, spec["leaseTransitions"], candidate.identity)
    return None
