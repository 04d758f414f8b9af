"""Whether somebody else schedules the same pods: who steers without a lease keeps nobody away, and is kept away by nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.lease import LEASES, Lease, labels_of
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.errors import GpumaxError

EVERY_S: Final = 30.0
LIVES_S: Final = 60.0
"""A lease that was renewed within this time is held by somebody who lives; the clock of its holder may be wrong, so one that changes counts, too."""
_log: Final = logging.getLogger("gpumax.kubernetes")


class LookOut:
    """Looks for leases of those who schedule the pods that ask for the same scheduler."""

    def __init__(self, api: Api, scheduler: str) -> None:
        self._api = api
        self._scheduler = scheduler
        self._selector = ",".join(f"{key}={value}" for key, value in labels_of(scheduler).items())
        self._versions: dict[str, str] = {}
        self._told: dict[str, str] = {}  # holders, by lease

    async def run(self) -> None:
        """Until cancelled, or until it is clear that nobody lets us look."""
        while True:
            try:
                self._tell(await self.others())
            except ApiRefused as error:
                if error.code == 403:
                    _log.info(
                        "whether another scheduler places the same pods is not known: no right to list leases"
                    )
                    return
            except GpumaxError:
                pass  # whatever keeps the API server from answering is told by those who can't do without
            await asyncio.sleep(EVERY_S)

    async def others(self) -> dict[str, str]:
        """Who holds a lease and lives, by the lease's namespace and name."""
        found, versions = {}, {}
        for lease in (await self._api.list(LEASES, labels=self._selector)).items:
            name = f"{lease.metadata.namespace}/{lease.metadata.name}"
            versions[name] = lease.metadata.resource_version
            changed = self._versions.get(name, versions[name]) != versions[name]
            if lease.spec.holder_identity and (changed or self._fresh(lease)):
                found[name] = lease.spec.holder_identity
        self._versions = versions
        return found

    def _fresh(self, lease: Lease) -> bool:
        now_ms = self._api.connection.time.now_ms(int(time.time() * 1000))
        return now_ms - (moment_ms(lease.spec.renew_time) or 0) < LIVES_S * 1000

    def _tell(self, found: dict[str, str]) -> None:
        for lease, holder in found.items():
            if self._told.get(lease) != holder:
                _log.warning(
                    "pods whose schedulerName is %s are scheduled by %s, too, which holds the lease %s: two give out the same GPUs, and neither knows what "
                    "the other does; end this one, or start it with --dry-run (it only says what it would do) or with --lease %s (it takes over "
                    "when the other ends)",
                    self._scheduler, holder, lease, lease,
                )  # fmt: skip
        for lease in self._told.keys() - found.keys():
            _log.info("nobody holds the lease %s any more", lease)
        self._told = found
