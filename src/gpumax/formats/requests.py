"""What one task asks for: devices in all the ways that people write them, cpu, memory, extended resources."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from gpumax.formats.scalars import KEY, MODEL, Amount, Text, Whole, write_number
from gpumax.formats.shape import (
    Bad,
    ByType,
    Field,
    Map,
    Object,
    Rows,
    Schema,
    Shape,
    Shared,
    Then,
    Wrong,
    Wrongs,
    show,
    wrong,
)
from gpumax.model.workload import DeviceAsk, DeviceLimit, Document, Request
from gpumax.units import LARGEST, MILLI, ceil, format_count, format_memory, parse_quantity

MOST_DEVICES: Final = LARGEST // MILLI
"""The most devices that a request may name."""

SLICES: Final = Map(
    Text(r"[1-9]g\.[0-9]+gb(?:\+[a-z0-9.]+)*", "a slice profile like 1g.10gb"), Whole(1, 1000), most=100
)
"""Hardware partitions by profile."""


class _Count(Whole):
    """A whole number, also as Kubernetes writes it: "8"."""

    def read(self, value: object) -> int:
        """The number."""
        if isinstance(value, str) and (quantity := _number(value)) is not None and quantity.denominator == 1:
            return super().read(int(quantity))
        return super().read(value)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An integer, or its digits."""
        return {"anyOf": [super().schema(defs), {"type": "string", "pattern": "^[0-9]+$"}]}


EXTENDED: Final = Map(KEY, _Count(), most=1000)
"""Other countable resources."""

_GPU_WANTED: Final = "a number of GPUs (2), a fraction of one (0.5 or 500m), or a model with either (H100:2)"
_NO_MODELS: Final = frozenset(("nan", "inf", "infinity", "unlimited"))


def _devices(quantity: Fraction, value: object, model: str) -> DeviceAsk | None:
    """The devices that a number means; None for 0."""
    if not 0 <= quantity <= MOST_DEVICES:
        raise wrong(value, "0 or more" if quantity < 0 else f"at most {MOST_DEVICES} devices")
    if quantity.denominator == 1:
        return DeviceAsk(int(quantity), MILLI, 0, model) if quantity else None
    if quantity > 1:
        raise wrong(value, "whole devices, or a fraction below 1")
    if quantity * MILLI < 1:
        raise wrong(value, "at least 1m, a thousandth of a device")
    return DeviceAsk(1, ceil(quantity * MILLI), 0, model)


class _Number:
    """2, 0.5, "500m", "H100:2" or "H100"."""

    def read(self, value: object) -> DeviceAsk | None:
        """The devices; None for 0."""
        model, count = "", value
        if isinstance(value, str) and _number(value) is None:
            model, _, count = value.rpartition(":")
            if not model and value[:1].isalpha() and value.lower() not in _NO_MODELS:
                model, count = value, "1"
            try:
                MODEL.read(model)
            except Bad:
                raise wrong(value, _GPU_WANTED) from None
        quantity = _number(count)
        if quantity is None:
            raise wrong(value, _GPU_WANTED)
        return _devices(quantity, value, model)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """A number, or text."""
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}


def _number(value: object) -> Fraction | None:
    # A unit of memory on a number of devices is a slip: gpu_memory was meant.
    if isinstance(value, str) and value[-1:].isalpha() and value[-1:] != "m":
        return None
    try:
        return parse_quantity(value)
    except ValueError:
        return None


def _some(ask: DeviceAsk | None) -> DeviceAsk:
    if ask is None:
        raise wrong(0, "at least a part of a device in every alternative")
    return ask


def _alternative(
    gpu: DeviceAsk | None = None, memory: int = 0, model: str = "", devices: int = 0
) -> DeviceAsk:
    if gpu is not None and memory:
        raise Bad([Wrong(("memory",), f"{format_memory(memory)} beside gpu", "only one of the two")])
    if gpu is None:
        if not memory and not model:
            raise wrong({}, "gpu, or memory of each device, or a model")
        return DeviceAsk(devices or 1, MILLI, memory, model)
    if gpu.model and model:
        raise wrong(f"{gpu.model} and {model}", "one model")
    return _times(DeviceAsk(gpu.devices, gpu.milli, 0, gpu.model or model), devices)


def _times(ask: DeviceAsk, devices: int) -> DeviceAsk:
    """The ask, on each of several devices."""
    if not devices:
        return ask
    if ask.devices > 1:
        raise Bad([Wrong(("devices",), str(devices), "no `devices` beside several whole GPUs")])
    return DeviceAsk(devices, ask.milli, 0, ask.model)


def _positive(amount: int) -> int:
    if amount == 0:
        raise wrong(0, "memory of each device, more than 0")
    return amount


_DEVICE_MEMORY: Final = Then(Amount("memory", "up"), _positive)
_COUNT: Final = Whole(1, 4096)
_ALTERNATIVE: Final = Object(
    "DeviceAsk",
    {
        "gpu": Field(
            Then(_Number(), _some), "Whole GPUs, or a fraction of each of `devices`; unset beside a model: 1."
        ),
        "memory": Field(_DEVICE_MEMORY, "Memory of each device, instead of gpu."),
        "model": Field(MODEL, "Only devices of this model."),
        "devices": Field(_COUNT, "How many different devices of one node; goes with a fraction or memory."),
    },
    _alternative,
)
_ENTRY: Final = ByType(
    _GPU_WANTED, number=Then(_Number(), _some), text=Then(_Number(), _some), object=_ALTERNATIVE
)


def _one(ask: DeviceAsk | None) -> tuple[DeviceAsk, ...]:
    return (ask,) if ask is not None else ()


_GPU: Final[Shape[tuple[DeviceAsk, ...]]] = ByType(
    _GPU_WANTED,
    number=Then(_Number(), _one),
    text=Then(_Number(), _one),
    object=Then(_ALTERNATIVE, _one),
    list=Rows(_ENTRY, least=1, most=100),
)


def _limit(gpu: DeviceAsk | None = None, gpu_memory: int = 0) -> DeviceLimit | None:
    """Whole devices are as many as the request's: `make_request` checks that."""
    if gpu is not None and gpu.model:
        raise Bad([Wrong(("gpu",), gpu.model, "no model; the request names it")])
    limit = DeviceLimit(gpu.devices * gpu.milli if gpu is not None else 0, gpu_memory)
    return limit if limit != DeviceLimit() else None


LIMIT: Final = Object(
    "RequestLimit",
    {
        "gpu": Field(_Number(), "How much it may use of each of its devices: 0.5 up to 1."),
        "gpu_memory": Field(_DEVICE_MEMORY, "How much memory of each device it may use."),
    },
    _limit,
)
"""Limits above the request: what a task may use while nobody else does."""


def _check_limit(limit: DeviceLimit | None, gpu: tuple[DeviceAsk, ...]) -> DeviceLimit | None:
    """The limit of each device. Bad where it is below what is asked for, or above a device."""
    if limit is None:
        return None
    if not gpu:
        raise Bad([Wrong(("limit",), "a limit", "gpu or gpu_memory beside it")])
    wrongs = Wrongs()
    for ask in gpu:
        whole = ask.milli == MILLI and not ask.memory_mib
        if limit.memory_mib and limit.memory_mib < ask.memory_mib:
            found = f"{format_memory(limit.memory_mib)} for a request of {format_memory(ask.memory_mib)}"
            wrongs.add(("limit", "gpu_memory"), found, "no less than the request")
        if not limit.milli or limit.milli == (ask.devices * MILLI if whole else MILLI):
            continue
        if limit.milli > MILLI:
            found = f"{format_count(limit.milli)} of each device"
            wrongs.add(("limit", "gpu"), found, "at most 1, all of each device; it is given no more devices")
        elif limit.milli < ask.milli and not ask.memory_mib:
            found = f"{format_count(limit.milli)} for a request of {format_count(ask.milli)}"
            wrongs.add(("limit", "gpu"), found, "no less than the request")
    wrongs.check()
    return DeviceLimit(min(limit.milli, MILLI), limit.memory_mib)


REQUEST_FIELDS: Final[dict[str, Field]] = {
    "gpu": Field(_GPU, "Whole GPUs (2), a fraction of one (0.5), a model with either (H100:2), or a list of alternatives in order."),
    "gpu_memory": Field(_DEVICE_MEMORY, "Memory of each device, instead of gpu."),
    "devices": Field(_COUNT, "On how many different devices of one node; goes with a fraction or gpu_memory."),
    "slices": Field(SLICES, "Hardware slices of one node by profile, instead of gpu."),
    "cpu": Field(Amount("cpu", "up"), "Cores.", to="cpu_milli"),
    "memory": Field(Amount("memory", "up"), "Host memory.", to="memory_mib"),
    "extended": Field(EXTENDED, "Other countable resources."),
    "limit": Field(LIMIT, "Up to what it may use of its devices while nobody else does."),
}  # fmt: skip
"""The fields that every request has."""


def clashes(fields: Mapping[str, Any], unread: Collection[str] = ()) -> Iterator[Wrong]:
    """What contradicts what among the fields of a request. unread: those that are there and could not be read."""
    gpu, memory, devices = (fields.get(name) for name in ("gpu", "gpu_memory", "devices"))
    if fields.get("slices") and (gpu or memory or devices):
        yield Wrong(("slices",), show(fields["slices"]), "no gpu, gpu_memory or devices beside slices")
    elif gpu and memory:
        yield Wrong(("gpu_memory",), f"{format_memory(memory)} beside gpu", "only one of the two")
    elif devices and not gpu and not memory and not {"gpu", "gpu_memory"} & set(unread):
        yield Wrong(("devices",), show(devices), "gpu or gpu_memory beside it")


def make_request(
    gpu: tuple[DeviceAsk, ...] = (),
    gpu_memory: int = 0,
    devices: int = 0,
    cpu_milli: int = 0,
    memory_mib: int = 0,
    extended: dict[str, int] | None = None,
    slices: dict[str, int] | None = None,
    limit: DeviceLimit | None = None,
) -> Request:
    """A request of its fields. Bad where they contradict each other."""
    asked = {"gpu": gpu, "gpu_memory": gpu_memory, "devices": devices, "slices": slices}
    if wrongs := list(clashes(asked)):
        raise Bad(wrongs)
    if gpu_memory:
        gpu = (DeviceAsk(devices or 1, MILLI, gpu_memory),)
    elif devices:
        gpu = tuple(_times(ask, devices) for ask in gpu)
    return Request(gpu, cpu_milli, memory_mib, extended or {}, slices or {}, _check_limit(limit, gpu))


REQUEST: Final = Shared(Object("Request", REQUEST_FIELDS, make_request, "What one task asks for.", clashes))
"""Equal requests are one object: policy remembers what it learned of a request by its identity."""


def dump_request(request: Request) -> Document:
    """As it is read."""
    document = _dump_gpu(request.gpu)
    if request.slices:
        document["slices"] = dict(sorted(request.slices.items()))
    if request.cpu_milli:
        document["cpu"] = write_number(request.cpu_milli)
    if request.memory_mib:
        document["memory"] = format_memory(request.memory_mib)
    if request.extended:
        document["extended"] = dict(sorted(request.extended.items()))
    if request.limit is not None:
        document["limit"] = _dump_limit(request.limit)
    return document


def _dump_limit(limit: DeviceLimit) -> Document:
    document: Document = {}
    if limit.milli:
        document["gpu"] = write_number(limit.milli)
    if limit.memory_mib:
        document["gpu_memory"] = format_memory(limit.memory_mib)
    return document


def _dump_gpu(asks: tuple[DeviceAsk, ...]) -> Document:
    if len(asks) != 1:
        return {"gpu": [_dump_ask(ask) for ask in asks]} if asks else {}
    ask = asks[0]
    several = {"devices": ask.devices} if ask.devices > 1 else {}
    if ask.memory_mib and not ask.model:
        return {"gpu_memory": format_memory(ask.memory_mib), **several}
    if ask.milli < MILLI and not ask.memory_mib:
        return {"gpu": _dump_ask(DeviceAsk(1, ask.milli, 0, ask.model)), **several}
    return {"gpu": _dump_ask(ask)}


def _dump_ask(ask: DeviceAsk) -> object:
    model = {"model": ask.model} if ask.model else {}
    if ask.memory_mib:
        return {"memory": format_memory(ask.memory_mib), **model, "devices": ask.devices}
    if ask.milli < MILLI and ask.devices > 1:
        return {"gpu": write_number(ask.milli), **model, "devices": ask.devices}
    milli = ask.devices * ask.milli
    return f"{ask.model}:{format_count(milli)}" if ask.model else write_number(milli)
