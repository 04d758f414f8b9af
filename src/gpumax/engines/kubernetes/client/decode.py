"""From bytes to views: pages of lists, lines of watches, and what to do with an object that isn't as its kind should be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

import msgspec

from gpumax.engines.kubernetes.client.errors import ListMeta, Status
from gpumax.engines.kubernetes.client.views import Meta, View
from gpumax.errors import GpumaxError

T = TypeVar("T", bound=View)
Item = TypeVar("Item")

INITIAL_END: Final = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the first part of a streamed list."""


class NotUnderstood(GpumaxError):
    """The API server, or whoever answers in its place, said something that isn't Kubernetes' API."""


class Malformed(msgspec.Struct, frozen=True):
    """An object that can't be read as its kind: somebody wrote nonsense into it. Nobody else suffers for that."""

    metadata: Meta
    why: str


class Page(msgspec.Struct, Generic[Item]):
    """A part of a list, at the version that its metadata says."""

    metadata: ListMeta = ListMeta()
    items: list[Item] | None = None


class Event(msgspec.Struct, Generic[Item]):
    """A line of a watch. type: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; the object of an error is a Status."""

    type: str
    object: Item


class Decoders(Generic[T]):
    """Reads what the API server says of one kind."""

    def __init__(self, view: type[T]) -> None:
        self._one = msgspec.json.Decoder(view)
        self._page: msgspec.json.Decoder[Page[T]] = msgspec.json.Decoder(Page[view])  # type: ignore[valid-type]
        self._event: msgspec.json.Decoder[Event[T]] = msgspec.json.Decoder(Event[view])  # type: ignore[valid-type]

    def one(self, body: bytes) -> T:
        """One object."""
        try:
            return self._one.decode(body)
        except _WRONG as error:
            raise NotUnderstood(f"an answer that can't be read: {error}") from None

    def page(self, body: bytes) -> Page[T | Malformed]:
        """A page of a list. One object that can't be read doesn't hide the others."""
        try:
            with _no_collection():
                return self._page.decode(body)  # type: ignore[return-value]
        except _WRONG:
            raw = _decoded(_RAW_PAGE, body, "list")
        return Page(raw.metadata, [self._item(item) for item in raw.items or ()])

    def event(self, line: bytes) -> Event[T | Malformed] | Status:
        """A line of a watch; the Status of an error."""
        try:
            event = self._event.decode(line)
            if event.type != "ERROR":
                return event  # type: ignore[return-value]
        except _WRONG:
            pass
        raw = _decoded(_RAW_EVENT, line, "event of a watch")
        if raw.type == "ERROR":
            return _decoded(_STATUS, raw.object, "error of a watch")  # type: ignore[no-any-return]
        return Event(raw.type, self._item(raw.object))

    def _item(self, body: msgspec.Raw) -> T | Malformed:
        try:
            return self._one.decode(body)
        except _WRONG as error:
            return Malformed(_meta(body), str(error))


class _Envelope(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw()


class _RawPage(msgspec.Struct):
    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


_WRONG: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_STATUS: Final = msgspec.json.Decoder(Status)
_META: Final = msgspec.json.Decoder(Meta)
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_RAW_PAGE: Final = msgspec.json.Decoder(_RawPage)
_RAW_EVENT: Final = msgspec.json.Decoder(_RawEvent)


def status_of(body: bytes) -> Status:
    """What the API server says beside a refusal; a proxy between us may say anything."""
    try:
        return _STATUS.decode(body)
    except _WRONG:
        return Status(message=body[:200].decode(errors="replace").strip())


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw, what: str) -> Any:
    try:
        return decoder.decode(body)
    except _WRONG as error:
        raise NotUnderstood(f"a {what} that can't be read: {error}") from None


def _meta(body: msgspec.Raw) -> Meta:
    """The metadata of an object that can't be read; the API server itself keeps these in shape."""
    return _decoded(_META, _decoded(_ENVELOPE, body, "object").metadata, "object's metadata")  # type: ignore[no-any-return]


@contextmanager
def _no_collection() -> Iterator[None]:
    """While a list is read, all that is made is kept: the collector would only look through it, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
