"""Whether somebody steers, and whose clocks are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import Patient
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.lease import LEASE_S, LEASES, RETRY_S, Lease
from gpumax.engines.kubernetes.times import moment_ms

LITTLE_S: Final = 5.0
MUCH_S: Final = 300.0
LOOK_S: Final = 0.5


async def clock(patient: Patient) -> AsyncIterator[Check]:
    """This machine's, against the API server's."""
    off_s = abs(patient.behind_s)
    found = f"{off_s:.0f} s {'behind' if patient.behind_s > 0 else 'before'} the API server's"
    wish = "have both set by NTP; waits are measured by it, and certificates are valid by it"
    if off_s > MUCH_S:
        yield Check("clock", "fail", found, wish)
    elif off_s > LITTLE_S:
        yield Check("clock", "warn", found, wish)
    else:
        yield Check("clock", "ok", "as the API server's, within a few seconds")


async def leader(patient: Patient) -> AsyncIterator[Check]:
    """Whether the lease is held and renewed."""
    name = f"{patient.space}/{patient.lease}"
    lease = await _lease(patient)
    if lease is None or not lease.spec.holder_identity:
        wish = f"`kubectl -n {patient.space} get pods` shows the scheduler; with `--lease` name another lease. One without a lease can't be seen from here"
        yield Check("leader", "warn", f"nobody holds the lease {name}", wish)
        return
    holder = lease.spec.holder_identity
    # Whose clock it was written by is not known, so an old one is watched for a while.
    old_s = time.time() + patient.behind_s - (moment_ms(lease.spec.renew_time) or 0) / 1000
    if old_s > LEASE_S and not await _renewed(patient, lease):
        wish = f"`kubectl -n {patient.space} logs -l app.kubernetes.io/component=scheduler` says why; pods run on, and none is placed"
        yield Check(
            "leader", "fail", f"{holder} holds the lease {name} and hasn't renewed it for {old_s:.0f} s", wish
        )
        return
    if abs(old_s) > LEASE_S + LITTLE_S or old_s < -LITTLE_S:
        wish = "have its node's clock set by NTP; waits are measured by it"
        yield Check("leader", "warn", f"{holder} steers, and its clock is {abs(old_s):.0f} s off", wish)
        return
    yield Check("leader", "ok", f"{holder} steers, epoch {lease.spec.lease_transitions or 0}")


async def _lease(patient: Patient) -> Lease | None:
    try:
        return await patient.api.get(LEASES, patient.lease, patient.space)
    except ApiRefused as error:
        if error.code != 404:
            raise
        return None


async def _renewed(patient: Patient, before: Lease) -> bool:
    """Whether it is renewed in the time that a leader takes for that."""
    for _ in range(int(3 * RETRY_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        now = await _lease(patient)
        if now is not None and now.metadata.resource_version != before.metadata.resource_version:
            return True
    return False
