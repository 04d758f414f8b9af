"""Whose a part is, and in which pod a process of the node is, as far as that can be known without a right to list pods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gpumax.apps.agent.parts import Origin, Parts

_POD: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})\b")


class Pods:
    """Pods that have a part here; of any others a node's agent knows no more than the uid that stands in the names of their control groups."""

    def __init__(self, parts: Parts, proc: Path = Path("/proc")) -> None:
        self._parts = parts
        self._proc = proc
        self._kept: dict[str, Origin] = {}

    def look(self) -> None:
        """At which parts there are: all answers are of this moment."""
        self._kept = self._parts.kept()

    def of_part(self, key: str) -> Origin | None:
        """For whom a part is; None where it isn't given out."""
        return self._kept.get(key)

    def of_process(self, pid: int) -> Origin | None:
        """The part of the pod in which a process is; None: it's in none that has one."""
        uid = self.uid_of_process(pid)
        if not uid:
            return None
        return next((each for each in self._kept.values() if _same(each.pod_uid, uid)), None)

    def uid_of_process(self, pid: int) -> str:
        """Of the pod in which a process is, as its control group is called, whatever driver of them the kubelet uses; empty where it's in none."""
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        found = _POD.search(text)
        return found[1].replace("_", "-") if found else ""

    def name_of_part(self, key: str) -> str:
        """Namespace and name of the pod; empty where nobody knows."""
        return _name(self.of_part(key))

    def name_of_process(self, pid: int) -> str:
        """The same of a process."""
        return _name(self.of_process(pid))


def _same(one: str, other: str) -> bool:
    return bool(one) and one.replace("-", "") == other.replace("-", "")


def _name(origin: Origin | None) -> str:
    return f"{origin.namespace}/{origin.pod}" if origin is not None and origin.pod else ""
