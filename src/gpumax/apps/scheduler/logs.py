"""What the scheduler says on stderr: sentences for people, or a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from gpumax.formats.lines import printable

Format = Literal["text", "json"]
MOST: Final = 4000
"""The most characters of one value: what tenants write gets into no line at any length."""


class TextLines(logging.Formatter):
    """A sentence a line: what others wrote begins no lines of its own, and moves no cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; below it, where we are to blame, how it came to that."""
        line = f"gpumax: {printable(record.getMessage()[:MOST])}"
        if not record.exc_info:
            return line
        return "\n".join((line, *map(printable, self.formatException(record.exc_info)[-MOST:].splitlines())))


class JsonLines(logging.Formatter):
    """One object a line: ts, level, logger, message, cycle, and what the record says of itself in `context`. cycle: which one it is now."""

    def __init__(self) -> None:
        super().__init__()
        self.cycle: Callable[[], float] | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MOST],
        }
        if self.cycle is not None:
            line["cycle"] = int(self.cycle())
        line |= getattr(record, "context", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-MOST:]
        return json.dumps(line)


def log_to_stderr(form: Format) -> logging.Formatter:
    """From now on, for the whole process. Returns who writes the lines."""
    handler = logging.StreamHandler(sys.stderr)
    lines = JsonLines() if form == "json" else TextLines()
    handler.setFormatter(lines)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gpumax").setLevel(logging.INFO)
    return lines
