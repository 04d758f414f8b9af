"""The one door: a question of the API server about a new object, and our answer. Nothing is ever forbidden here: what is wrong is told."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes.admission.advice import advice
from gpumax.engines.kubernetes.admission.fractions import patch
from gpumax.engines.kubernetes.views import ABSENT, Document
from gpumax.errors import Refused

API: Final = "admission.k8s.io/v1"
CHANCE: Final = 16


class About(msgspec.Struct, frozen=True):
    """What kind the object is of."""

    kind: str = ""


class Question(msgspec.Struct, frozen=True):
    """What is asked. object: as it was written."""

    uid: str
    kind: About = About()
    object: msgspec.Raw = ABSENT


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """A question in its envelope."""

    request: Question
    api_version: str = ""


_REVIEW: Final = msgspec.json.Decoder(Review)
_OBJECT: Final = msgspec.json.Decoder(Document)


def answer(body: bytes, *, claims: bool) -> bytes:
    """The answer to a review. Refused where the body is none. claims: whether parts are given out by ResourceClaims."""
    try:
        review = _REVIEW.decode(body)
        document = _OBJECT.decode(review.request.object)
    except (msgspec.DecodeError, RecursionError):
        raise Refused(f"found no AdmissionReview; wanted one of {API} with an object") from None
    response: dict[str, Any] = {"uid": review.request.uid, "allowed": True}
    if review.request.kind.kind == "Pod" and (steps := patch(document, _chance(review), claims=claims)):
        response |= {
            "patchType": "JSONPatch",
            "patch": base64.b64encode(msgspec.json.encode(steps)).decode(),
        }
    if warnings := advice(document):
        response["warnings"] = warnings
    return msgspec.json.encode({"apiVersion": API, "kind": "AdmissionReview", "response": response})


def _chance(review: Review) -> str:
    """Letters that no other question gets: the API server draws an id for each."""
    return hashlib.sha256(review.request.uid.encode("utf-8", "surrogatepass")).hexdigest()[:CHANCE]
