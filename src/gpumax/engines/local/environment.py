"""What a task finds in its environment: a small base, what was asked for, its secrets, its devices. Never the server's own."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumax.engines.local.tree import MARK
from gpumax.errors import Refused
from gpumax.native import preload
from gpumax.ports.devices import Devices
from gpumax.ports.engine import Launch
from gpumax.ports.sharing import Granted

LIBRARIES: Final = "LD_LIBRARY_PATH"
KEPT: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    LIBRARIES,
)
"""What tasks share with the server; with all LC_ variables."""

PLAIN_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_SECRET: Final = 64 << 10
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def environment(
    launch: Launch, devices: Devices, secrets: Path, server: Mapping[str, str], part: Granted | None = None
) -> dict[str, str]:
    """The environment of a task. Refused, in words, where a secret can't be had. part: of its devices, where it has less than the whole."""
    kept = {name: value for name, value in server.items() if name in KEPT or name.startswith("LC_")}
    asked = {**_base(), **kept, **launch.env, **{name: read_secret(secrets, name) for name in launch.secrets}}
    seen = devices.visible(tuple(share.index for share in launch.devices))
    # Libraries of the devices come first, and no others are lost.
    if LIBRARIES in seen and asked.get(LIBRARIES):
        seen[LIBRARIES] += f":{asked[LIBRARIES]}"
    if part is not None:
        context = {"GPUMAX_CONTEXT": str(part.context)} if part.context else {}
        under = preload.environment(asked, part.limit, part.name, part.swap)
        ranks = {"GPUMAX_RANKS": str(part.ranks)} if part.ranks > 1 else {}
        asked = {**context, **ranks, **under, "GPUMAX_SOCKET": part.socket}
    return {
        **asked,
        **seen,
        # In the order in which the devices are visible.
        "GPUMAX_DEVICE_MILLI": ",".join(str(share.milli) for share in launch.devices),
        MARK: launch.attempt,
    }


def read_secret(directory: Path, name: str) -> str:
    """A secret from its file, without the line's end. Refused where there is none, or where others could read it."""
    if not _NAME.fullmatch(name):
        raise Refused(f"`{name}` can't be the name of a secret; wanted letters, digits, `_`, `.` and `-`")
    path = directory / name
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"others may read the secret {name}; wanted: chmod 600 {path}")
        with path.open("rb") as file:
            value = file.read(MOST_SECRET + 1)
    except FileNotFoundError:
        raise Refused(f"there is no secret {name}; wanted: its value in {path}, with mode 600") from None
    except OSError as error:
        raise Refused(f"the secret {name} can't be read: {error.strerror}") from None
    if len(value) > MOST_SECRET or b"\0" in value:
        raise Refused(f"the secret {name} is no text of at most {MOST_SECRET >> 10} KiB")
    return os.fsdecode(value.removesuffix(b"\n").removesuffix(b"\r"))


def missing_devices(launch: Launch, there: Sequence[int]) -> str:
    """The indexes of devices that the launch names and that are not there, as text; empty if all are."""
    return ", ".join(str(share.index) for share in launch.devices if share.index not in there)


def _base() -> dict[str, str]:
    # Output shows when it is written, not when a buffer is full; `logs -f` is of little use otherwise.
    base = {"PATH": PLAIN_PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return {**base, "HOME": "/"}
    return {
        **base, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or "/bin/sh"
    }  # fmt: skip
