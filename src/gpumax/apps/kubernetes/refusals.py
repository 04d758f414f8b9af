"""What the API server refuses, as the errors that commands know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer
from gpumax.errors import Conflict, Denied, GpumaxError, NotFound, Refused, Unreachable

_WEBHOOK: Final = re.compile(r'failed calling webhook "([^"]{1,253})": (.*)', re.DOTALL)
MOST_SAID: Final = 200
"""Characters of what the API server says of a webhook: it cites whatever answered there."""


_REQUEST: Final = re.compile(r"^[A-Z]+ /\S*: ")
"""Which of several questions found nobody first means nothing to who asked none of them."""
_LACKS: Final = re.compile(r'User "[^"]*" cannot \w+ resource .* in the namespace "([^"]{1,63})"$')


@contextmanager
def plainly(where: str) -> Iterator[None]:
    """Turns refusals into errors fit for a user. where: which cluster."""
    try:
        yield
    except ApiRefused as error:
        raise refusal(error, where) from None
    except NoAnswer as error:
        told = _REQUEST.sub("", str(error))
        raise Unreachable(
            f"{where}: {told}; is the cluster up, and does your kubeconfig name it rightly?"
        ) from None


def refusal(error: ApiRefused, where: str) -> GpumaxError:
    """The error that a refusal stands for."""
    said = error.message or error.reason or "no reason given"
    match error.code:
        case 401:
            return Denied(f"{where} doesn't know you: {said}; log in anew, or look at your kubeconfig")
        case 403:
            return Denied(f"{where}: {said}{_granted(said)}")
        case 404:
            return NotFound(f"{where}: {said}")
        case 409:
            return Conflict(f"{where}: {said}")
        case code if code < 500:
            return Refused(f"{where}: {said}")
    if webhook := _WEBHOOK.search(said):
        name, why = webhook[1], webhook[2] if len(webhook[2]) <= MOST_SAID else f"{webhook[2][:MOST_SAID]}..."
        return Unreachable(
            f"{where}: nothing was made, since its webhook {name} has a say and doesn't answer: {why}"
        )
    return GpumaxError(f"{where}: {said}")


def _granted(said: str) -> str:
    """Who could mend it, where it's a right in one namespace that lacks."""
    lacks = _LACKS.search(said)
    return f"; who administers it can bind the role `edit` in namespace {lacks[1]} to you" if lacks else ""
