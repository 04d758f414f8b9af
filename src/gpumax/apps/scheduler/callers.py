"""Who may read our metrics over a network: whoever the cluster itself lets `get` the path, asked with the caller's token."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.reviews import RIGHTS, TOKENS, review

KEPT_S: Final = 30.0
"""For how long an answer holds: so long may somebody read on whose right was taken away."""
MOST_KEPT: Final = 256
AT_ONCE: Final = 4
"""Callers that are asked about at a time: tokens that nobody knows must not make work for the API server without end."""

Verdict = Literal["yes", "unknown", "forbidden"]
"""unknown: nobody's token."""


class Callers:
    """Asks the cluster, and remembers for a short while. Tokens are kept as digests only."""

    def __init__(self, api: Api, path: str, now_s: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._path = path
        self._now_s = now_s
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._known: dict[bytes, tuple[Verdict, float]] = {}  # by digest of the token, until when

    async def verdict(self, token: str) -> Verdict:
        """Whether the bearer may read. GpumaxError where the cluster can't be asked."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        async with self._turns:
            known = self._known.get(digest)
            if known is not None and self._now_s() < known[1]:
                return known[0]
            found = await self._ask(token)
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        self._known[digest] = found, self._now_s() + KEPT_S
        return found

    async def _ask(self, token: str) -> Verdict:
        found = await review(self._api, TOKENS, {"token": token})
        user = found.user
        if not found.authenticated:
            return "unknown"
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups or (),
            "extra": user.extra or {},
            "nonResourceAttributes": {"path": self._path, "verb": "get"},
        }
        return "yes" if (await review(self._api, RIGHTS, spec)).allowed else "forbidden"
