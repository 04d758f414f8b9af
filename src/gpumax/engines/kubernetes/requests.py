"""What a pod asks for: cpu, memory, whole devices of any vendor, slices, and parts of devices by annotation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.grants import Mapped, claim_name, is_ours
from gpumax.engines.kubernetes.views import Container, Pod, Quantities, Resources
from gpumax.errors import Fault
from gpumax.formats.shape import show
from gpumax.model.workload import DeviceAsk, DeviceLimit, Request
from gpumax.units import MILLI, ceil

LONGEST: Final = 64
"""The most characters of a value that is read."""
MOST_DEVICES: Final = 256
NONE: Final = Fraction(0)
MOST_MIB: Final = 1 << 24
_DECIMAL: Final = re.compile(r"(?:0|[1-9][0-9]{0,3})?(?:\.[0-9]{1,9})?", re.ASCII)
_PART: Final = "a part of one device between 0 and 1, like 0.5"
_WHOLE: Final = "a part of one device, at most 1, like 0.5"
_CLAIMED: Final = (
    "the claim that `gpumax webhook` adds to pods as they are made; make the pod again while it runs"
)
_NO_CLAIMS: Final = (
    f"whole GPUs by the containers' resources ({quantities.NVIDIA}) or parts of them by annotation ({keys.FRACTION[0]}, {keys.MEMORY[0]}), in a pod without "
    "claims of its own: gpumax allocates none of those"
)
_SWAP: Final = ("false", "true")
_MODES: Final = ("fair", "strict")
_MEMORY: Final = "MiB of a device as a whole number like 20480, or with a unit like 20Gi"


_RESOURCES: Final[msgspec.json.Decoder[Resources | None]] = msgspec.json.Decoder(Resources | None)
_OVERHEAD: Final[msgspec.json.Decoder[Quantities | None]] = msgspec.json.Decoder(Quantities | None)


class Asked(NamedTuple):
    """A request, and the resource name of the vendor whose devices it means; empty for none, or any.

    part: whether it asks for parts of devices; agent: how our agent can give them to it, empty where nobody was asked to.
    swap: memory of its parts may be moved to the node's; strict: it has exactly its share of their time.
    """

    request: Request
    vendor: str = ""
    part: bool = False
    agent: str = ""
    swap: bool = False
    strict: bool = False


def read_request(pod: Pod, faults: list[Fault], *, agents: bool = False) -> Asked:
    """What the pod asks for. Each fault is told at its place; what has one counts as not asked for. agents: whether the cluster has any."""
    asked, own = _written(_key(pod))
    faults += own
    part, limit = _part(pod, faults, taken=bool(asked.request.gpu or asked.request.slices))
    for index, entry in enumerate(pod.spec.resource_claims or ()):
        if not is_ours(entry) or part is None:
            faults.append(_fault(f"spec.resourceClaims[{index}]", show(entry.name), _NO_CLAIMS))
    if part is None:
        return asked
    agent = keys.DRIVER if claim_name(pod) else keys.PART if asked.request.extended.get(keys.PART) else ""
    if agents and not agent:
        faults.append(_fault("spec.resourceClaims", "no claim to its part of a GPU", _CLAIMED))
    # Without an agent it is placed and counted, and that is all.
    vendor = "" if agent else quantities.NVIDIA
    places = _places(pod)
    swap = _word(keys.said(keys.SWAP, *places), _SWAP, faults) == "true"
    strict = _word(keys.said(keys.MODE, *places), _MODES, faults) == "strict"
    return Asked(replace(asked.request, gpu=(part,), limit=limit), vendor, True, agent, swap, strict)


def by_resource(pod: Pod, resource: str) -> tuple[Mapped, ...]:
    """The containers that ask for devices by a vendor's resource, and how many each gets for itself.

    Those that run before the others use what these get later.
    """
    before = [(one, one.restart_policy == "Always") for one in pod.spec.init_containers or ()]
    rows = [*before, *((one, True) for one in pod.spec.containers)]
    return tuple(
        Mapped(one.name, resource, count if stays else 0)
        for one, stays in rows
        if (count := _count(one, resource))
    )


def _count(container: Container, resource: str) -> int:
    asked = _asked(bytes(container.resources), "", [])
    return quantities.up(resource, asked.get(resource, NONE))


class _Key(NamedTuple):
    """All that resources follow from, as it was written; pods of one template have the same."""

    first: tuple[tuple[bytes, bool], ...]
    beside: tuple[bytes, ...]
    whole: bytes
    overhead: bytes


def _key(pod: Pod) -> _Key:
    spec = pod.spec
    return _Key(
        tuple((bytes(one.resources), one.restart_policy == "Always") for one in spec.init_containers or ()),
        tuple(bytes(one.resources) for one in spec.containers),
        bytes(spec.resources),
        bytes(spec.overhead),
    )


@lru_cache(16_384)
def _written(key: _Key) -> tuple[Asked, tuple[Fault, ...]]:
    """What the resources of the containers come to."""
    faults: list[Fault] = []
    wanted = _effective(key, faults)
    whole = {name: quantities.up(name, wanted[name]) for name in quantities.GPUS if wanted.get(name)}
    slices = quantities.slices(wanted)
    if len(whole) > 1:
        faults.append(_fault("spec.containers", " and ".join(whole), "devices of one vendor in a pod"))
    if whole and slices:
        faults.append(_fault("spec.containers", "whole devices beside slices", "only one of the two"))
    vendor, number = next(iter(whole.items()), ("", 0))
    if number > MOST_DEVICES:
        faults.append(_fault(f"spec.containers: {vendor}", str(number), f"at most {MOST_DEVICES} devices"))
        number = 0
    request = Request(
        gpu=(DeviceAsk(number),) if number and not slices else (),
        cpu_milli=quantities.up("cpu", wanted.get("cpu", NONE)),
        memory_mib=quantities.up("memory", wanted.get("memory", NONE)),
        extended=quantities.others(wanted, quantities.up),
        slices=slices,
    )
    # Whose slices they are, their names say; they stay with the vendor's plugin, on nodes with an agent, too.
    return Asked(request, vendor), tuple(faults)


def _effective(key: _Key, faults: list[Fault]) -> quantities.Exact:
    """The amounts that a node must have: what runs side by side, or the greediest of what runs before it; and the overhead."""
    beside: quantities.Exact = {}
    before: quantities.Exact = {}
    for index, (written, stays) in enumerate(key.first):
        step = _sum(beside, _asked(written, f"spec.initContainers[{index}].resources", faults))
        before = _most(before, step)
        if stays:
            beside = step
    for index, written in enumerate(key.beside):
        beside = _sum(beside, _asked(written, f"spec.containers[{index}].resources", faults))
    if before:
        beside = _most(beside, before)
    # What is said of the pod as a whole counts instead of the sum.
    beside = {**beside, **_asked(key.whole, "spec.resources", faults)}
    overhead = _OVERHEAD.decode(key.overhead)
    return _sum(beside, _sound(overhead, "spec.overhead", faults)) if overhead else beside


def _asked(written: bytes, where: str, faults: list[Fault]) -> quantities.Exact:
    """Requests; where there is only a limit, that."""
    resources = _RESOURCES.decode(written)
    if resources is None:
        return {}
    return _sound({**(resources.limits or {}), **(resources.requests or {})}, where, faults)


def _sound(amounts: Quantities, where: str, faults: list[Fault]) -> quantities.Exact:
    sound, bad = quantities.exact(amounts)
    faults += [
        _fault(f"{where}: {name}", show(amount), "an amount of 0 or more") for name, amount in bad.items()
    ]
    return sound


def _sum(one: quantities.Exact, other: quantities.Exact) -> quantities.Exact:
    if not one:
        return other
    return one | {name: one.get(name, NONE) + amount for name, amount in other.items()}


def _most(one: quantities.Exact, other: quantities.Exact) -> quantities.Exact:
    return one | {name: max(one.get(name, NONE), amount) for name, amount in other.items()}


def _part(pod: Pod, faults: list[Fault], *, taken: bool) -> tuple[DeviceAsk | None, DeviceLimit | None]:
    """The part of a device that annotations ask for, and up to what it may be used."""
    places = _places(pod)
    fraction, memory = keys.said(keys.FRACTION, *places), keys.said(keys.MEMORY, *places)
    told = fraction or memory
    if told is None:
        return None, None
    before = len(faults)
    path = f"metadata.annotations[{told[0]}]"
    if fraction and memory:
        faults.append(_fault(path, f"{memory[0]} beside it", "only one of the two"))
    if taken:
        faults.append(
            _fault(path, "whole devices or slices in the containers' resources beside it", "one of the two")
        )
    number = _number(keys.said(keys.DEVICES, *places), faults)
    _check_container(pod, keys.said(keys.CONTAINER, *places), faults)
    milli = _milli(fraction, faults) if fraction else 0
    mib = _mib(memory, faults) if memory else 0
    limit = _limit(places, faults, milli, mib)
    if len(faults) > before:
        return None, None
    return DeviceAsk(number, milli or MILLI, mib), limit


def _places(pod: Pod) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Where a pod says what it wants, the first before the second."""
    return pod.metadata.annotations or {}, pod.metadata.labels or {}


def _word(said: tuple[str, str] | None, words: tuple[str, ...], faults: list[Fault]) -> str:
    """One of these words; the first where nothing is said, or something else."""
    if said is None or said[1] in words:
        return said[1] if said is not None else words[0]
    faults.append(_fault(f"metadata.annotations[{said[0]}]", show(said[1]), " or ".join(words)))
    return words[0]


def _limit(
    places: tuple[Mapping[str, str], ...], faults: list[Fault], milli: int, mib: int
) -> DeviceLimit | None:
    fraction, memory = keys.said(keys.FRACTION_LIMIT, *places), keys.said(keys.MEMORY_LIMIT, *places)
    most = DeviceLimit(
        _milli(fraction, faults, whole=True) if fraction else 0, _mib(memory, faults) if memory else 0
    )
    for said, limit, asked in ((fraction, most.milli, milli), (memory, most.memory_mib, mib)):
        if said and limit and limit < asked:
            faults.append(
                _fault(f"metadata.annotations[{said[0]}]", show(said[1]), "no less than is asked for")
            )
    return most if most != DeviceLimit() else None


def _milli(said: tuple[str, str], faults: list[Fault], *, whole: bool = False) -> int:
    """Thousandths of a device, rounded up. Asked for by our own name it may be all of it: so whole devices are given out where an agent is."""
    key, value = said
    whole = whole or key == keys.FRACTION[0]
    if len(value) <= LONGEST and value and _DECIMAL.fullmatch(value) and value[0] + value[-1] != "..":
        part = quantities.quantity(value)
        if 0 < part < 1 or (whole and part == 1):
            return ceil(part * MILLI)
    faults.append(_fault(f"metadata.annotations[{key}]", show(value), _WHOLE if whole else _PART))
    return 0


def _mib(said: tuple[str, str], faults: list[Fault]) -> int:
    """MiB of a device; a plain number is MiB, as the peers have it."""
    key, value = said
    try:
        if len(value) > LONGEST:
            raise ValueError("too long")
        mib = (
            int(value)
            if value.isascii() and value.isdigit()
            else quantities.up("memory", quantities.quantity(value))
        )
        # A plain number with a point or a sign is no amount of memory that anybody means.
        if 0 < mib <= MOST_MIB and (value.isdigit() or value[-1].isalpha()):
            return mib
    except ValueError:
        pass
    faults.append(_fault(f"metadata.annotations[{key}]", show(value), _MEMORY))
    return 0


def _number(said: tuple[str, str] | None, faults: list[Fault]) -> int:
    """On how many devices."""
    if said is None:
        return 1
    key, value = said
    if value.isascii() and value.isdigit() and len(value) < 5 and 1 <= int(value) <= MOST_DEVICES:
        return int(value)
    wanted = f"a number of devices, 1 to {MOST_DEVICES}"
    faults.append(_fault(f"metadata.annotations[{key}]", show(value), wanted))
    return 1


def _check_container(pod: Pod, said: tuple[str, str] | None, faults: list[Fault]) -> None:
    if said is None or any(container.name == said[1] for container in pod.spec.containers):
        return
    key, value = said
    path = f"metadata.annotations[{key}]"
    if any(container.name == value for container in pod.spec.init_containers or ()):
        faults.append(_fault(path, f"{show(value)}, an init container", "a container that stays"))
        return
    names = ", ".join(container.name for container in pod.spec.containers[:8])
    faults.append(_fault(path, show(value), f"a container of the pod: {names}"))


def _fault(path: str, found: str, wanted: str) -> Fault:
    return Fault(path, None, found, wanted)
