"""The cluster that is looked at, and who looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

from gpumax.apps.cli.checks_data import Check
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind


class Patient(NamedTuple):
    """A cluster. user: who looks. groups: of its API. space, lease: where gpumax is installed, and by which lease it steers. behind_s: how far
    this machine's clock is behind the API server's.
    """

    api: Api
    user: str
    groups: frozenset[str]
    space: str
    lease: str
    behind_s: float

    @property
    def upgrade(self) -> str:
        """What brings all that we have in a cluster up to date."""
        return f"`helm upgrade gpumax charts/gpumax -n {self.space}`"


Look = Callable[[Patient], AsyncIterator[Check]]
MISSING: Final = "missing"


async def found_as(patient: Patient, kind: Kind[Any], body: dict[str, Any]) -> str:
    """How an object of ours is in the cluster: empty for as it is here, `missing`, or where it differs first. What the server added doesn't count."""
    try:
        there = await patient.api.get(kind, body["metadata"]["name"], body["metadata"].get("namespace", ""))
    except ApiRefused as error:
        if error.code == 404:
            return MISSING
        raise
    return differs(body["spec"], there.spec, "spec")


def differs(ours: object, theirs: object, at: str) -> str:
    """The first place at which something of ours isn't theirs; empty where all of it is."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        pairs = [(value, theirs.get(name), f"{at}.{name}") for name, value in ours.items()]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [
            (one, other, f"{at}[{place}]")
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True))
        ]
    else:
        # Nothing and the empty are the same to the API server.
        return "" if ours == theirs or (not ours and not theirs) else at
    return next((place for pair in pairs if (place := differs(*pair))), "")
