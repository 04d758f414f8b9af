"""What tenants write can't forge lines of a log, nor move the cursor of whoever reads it."""

from __future__ import annotations

import json
import logging

import pytest

from gpumax.apps.scheduler.logs import MOST, JsonLines, TextLines

HOSTILE = "a\nsteering, epoch 9\r\x1b[2J\x9b2J\u202eb\u2028c"


def record(message: str) -> logging.LogRecord:
    """A line that names something of a tenant's."""
    return logging.LogRecord("gpumax.kubernetes", logging.WARNING, "", 0, "%s: refused", (message,), None)


def test_a_message_is_one_line_of_text() -> None:
    """Control characters are shown, not sent."""
    line = TextLines().format(record(HOSTILE))
    assert line.isprintable()
    assert line.startswith(r"gpumax: a\u000asteering, epoch 9\u000d\u001b[2J")


def test_a_message_is_one_line_of_json() -> None:
    """And the same text again for whoever reads it as JSON."""
    line = JsonLines().format(record(HOSTILE))
    assert line.isprintable()
    assert json.loads(line)["message"] == f"{HOSTILE}: refused"


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()], ids=["text", "json"])
def test_a_message_has_an_end(lines: logging.Formatter) -> None:
    """Whatever its length."""
    assert len(lines.format(record("\x1b" * 1_000_000))) < 8 * MOST


def test_our_own_faults_are_told_at_length() -> None:
    """With how it came to that."""
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        own = logging.LogRecord(
            "gpumax", logging.ERROR, "", 0, "a cycle failed", (), (type(error), error, None)
        )
    assert TextLines().format(own).splitlines() == ["gpumax: a cycle failed", "RuntimeError: broken"]
