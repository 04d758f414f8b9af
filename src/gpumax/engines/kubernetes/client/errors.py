"""How a request to Kubernetes can fail, and what may follow from it.

ApiRefused        the API server answered, and the answer is no: nothing was changed
NoAnswer          nobody answered, and nothing was sent that could have changed anything
OutcomeUnknown    a write that may have been carried out or not: look before doing it again
Withheld          a write that was not sent: who asked for it may not write any more
"""

from __future__ import annotations

import msgspec

from gpumax.errors import GpumaxError, Unreachable


class Cause(msgspec.Struct, frozen=True, gc=False):
    """One of several reasons for one refusal."""

    reason: str | None = ""
    message: str | None = ""
    field: str | None = ""


class Details(msgspec.Struct, frozen=True, rename="camel"):
    """What a refusal says beyond its sentence."""

    causes: tuple[Cause, ...] | None = ()
    retry_after_seconds: int | None = None


class ListMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The metadata of a list: its version, and where its next page begins."""

    resource_version: str = ""
    next_page: str = msgspec.field(default="", name="continue")


class Status(msgspec.Struct, frozen=True):
    """What the API server says where it has no object to give."""

    metadata: ListMeta | None = None
    status: str | None = ""
    reason: str | None = ""
    message: str | None = ""
    details: Details | None = None
    code: int | None = 0


class ApiRefused(GpumaxError):
    """The API server refused. code: the HTTP status; reason: its one word, as `AlreadyExists`."""

    def __init__(
        self, code: int, status: Status, *, asked: str = "", retry_after_s: float | None = None
    ) -> None:
        self.code = code
        self.reason = status.reason or ""
        self.message = status.message or ""
        self.next_page = (status.metadata or ListMeta()).next_page
        self.causes = (status.details.causes or ()) if status.details is not None else ()
        self.retry_after_s = retry_after_s
        super().__init__(f"{asked}: {code} {self.reason or 'refused'}: {self.message or 'no reason given'}")

    @property
    def gone(self) -> bool:
        """What was asked for is no longer kept: 410, or the same said in a stream."""
        return self.code == 410 or self.reason in ("Expired", "Gone")

    def by_policy(self, name: str) -> bool:
        """Whether a ValidatingAdmissionPolicy of that name forbids it."""
        return self.code == 403 and f"ValidatingAdmissionPolicy '{name}'" in self.message

    @property
    def by_budget(self) -> bool:
        """An eviction that a disruption budget forbids now."""
        return any(cause.reason == "DisruptionBudget" for cause in self.causes)


class NoAnswer(Unreachable):
    """The API server can't be reached, or stopped answering while something was read."""


class OutcomeUnknown(GpumaxError):
    """A write was sent and no clear answer came: it may have been carried out, now or later. Look before you write again."""


class Withheld(GpumaxError):
    """A write that was not sent, since by the time of its turn it wasn't ours any more."""
