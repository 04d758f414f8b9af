"""Whatever happens, in whatever order: nothing is granted twice, nothing is kept beyond what there is, nothing is left over."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.anarchy import DEVICES, GIB, Anarchy
from gpumax.broker.core import events as ev
from gpumax.broker.core.shapes import MIB, MS, GroupSpec, MemoryShare
from gpumax.broker.words import HintKind, Mode
from thorough import examples

sizes = st.sampled_from([0, 1, 256 * MIB, GIB, 3 * GIB, 5 * GIB, 8 * GIB, 1 << 60])
durations = st.sampled_from([0, 1, 20_000, MS, 10 * MS, 100 * MS, 500 * MS, 3000 * MS])
manners = st.sampled_from(
    ["well", "well", "well", "half", "busy", "failed", "wrong", "twice", "other", "paused", "never"]
)
picks = st.integers(0, 50)
devices = st.sampled_from(sorted(DEVICES))


@st.composite
def specs(draw: st.DrawFn) -> GroupSpec:
    guarantee = draw(st.sampled_from([0, 0, GIB, 2 * GIB]))
    limit = max(guarantee, draw(st.sampled_from([GIB, 4 * GIB, 6 * GIB])))
    memory = MemoryShare(guarantee, limit)
    where = draw(st.sampled_from([("d0",), ("d0",), ("d1",), ("d0", "d1")]))
    return GroupSpec(
        draw(st.sampled_from("abcd")), dict.fromkeys(where, memory), draw(st.sampled_from([100, 250, 400])),
        draw(st.sampled_from(Mode)), draw(st.integers(0, 2)), draw(st.sampled_from([True, True, False])),
    )  # fmt: skip


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = Anarchy()

    def client(self, pick: int) -> int:
        return sorted(self.world.pages)[pick % len(self.world.pages)]

    @rule(spec=specs())
    def a_group_comes(self, spec: GroupSpec) -> None:
        if spec.name not in self.world.specs:
            self.world.specs[spec.name] = spec
            self.world.tell(ev.GroupAdded(self.world.now, spec))

    @rule(spec=specs())
    def a_group_changes(self, spec: GroupSpec) -> None:
        old = self.world.specs.get(spec.name)
        self.world.tell(ev.GroupChanged(self.world.now, spec))
        known = self.world.broker.state.groups.get(spec.name)
        if old is not None and known is not None:
            self.world.specs[spec.name] = known.spec

    @rule(name=st.sampled_from("abcd"))
    def a_group_ends(self, name: str) -> None:
        self.world.tell(ev.GroupRemoved(self.world.now, name))
        if name not in self.world.broker.state.groups:
            self.world.specs.pop(name, None)

    @rule(
        name=st.sampled_from("abcd"), ranks=st.sampled_from([0, 0, 0, 2]), checkpoints=st.booleans(),
        swaps=st.sampled_from([True, True, True, False]),
    )  # fmt: skip
    def a_process_comes(self, name: str, ranks: int, checkpoints: bool, swaps: bool) -> None:
        self.world.join(name, ranks=ranks, checkpoints=checkpoints, swaps=swaps)

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, leased=st.booleans(), wants=st.booleans(), size=sizes, honest=st.booleans())
    def a_process_reconnects(self, pick: int, leased: bool, wants: bool, size: int, honest: bool) -> None:
        old = self.client(pick)
        page = self.world.pages[old]
        held = {}
        if old in self.world.broker.state.clients:
            held = {
                d: (h.claimed, h.pinned, h.resident)
                for d, h in self.world.broker.state.clients[old].holdings.items()
            }
        if page.connected and honest:
            self.world.leave(old)
            if old not in self.world.pages:
                return
        word = page.word
        again = old if honest and pick % 2 else 0
        new = self.world.join(page.group, pid=page.pid, reconnects=True, again=again)
        if new not in self.world.pages:
            return
        self.world.pages[new].word = word  # the node goes on where the old page stopped
        if not honest:
            held = dict.fromkeys(held or DEVICES, (size, size // 2, size))
        self.world.tell(ev.Inventory(self.world.now, new, leased, wants, held))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks)
    def it_wants_to_work(self, pick: int) -> None:
        self.world.tell(ev.Wanted(self.world.now, self.client(pick)))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, wants=st.booleans(), stale=st.sampled_from([0, 0, 0, 1, -1]))
    def it_releases(self, pick: int, wants: bool, stale: int) -> None:
        client = self.client(pick)
        self.world.tell(ev.Released(self.world.now, client, self.world.pages[client].lease + stale, wants))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, device=devices, size=sizes, pinned=st.booleans())
    def it_allocates(self, pick: int, device: str, size: int, pinned: bool) -> None:
        self.world.tell(ev.Asked(self.world.now, self.client(pick), device, size, pinned, 7))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, device=devices, size=sizes, pinned=st.booleans())
    def it_frees(self, pick: int, device: str, size: int, pinned: bool) -> None:
        self.world.tell(ev.Returned(self.world.now, self.client(pick), device, size, pinned))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, device=devices, kind=st.sampled_from(HintKind), size=sizes)
    def it_hints(self, pick: int, device: str, kind: HintKind, size: int) -> None:
        self.world.tell(ev.Hinted(self.world.now, self.client(pick), device, kind, size))

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks, device=devices, size=sizes)
    def it_beats(self, pick: int, device: str, size: int) -> None:
        self.world.tell(ev.Beat(self.world.now, self.client(pick), {device: size}))

    @precondition(lambda self: any(p.owed for p in self.world.pages.values()))
    @rule(pick=picks, how=manners, size=sizes)
    def it_answers(self, pick: int, how: str, size: int) -> None:
        owing = sorted(c for c, p in self.world.pages.items() if p.owed)
        self.world.answer(owing[pick % len(owing)], how, size)

    @rule()
    def all_answer_well(self) -> None:
        for _ in range(20):
            for client in [c for c, p in self.world.pages.items() if p.owed]:
                if client in self.world.pages:
                    self.world.answer(client, "well", 0)

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks)
    def its_connection_ends(self, pick: int) -> None:
        client = self.client(pick)
        if self.world.pages[client].connected:
            self.world.leave(client)

    @precondition(lambda self: self.world.pages)
    @rule(pick=picks)
    def it_dies(self, pick: int) -> None:
        self.world.die(self.client(pick))

    @rule(pick=picks)
    def the_driver_has_its_memory_back(self, pick: int) -> None:
        self.world.tell(ev.Reclaimed(self.world.now, pick))

    @rule(device=devices, size=sizes)
    def who_has_no_part_uses_a_device(self, device: str, size: int) -> None:
        self.world.tell(ev.Outside(self.world.now, {device: {999: size}}))

    @rule(duration=durations)
    def time_passes(self, duration: int) -> None:
        self.world.advance(self.world.now + duration)

    @rule()
    def the_broker_is_killed(self) -> None:
        self.world.restart()

    @invariant()
    def what_must_hold_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.world.over()


TestAnyOrder = pytest.mark.deep(AnyOrder.TestCase)
TestAnyOrder.settings = settings(
    max_examples=examples(60, 1500), stateful_step_count=examples(50, 80), deadline=None, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
