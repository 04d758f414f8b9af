"""Kinds of objects: where the API serves them, and what we read of them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from urllib.parse import quote

from gpumax.engines.kubernetes.client.decode import Decoders
from gpumax.engines.kubernetes.client.views import View
from gpumax.errors import Refused

T = TypeVar("T", bound=View)
T_co = TypeVar("T_co", bound=View, covariant=True)


class Kind(Generic[T_co]):
    """One kind: its group (empty for the core), version, plural, and the view of its objects."""

    def __init__(
        self, group: str, version: str, plural: str, name: str, view: type[T_co], *, namespaced: bool = True
    ) -> None:
        self.group = group
        self.version = version
        self.plural = plural
        self.name = name
        self.namespaced = namespaced
        self.decoders: Decoders[Any] = Decoders(view)

    @property
    def api_version(self) -> str:
        """Group and version, as objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """Where the API serves all of them, those of a namespace, one of them, or a part of one (`status`, `binding`)."""
        words = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            words += ["namespaces", namespace]
        words += [self.plural, *filter(None, (name, part))]
        # Names come from objects that tenants write: none of them may lead elsewhere.
        for word in words:
            if word in (".", ".."):
                raise Refused(f"{word!r} is no name of anything in Kubernetes")
        return "/" + "/".join(quote(word, safe="") for word in words)

    def __repr__(self) -> str:
        return f"Kind({self.api_version} {self.plural})"
