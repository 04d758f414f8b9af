"""Writes whose answers are lost, late or refused: what is told of them is what is so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engines.kubernetes.stub import Rests, Stub, Talk, api_of, pod, refusal, says, story, stub
from gpumax.engines.kubernetes.lease import RENEW_S, Fence
from gpumax.engines.kubernetes.refusals import FIRST_S, MOST_S, Refusals
from gpumax.engines.kubernetes.telling import Told
from gpumax.engines.kubernetes.writer import (
    ENOUGH,
    LATEST_S,
    SPEAKERS,
    Outcome,
    Target,
    Writer,
    breath_s,
)

POD = "/api/v1/namespaces/ns/pods/a"
A = Target("ns", "a", "uid-a")
GOES = Told("ns/a", "DisruptionTarget", "Reclaimed", "its queue used more than its share")
WAITS = Told("ns/a", "PodScheduled", "Unschedulable", "no room", "NoRoom")


class Came:
    """What was told of each write, and who steers by when."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []
        self.now_s = 0.0
        self.fence = Fence(lambda: self.now_s)
        self.fence.renewed(0.0, 1, "we")

    def __call__(self, target: Target, outcome: Outcome, why: str) -> None:
        assert why or outcome == "done"
        self.outcomes.append((target.name, outcome))


@asynccontextmanager
async def writing(served: Stub, came: Came) -> AsyncIterator[Writer]:
    """A writer to a stub."""
    async with api_of(served) as api:
        writer = Writer(api, came.fence, came)
        yield writer
        await writer.end()


async def lost(talk: Talk) -> None:
    """The request came, and no answer goes back."""
    talk.reset()


@story
async def test_what_comes_while_it_ends_is_not_begun() -> None:
    """The cycle decides in a thread of its own, and may hand on a decision when the connections are closed."""
    came = Came()
    async with stub() as served, api_of(served) as api:
        writer = Writer(api, came.fence, came)
        await writer.end()
        before = asyncio.all_tasks()
        writer.bind(A, "n1")
        writer.evict(A, GOES)
        writer.tell(A, WAITS, "1", aloud=True)
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("second", [(201, {}), (409, refusal(409, "Conflict", "pod a is already assigned"))])
def test_a_bind_without_an_answer_is_asked_for_until_there_is_one(second: tuple[int, Any]) -> None:
    """Whether the first came late or never: the pod has its room in the end, and it isn't said before."""

    @story
    async def told() -> None:
        came = Came()
        async with stub() as served, writing(served, came) as writer:
            served.plays(f"{POD}/binding", lost, says(504, refusal(504, "Timeout")), says(*second))
            served.plays(POD, says(503, {}), says(200, pod("a", 2, nodeName="n1")))
            writer.bind(A, "n1")
            await writer.settled()
            assert came.outcomes == [("a", "done")]
            assert served.count("POST") == 3
            assert writer.counts["binds"] == 1

    told()


@pytest.mark.parametrize(
    "seen",
    [
        (404, refusal(404, "NotFound")),
        (200, pod("a", 2)),
        (200, pod("a", 2, uid="another", nodeName="n1")),
    ],
)
def test_a_conflict_of_a_pod_without_a_node_is_a_refusal(seen: tuple[int, Any]) -> None:
    """It has gone, another has its name, or somebody wrote to it at that moment."""

    @story
    async def told() -> None:
        came = Came()
        async with stub() as served, writing(served, came) as writer:
            served.plays(f"{POD}/binding", says(409, refusal(409, "Conflict")))
            served.plays(POD, says(*seen))
            writer.bind(A, "n1")
            await writer.settled()
            assert came.outcomes == [("a", "refused")]

    told()


def test_a_crowd_is_told_within_a_minute_and_a_few_at_once() -> None:
    """Eight speak at a time."""
    assert [breath_s(waiting) for waiting in (0, 100, 101, 1_200, 12_000)] == [0.0, 0.0, 0.4, 0.4, 0.04]


@story
async def test_who_gets_a_place_before_its_turn_is_not_told_that_it_waits() -> None:
    """Under load thousands wait for their turn to be told, and most of them start before."""
    came = Came()
    async with stub() as served, writing(served, came) as writer:
        served.plays(f"{POD}/binding", says(201, {}))
        writer.tell(A, WAITS, "1", aloud=True)
        writer.bind(A, "n1")
        await writer.settled()
        assert came.outcomes == [("a", "done")]
        assert len(served.asked) == 1


@story
async def test_nothing_is_sent_when_the_lease_ends_while_a_write_waits() -> None:
    """Refused for load, it would be sent again; by then another replica steers."""
    came = Came()

    async def refuse(talk: Talk) -> None:
        came.now_s = RENEW_S
        await talk.say(429, refusal(429, "TooManyRequests"))

    async with stub() as served, writing(served, came) as writer:
        served.plays(f"{POD}/binding", refuse, says(201, {}))
        writer.bind(A, "n1")
        await writer.settled()
        writer.evict(A, GOES)
        writer.tell(A, WAITS, "1", aloud=True)
        await writer.settled()
        assert came.outcomes == [("a", "withheld")] * 2
        assert len(served.asked) == 1
        assert writer.counts["fenced"] == 3


@pytest.mark.parametrize(
    ("answer", "seen", "outcome"),
    [
        (refusal(404, "NotFound"), (404, refusal(404, "NotFound")), "done"),
        (refusal(409, "Conflict"), (200, pod("a", 3, uid="another")), "done"),
        (refusal(409, "Conflict"), (200, pod("a", 3, nodeName="n1")), "kept"),
        (refusal(403, "Forbidden"), (200, pod("a", 3, nodeName="n1")), "kept"),
        (refusal(429, "TooManyRequests", causes=[{"reason": "DisruptionBudget"}]), (404, {}), "kept"),
    ],
)
def test_an_eviction_is_done_only_where_the_pod_goes(
    answer: dict[str, Any], seen: tuple[int, Any], outcome: str
) -> None:
    """A refusal leaves it where it is, and so does a conflict over which it is still there; without an answer it's asked for again."""

    @story
    async def told() -> None:
        came = Came()
        async with stub() as served, writing(served, came) as writer:
            served.plays(f"{POD}/status", says(200, pod("a", 2)))
            served.plays("/apis/events.k8s.io/v1/namespaces/ns/events", says(201, pod("e", 1)))
            served.plays(f"{POD}/eviction", lost, says(answer["code"], answer))
            served.plays(POD, says(*seen))
            writer.evict(A, GOES)
            await writer.settled()
            assert came.outcomes == [("a", outcome)]

    told()


@story
async def test_nobody_waits_behind_the_words_for_thousands_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bind is sent while few are told something; namespaces are told in turn, and each pod the last that there is to say."""
    came = Came()
    held = asyncio.Event()
    told: list[str] = []
    # In its own test: how long they pause.
    monkeypatch.setattr("gpumax.engines.kubernetes.writer.breath_s", lambda _: 0.0)

    async def slowly(talk: Talk) -> None:
        await held.wait()
        told.append(talk.asked.json()["status"]["conditions"][0]["message"])
        await talk.say(200, pod("a", 2))

    async with stub() as served, writing(served, came) as writer:
        served.plays(f"{POD}/binding", says(201, {}))
        for number in range(3000):
            served.plays(f"/api/v1/namespaces/flood/pods/{number}/status", slowly)
            target = Target("flood", str(number), str(number))
            writer.tell(target, WAITS._replace(message=f"flood {number}"), "1", aloud=False)
        served.plays("/api/v1/namespaces/ns/pods/b/status", slowly)
        for words in ("first", "last"):
            writer.tell(Target("ns", "b", "b"), WAITS._replace(message=words), "1", aloud=False)
        writer.bind(A, "n1")
        while not came.outcomes:
            await asyncio.sleep(0)
        assert served.count("PATCH") <= SPEAKERS
        held.set()
        await writer.settled()
        assert len(told) == 3001
        assert told.index("last") <= 2 * SPEAKERS
        assert "first" not in told


def test_who_is_refused_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a moment to half a minute, and is told how often; who was bound begins anew, and who has gone is forgotten."""
    now_s = [0.0]
    monkeypatch.setattr("gpumax.engines.kubernetes.refusals.monotonic", lambda: now_s[0])
    refusals = Refusals()
    pauses = []
    for _ in range(10):
        pauses.append(refusals.refuse("ns/a", "409 Conflict"))
        assert refusals.due(lambda _: True) == []
        message = refusals.told()["ns/a"].message
        now_s[0] += pauses[-1]
        assert refusals.due(lambda _: True) == ["ns/a"]
        assert refusals.told() == {}
    assert pauses[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert pauses[-1] == MOST_S
    assert message == "its bind was refused 10 times in a row and is tried again: 409 Conflict"
    refusals.forgive("ns/a")
    assert refusals.refuse("ns/a", "409 Conflict") == FIRST_S
    assert refusals.due(lambda _: False) == []
    assert refusals.refuse("ns/a", "409 Conflict") == FIRST_S


@pytest.mark.parametrize(
    ("seen", "outcome"), [(pod("a", 2), "refused"), (pod("a", 2, nodeName="n1"), "done")]
)
def test_a_bind_that_nobody_ever_answers_clearly_ends_when_none_can_come_late(
    seen: dict[str, Any], outcome: str
) -> None:
    """A server that always fails keeps no room for ever: it's looked at what became of it after a minute in which nothing is sent."""

    @story
    async def told() -> None:
        rests, came = Rests(), Came()
        async with stub() as served, api_of(served, rests=rests) as api:
            served.plays(f"{POD}/binding", says(500, refusal(500, "InternalError", "failed calling webhook")))
            served.plays(POD, says(200, seen))
            writer = Writer(api, came.fence, came)
            writer.bind(A, "n1")
            await writer.settled()
        assert came.outcomes == [("a", outcome)]
        assert served.count("POST") == ENOUGH
        assert rests.taken[-1] >= LATEST_S

    told()


def test_rests_are_taken_between_tries() -> None:
    """Who isn't answered asks again later each time, not at once."""

    @story
    async def told() -> None:
        rests, came = Rests(), Came()
        async with stub() as served, api_of(served, rests=rests) as api:
            served.plays(f"{POD}/binding", *[says(500, {})] * 6, says(201, {}))
            writer = Writer(api, came.fence, came)
            writer.bind(A, "n1")
            await writer.settled()
        assert len(rests.taken) == 6
        assert rests.taken[-1] > 8 * rests.taken[0]

    told()
