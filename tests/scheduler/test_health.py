"""Whether a scheduler lives and is ready, and what it says where it isn't."""

from __future__ import annotations

from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from gpumax.apps.scheduler.health import HUNG_S, Health
from gpumax.engines.kubernetes import freshness
from gpumax.engines.kubernetes.freshness import FRESH_S, ages_s, left_out, old, unknown
from gpumax.engines.kubernetes.kinds import PODS, QUEUES, SLICES, TOPOLOGIES


def informer(
    kind: Any, heard_s: float, *, synced: bool = True, trouble: str = "", denied: bool = False
) -> Any:
    """What is asked of one."""
    return SimpleNamespace(kind=kind, heard_s=heard_s, synced=synced, trouble=trouble, denied=denied)


def test_what_is_not_known_or_silent_for_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that broke off a moment ago is no news yet; the API server is asked again already."""
    monkeypatch.setattr(freshness, "monotonic", lambda: 1000.0)
    lately = informer(PODS, 999.0, trouble="the connection was closed")
    silent = informer(QUEUES, 1000.0 - FRESH_S - 1, trouble="no answer")
    unknown = informer(PODS, 999.0, synced=False, trouble="403 Forbidden")
    assert list(old([lately])) == []
    assert list(old([silent])) == [
        f"nothing was heard of queues.gpumax.dev for {FRESH_S + 1:.0f} s: no answer"
    ]
    assert list(old([unknown])) == ["pods aren't known yet: 403 Forbidden"]
    assert ages_s([lately, silent]) == {"pods": 1.0, "queues.gpumax.dev": FRESH_S + 1}


def test_what_may_not_be_seen_is_needed_or_left_out() -> None:
    """Without pods or queues nothing can be decided; without topologies, say, it goes on and says so, whether they were known once or never."""
    never = informer(TOPOLOGIES, 0.0, synced=False, trouble="403", denied=True)
    once = informer(SLICES, 0.0, trouble="403", denied=True)
    needed = informer(QUEUES, 0.0, synced=False, trouble="403", denied=True)
    away = informer(TOPOLOGIES, 0.0, synced=False, trouble="no answer")
    assert list(old([never, once])) == list(unknown([never, once])) == []
    assert list(left_out([never, once, needed, away])) == [
        "goes on without topologies.gpumax.dev: no right to list and watch them",
        "goes on without resourceslices.resource.k8s.io: no right to list and watch them",
    ]
    assert [*unknown([needed, away])] == [
        "queues.gpumax.dev aren't known yet: 403", "topologies.gpumax.dev aren't known yet: no answer",
    ]  # fmt: skip


class Parts:
    """A cluster and a loop, as far as they are asked how they are."""

    def __init__(self) -> None:
        self.ours = True
        self.others = "another replica steers, epoch 3"
        self.dry = False
        self.left_out: tuple[str, ...] = ()
        self.silent_s = 0.0
        self.trouble = ""
        self.lacks: tuple[str, ...] = ()
        self.alive = True
        self._over = Event()
        self.thread = Thread(target=self._over.wait, daemon=True)
        self.health = Health(self, self, self.thread)  # type: ignore[arg-type]

    def unready(self) -> tuple[str, ...]:
        """What the cluster lacks."""
        return self.lacks

    def answers(self, _: float) -> bool:
        """Whether its thread does."""
        return self.alive

    def end(self) -> None:
        """The loop ends."""
        self._over.set()
        self.thread.join()


def test_before_the_loop_begins_it_lives_and_is_not_ready() -> None:
    """A large cluster takes a while to be listed; that is no reason to start anew."""
    parts = Parts()
    assert parts.health.live() == (True, "ok")
    assert parts.health.ready() == (False, "the loop has not begun")


def test_only_what_a_new_start_mends_costs_a_life() -> None:
    """An API server that is away, or a cycle that fails, does not."""
    parts = Parts()
    parts.thread.start()
    try:
        assert parts.health.ready() == (True, "ready, and steers")
        parts.ours = False
        assert parts.health.ready() == (True, "ready to take over; another replica steers, epoch 3")
        parts.dry = True
        assert parts.health.ready() == (True, "ready; a dry run, which writes nothing")
        parts.dry, parts.left_out = False, ("goes on without topologies.gpumax.dev: no right",)
        assert parts.health.ready().well
        assert parts.health.ready().words.splitlines()[1:] == [
            "goes on without topologies.gpumax.dev: no right"
        ]
        parts.ours, parts.lacks, parts.trouble = (
            False,
            ("pods aren't known yet: no answer",),
            "secret: internal error",
        )
        assert parts.health.live().well
        state = parts.health.ready()
        assert not state.well
        assert state.words.splitlines() == [
            "pods aren't known yet: no answer", "the last cycle failed; the log says why, and it is tried again",
        ]  # fmt: skip
        parts.silent_s = HUNG_S + 1
        assert parts.health.live() == (False, f"the loop has not come round for {HUNG_S + 1:.0f} s")
        parts.silent_s, parts.alive = 0.0, False
        assert not parts.health.live().well
    finally:
        parts.end()
    parts.alive = True
    assert parts.health.live() == (False, "the loop has ended")
