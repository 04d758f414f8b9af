"""What happens to single requests on the way: lost, late, refused, or overtaken by what somebody else did at that very moment.

After each the audit log proves that no device was over-full, no gang in parts for too long, and nobody bound twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from controlplane.middle import (
    Answer,
    Gate,
    How,
    Middle,
    Pass,
    anything,
    binds,
    loses_the_answer,
    loses_the_request,
    says,
)
from controlplane.pilot import Pilot
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Stage

SOON_S = 0.3
"""For tests in which answers don't come: in all others they may take their time."""
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def middle(plane: ControlPlane) -> Iterator[Middle]:
    """Somebody on the way to the API server."""
    with plane.middle() as made:
        yield made


@contextmanager
def steering(stage: Stage, middle: Middle, **options: Any) -> Iterator[Pilot]:
    """Somebody steers over that way."""
    pilot = Pilot(middle.kubeconfig, stage.name, **options)
    try:
        pilot.steer()
        yield pilot
    finally:
        pilot.close()


def first(act: Callable[[], object]) -> How:
    """Somebody does something while a request is on its way."""

    async def how(go: Pass) -> Answer:
        await asyncio.to_thread(act)
        return await go()

    return how


def test_a_server_that_parts_after_each_answer_is_spoken_to_all_the_same(
    stage: Stage, middle: Middle
) -> None:
    """As one does that sheds load (GOAWAY, or Connection: close)."""
    middle.goodbye = True
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    with steering(stage, middle) as pilot:
        stage.gang("g", queue, 8)
        eventually(lambda: stage.where() == ["n1"] * 8, "all are bound")
        assert pilot.cluster.counts["binds"] == 8


def test_connections_are_reset_again_and_again(stage: Stage, plane: ControlPlane) -> None:
    """Whatever is under way: each gang comes to be whole, and nobody is bound twice."""
    stage.node("n1", 24)
    queue = stage.queue("a", 24)
    with plane.wire() as wire:
        pilot = Pilot(plane.kubeconfig_over(wire), stage.name)
        pilot.steer()
        cuts = 0
        for number in range(6):
            stage.gang(f"g{number}", queue, 4)
            cuts += wire.cut()
        eventually(lambda: stage.where() == ["n1"] * 24, "all are bound")
        pilot.close()
    assert cuts > 6


def test_nothing_passes_for_a_while(stage: Stage, plane: ControlPlane) -> None:
    """Nobody is told that the wire is dead; what was to be bound meanwhile is unknown, and comes once."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with plane.wire() as wire:
        pilot = Pilot(plane.kubeconfig_over(wire), stage.name, answer_s=SOON_S)
        pilot.steer()
        stage.pod("before", queue)
        eventually(lambda: stage.where("before") == ["n1"], "the first is bound")
        with wire.held():
            stage.gang("g", queue, 3)
            eventually(lambda: len(stage.where("g")) == 3, "its pods are there")
        eventually(lambda: stage.where() == ["n1"] * 4, "all are bound")
        pilot.close()


def test_a_watch_that_is_silent_for_too_long_is_begun_anew(
    stage: Stage, middle: Middle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other end is gone, and nobody says so: what happened meanwhile is heard of after the longest that a watch may be silent."""
    monkeypatch.setattr("gpumax.engines.kubernetes.client.watch.STALL_S", 3.0)
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with steering(stage, middle):
        stage.pod("before", queue)
        eventually(lambda: stage.where("before") == ["n1"], "the first is bound")
        eventually(lambda: middle.silence(_of_pods) > 0, "nothing is heard of pods")
        stage.pod("after", queue)
        eventually(lambda: stage.where("after") == ["n1"], "the second is bound")


def _of_pods(asked: web.Request) -> bool:
    return asked.path == "/api/v1/pods"


@pytest.mark.parametrize("lost", [loses_the_answer, loses_the_request, says(504, "Timeout", "timed out")])
def test_a_bind_that_nobody_answers_comes_once(stage: Stage, middle: Middle, lost: How) -> None:
    """Whether the server did what it was asked or never heard of it."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with middle.rule(binds, lost, most=4) as rule, steering(stage, middle) as pilot:
        stage.gang("g", queue, 4)
        eventually(lambda: stage.where() == ["n1"] * 4, "all are bound")
        pilot.cluster.settle()
        assert rule.met == 4
        assert pilot.cluster.counts["refused"] == 0


def test_the_room_of_a_bind_whose_outcome_is_unknown_is_given_to_nobody(stage: Stage, middle: Middle) -> None:
    """It comes long after everybody gave up on its answer; who asked for the same room meanwhile waits."""
    stage.node("n1", 1)
    queue = stage.queue("a", 2)
    gate = Gate()
    with steering(stage, middle, answer_s=SOON_S), middle.rule(binds, gate.before) as rule:
        stage.pod("a", queue)
        eventually(lambda: rule.met > 1, "its bind was asked for again")
        stage.pod("b", queue)
        eventually(
            lambda: stage.told("b").get("reason") == "Unschedulable", "the other is told that it waits"
        )
        assert stage.where() == ["", ""]
        gate.open()
        eventually(lambda: stage.where("a") == ["n1"], "the late bind comes")
        stage.api.delete(f"{stage.pods_path}/a")
        eventually(lambda: stage.where() == ["n1"], "the other gets the room when it is free")


def test_conflicts_without_end_are_no_hot_loop_and_end_well(stage: Stage, middle: Middle) -> None:
    """Each is tried again after a longer pause; when the storm is over all are bound."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with steering(stage, middle) as pilot, middle.rule(binds, says(409, "Conflict"), most=12) as rule:
        stage.gang("g", queue, 4)
        eventually(lambda: stage.where() == ["n1"] * 4, "all are bound")
        assert rule.met == 12
        assert pilot.cluster.counts["binds"] == 16


def test_a_pod_that_may_not_be_bound_is_told_why_and_keeps_nobody_from_its_room(
    stage: Stage, middle: Middle
) -> None:
    """The room is free between tries."""
    stage.node("n1", 1)
    queue = stage.queue("a", 2)
    refuse = says(403, "Forbidden", "no binding of this pod")
    with (
        steering(stage, middle),
        middle.rule(lambda asked: "/pods/a/" in asked.path and binds(asked), refuse),
    ):
        stage.pod("a", queue)
        eventually(lambda: stage.told("a").get("reason") == "BindRefused", "it is told")
        said = stage.told("a")["message"]
        assert said.startswith("its bind was refused ")
        assert said.endswith("403 Forbidden: no binding of this pod")
        stage.pod("b", queue)
        eventually(lambda: stage.where("b") == ["n1"], "another gets the room")


def test_a_server_with_too_much_to_do_is_left_in_peace(stage: Stage, middle: Middle) -> None:
    """It refuses everything, and says for how long; what was to be done is done when it can."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with steering(stage, middle) as pilot:
        with middle.rule(anything, says(429, "TooManyRequests", Retry_After="1"), most=8) as rule:
            stage.gang("g", queue, 4)
            eventually(lambda: stage.where() == ["n1"] * 4, "all are bound")
        assert rule.met == 8
        assert pilot.cluster.counts["refused"] == 0


@pytest.mark.parametrize(
    ("how", "part", "patch"),
    [
        ("cordoned", "", {"spec": {"unschedulable": True}}),
        ("tainted", "", {"spec": {"taints": [{"key": "gone", "effect": "NoSchedule"}]}}),
        ("not ready", "/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        ("deleted", "", None),
    ],
)
def test_a_node_goes_while_a_bind_to_it_is_on_its_way(
    stage: Stage, middle: Middle, how: str, part: str, patch: dict[str, Any] | None
) -> None:
    """The bind arrives, and the pod counts there; whoever comes next goes elsewhere, or waits for a node that is only ill for a moment."""
    stage.node("n1", 2)
    queue = stage.queue("a", 8)
    path = f"/api/v1/nodes/{stage.name}-n1{part}"

    def goes() -> None:
        answer = stage.api.delete(path) if patch is None else stage.api.patch(path, json=patch, headers=MERGE)
        answer.raise_for_status()

    with steering(stage, middle) as pilot, middle.rule(binds, first(goes), most=1):
        stage.pod("a", queue)
        eventually(lambda: stage.where("a") == ["n1"], "it is bound")
        if how != "not ready":  # which lasts until the next heartbeat
            stage.sees_no_way_to("n1", pilot.cluster)
        stage.node("n2", 2)
        for name in ("b", "c"):
            stage.pod(name, queue)
        eventually(lambda: "" not in stage.where(), "the others have room")
        if how != "not ready":
            assert stage.where() == ["n1", "n2", "n2"]


def test_another_pod_has_the_name_when_a_bind_arrives(stage: Stage, middle: Middle) -> None:
    """What was decided was for the first one; the second is decided for by itself."""
    stage.node("n1", 2)
    queue = stage.queue("a", 2)

    def replaced() -> None:
        stage.api.delete(f"{stage.pods_path}/a").raise_for_status()
        stage.pod("a", queue, 2)

    with steering(stage, middle), middle.rule(binds, first(replaced), most=1):
        stage.pod("a", queue, 1)
        eventually(lambda: stage.where() == ["n1"], "it is bound")
    container = stage.pods()["a"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_somebody_else_takes_the_same_devices_while_a_bind_is_on_its_way(
    stage: Stage, middle: Middle
) -> None:
    """The API lets both through, and a kubelet would send one of them away. Nobody else of ours goes there, whatever is freed on paper."""
    stage.node("n1", 2)
    queue = stage.queue("a", 8)

    def takes() -> None:
        foreign = stage.template(queue, 2, name="foreign")
        foreign["spec"]["schedulerName"] = "somebody-else"
        stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **foreign})
        target = {"kind": "Node", "name": f"{stage.name}-n1"}
        bind = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "foreign"}, "target": target}
        stage.api.post(f"{stage.pods_path}/foreign/binding", json=bind).raise_for_status()

    with steering(stage, middle), middle.rule(binds, first(takes), most=1):
        stage.pod("a", queue, 1)
        eventually(lambda: stage.where("a") == ["n1"], "ours is bound")
        stage.pod("b", queue, 1)
        eventually(lambda: stage.told("b").get("reason") == "Unschedulable", "the next is told that it waits")
        stage.api.delete(f"{stage.pods_path}/foreign")
        eventually(lambda: stage.where("b") == ["n1"], "it comes when the other has gone")
