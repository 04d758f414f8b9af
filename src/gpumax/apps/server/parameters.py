"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Header, Path, Query

from gpumax.apps.server.shapes import Error
from gpumax.apps.server.sse import MOST_ID

Name = Annotated[str, Path(description="The workload's name.", max_length=253)]
QueueName = Annotated[str, Path(description="The queue's name.", max_length=253)]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows at most.")]
After = Annotated[str, Query(description="`next` of the page before.", max_length=200)]
AfterSeq = Annotated[int, Query(ge=0, le=MOST_ID, description="Events behind this seq.")]
LastEventId = Annotated[
    str | None,
    Header(description="What a stream's reader has already; wins over `after` and `tail`.", max_length=40),
]

_WORDS: Final = {
    400: "It can't be done as asked.",
    401: "Over TCP: the token is missing or another.",
    404: "There is no such thing.",
    409: "It exists already, or its state forbids the act.",
    413: "The body is too large.",
    422: "The body or a parameter has faults, all of which are listed.",
    500: "The server could not do it; the message says why.",
    503: "No cycle has finished yet; try again in a moment.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers beside what was asked for, for the OpenAPI document."""
    return {
        status: {"model": Error, "description": _WORDS[status]} for status in (*statuses, 401, 422, 500, 503)
    }
