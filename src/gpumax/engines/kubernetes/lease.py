"""Who steers: one of several replicas holds a Lease, and nobody else writes.

    follower --(nobody holds it, or its time is over)--> leader
    leader   --(renewed in time)-----------------------> leader
    leader   --(not renewed for `renew_s`)-------------> follower, and nothing is written any more

The epoch counts the changes of leader. Whoever was stopped for longer than its lease finds out before its next write, since what counts is
its own clock, which ran on. Where that clock is wrong, the API server finds out: each write says in which epoch it is made, and
`guard/fence.yaml` refuses those of another one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, Literal

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.views import Meta, Part

LEASE_S: Final = 15
"""How long a lease holds after it was renewed."""
RENEW_S: Final = 10.0
"""For so long after it asked for its last renewal a leader may write: less than the lease, so that the next one can't have begun."""
RETRY_S: Final = 2.0


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Who holds a lease, for how long, and how often it went from one to another."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Part, frozen=True, rename="camel"):
    """An object of coordination.k8s.io."""

    metadata: Meta = Meta()
    spec: LeaseSpec = LeaseSpec()


LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", Lease)


def labels_of(scheduler: str) -> dict[str, str]:
    """By which the leases are found of those who schedule the pods that ask for this scheduler."""
    return {keys.SCHEDULER: scheduler[:63].rstrip("-.")}


class Fence:
    """Whether we may write now, and in which epoch. trouble: why we could not take over now; empty where nothing speaks against it. other: who else
    holds the lease, as it was seen last; None where nobody does.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._until_s = float("-inf")
        self.epoch = 0
        self.stamp = ""
        """By whom and in which epoch we write, as the API server compares it with the lease; empty for one who steers alone."""
        self.trouble = "the lease wasn't looked at yet"
        self.other: LeaseSpec | None = None

    @property
    def open(self) -> bool:
        """Whether we steer now."""
        return self._now_s() < self._until_s

    def renewed(self, asked_s: float, epoch: int, holder: str) -> None:
        """A renewal that was asked for at that moment was granted."""
        self._until_s, self.epoch, self.stamp = asked_s + RENEW_S, epoch, f"gpumax/{epoch}/{holder}"

    def close(self) -> None:
        """We don't steer any more."""
        self._until_s = float("-inf")


class Always(Fence):
    """For one who steers alone, from a laptop."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble = ""

    @property
    def open(self) -> bool:
        """Always."""
        return True


Move = Literal["create", "take", "renew", "wait"]


def _utc() -> datetime:
    return datetime.now(UTC)


class Candidate:
    """Decides what to do about the lease, by what was seen of it. Others' clocks count for nothing: what counts is for how long *we* have
    seen a lease unchanged. now: the time that is written into the lease, for people.
    """

    def __init__(self, identity: str, now: Callable[[], datetime] = _utc) -> None:
        self.identity = identity
        self._now = now
        self._seen: tuple[str, float] | None = None  # its version, and since when it is that

    def move(self, lease: Lease | None, now_s: float) -> Move:
        """What to do now."""
        if lease is None:
            return "create"
        spec, version = lease.spec, lease.metadata.resource_version
        if spec.holder_identity == self.identity:
            return "renew"
        if self._seen is None or self._seen[0] != version:
            self._seen = version, now_s
        if not spec.holder_identity:
            return "take"
        return "take" if now_s - self._seen[1] > (spec.lease_duration_seconds or LEASE_S) else "wait"

    def spec(self, lease: Lease | None, move: Move) -> dict[str, Any]:
        """The lease as it should be after the move. A holder that comes back under its own name begins a new epoch, too, when it takes."""
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = lease.spec if lease is not None else LeaseSpec()
        transitions = before.lease_transitions or 0
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE_S,
            "acquireTime": before.acquire_time if move == "renew" else moment,
            "renewTime": moment,
            "leaseTransitions": transitions if move == "renew" else transitions + 1,
        }
