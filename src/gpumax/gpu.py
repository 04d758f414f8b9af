"""What a program may know and say of its share of a GPU. It speaks with the layer under CUDA in its own process; where there is none,
all of this does nothing, and says that the whole device is there. It goes with any framework, and imports none.

    import gpumax.gpu

    with gpumax.gpu.weights():
        model = load()
    print(gpumax.gpu.share())
    with gpumax.gpu.idle():
        request = wait()
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["Share", "cache", "idle", "pause", "resume", "share", "weights"]

Mode = Literal["fair", "strict"]

_READ_ONLY: Final = 1
_DISCARDABLE: Final = 2
_NO_DEVICE: Final = 101
_NOT_INITIALIZED: Final = 3
_WHOLE: Final = 1000
_MODES: Final[tuple[Mode, ...]] = ("fair", "strict")


@dataclass(frozen=True)
class Share:
    """Of one device. None: there is no such bound, or nobody counts."""

    layered: bool
    """Whether this process runs under gpumax's layer at all."""
    limit: int | None
    """Bytes that all processes of the group may have; None: the whole device."""
    guaranteed: int | None
    """Bytes of it that are always on the device."""
    used: int | None
    """Bytes that all processes of the group have, wherever they are."""
    own: int | None
    """Bytes of these that are this process's."""
    swapped: int
    """Bytes of its own that are in host memory now."""
    pinned: int
    """Bytes of its own that can't be swapped."""
    share: float
    """Of the device's time."""
    mode: Mode | None
    """fair: what others leave idle is its, too; strict: exactly its share; None: its time is nobody's concern."""
    swaps: bool
    """Whether its memory may be swapped."""
    paused: bool
    """Between pause and resume."""


_WHOLE_DEVICE: Final = Share(False, None, None, None, None, 0, 0, 1.0, None, False, False)


class _Told(ctypes.Structure):
    """`struct gpumax_layer_share` of interposer/include/gpumax/layer.h."""

    _fields_ = [
        (name, ctypes.c_uint64) for name in ("limit", "guarantee", "used", "own", "swapped", "pinned")
    ] + [(name, ctypes.c_uint32) for name in ("share", "mode", "swaps", "paused")]


def share(device: int = 0) -> Share:
    """What this process has of a device, as the program counts them. ValueError: there is no such device.

    Before the program has begun with CUDA that is known only where CUDA_VISIBLE_DEVICES says how many there are, as under gpumax it does;
    and of its share the limit alone is known, and whether it swaps.
    """
    ask = _function("gpumax_layer_share")
    if ask is None:
        return _WHOLE_DEVICE
    told = _Told()
    result = ask(ctypes.c_int(device), ctypes.byref(told), ctypes.c_size_t(ctypes.sizeof(told)))
    if result == _NO_DEVICE and (_has_begun() or not 0 <= device < _most_devices()):
        raise ValueError(f"there is no device {device}; this process counts them from 0")
    if result:
        return Share(
            True, _declared(), None, 0, 0, 0, 0, 1.0, None, os.environ.get("GPUMAX_SWAP") == "1", False
        )
    limit = told.limit or None
    counts = limit is not None or bool(told.swaps)
    mode = _MODES[min(told.mode, 1)] if os.environ.get("GPUMAX_SOCKET") else None
    return Share(
        True, limit, told.guarantee or limit, told.used if counts else None, told.own if counts else None,
        told.swapped, told.pinned, told.share / _WHOLE, mode, bool(told.swaps), bool(told.paused),
    )  # fmt: skip


def _most_devices() -> float:
    """How many there can be at most, by what the environment leaves."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    return len(said.split(",")) if said else float("inf")


def _has_begun() -> bool:
    """Whether the program has begun with CUDA; before, there is no device."""
    count = _function("cuDeviceGetCount")
    return count is not None and count(ctypes.byref(ctypes.c_int())) != _NOT_INITIALIZED


def _declared() -> int | None:
    """The limit that the layer will read."""
    from gpumax.units import parse_quantity

    try:
        return int(parse_quantity(os.environ.get("GPUMAX_LIMIT", ""))) or None
    except ValueError:
        return None


@contextmanager
def weights() -> Iterator[None]:
    """What this thread allocates within isn't written to after the block: it's copied to host memory once at most.

    Whoever writes to it all the same may find it unwritten after a swap.
    """
    with _hinted(_READ_ONLY):
        yield


@contextmanager
def cache() -> Iterator[None]:
    """What this thread allocates within can be made anew: it's never copied to host memory, and after a swap its content is undefined."""
    with _hinted(_DISCARDABLE):
        yield


@contextmanager
def _hinted(kind: int) -> Iterator[None]:
    begin, end = _function("gpumax_layer_hint_begin"), _function("gpumax_layer_hint_end")
    if begin is None or end is None:
        yield
        return
    began = begin(ctypes.c_int(kind))
    try:
        yield
    finally:
        end(ctypes.c_int(began))


def pause(patience_s: float = 10.0) -> bool:
    """Give up the device: its memory goes to host memory, so that others have the room. What submits work waits until resume.

    False: nothing has changed, because its work didn't rest within the patience, its memory can't be swapped, or there is no layer.
    """
    ask = _function("gpumax_layer_pause")
    milliseconds = int(min(max(patience_s * 1000, 0), 0xFFFFFFFF))
    return ask is not None and ask(ctypes.c_uint(milliseconds)) == 0


def resume() -> bool:
    """Have the device again. False: there was nothing to resume."""
    ask = _function("gpumax_layer_resume")
    return ask is not None and ask() == 0


@contextmanager
def idle(patience_s: float = 10.0) -> Iterator[bool]:
    """Around a time in which this process needs no device, as waiting for a request. Gives whether the device was given up."""
    paused = pause(patience_s)
    try:
        yield paused
    finally:
        if paused:
            resume()


def _function(name: str) -> Any:
    """A function of the layer, if the layer is in this process; nothing is loaded for it."""
    for library in (None, "libcuda.so.1"):
        try:
            found = ctypes.CDLL(library, mode=0 if library is None else os.RTLD_NOLOAD | os.RTLD_LAZY)
            return getattr(found, name)
        except (OSError, AttributeError, TypeError):
            continue
    return None
