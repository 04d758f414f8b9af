"""Allocations, copies, kernels, swaps and hints in whatever order, beside a model that just remembers bytes.

Runs inside of a program under the layer: `python anyorder.py EXAMPLES`. It imports nothing of gpumax.
"""

from __future__ import annotations

import ctypes
import random
import sys
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_ulonglong
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from interposer.client import MIB, Cuda

NOT_READY = 600
"""There was nothing to resume."""

NORMAL, READ_ONLY, DISCARDABLE = range(3)
PIECE = 32 * MIB
SIZES = (4096, MIB, 3 * MIB, 34 * MIB)
EVERYTHING = 1 << 50


class Report(ctypes.Structure):
    _fields_ = [
        ("status", c_int),
        ("why", c_int),
        ("resident", c_uint64),
        ("copied", c_uint64),
        ("took", c_uint64),
    ]


class Share(ctypes.Structure):
    _fields_ = [(n, c_uint64) for n in ("limit", "guarantee", "used", "own", "swapped", "pinned")] + [
        (n, c_uint) for n in ("share", "mode", "swaps", "paused")
    ]


@dataclass
class Buffer:
    at: int
    size: int
    known: bytearray | None
    """None: of undefined content."""
    hint: int = NORMAL

    @property
    def moves(self) -> bool:
        return self.size >= MIB

    @property
    def charged(self) -> int:
        return -(-self.size // (2 * MIB)) * 2 * MIB if self.moves else self.size


cuda = Cuda()
EMPTY = cuda.info()[0]
which = st.integers(0, 99)
kinds = st.sampled_from((NORMAL, READ_ONLY, DISCARDABLE))
bounds = st.sampled_from((0, MIB, 20 * MIB, 40 * MIB, 70 * MIB, EVERYTHING))


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Buffer] = []
        self.out = self.paused = False

    @property
    def usable(self) -> bool:
        return not self.out and not self.paused

    def of(self, which: int) -> Buffer:
        return self.buffers[which % len(self.buffers)]

    @precondition(lambda self: self.usable and len(self.buffers) < 5)
    @rule(size=st.sampled_from(SIZES), kind=kinds, seed=st.integers(0, 2**32))
    def allocate(self, size: int, kind: int, seed: int) -> None:
        began = cuda.lib.gpumax_layer_hint_begin(kind)
        data = random.Random(seed).randbytes(size)
        buffer = Buffer(cuda.alloc(size), size, bytearray(data))
        cuda.write(buffer.at, data)
        cuda.lib.gpumax_layer_hint_end(began)
        buffer.hint = kind if buffer.moves else NORMAL
        self.buffers.append(buffer)

    @precondition(lambda self: self.buffers)
    @rule(which=which)
    def free(self, which: int) -> None:
        buffer = self.of(which)
        self.buffers.remove(buffer)
        cuda.free(buffer.at)
        if not self.share().swapped:
            self.out = False

    @precondition(lambda self: self.buffers and self.usable)
    @rule(which=which, at=st.integers(0, 40 * MIB), data=st.binary(min_size=1, max_size=64))
    def write(self, which: int, at: int, data: bytes) -> None:
        buffer = self.of(which)
        at %= buffer.size - len(data)
        if buffer.hint != READ_ONLY and buffer.known is not None:
            cuda.write(buffer.at + at, data)
            buffer.known[at : at + len(data)] = data

    @precondition(lambda self: self.buffers and self.usable)
    @rule(which=which, value=st.integers(0, 255))
    def fill(self, which: int, value: int) -> None:
        buffer = self.of(which)
        if buffer.hint != READ_ONLY:
            cuda.check(cuda.lib.cuMemsetD8_v2(c_uint64(buffer.at), c_uint(value), c_size_t(buffer.size)))
            buffer.known = bytearray(bytes([value]) * buffer.size)

    @precondition(lambda self: len(self.buffers) > 1 and self.usable)
    @rule(to=which, source=which)
    def copy(self, to: int, source: int) -> None:
        into, origin = self.of(to), self.of(source)
        if into.hint == READ_ONLY or into is origin or into.known is None or origin.known is None:
            return
        size = min(into.size, origin.size)
        cuda.check(cuda.lib.cuMemcpyDtoD_v2(c_uint64(into.at), c_uint64(origin.at), c_size_t(size)))
        into.known[:size] = origin.known[:size]

    @precondition(lambda self: self.buffers)
    @rule(which=which, kind=kinds)
    def hint(self, which: int, kind: int) -> None:
        buffer = self.of(which)
        said = cuda.lib.gpumax_layer_hint(c_ulonglong(buffer.at), c_ulonglong(0), kind)
        assert said == (0 if buffer.moves else 801)
        if buffer.moves:
            buffer.hint = kind
            if kind == DISCARDABLE and not self.usable:
                buffer.known = None

    @precondition(lambda self: not self.paused)
    @rule(keep=bounds)
    def leave(self, keep: int) -> None:
        before = self.share()
        report = self.order(1, keep)
        assert report.resident <= max(keep, before.pinned)
        if report.resident < before.own - before.swapped:
            assert report.resident + PIECE > keep, "no more goes than has to"
            self.out = True
            self.thrown_away()

    @precondition(lambda self: not self.paused)
    @rule(upto=bounds)
    def come(self, upto: int) -> None:
        before = self.share()
        report = self.order(0, upto)
        assert report.resident <= max(upto, before.own - before.swapped)
        assert upto < EVERYTHING or report.resident == before.own
        self.out = self.share().swapped > 0

    @rule()
    def pause(self) -> None:
        cuda.check(cuda.lib.gpumax_layer_pause(60000))
        assert self.share().swapped == self.share().own - self.share().pinned
        self.paused = True
        self.thrown_away()

    @rule()
    def resume(self) -> None:
        result = cuda.lib.gpumax_layer_resume()
        assert result == (0 if self.paused else NOT_READY)
        self.out = self.out and not self.paused
        self.paused = False

    def thrown_away(self) -> None:
        for buffer in self.buffers:
            if buffer.hint == DISCARDABLE:
                buffer.known = None

    def order(self, out: int, bound: int) -> Report:
        report = Report()
        assert cuda.lib.gpumax_layer_swap(0, out, c_ulonglong(bound), 60000, byref(report)) == 0
        return report

    def share(self) -> Share:
        share = Share()
        cuda.check(cuda.lib.gpumax_layer_share(0, byref(share), c_size_t(ctypes.sizeof(share))))
        return share

    @invariant()
    def the_accounts_agree(self) -> None:
        share = self.share()
        assert share.own == share.used == sum(buffer.charged for buffer in self.buffers)
        assert share.pinned == sum(buffer.charged for buffer in self.buffers if not buffer.moves)
        assert EMPTY - cuda.info()[0] == share.own - share.swapped, "the driver's own account"

    @invariant()
    def what_is_there_is_as_it_was_written(self) -> None:
        for buffer in self.buffers if self.usable else ():
            if buffer.known is not None:
                assert cuda.read(buffer.at, buffer.size) == bytes(buffer.known)

    def teardown(self) -> None:
        cuda.lib.gpumax_layer_resume()
        for buffer in self.buffers:
            cuda.free(buffer.at)


if __name__ == "__main__":
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=int(sys.argv[1]), stateful_step_count=30, deadline=None, database=None,
            derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate],  # to shrink takes minutes
        ),
    )  # fmt: skip
    sys.stdout.write("agreed\n")
