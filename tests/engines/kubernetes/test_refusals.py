"""What an API server refuses, in words for a user."""

from __future__ import annotations

import pytest

from gpumax.apps.kubernetes.refusals import refusal
from gpumax.engines.kubernetes.client.errors import ApiRefused, Status
from gpumax.errors import Conflict, Denied, GpumaxError, NotFound, Refused, Unreachable


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [(401, Denied, 3), (403, Denied, 3), (404, NotFound, 2), (409, Conflict, 3), (422, Refused, 2), (500, GpumaxError, 1)],
)  # fmt: skip
def test_each_refusal_has_its_exit_code(code: int, kind: type[GpumaxError], exit_code: int) -> None:
    """As on one machine; and the cluster is named, not what was asked of it."""
    error = refusal(ApiRefused(code, Status(message="no"), asked="GET /secret/path"), "cluster c")
    assert (type(error), error.exit_code) == (kind, exit_code)
    assert str(error).startswith("cluster c")
    assert "/secret/path" not in str(error)


def test_a_webhook_that_is_away_is_named() -> None:
    """Whoever answers in its place isn't cited at length."""
    said = f'Internal error occurred: failed calling webhook "parts.gpumax.dev": failed to call webhook: {"x" * 5000}'
    error = refusal(ApiRefused(500, Status(message=said)), "cluster c")
    assert isinstance(error, Unreachable)
    assert (
        "nothing was made, since its webhook parts.gpumax.dev has a say and doesn't answer: failed to call"
        in str(error)
    )
    assert len(str(error)) < 400
