"""What a task is given of its node's devices, as it is written down: with the bind on the pod, and in the claim for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.devices import NOTHING, Shares
from gpumax.engines.kubernetes.views import Pod, PodClaim
from gpumax.model.node import Device
from gpumax.model.workload import DeviceShare, Request
from gpumax.units import MILLI

REQUEST: Final = "gpu"
"""The name of the request in a claim."""
LONGEST: Final = 20_000
"""The most characters of a record: 256 devices, each with its amounts."""
_Index = Annotated[int, msgspec.Meta(ge=0, lt=1024)]
_Milli = Annotated[int, msgspec.Meta(ge=0, le=MILLI)]
_Mib = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Amount(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A part of one device: thousandths of it, and MiB of its memory. 0: not said."""

    milli: _Milli = 0
    memory_mib: _Mib = 0


class Grant(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Parts by the index of the device. limit: up to what each may be used, where that is more.

    swap: its memory may be moved to the node's own; strict: exactly its share of time. Agents that don't know these two leave them out.
    """

    devices: dict[_Index, Amount]
    limit: Amount | None = None
    swap: bool = False
    strict: bool = False

    @property
    def shares(self) -> Shares:
        """As decisions have it."""
        return tuple(DeviceShare(index, part.milli) for index, part in sorted(self.devices.items()))


class Mapped(NamedTuple):
    """A container that asks for devices by a resource, and how many are its own: 0 for one that runs before the others, and uses theirs."""

    container: str
    resource: str
    number: int


class Given(NamedTuple):
    """What a pod gets with its place; claim: the name of its claim, empty where it has none.

    mapped: the containers that get devices of the claim for a resource that they ask for; empty where they name the claim.
    """

    grant: Grant
    claim: str = ""
    mapped: tuple[Mapped, ...] = ()

    @property
    def requests(self) -> dict[str, tuple[int, ...]]:
        """The devices that go together, by the name of their request in the claim: those of each container that stays, else all."""
        indexes = sorted(self.grant.devices)
        counts = [row.number for row in self.mapped if row.number]
        if len(counts) < 2 or sum(counts) != len(indexes):
            return {REQUEST: tuple(indexes)}
        ends = list(accumulate(counts))
        return {
            f"{REQUEST}-{number}": tuple(indexes[end - count : end])
            for number, (count, end) in enumerate(zip(counts, ends, strict=True))
        }

    @property
    def mappings(self) -> list[dict[str, str]]:
        """Which container gets which request, as a pod's status has it."""
        names, own = list(self.requests), iter(self.requests)
        return [
            {"containerName": row.container, "resourceName": row.resource, "requestName": name}
            for row in self.mapped
            for name in ([next(own)] if row.number and len(names) > 1 else names)
        ]


_DECODER: Final = msgspec.json.Decoder(Grant)


def grant_of(
    request: Request, shares: Shares, devices: Sequence[Device], *, swap: bool = False, strict: bool = False
) -> Grant:
    """What a task gets that asks for parts and was placed on these of a node's devices."""
    (ask, *_), most = request.gpu, request.limit
    memory = {device.index: device.memory_mib for device in devices}
    parts = {
        share.index: Amount(share.milli, ask.memory_mib or memory.get(share.index, 0) * share.milli // MILLI)
        for share in shares
    }
    limit = Amount(most.milli, most.memory_mib) if most is not None else None
    return Grant(parts, limit, swap, strict)


def written(grant: Grant) -> str:
    """As one line of JSON; the same grant is always the same text."""
    ordered = replace(grant, devices=dict(sorted(grant.devices.items())))
    return msgspec.json.encode(ordered).decode()


def read_grant(text: str | bytes) -> Grant | None:
    """What was written; None for anything else."""
    if len(text) > LONGEST:
        return None
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError:
        return None


def recorded(pod: Pod) -> Shares:
    """The parts that a pod was given with its place; nothing where none were written down."""
    text = (pod.metadata.annotations or {}).get(keys.GIVEN)
    grant = read_grant(text) if text and pod.spec.node_name else None
    return grant.shares if grant is not None else NOTHING


def claim_name(pod: Pod) -> str:
    """The claim to its part that a pod names; empty where it names none."""
    for entry in pod.spec.resource_claims or ():
        if is_ours(entry):
            return entry.resource_claim_name
    return ""


def is_ours(entry: PodClaim) -> bool:
    """Whether this is the claim to a part that is added to pods as they are made."""
    return entry.name == keys.CLAIM and entry.resource_claim_name.startswith(f"{keys.CLAIM}-")
