"""After any disorder, once everybody keeps to the protocol again, everybody who wants to work does, and soon."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.world import GIB, MS, SECOND, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core.shapes import GroupSpec, MemoryShare, Settings
from gpumax.broker.words import Mode, SwapStatus
from thorough import examples

QUICK = Settings(
    pool_bytes=1 << 50, longest_quantum_ns=300 * MS, serial_ns=2 * SECOND, idle_ns=2 * SECOND, cold_ns=4 * SECOND,
    memory_wait_ns=2 * SECOND, stuck_ns=3 * SECOND,
)  # fmt: skip
MOST = 8

DEEDS = (
    "start", "want", "rest", "ask", "free", "kill", "stop", "go on", "crash", "crash and lose one", "busy", "able",
    "configure", "drop", "reconnect", "wait",
)  # fmt: skip
deeds = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.integers(0, 30), st.sampled_from([0, 30, 300, 2500])),
    min_size=4,
    max_size=30,
)


@st.composite
def groups(draw: st.DrawFn) -> list[GroupSpec]:
    count = draw(st.integers(2, 4))
    found = []
    for index in range(count):
        guarantee = draw(st.sampled_from([0, 0, 2]))
        limit = draw(st.sampled_from([2, 6, 9]))
        where = draw(st.sampled_from([("d0",), ("d0",), ("d0", "d1")]))
        mode = draw(st.sampled_from([Mode.FAIR, Mode.FAIR, Mode.STRICT]))
        found.append(
            group(
                f"g{index}",
                250,
                mode=mode,
                guarantee=guarantee * GIB,
                limit=max(guarantee, limit) * GIB,
                devices=where,
            )
        )
    return found


class Disorder:
    def __init__(self, specs: list[GroupSpec]) -> None:
        self.world = World(
            specs, devices={"d0": 10 * GIB, "d1": 10 * GIB}, settings=QUICK, link=40 * GIB, piece=GIB
        )

    def living(self) -> list[Process]:
        return [p for p in self.world.processes.values() if p.alive]

    def do(self, deed: str, pick: int) -> None:
        world, living = self.world, self.living()
        if deed == "start":
            self._start(pick)
        elif deed == "configure":
            self._configure(pick)
        elif deed == "crash":
            world.crash()
            world.restart()
        elif living:
            self._to(deed, living[pick % len(living)], pick)

    def _start(self, pick: int) -> None:
        if len(self.living()) < MOST:
            spec = self.world.specs[pick % len(self.world.specs)]
            kernel = (MS, 5 * MS, 40 * MS)[pick % 3]
            self.world.start(spec, memory=(pick % 4) * GIB, kernel_ns=kernel, checkpoints=pick % 5 == 0)

    def _to(self, deed: str, process: Process, pick: int) -> None:
        world = self.world
        match deed:
            case "want":
                world.want(process)
            case "rest":
                world.rest(process)
            case "ask":
                world.ask(process, (pick % 3 + 1) * GIB)
            case "free" if process.word.name == "GRANTED" and process.claimed.get("d0", 0) >= GIB:
                world.memory_back(process, GIB)
            case "kill":
                world.kill(process)
            case "stop":
                world.stop(process)
            case "go on":
                world.go_on(process)
            case "crash and lose one":
                world.crash()
                world.kill(process)
                world.restart()
            case "busy" | "able":
                process.swap_out_status = SwapStatus.BUSY if deed == "busy" else SwapStatus.DONE
            case "drop":
                world.drop(process)
            case "reconnect":
                world.reconnect(process)

    def _configure(self, pick: int) -> None:
        specs = self.world.specs
        index = pick % len(specs)
        old = specs[index]
        memory = {d: MemoryShare(m.guarantee, max(m.limit - GIB, m.guarantee)) for d, m in old.memory.items()}
        spec = replace(
            old, share=(100, 250)[pick % 2], mode=(Mode.FAIR, Mode.STRICT)[pick // 2 % 2],
            memory=memory if pick % 3 == 0 else old.memory,
        )  # fmt: skip
        self.world.tell(ev.GroupChanged(self.world.now, spec))
        assert self.world.broker
        specs[index] = self.world.broker.state.groups[old.name].spec

    def calm(self) -> None:
        for process in self.living():
            process.swap_out_status = SwapStatus.DONE
            if process.stopped:
                self.world.go_on(process)
            self.world.reconnect(process)
        self.world.run(self.world.now + 5 * SECOND)
        for process in self.living():
            if not process.wants:
                self.world.want(process)


@pytest.mark.deep
@given(groups(), deeds)
@settings(max_examples=examples(12, 600), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_after_any_disorder_everybody_works_again(
    specs: list[GroupSpec], what: list[tuple[str, int, int]]
) -> None:
    disorder = Disorder(specs)
    world = disorder.world
    for deed, pick, pause in what:
        disorder.do(deed, pick)
        world.run(world.now + pause * MS)
    disorder.calm()
    began = world.now
    world.run(began + 40 * SECOND)
    assert world.ticks < 3000 * (world.now // SECOND + 1), "the broker wakes itself without end"
    for process in disorder.living():
        if process.wants:
            assert process.used(began + 10 * SECOND, world.now) > 0, (process.spec.name, world.broker and [
                (g.name, g.place, g.backlogged, g.lease) for g in world.broker.state.groups.values()])  # fmt: skip
    for process in disorder.living():
        world.kill(process)
    world.run(world.now + 10 * SECOND)
    assert world.broker
    for device in world.broker.state.devices.values():
        assert (device.used, device.ghosts, device.holders, device.coming) == (0, {}, [], None)
