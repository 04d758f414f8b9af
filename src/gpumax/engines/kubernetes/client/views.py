"""What the client itself reads of an object, whatever its kind. What else is read of a kind, its own view says."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Metadata(Protocol):
    """What every view has to have of an object's metadata."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def namespace(self) -> str:
        """Its namespace; empty where its kind has none."""
        ...

    @property
    def uid(self) -> str:
        """What tells it from another of its name."""
        ...

    @property
    def resource_version(self) -> str:
        """Its version."""
        ...

    @property
    def annotations(self) -> dict[str, str] | None:
        """Its annotations."""
        ...


class View(Protocol):
    """An object as far as it is read. A field that isn't in a view is skipped when it comes; all have defaults, for the API leaves out what is empty."""

    @property
    def metadata(self) -> Metadata:
        """What every object has."""
        ...


class Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The metadata that the client itself needs."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class Thing(msgspec.Struct, frozen=True, gc=False):
    """An object of any kind, of which only that is read."""

    metadata: Meta = Meta()
