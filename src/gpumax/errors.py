"""What can go wrong, and who can mend it.

GpumaxError
  Refused            a person can mend it; exit code 2 or 3
    BadFile          a file or request with faults, all of them listed
    NotFound         no such thing
    Conflict         the thing exists already, or its state forbids the act
    Denied           quota or rights
  Unreachable        the server can't be reached; exit code 4
  StoreFailed        the database can't be read or written; nothing of the act was kept
  Stale              the next cycle mends it
  Broken             we must mend it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One fault of a file: where, what was found, what was wanted."""

    path: str  # like `workloads[3].request.gpu`; empty for the file as a whole
    line: int | None  # 1-based; None where the source has no lines
    found: str
    wanted: str

    def __str__(self) -> str:
        place = self.path or "the file"
        if self.line is not None:
            place = f"line {self.line}: {place}"
        return f"{place}: found {self.found}; wanted {self.wanted}"


class GpumaxError(Exception):
    """Every error that gpumax raises on purpose. `str()` is fit for a user."""

    exit_code = 1


class Refused(GpumaxError):
    """A person asked for something that can't be done as asked."""

    exit_code = 2


class BadFile(Refused):
    """A file, or a request body, with all its faults."""

    def __init__(self, faults: Sequence[Fault], source: str = "") -> None:
        self.faults = tuple(faults)
        self.source = source
        super().__init__(source, *self.faults)

    def __str__(self) -> str:
        head = f"{self.source}: " if self.source else ""
        return "\n".join(f"{head}{fault}" for fault in self.faults)


class NotFound(Refused):
    """The named thing isn't there."""


class Conflict(Refused):
    """The thing exists already, or is in a state that forbids the act."""

    exit_code = 3


class Denied(Refused):
    """Quota or rights forbid the act."""

    exit_code = 3


class Unreachable(GpumaxError):
    """The server can't be reached."""

    exit_code = 4


class StoreFailed(GpumaxError):
    """The database can't be read or written. The text names the file and what to do; nothing of the act was kept."""


class Stale(GpumaxError):
    """The world moved on; the next cycle decides again."""


class Broken(GpumaxError):
    """A rule of our own was broken; please report it with the journal."""
