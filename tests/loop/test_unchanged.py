"""What the loop remembers from cycle to cycle changes nothing: each step is as if it had been made from nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from gpumax.loop import cycle
from gpumax.loop.assemble import assemble
from gpumax.loop.assembler import Assembler
from gpumax.loop.lifecycle import Step, advance
from gpumax.loop.memory import Memory
from gpumax.loop.roster import Roster
from gpumax.model.node import Node
from gpumax.model.records import Changes, Live
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.ports.engine import AttemptSeen, Observation
from loop.kit import MINUTE_MS, Rig, machine, queue, spec
from thorough import examples


class Compared(Assembler):
    """An assembler whose every snapshot is compared with one made from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.compared = 0

    def assemble(
        self,
        live: Live,
        nodes: tuple[Node, ...],
        attempts: tuple[AttemptSeen, ...],
        now_ms: int,
        policy: Policy,
        barred: frozenset[str],
        promised: frozenset[str],
    ) -> Snapshot:
        """As the real one."""
        made = super().assemble(live, nodes, attempts, now_ms, policy, barred, promised)
        checkpointed = {
            seen.attempt: seen.checkpointed_ms for seen in attempts if seen.checkpointed_ms is not None
        }
        assert self.checkpointed == checkpointed
        assert made == assemble(live, nodes, now_ms, policy, checkpointed, barred, promised)
        self.compared += 1
        return made


class Listed(Roster):
    """A roster that is compared with one made from nothing, whatever it followed."""

    def follow(self, live: Live) -> Live:
        """As the real one."""
        assert super().follow(live) == live
        self._compare()
        return self.live

    def merge(self, changes: Changes) -> Live:
        """As the real one."""
        super().merge(changes)
        self._compare()
        return self.live

    def _compare(self) -> None:
        again = Roster()
        again.follow(self.live)
        assert [*self.pairs.items()] == [*again.pairs.items()]
        assert (self.ids, self.owners, self.put_off) == (again.ids, again.owners, again.put_off)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(examples(5, 60)))
def test_every_step_is_as_if_made_from_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through submissions, ends, failures, evictions, checkpoints, refusals, wishes and nodes that come and go."""
    steps = 0

    def compared(live: Live, observation: Observation, now_ms: int, memory: Memory) -> Step:
        nonlocal steps
        made, again = advance(live, observation, now_ms, memory), advance(live, observation, now_ms)
        assert made == again
        steps += 1
        return made

    monkeypatch.setattr(cycle, "advance", compared)
    monkeypatch.setattr(cycle, "Assembler", Compared)
    monkeypatch.setattr(cycle, "Roster", Listed)
    chance = Random(seed)
    demote, fresh = chance.choice(((None, None), ((20, 100), None), ((20, 100), "b")))
    queues = (
        queue("b", 4, reclaim_min_runtime_ms=MINUTE_MS),
        queue("a", 4, demote=demote, fresh=fresh),
    )
    rig = Rig(tmp_path, (machine("n1", 4), machine("n2", 4)), queues, stops=chance.random() < 0.5)
    _play(rig, chance)
    assert steps >= 120


def _play(rig: Rig, chance: Random) -> None:
    for number in range(120):
        act = chance.choice(
            ("submit", "submit", "exit", "exit", "save", "wish", "refuse", "node", "lose", "wait")
        )
        alive = [
            seen.attempt for seen in rig.engine.observe().attempts if seen.state not in ("exited", "lost")
        ]
        names = [record.name for record, _ in rig.store.live().workloads]
        if act == "submit":
            size, tasks = chance.choice((1, 1, 2, 4)), chance.choice((1, 1, 2, 3))
            fields = {
                "retries": chance.choice((0, 3)),
                "max_duration_ms": chance.choice((None, 9 * MINUTE_MS)),
            }
            rig.submit(
                spec(f"w{number}", chance.choice("ab"), size, tasks, least=chance.choice((0, 1)), **fields)
            )
        elif act == "exit" and alive:
            rig.engine.exit(chance.choice(alive), chance.choice((0, 0, 1)))
        elif act == "lose" and alive:
            rig.engine.lose(chance.choice(alive))
        elif act == "save" and alive:
            rig.engine.checkpoint(chance.choice(alive))
        elif act == "wish" and names:
            name = chance.choice(names)
            if rig.record(name).wish != "delete":
                rig.wish(name, chance.choice(("suspend", "run", "stop", "delete")))
        elif act == "refuse":
            rig.engine.refuse = "" if rig.engine.refuse else "no"
        elif act == "node":
            rig.engine.nodes = chance.choice(((machine("n1", 4), machine("n2", 4)), (machine("n1", 2),)))
        rig.clock.advance(chance.choice((0, 1_000, MINUTE_MS)))
        rig.cycle()
