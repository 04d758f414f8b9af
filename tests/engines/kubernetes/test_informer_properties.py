"""Whatever a connection does, what is known ends up as what is true, and what was told adds up to it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.kubernetes.stub import Rests, Talk, api_of, bookmark, event, page, pod, refusal, story, stub
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.engines.kubernetes.views import Pod

Named = dict[str, dict[str, Any]]


class Answer(NamedTuple):
    """How one watch goes: after so many bytes it breaks off, or when all is said, in this way. forgets: it begins with a 410."""

    most: int
    end: str
    forgets: bool
    passes: int  # versions that come between the last answer and this one


class History:
    """What happened to pods, one version after the other, as an API server would know it."""

    def __init__(self, steps: list[tuple[str, int]]) -> None:
        self.events: list[dict[str, Any]] = []
        self.states: list[Named] = [{}]
        for version, (name, what) in enumerate(steps, start=1):
            state = dict(self.states[-1])
            if name in state and what == 0:
                self.events.append(event("DELETED", pod(name, version, uid=state[name]["metadata"]["uid"])))
                del state[name]
            else:
                old = state.get(name)
                uid = old["metadata"]["uid"] if old else f"{name}-{version}"
                state[name] = pod(name, version, uid=uid)
                self.events.append(event("MODIFIED" if old else "ADDED", state[name]))
            self.states.append(state)

    @property
    def last(self) -> int:
        """The newest version."""
        return len(self.events)


async def cut(talk: Talk, lines: list[Any], answer: Answer) -> None:
    """Say these lines as far as it goes."""
    await talk.begin()
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    if len(body) <= answer.most:
        await talk.piece(body)
    elif answer.most:
        await talk.piece(body[: answer.most])
    if answer.end == "end":
        await talk.end()
    elif answer.end == "reset" or len(body) > answer.most:
        talk.reset()
    else:
        await talk.for_ever()


ANSWERS = st.builds(
    Answer, st.integers(0, 4000), st.sampled_from(["end", "reset"]), st.booleans(), st.integers(0, 9)
)
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), min_size=8, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.lists(ANSWERS, min_size=2, max_size=8), st.booleans())
@story
async def test_in_the_end_what_is_known_is_what_is_true(
    steps: list[tuple[str, int]], answers: list[Answer], streamed: bool
) -> None:
    """Cut at any byte, ended, forgotten: no pod is missing, none is left over, and each change fits the one before it."""
    history = History(steps)
    pending = list(answers)
    now = [1]  # lists and watches are of different moments
    told: dict[tuple[str, str], Pod] = {}

    def heard(change: Change[Pod]) -> None:
        assert told.get(change.key) is change.old
        if change.old is not None and change.new is not None:
            assert change.old.metadata.uid == change.new.metadata.uid
        if change.new is None:
            del told[change.key]
        else:
            told[change.key] = change.new

    async def serve(talk: Talk) -> None:
        query = talk.asked.query
        answer = pending.pop(0) if pending else Answer(1 << 20, "goes on", False, history.last)
        now[0] = min(history.last, now[0] + answer.passes)
        state, since = history.states[now[0]], int(query.get("resourceVersion", 0))
        if "watch" not in query:
            await talk.say(200, page(now[0], *state.values()))
        elif "resourceVersion" in query and answer.forgets:
            await cut(talk, [event("ERROR", refusal(410, "Expired"))], answer)
        elif "resourceVersion" in query:
            await cut(talk, [*history.events[since : now[0]], bookmark(now[0])], answer)
        elif not streamed:
            await talk.say(422, refusal(422, "Invalid", "sendInitialEvents is forbidden"))
        else:
            first = [event("ADDED", one) for one in state.values()]
            await cut(talk, [*first, bookmark(now[0], ends_list=True)], answer)

    async with stub() as there, api_of(there, rests=Rests()) as api:
        there.plays("/api/v1/pods", serve)
        informer = Informer(api, PODS)
        informer.cache.on_change(heard)
        running = asyncio.create_task(informer.run())
        await informer.reached(str(history.last))
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    known = {
        one.metadata.name: (one.metadata.uid, one.metadata.resource_version) for one in informer.cache.all()
    }
    true = {
        name: (one["metadata"]["uid"], one["metadata"]["resourceVersion"])
        for name, one in history.states[-1].items()
    }
    assert known == true
    assert told == informer.cache.objects
