"""What is known of a cluster stays true, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from engines.kubernetes.stub import (
    Rests,
    Stub,
    Talk,
    api_of,
    bookmark,
    event,
    page,
    pod,
    refusal,
    says,
    story,
    stub,
)
from gpumax.engines.kubernetes.client import watch
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.informers import Informers
from gpumax.engines.kubernetes.kinds import NODES, PODS
from gpumax.engines.kubernetes.views import Pod
from gpumax.errors import Stale

ALL = "/api/v1/pods"
Script = Callable[[Talk], Awaitable[None]]


class Follower:
    """An informer of pods at work, and all changes that it told of, as `+a2`, `~a3`, `-a3`."""

    def __init__(self, informer: Informer[Pod]) -> None:
        self.informer = informer
        self.told: list[str] = []
        informer.cache.on_change(self._on_change)

    def names(self) -> list[str]:
        """Which pods are known, at which version."""
        return [f"{one.metadata.name}{one.metadata.resource_version}" for one in self.informer.cache.all()]

    def _on_change(self, change: Change[Pod]) -> None:
        one = change.new or change.old
        assert one is not None
        sign = "-" if change.new is None else "+" if change.old is None else "~"
        self.told.append(f"{sign}{one.metadata.name}{one.metadata.resource_version}")


@asynccontextmanager
async def following(there: Stub, rests: Rests | None = None) -> AsyncIterator[Follower]:
    """Follow the pods of a server."""
    async with api_of(there, rests=rests) as api:
        follower = Follower(Informer(api, PODS))
        running = asyncio.create_task(follower.informer.run())
        try:
            yield follower
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def streams(*parts: Any, then: str = "wait") -> Script:
    """A watch that says these events, and then waits, ends, or is reset."""

    async def play(talk: Talk) -> None:
        await talk.begin()
        for part in parts:
            await (talk.piece(part) if isinstance(part, bytes) else talk.lines(part))
        if then == "wait":
            await talk.for_ever()
        elif then == "end":
            await talk.end()
        else:
            talk.reset()

    return play


def start(version: int, *pods: dict[str, Any]) -> list[dict[str, Any]]:
    """The events by which a list is streamed."""
    return [*(event("ADDED", one) for one in pods), bookmark(version, ends_list=True)]


@story
async def test_what_is_there_and_what_happens_come_in_one_stream() -> None:
    """One request: objects that are there, the mark that they are all, and then what happens."""
    async with stub() as there:
        there.plays(
            ALL,
            streams(
                *start(5, pod("a", 1), pod("b", 2)),
                event("MODIFIED", pod("a", 6)),
                event("DELETED", pod("b", 7)),
                event("ADDED", pod("c", 8)),
            ),
        )
        async with following(there) as follower:
            await follower.informer.reached("8")
            assert follower.names() == ["a6", "c8"]
            assert follower.told == ["+a1", "+b2", "~a6", "-b2", "+c8"]
            assert follower.informer.trouble == ""
    (asked,) = there.asked
    assert asked.query["sendInitialEvents"] == "true"
    assert asked.query["allowWatchBookmarks"] == "true"


@story
async def test_nothing_counts_before_all_is_there() -> None:
    """A list that breaks off in the middle is no list: what isn't in it may be there all the same."""
    async with stub() as there:
        there.plays(
            ALL,
            streams(event("ADDED", pod("a", 1)), then="reset"),
            streams(*start(5, pod("a", 1), pod("b", 2))),
        )
        async with following(there) as follower:
            await follower.informer.reached("5")
            assert follower.told == ["+a1", "+b2"]


@story
async def test_a_server_that_streams_no_lists_is_asked_for_pages() -> None:
    """Where streaming is switched off, the same comes from a list and a watch from its version."""
    no = refusal(
        422,
        "Invalid",
        "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
    )
    async with stub() as there:
        there.plays(ALL, says(422, no), says(200, page(5, pod("a", 1))), streams(event("ADDED", pod("b", 6))))
        async with following(there) as follower:
            await follower.informer.reached("6")
            assert follower.names() == ["a1", "b6"]
    assert there.asked[-1].query["resourceVersion"] == "5"


@pytest.mark.parametrize("then", ["end", "reset"])
def test_a_watch_that_ends_goes_on_where_it_was(then: str) -> None:
    """Nothing is listed again, and nothing is told twice; a bookmark counts, though nothing happened."""

    @story
    async def told() -> None:
        async with stub() as there:
            there.plays(
                ALL,
                streams(*start(5, pod("a", 1)), bookmark(40), then=then),
                streams(event("ADDED", pod("b", 41))),
            )
            async with following(there) as follower:
                await follower.informer.reached("41")
                assert follower.told == ["+a1", "+b41"]
                assert follower.informer.lists == 1
        assert there.asked[1].query["resourceVersion"] == "40"

    told()


@story
async def test_a_line_that_was_cut_off_never_counts() -> None:
    """The half of an event isn't one, even where it would read as JSON."""
    async with stub() as there:
        half = b'{"type":"DELETED","object":{"metadata":{"name":"a","namespace":"ns","resourceVersion":"9"}}}'
        for end in ("end", "reset"):
            there.plays(ALL, streams(*(start(5, pod("a", 1)) if end == "end" else ()), half, then=end))
        there.plays(ALL, streams(bookmark(10)))
        async with following(there) as follower:
            await follower.informer.reached("10")
            assert follower.told == ["+a1"]


@story
async def test_what_is_no_longer_kept_is_listed_again() -> None:
    """410: who went meanwhile is told to have gone; who hasn't changed stays the very same object."""
    async with stub() as there:
        there.plays(
            ALL,
            streams(*start(5, pod("a", 1), pod("b", 2), pod("c", 3)), then="end"),
            streams(event("ERROR", refusal(410, "Expired", "too old resource version: 5 (90)"))),
            streams(*start(90, pod("b", 2), pod("c", 80), pod("d", 81))),
        )
        async with following(there) as follower:
            await follower.informer.reached("5")
            kept = follower.informer.cache.objects["ns", "b"]
            await follower.informer.reached("90")
            assert follower.names() == ["b2", "c80", "d81"]
            assert follower.told[3:] == ["-a1", "~c80", "+d81"]
            assert follower.informer.cache.objects["ns", "b"] is kept
    assert "resourceVersion" not in there.asked[2].query, "the newest list, never an older one than we had"


@story
async def test_a_410_as_an_answer_is_the_same() -> None:
    """The API server may say so at once, too."""
    async with stub() as there:
        there.plays(
            ALL,
            streams(*start(5, pod("a", 1)), then="end"),
            says(410, refusal(410, "Gone")),
            streams(*start(90)),
        )
        async with following(there) as follower:
            await follower.informer.reached("90")
            assert follower.told == ["+a1", "-a1"]


@story
async def test_410_again_and_again_is_no_storm() -> None:
    """A server that forgets at once is asked with growing pauses."""
    rests = Rests()
    async with stub() as there:
        there.plays(ALL, says(410, refusal(410, "Gone")))
        async with following(there, rests):
            while len(there.asked) < 9:
                await asyncio.sleep(0)
    assert len(rests.taken) >= len(there.asked) - 2
    assert rests.taken[6] > 8 * rests.taken[0]


@story
async def test_another_object_under_a_known_name_is_another() -> None:
    """Deleted and made anew while nobody looked: one went, one came."""
    async with stub() as there:
        there.plays(
            ALL,
            streams(*start(5, pod("a", 1)), then="end"),
            says(410, refusal(410, "Gone")),
            streams(*start(90, pod("a", 80, uid="second"))),
        )
        async with following(there) as follower:
            await follower.informer.reached("90")
            assert follower.told == ["+a1", "-a1", "+a80"]


@story
async def test_a_watch_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over which nothing comes, not even a bookmark, is dead; another goes on from where it was."""
    monkeypatch.setattr(watch, "STALL_S", 0.05)
    async with stub() as there:
        there.plays(ALL, streams(*start(5, pod("a", 1))), streams(event("ADDED", pod("b", 6))))
        async with following(there) as follower:
            await follower.informer.reached("6")
            assert follower.told == ["+a1", "+b6"]


@story
async def test_without_rights_it_says_so_and_comes_back_with_them() -> None:
    """What is known stays known meanwhile, and is told to be old."""
    async with stub() as there:
        allowed = asyncio.Event()

        async def denied(talk: Talk) -> None:
            if allowed.is_set():
                await streams(event("ADDED", pod("b", 6)))(talk)
            await talk.say(403, refusal(403, "Forbidden", "pods is forbidden"))

        there.plays(ALL, streams(*start(5, pod("a", 1)), then="end"), denied)
        async with following(there) as follower:
            while "pods is forbidden" not in follower.informer.trouble:
                await asyncio.sleep(0)
            assert follower.names() == ["a1"]
            assert follower.informer.denied
            allowed.set()
            await follower.informer.reached("6")
            assert follower.informer.trouble == ""
            assert not follower.informer.denied


@story
async def test_whoever_waits_for_a_first_list_hears_that_there_is_no_right_to_it() -> None:
    """And of nothing else that keeps it from coming: that may pass."""
    async with stub() as there:
        there.plays(
            ALL,
            says(500, refusal(500, "InternalError", "it is being started")),
            says(403, refusal(403, "Forbidden", "pods is forbidden")),
        )
        async with following(there) as follower:
            await follower.informer.settled()
            assert (follower.informer.synced, follower.informer.denied) == (False, True)
            assert "pods is forbidden" in follower.informer.trouble


@story
async def test_nonsense_in_one_object_is_kept_apart() -> None:
    """It counts as not there, is known as malformed, and comes back when it is mended."""
    bad = pod("a", 6) | {"spec": {"containers": "none"}}
    async with stub() as there:
        there.plays(
            ALL,
            streams(*start(5, pod("a", 1), pod("b", 2)), event("MODIFIED", bad)),
        )
        async with following(there) as follower:
            await follower.informer.reached("6")
            assert follower.told == ["+a1", "+b2", "-a1"]
            assert "containers" in follower.informer.cache.malformed["ns", "a"].why
    async with stub() as there:
        there.plays(ALL, streams(*start(6, bad), event("MODIFIED", pod("a", 7))))
        async with following(there) as follower:
            await follower.informer.reached("7")
            assert follower.told == ["+a7"]
            assert follower.informer.cache.malformed == {}


@story
async def test_a_stream_of_something_else_ends_nothing() -> None:
    """What isn't a watch is told, and asked for again."""
    async with stub() as there:
        there.plays(ALL, streams(b"<html>\n", then="end"), streams(*start(5, pod("a", 1))))
        async with following(there) as follower:
            await follower.informer.reached("5")
            assert follower.names() == ["a1"]


@story
async def test_whoever_comes_later_hears_of_all_that_is_there() -> None:
    """A handler that is added late misses nothing and hears nothing twice."""
    async with stub() as there:
        there.plays(ALL, streams(*start(5, pod("a", 1), pod("b", 2))))
        async with following(there) as follower:
            await follower.informer.reached("5")
            late = Follower(follower.informer)
            assert late.told == ["+a1", "+b2"]


@story
async def test_a_snapshot_holds_all_kinds_and_what_we_wrote() -> None:
    """None is taken before all is known, nor before our own writes have come back; what was taken never changes."""
    gate, written = asyncio.Event(), asyncio.Event()

    async def nodes(talk: Talk) -> None:
        await gate.wait()
        await streams(*start(4, {"metadata": {"name": "n1", "resourceVersion": "3"}}))(talk)

    async def pods(talk: Talk) -> None:
        await talk.begin()
        await talk.lines(*start(5, pod("a", 1)))
        await written.wait()
        await talk.lines(event("MODIFIED", pod("a", 9, nodeName="n1")))
        await talk.for_ever()

    async with stub() as there, api_of(there) as api:
        there.plays("/api/v1/nodes", nodes)
        there.plays(ALL, pods)
        informers = Informers(api, PODS, NODES)
        running = asyncio.create_task(informers.run())
        await informers.of(PODS).reached("5")
        with pytest.raises(Stale, match="nodes aren't known yet"):
            informers.snapshot()
        gate.set()
        await informers.synced()
        before = informers.snapshot()
        informers.wrote(PODS, "9")
        with pytest.raises(Stale, match="what was written"):
            informers.snapshot()
        written.set()
        await informers.caught_up()
        after = informers.snapshot()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert [one.spec.node_name for one in before.of(PODS)] == [""]
    assert [one.spec.node_name for one in after.of(PODS)] == ["n1"]
    assert (before.version(PODS), after.version(PODS), after.version(NODES)) == ("5", "9", "4")
    assert after.of(NODES) is before.of(NODES), "what hasn't changed is the same object"
