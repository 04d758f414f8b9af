"""Errors as answers: one shape for all of them, and no traceback ever."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from gpumax.errors import BadFile, Conflict, Denied, Fault, GpumaxError, NotFound, Refused, Stale


class TooLarge(Refused):
    """A body that nobody means to send."""


_STATUS: Final[tuple[tuple[type[GpumaxError], int], ...]] = (
    (BadFile, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Denied, 403),
    (TooLarge, 413),
    (Refused, 400),
    (Stale, 503),
    (GpumaxError, 500),
)


def answer(
    status: int, text: str, faults: Sequence[Fault] = (), headers: dict[str, str] | None = None
) -> JSONResponse:
    """The answer for an error."""
    rows = [fault._asdict() for fault in faults]
    return JSONResponse({"error": {"message": text, "faults": rows}}, status, headers)


def handle_errors(app: FastAPI) -> None:
    """Have every error that a route may raise answered in the one shape."""
    app.add_exception_handler(GpumaxError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if isinstance(error, BadFile):
        first = str(error.faults[0]) if error.faults else "the request has faults"
        more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
        return answer(status, first + more, error.faults)
    return answer(status, str(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Parameters that the framework refused."""
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(
            ".".join(str(part) for part in row["loc"]),
            None,
            _shown(row.get("input")),
            str(row["msg"]).removeprefix("Input should be ").removeprefix("Value error, "),
        )
        for row in error.errors()
    ]
    return answer(422, "; ".join(map(str, faults)), faults)


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:80]


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            text = f"there is no {request.url.path} here; see /api/v1/openapi.json"
        case 405:
            text = f"{request.method} is not for {request.url.path}; see /api/v1/openapi.json"
        case _:
            text = str(error.detail) or HTTPStatus(error.status_code).phrase
    return answer(error.status_code, text, headers=dict(error.headers or {}))


async def _internal(_request: Request, error: Exception) -> JSONResponse:
    # The framework raises it again behind this answer, so that the traceback gets to the log.
    return answer(500, f"internal error ({type(error).__name__}); the server's log has more")
