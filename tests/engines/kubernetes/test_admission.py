"""What the API server is answered about new objects, and what their makers are warned of."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.admission.advice import LONGEST, MOST, advice
from gpumax.engines.kubernetes.admission.review import answer
from gpumax.errors import Refused
from manifests import pod


def asked(document: dict[str, Any], kind: str = "Pod") -> dict[str, Any]:
    """The answer about an object."""
    request = {"uid": "u1", "kind": {"group": "", "version": "v1", "kind": kind}, "object": document}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    review = json.loads(answer(json.dumps(body).encode(), claims=True))
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = review["response"]
    return response


def test_what_is_written_well_passes_without_a_word() -> None:
    """Allowed, nothing changed, no warning."""
    assert asked(pod("p", gpu=1, labels={"gpumax.dev/queue": "research"})) == {"uid": "u1", "allowed": True}


def test_what_is_written_wrongly_passes_with_warnings() -> None:
    """What is wrong is told by conditions as well; a warning comes while the manifest is still open."""
    told = asked(pod("p", annotations={"gpu-fraction": "1.5", "gpumax.dev/max-duration": "soon"}))
    assert told["allowed"]
    assert told["warnings"] == [
        'metadata.annotations[gpu-fraction]: found "1.5"; wanted a part of one device between 0 and 1, like 0.5',
        'metadata["gpumax.dev/max-duration"]: found "soon"; wanted a duration like 90s, 10m, 2h30m or 7d',
    ]


def test_a_pod_that_asks_for_a_part_is_changed_by_a_patch() -> None:
    """Its container gets a claim of a name of its own, which is made when it is placed."""
    told = asked(pod("p", annotations={"gpu-fraction": "0.5"}))
    assert (told["allowed"], told["patchType"]) == (True, "JSONPatch")
    steps = {step["path"]: step["value"] for step in json.loads(base64.b64decode(told["patch"]))}
    (claim,) = steps["/spec/resourceClaims"]
    assert re.fullmatch(r"gpumax-[0-9a-f]{16}", claim["resourceClaimName"])


def test_a_slip_in_a_name_of_ours_is_told_with_a_guess() -> None:
    """Nobody would read it, so nobody else could tell."""
    assert advice(pod("p", labels={"gpumax.dev/quue": "research"})) == [
        'metadata.labels["gpumax.dev/quue"]: found a name that nobody reads; wanted one that is known '
        "(did you mean gpumax.dev/queue?)"
    ]


def test_templates_are_read_as_the_pods_that_they_make() -> None:
    """A person applies a Job; nobody sees warnings about its pods."""
    template = pod("p", annotations={"gpu-memory": "much"})
    told = advice({"kind": "Job", "spec": {"template": template}})
    assert [line.partition(":")[0] for line in told] == ["spec.template.metadata.annotations[gpu-memory]"]


def test_warnings_are_few_short_and_safe_to_print() -> None:
    """Whatever tenants write: 200 KB, control characters, other alphabets."""
    annotations = {f"gpumax.dev/{'x' * 50}{index}": "y" * 200_000 for index in range(30)}
    labels = {"gpumax.dev/queue": "\x1b[31m\n" + "ü" * 200_000, "gpumax.dev/preemptible": "\u202e" * 1000}
    told = advice(pod("p", annotations=annotations, labels=labels))
    assert len(told) <= MOST + 1
    assert told[-1] == "24 more"
    for line in told:
        assert len(line) <= LONGEST
        assert line.isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"request":{}}', b'{"request":{"uid":"u"}}', b'{"request":{"uid":"u","object":[]}}',
        b'{"request":{"uid":1,"object":{}}}', b"\xff\xfe", b'{"request":{"uid":"u","object":' + b"[" * 100_000,
        b'{"request":{"uid":"u","object":{"a":' + b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(body: bytes) -> None:
    """No traceback, no crash, whatever the depth."""
    with pytest.raises(Refused, match="wanted one of admission"):
        answer(body, claims=True)


def test_objects_of_the_wrong_shape_are_left_to_the_api_server() -> None:
    """It says so better."""
    specs: list[object] = [None, 7, [], {"containers": 7}, {"template": 7}]
    for spec in specs:
        assert asked({"kind": "Pod", "metadata": {}, "spec": spec}) == {"uid": "u1", "allowed": True}


def test_every_name_that_is_read_is_known() -> None:
    """A new name in `keys` that is missing in READ would be called a slip; variables are no names."""
    groups = [value for value in vars(keys).values() if isinstance(value, tuple) and value != keys.PART_ENV]
    assert frozenset().union(*groups) == keys.READ
