"""Who shares this node's GPUs, told to the cluster: an annotation of what the agent publishes anyway, so it takes no further right and no door of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from gpumax.apps.agent.pods import Pods
from gpumax.apps.gpu.view import Item, rows
from gpumax.broker.control import key
from gpumax.broker.status import Status

SOON_S: Final = 1.0
"""Between two writes at least, where somebody came, went or got around its part."""
LATER_S: Final = 10.0
"""Where amounts alone changed: as often as a kubelet says that its node lives."""
SILENT_S: Final = 5.0
"""After so long without a word of the broker nothing of it is known."""
LONGEST: Final = 32_000
"""The most characters: an object may have 256 KiB of annotations, and everybody who follows nodes gets each of ours."""
MOST_PROCESSES: Final = 8
MOST_WORDS: Final = 300
"""Characters of why somebody waits."""

Facts = frozenset[tuple[str, str]]


class Latest:
    """What the broker said last; from any thread."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._said: tuple[float, Status] | None = None

    def look(self, seen: Status) -> None:
        """The broker says this now."""
        self._said = self._now_s(), seen

    def now(self) -> Status | None:
        """What is known; None: nothing, or nothing any more."""
        said = self._said
        return said[1] if said is not None and self._now_s() - said[0] < SILENT_S else None


class Residents:
    """Writes what changed, at a bounded rate. write: has the cluster say this text, None: nothing."""

    def __init__(
        self, write: Callable[[str | None], Awaitable[object]], now_s: Callable[[], float] = monotonic
    ) -> None:
        self._write = write
        self._now_s = now_s
        self._tried_s = float("-inf")
        self.forget()

    def forget(self) -> None:
        """What was written may be gone."""
        self._text: str | None = ""
        self._facts: Facts = frozenset()

    async def tell(self, devices: Mapping[int, Item]) -> None:
        """By index, the devices of which parts are given out."""
        text, facts = text_of(devices) if devices else None, _facts(devices)
        pause_s = LATER_S if facts == self._facts and self._text != "" else SOON_S
        if text == self._text or self._now_s() - self._tried_s < pause_s:
            return
        self._tried_s = self._now_s()
        await self._write(text)
        self._text, self._facts = text, facts


def _facts(devices: Mapping[int, Item]) -> Facts:
    """What nobody should have to wait for: who has a part, and who got around one."""
    groups = {(str(index), each["group"]) for index, part in devices.items() for each in part["residents"]}
    beyond = {(str(index), str(each["pid"])) for index, part in devices.items() for each in part["unfenced"]}
    return frozenset(groups | beyond)


def shown(status: Status, indexes: Mapping[str | None, int], pods: Pods) -> dict[int, Item]:
    """A broker's status by the index of the device, in names that a cluster knows. indexes: by `key` of the UUID."""
    names = {group.name: pods.name_of_part(group.name) for group in status.groups}
    found = {}
    for uuid, row in rows(status, lambda group: names.get(group, "")).items():
        if key(uuid) in indexes:
            found[indexes[key(uuid)]] = row | {
                "holder": names.get(row["holder"]) or row["holder"],
                "residents": [_resident(each, names) for each in row["residents"]],
                "unfenced": [
                    each | {"workload": pods.name_of_process(each["pid"])} for each in row["unfenced"]
                ],
            }
    return found


def _resident(row: Item, names: Mapping[str, str]) -> Item:
    waits, hangs = row["waits"], row["hangs"]
    for group, pod in names.items():
        if waits and pod:
            waits = waits.replace(group, pod)
    words = {"waits": waits and waits[:MOST_WORDS], "hangs": hangs and hangs[:MOST_WORDS]}
    return row | words | {"processes": row["processes"][:MOST_PROCESSES]}


def text_of(devices: Mapping[int, Item]) -> str:
    """As it is written down. Where that would be too long some of each device are left out, and counted."""
    for most in (1 << 10, 32, 16, 8, 4, 2, 1):
        text = msgspec.json.encode({str(index): _cut(part, most) for index, part in devices.items()}).decode()
        if len(text) <= LONGEST:
            return text
    return "{}"


def _cut(part: Item, most: int) -> dict[str, Any]:
    residents, beyond = part["residents"], part["unfenced"]
    left = max(0, len(residents) - most) + max(0, len(beyond) - most)
    return part | {"residents": residents[:most], "unfenced": beyond[:most], "unlisted": left}
