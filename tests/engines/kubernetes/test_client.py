"""One request: what is asked again, what never is, and what a person gets to read."""

from __future__ import annotations

import logging
import traceback

import pytest

from engines.kubernetes.stub import Rests, Talk, api_of, page, pod, refusal, says, story, stub
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.credentials import GivenToken, TokenFile
from gpumax.engines.kubernetes.client.decode import NotUnderstood
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, OutcomeUnknown
from gpumax.engines.kubernetes.client.secret import Secret
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.errors import Refused

POD = "/api/v1/namespaces/ns/pods/a"
PODS_OF_NS = "/api/v1/namespaces/ns/pods"
CANARY = "canary-token-1234567890"


async def breaks(talk: Talk) -> None:
    """Nothing is said, and the connection is reset."""
    talk.reset()


@story
async def test_a_read_is_asked_again_until_it_is_answered() -> None:
    """Broken off, too many requests, a server error: in the end there is the object."""
    rests = Rests()
    async with stub() as there, api_of(there, rests=rests) as api:
        there.plays(
            POD,
            breaks,
            says(429, refusal(429, "TooManyRequests"), Retry_After="7"),
            says(503, refusal(503, "ServiceUnavailable")),
            says(200, pod("a", 3)),
        )
        found = await api.get(PODS, "a", "ns")
    assert (found.metadata.name, found.metadata.resource_version) == ("a", "3")
    assert len(rests.taken) == 3
    assert 7 <= rests.taken[1] <= 7 * 1.25, "Retry-After is kept to, and not by all at the same moment"


@story
async def test_a_read_is_given_up_in_the_end() -> None:
    """Whoever is never answered is told so, after pauses that grow."""
    rests = Rests()
    async with stub() as there, api_of(there, rests=rests) as api:
        there.plays(POD, breaks)
        with pytest.raises(
            NoAnswer, match=r"GET /api/v1/namespaces/ns/pods/a: no answer from http://127\.0\.0\.1"
        ):
            await api.get(PODS, "a", "ns")
    assert rests.taken[-1] > 4 * rests.taken[0]


async def write(api: Api, how: str) -> None:
    """One write."""
    if how == "create":
        await api.create(PODS, pod("a", 0), "ns")
    elif how == "patch":
        await api.patch(PODS, "a", {}, "ns")
    elif how == "delete":
        await api.delete(PODS, "a", "ns")
    elif how == "bind":
        await api.bind("ns", "a", "uid-a", "n1")
    else:
        await api.evict("ns", "a", "uid-a")


@pytest.mark.parametrize("how", ["create", "patch", "delete", "bind", "evict"])
def test_a_write_without_an_answer_is_never_sent_twice(how: str) -> None:
    """It may have been carried out. That is told, and nothing else is done: on kept connections, too."""

    @story
    async def told() -> None:
        async with stub() as there, api_of(there) as api:
            there.plays(POD, says(200, pod("a", 3)), breaks)
            for path in (PODS_OF_NS, f"{POD}/binding", f"{POD}/eviction"):
                there.plays(path, breaks)
            await api.get(PODS, "a", "ns")
            before = len(there.asked)
            with pytest.raises(OutcomeUnknown, match="may have been carried out"):
                await write(api, how)
            assert len(there.asked) - before == 1

    told()


@pytest.mark.parametrize("code", [500, 502, 504])
def test_a_server_error_leaves_open_whether_a_write_was_carried_out(code: int) -> None:
    """Behind a 504 it may have been: it isn't sent again."""

    @story
    async def told() -> None:
        async with stub() as there, api_of(there) as api:
            there.plays(f"{POD}/binding", says(code, refusal(code, "Timeout", "too slow")))
            with pytest.raises(OutcomeUnknown, match="too slow"):
                await api.bind("ns", "a", "uid-a", "n1")
        assert there.count("POST") == 1

    told()


@story
async def test_a_dry_run_is_never_in_doubt() -> None:
    """It changes nothing, whatever is answered: what failed behind it is a refusal like any other."""
    async with stub() as there, api_of(there) as api:
        there.plays(POD, says(500, refusal(500, "InternalError", "failed calling webhook")))
        with pytest.raises(ApiRefused, match="failed calling webhook"):
            await api.write(Request("POST", POD, {"dryRun": "All"}))


@story
async def test_a_write_that_was_certainly_not_carried_out_is_sent_again() -> None:
    """429 comes before anything is done."""
    rests = Rests()
    async with stub() as there, api_of(there, rests=rests) as api:
        busy = says(429, refusal(429, "TooManyRequests", retryAfterSeconds=2))
        there.plays(f"{POD}/binding", busy, says(201, {"kind": "Status", "status": "Success"}))
        await api.bind("ns", "a", "uid-a", "n1")
    assert there.count("POST") == 2
    assert 2 <= rests.taken[0] <= 2.5
    body = there.asked[-1].json()
    assert (body["metadata"]["uid"], body["target"]["name"]) == ("uid-a", "n1")


@story
async def test_a_budget_that_forbids_an_eviction_is_told_at_once() -> None:
    """It's 429, too, but no sign of too much load: the next cycle decides again."""
    budget = {"reason": "DisruptionBudget", "message": "needs 2 healthy pods"}
    async with stub() as there, api_of(there) as api:
        there.plays(f"{POD}/eviction", says(429, refusal(429, "TooManyRequests", "no", causes=[budget])))
        with pytest.raises(ApiRefused) as refused:
            await api.evict("ns", "a", "uid-a")
    assert refused.value.by_budget
    assert there.count("POST") == 1
    assert there.asked[0].json()["deleteOptions"]["preconditions"] == {"uid": "uid-a"}


@story
async def test_where_nobody_listens_nothing_was_sent() -> None:
    """A refused connection is no unknown outcome, even for a write."""
    async with stub() as there:
        pass
    async with api_of(there) as api:
        with pytest.raises(NoAnswer, match=r"context test\): Connect"):
            await api.bind("ns", "a", "uid-a", "n1")


@story
async def test_requests_share_a_connection() -> None:
    """Answers and refusals alike leave it as it was; what breaks it doesn't come back to it."""
    async with stub() as there, api_of(there) as api:
        there.plays(POD, says(200, pod("a", 1)), says(404, refusal(404, "NotFound")), says(200, pod("a", 1)))
        await api.get(PODS, "a", "ns")
        with pytest.raises(ApiRefused):
            await api.get(PODS, "a", "ns")
        for _ in range(5):
            await api.get(PODS, "a", "ns")
    assert there.connections == 1


@story
async def test_a_redirect_is_not_followed() -> None:
    """A token goes to the server of the kubeconfig and nowhere else."""
    async with stub() as there, stub() as elsewhere, api_of(there, GivenToken(Secret(CANARY))) as api:
        elsewhere.plays("/", says(200, pod("a", 1)))
        there.plays(POD, says(302, {}, Location=f"{elsewhere.url}/"))
        with pytest.raises(ApiRefused, match="302"):
            await api.get(PODS, "a", "ns")
    assert elsewhere.asked == []


@story
async def test_names_lead_nowhere_else() -> None:
    """What tenants call their objects is a name, whatever is in it."""
    async with stub() as there, api_of(there) as api:
        there.plays(f"{PODS_OF_NS}/..%2Fsecrets%3Fwatch%3D1%23/binding", says(201, {}))
        await api.bind("ns", "../secrets?watch=1#", "", "n1")
        with pytest.raises(Refused, match="no name"):
            await api.get(PODS, "..", "ns")
    assert len(there.asked) == 1


@story
async def test_a_token_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """It's in the request, and in no message, log or representation, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    told = []
    async with stub() as there, api_of(there, GivenToken(Secret(CANARY))) as api:
        there.plays(
            POD, says(403, refusal(403, "Forbidden", "no")), says(200, b"<html>"), says(407, b"who are you?")
        )
        there.plays(f"{POD}/binding", breaks)
        for _ in range(3):
            try:
                await api.get(PODS, "a", "ns")
            except (ApiRefused, NotUnderstood) as error:
                told += [repr(error), *traceback.format_exception(error)]
        try:
            await api.bind("ns", "a", "", "n1")
        except OutcomeUnknown as error:
            told += [repr(error), *traceback.format_exception(error)]
        told += [repr(api.access), str(vars(api)), str(vars(api.connection))]
    assert there.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    assert len(told) > 10
    assert CANARY not in "".join(told) + caplog.text


@story
async def test_a_renewed_token_is_taken_as_soon_as_the_old_one_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """401 is no failure where the file has another token by now; with the same one it is."""
    file = tmp_path_factory.mktemp("account") / "token"
    file.write_text("old\n")
    async with stub() as there, api_of(there, TokenFile(str(file))) as api:

        async def renew(talk: Talk) -> None:
            file.write_text("new\n")
            await talk.say(401, refusal(401, "Unauthorized"))

        there.plays(POD, renew, says(200, pod("a", 1)), says(401, refusal(401, "Unauthorized")))
        await api.get(PODS, "a", "ns")
        with pytest.raises(ApiRefused, match="401 Unauthorized"):
            await api.get(PODS, "a", "ns")
    assert [asked.headers["authorization"] for asked in there.asked] == [
        "Bearer old",
        "Bearer new",
        "Bearer new",
    ]


@story
async def test_what_is_no_kubernetes_is_told_in_words() -> None:
    """A proxy's page is no object, and a refusal without a status is still told with what was said."""
    async with stub() as there, api_of(there) as api:
        there.plays(POD, says(200, b"<html>Log in</html>"), says(404, b"page not found"))
        with pytest.raises(NotUnderstood, match="can't be read"):
            await api.get(PODS, "a", "ns")
        with pytest.raises(ApiRefused, match="page not found"):
            await api.get(PODS, "a", "ns")


@story
async def test_a_long_list_comes_in_pages() -> None:
    """All of them are one list, at the version of the last page."""
    async with stub() as there, api_of(there) as api:
        there.plays(
            PODS_OF_NS,
            says(200, page(9, pod("a", 1), pod("b", 2), more="on")),
            says(200, page(9, pod("c", 3))),
        )
        listed = await api.list(PODS, "ns", labels="team=red")
    assert [one.metadata.name for one in listed.items] == ["a", "b", "c"]
    assert listed.version == "9"
    assert [asked.query.get("continue") for asked in there.asked] == [None, "on"]
    assert {asked.query["labelSelector"] for asked in there.asked} == {"team=red"}


@story
async def test_a_list_whose_moment_is_forgotten_between_pages_is_taken_whole() -> None:
    """410 in the middle: nothing of the first pages is kept, since it's of another moment."""
    async with stub() as there, api_of(there) as api:
        there.plays(
            PODS_OF_NS,
            says(200, page(5, pod("gone", 1), more="on")),
            says(410, refusal(410, "Expired")),
            says(200, page(9, pod("a", 7))),
        )
        listed = await api.list(PODS, "ns")
    assert [one.metadata.name for one in listed.items] == ["a"]
    assert "limit" not in there.asked[-1].query


@story
async def test_an_object_that_is_nonsense_hides_no_other() -> None:
    """It is told apart, by its name."""
    nonsense = pod("bad", 2) | {"spec": {"containers": "none"}}
    async with stub() as there, api_of(there) as api:
        there.plays(PODS_OF_NS, says(200, page(9, pod("a", 1), nonsense, pod("b", 3))))
        listed = await api.list(PODS, "ns")
    assert [one.metadata.name for one in listed.items] == ["a", "b"]
    (bad,) = listed.malformed
    assert bad.metadata.name == "bad"
    assert "containers" in bad.why


@story
async def test_without_encryption_or_checks_it_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever gives protection up sees it in the log and among the notes."""
    async with stub() as there, api_of(there, insecure=True) as api:
        notes = "\n".join(api.access.notes())
    assert "NOT checked (insecure-skip-tls-verify)" in notes
    assert "WITHOUT encryption" in notes
    assert "NOT checked" in caplog.text
