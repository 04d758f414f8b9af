"""This node's name: kept in the data directory, for what tasks hold is on record under it."""

from __future__ import annotations

import re
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpumax.apps.server.home import plainly, write_private
from gpumax.errors import Conflict, Refused
from gpumax.model.records import Live
from gpumax.model.workload import HOLDING

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def checked(name: str | None) -> None:
    """Refused for a wished name that can't be one."""
    if name is not None and not _NAME.fullmatch(name):
        raise Refused(
            f"--name {name}: wanted letters, digits, `.`, `_` and `-`, a letter or digit first, 63 at most"
        )


def node_name(data: Path, wished: str | None, live: Live) -> str:
    """The name of this node from now on: as wished; else as before; at the first start the host's.

    Conflict for another name than before while tasks hold devices under that: they would be handed out again.
    """
    kept = _kept(data)
    name = wished or kept or _host()
    if name != kept:
        held = Counter(
            task.node for _, tasks in live.workloads for task in tasks if task.state in HOLDING and task.node
        )
        others = sorted(node for node in held if node != name)
        if others:
            old = others[0]
            raise Conflict(
                f"this node can't be {name}: {held[old]} task{'s' if held[old] > 1 else ''} of {old}, as it was called, still "
                f"hold what they have; start it as {old}, suspend or stop them, and then give it the new name"
            )
        write_private(data / "node", name.encode() + b"\n")
    return name


def _kept(data: Path) -> str | None:
    path = data / "node"
    with plainly(f"read {path}"), suppress(FileNotFoundError):
        name = path.read_text(encoding="ascii", errors="replace").strip()
        if not _NAME.fullmatch(name):
            raise Refused(f"{path} holds no name of a node; write the name that this node had into it")
        return name
    return None


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.")[:63] or "localhost"
