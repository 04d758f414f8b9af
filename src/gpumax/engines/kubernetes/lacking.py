"""Pods of which nothing can be said before it is known who made them."""

from __future__ import annotations

from gpumax.engines.kubernetes.views import Owner


class Lacking:
    """By pod, and by owner."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}
        self._pods: dict[str, set[str]] = {}  # by the owner's uid

    def __contains__(self, pod: str) -> bool:
        return pod in self._owners

    def put(self, pod: str, owner: Owner | None) -> None:
        """The pod waits for this owner to be known; None: for nobody."""
        before = self._owners.pop(pod, None)
        if before is not None:
            self._pods[before.uid].discard(pod)
            if not self._pods[before.uid]:
                del self._pods[before.uid]
        if owner is not None:
            self._owners[pod] = owner
            self._pods.setdefault(owner.uid, set()).add(pod)

    def of(self, uid: str) -> list[str]:
        """The pods that wait for an owner."""
        return list(self._pods.get(uid, ()))

    @property
    def owners(self) -> list[tuple[str, Owner]]:
        """All owners that aren't known, each with the namespace of its pods."""
        names = (next(iter(own)) for own in self._pods.values())
        return [(name.partition("/")[0], self._owners[name]) for name in names]
