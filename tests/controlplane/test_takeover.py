"""Who steers after somebody who left things half done, or whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from audit import check
from controlplane.middle import Answer, Gate, Pass, binds, loses_the_request
from controlplane.pilot import Pilot
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import TOGETHER_S, UNSEEN_S, Document, Stage
from gpumax.engines.kubernetes.lease import Candidate, Fence
from gpumax.model.snapshot import Policy
from gpumax.ports.clock import SystemClock

SKEW = timedelta(minutes=5)


class Skewed:
    """A clock that is wrong."""

    def __init__(self, by: timedelta) -> None:
        self._by = by
        self._right = SystemClock()

    def now_ms(self) -> int:
        """The time, as it has it."""
        return self._right.now_ms() + int(self._by.total_seconds() * 1000)

    def now(self) -> datetime:
        """The same."""
        return datetime.now(UTC) + self._by


async def as_it_is(go: Pass) -> Answer:
    """Nothing happens to it."""
    return await go()


def test_a_gang_that_can_not_be_made_whole_any_more_is_taken_back(stage: Stage, plane: ControlPlane) -> None:
    """Its scheduler went when half of it was bound, and somebody else took the room of the rest: after its grace the half gives its room back."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    with (
        plane.middle() as middle,
        middle.rule(binds, as_it_is, most=2),
        middle.rule(binds, loses_the_request) as lost,
    ):
        first = Pilot(middle.kubeconfig, stage.name)
        first.steer()
        for number in range(4):
            stage.pod(
                f"g{number}", queue, labels={"gpumax.dev/gang": "g"}, annotations={"gpumax.dev/min": "4"}
            )
        eventually(lambda: lost.met >= 2, "the other binds are lost")
        eventually(lambda: sorted(stage.where("g")) == ["", "", "n1", "n1"], "half of it is bound")
        first.close()
    foreign = stage.template(queue, 2, name="foreign")
    foreign["spec"]["schedulerName"] = "somebody-else"
    foreign["spec"]["nodeName"] = f"{stage.name}-n1"
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **foreign})
    second = Pilot(plane.kubeconfig(), stage.name, policy=Policy(stale_grace_ms=500))
    second.steer()
    eventually(lambda: stage.where("g") == ["", ""], "the half that ran has gone")
    assert [reason for reason, _ in stage.events()].count("GangBelowMinimum") == 2
    second.close()


def test_nobody_gets_the_room_of_pods_whose_owners_are_not_known_yet(
    stage: Stage, plane: ControlPlane
) -> None:
    """After a start each owner is looked up, which takes a while: meanwhile what their pods hold is held."""
    stage.node("n1", 2)
    queue = stage.queue("a", 4)
    first = Pilot(plane.kubeconfig(), stage.name)
    first.steer()
    stage.post(f"/apis/apps/v1/namespaces/{stage.name}/deployments", deployment(stage, queue))
    eventually(lambda: stage.where("web") == ["n1", "n1"], "it runs")
    first.close()
    slow = Gate()
    with (
        plane.middle() as middle,
        middle.rule(lambda asked: "/apis/apps/" in asked.path, slow.before) as asked,
    ):
        second = Pilot(middle.kubeconfig, stage.name)
        second.steer()
        stage.pod("next", queue)
        eventually(
            lambda: stage.told("next").get("reason") == "Unschedulable", "there is no room for the next"
        )
        assert asked.met > 0
        slow.open()
        stage.api.delete(
            f"/apis/apps/v1/namespaces/{stage.name}/deployments/web",
            params={"propagationPolicy": "Background"},
        )
        eventually(lambda: stage.where("next") == ["n1"], "it comes when they have gone")
        second.close()


def deployment(stage: Stage, queue: str) -> Document:
    """Two pods of one GPU."""
    template = stage.template(queue, 1, labels={"app": "web"})
    template["spec"]["restartPolicy"] = "Always"
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }  # fmt: skip


def test_clocks_that_differ_by_ten_minutes_do_no_harm(
    stage: Stage, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica is five minutes ahead, the other five behind: one of them steers at a time, the other takes over, and pods of both times are served."""
    monkeypatch.setattr("gpumax.engines.kubernetes.lease.LEASE_S", 6)
    monkeypatch.setattr("gpumax.engines.kubernetes.lease.RENEW_S", 4.0)
    monkeypatch.setattr("gpumax.engines.kubernetes.elect.RETRY_S", 0.2)
    stage.node("n1", 8)
    a, b = stage.queue("a", 4), stage.queue("b", 4)
    pilots = []
    for name, by in (("ahead", SKEW), ("behind", -SKEW)):
        clock = Skewed(by)
        config = plane.kubeconfig(f"replica-{name}", "system:masters")
        pilot = Pilot(config, stage.name, fence=Fence(), clock=clock)
        pilot.stand(stage.name, "gpumax", Candidate(name, clock.now))
        pilots.append(pilot)
        eventually(lambda: any(one.cluster.ours for one in pilots), "somebody steers")
    for number in range(8):
        stage.pod(f"b{number}", b)
    eventually(lambda: "" not in stage.where("b"), "b uses all of it")
    assert sum(one.cluster.counts["binds"] for one in pilots) == 8
    eventually(lambda: any(one.cluster.ours for one in pilots), "one of them steers")
    pilots.sort(key=lambda one: not one.cluster.ours)
    first, other = pilots
    first.close()
    eventually(lambda: other.cluster.ours, "the other takes over")
    stage.gang("g", a, 4)
    eventually(lambda: stage.where("g") == ["n1"] * 4, "a takes back what it is due")
    assert len(stage.where("b")) == 4
    other.close()
    lease = f"{stage.name}/gpumax"
    assert check(stage.happened(), lease=lease, together_s=TOGETHER_S, unseen_s=UNSEEN_S) == []
