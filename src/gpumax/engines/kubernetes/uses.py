"""Which service accounts may use which queues: the verb `use`, asked of the cluster and believed for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.kinds import QUEUES
from gpumax.engines.kubernetes.reviews import RIGHTS, review
from gpumax.engines.kubernetes.settings import Use
from gpumax.errors import GpumaxError

RETRY_S: Final = 5.0
KEPT_S: Final = 60.0
"""How often everything is asked again: so long may a right that was taken away still count."""
MOST: Final = 2000
"""Of so many at most it is remembered whether they are still wanted."""
_log: Final = logging.getLogger("gpumax.kubernetes")


class Allowed:
    """What is known of who may use which queue."""

    def __init__(self) -> None:
        self._known: dict[Use, bool] = {}
        self._new: set[Use] = set()

    def may(self, use: Use) -> bool | None:
        """None where it isn't known yet; it is wanted then."""
        may = self._known.get(use)
        if may is None:
            self._new.add(use)
        return may

    def see(self, use: Use, *, may: bool) -> bool:
        """An answer. Whether it is another than before."""
        self._new.discard(use)
        before = self._known.get(use)
        self._known[use] = may
        return before is not may

    def wanted(self, *, again: bool) -> list[Use]:
        """About whom to ask: who is new; again: everybody. Of too many all are forgotten, and who still asks is new."""
        if again and len(self._known) > MOST:
            self._known.clear()
        return sorted(self._new | self._known.keys() if again else self._new)


class Uses:
    """Within one event loop. wanted: about whom is to be asked, of all or of those who are new; found: hears each answer."""

    def __init__(
        self, api: Api, wanted: Callable[[bool], Iterable[Use]], found: Callable[[Use, bool], object]
    ) -> None:
        self._api = api
        self._wanted = wanted
        self._found = found
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Somebody new may be wanted."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Who can't be asked about is asked about again; until then its pods wait."""
        trouble = ""
        while True:
            due = self._wanted(await self._woken(RETRY_S if trouble else KEPT_S))
            answers = await asyncio.gather(*map(self._ask, due), return_exceptions=True)
            words = next((str(error) for error in answers if isinstance(error, GpumaxError)), "")
            if words and words != trouble:
                _log.warning("it can't be asked who may use queues: %s", words)
            trouble = words

    async def _woken(self, after_s: float) -> bool:
        """Whether it is time to ask about everybody."""
        try:
            async with asyncio.timeout(after_s):
                await self._wake.wait()
        except TimeoutError:
            return True
        self._wake.clear()
        return False

    async def _ask(self, use: Use) -> None:
        self._found(use, (await review(self._api, RIGHTS, _question(use))).allowed)


def _question(use: Use) -> dict[str, object]:
    space = use.namespace
    return {
        "user": f"system:serviceaccount:{space}:{use.account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated"],
        "resourceAttributes": {
            "namespace": space, "group": QUEUES.group, "resource": QUEUES.plural, "verb": "use", "name": use.queue,
        },
    }  # fmt: skip
