"""What was given out on this node, as files: a CDI spec each for the container runtime, and beside it whose it is, which outlives a reboot."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from gpumax.apps.agent.container import Container
from gpumax.engines.kubernetes import keys
from gpumax.errors import Refused

CDI_VERSION: Final = "0.3.0"
"""The oldest that has what is used here, so that every runtime with CDI reads it."""
KIND: Final = f"{keys.DRIVER}/part"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", re.ASCII)
_FILE: Final = f"{keys.DRIVER}-part_"
NVIDIA: Final = "nvidia.com/gpu"


class Origin(msgspec.Struct, frozen=True):
    """For whom a part is: the claim or the pod. pod, pod_uid: the one that uses it, where that is known."""

    namespace: str
    name: str
    uid: str
    pod: str = ""
    pod_uid: str = ""


class Parts:
    """Every file is written whole or not at all, so a process that is killed leaves nothing half done."""

    def __init__(self, cdi: Path, kept: Path) -> None:
        self._cdi = cdi
        self._kept = kept
        for folder in (cdi, kept):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)

    def write(self, key: str, origin: Origin, content: Container) -> str:
        """Give a part out, once more if it was. Returns the name by which the runtime finds it."""
        name = _checked(key)
        _replace(self._kept / f"{name}.json", msgspec.json.encode(origin))
        _replace(self._cdi / f"{_FILE}{name}.json", json.dumps(_spec(name, content), indent=1).encode())
        return cdi_id(name)

    def remove(self, key: str) -> None:
        """Take it back, and those whose names begin with it and a dash; nothing where it isn't there."""
        name = _checked(key)
        for pattern in (f"{name}.json", f"{name}-*.json"):
            for path in (*self._cdi.glob(_FILE + pattern), *self._kept.glob(pattern)):
                path.unlink(missing_ok=True)

    def kept(self) -> dict[str, Origin]:
        """All that is given out. What can't be read belongs to nobody, and is removed."""
        found = {}
        for path in self._kept.glob("*.json"):
            try:
                found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Origin)
            except msgspec.DecodeError:
                path.unlink(missing_ok=True)
        return found

    def has(self, key: str) -> bool:
        """Whether it is given out."""
        return (self._kept / f"{_checked(key)}.json").exists()

    def clean(self) -> None:
        """Remove specs that belong to nobody, and what was being written when a process was killed."""
        known = self.kept()
        for path in self._cdi.glob(f"{_FILE}*.json"):
            if path.stem.removeprefix(_FILE) not in known:
                path.unlink(missing_ok=True)
        for path in (*self._cdi.glob(f".{_FILE}*.new"), *self._kept.glob(".*.new")):
            path.unlink(missing_ok=True)


def cdi_id(key: str) -> str:
    """The full name of a part, as CDI has it: names begin with a letter in its old versions."""
    return f"{KIND}=part-{key}"


def _spec(key: str, content: Container) -> dict[str, Any]:
    edits: dict[str, Any] = {"env": [f"{name}={value}" for name, value in sorted(content.env.items())]}
    if content.mounts:
        options = ["ro", "nosuid", "nodev", "bind"]
        edits["mounts"] = [
            {"hostPath": mount.host, "containerPath": mount.container, "options": options}
            for mount in content.mounts
        ]
    return {
        "cdiVersion": CDI_VERSION,
        "kind": KIND,
        "devices": [{"name": f"part-{key}", "containerEdits": edits}],
    }


def _checked(key: str) -> str:
    """What comes from elsewhere becomes a file's name only if it can be nothing else."""
    if not _NAME.fullmatch(key):
        raise Refused(f"found {key[:80]!r}; wanted a uid, like 130122b9-fcf5-452f-92d0-5d18fb32647a")
    return key


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def of_vendor(folders: Iterable[Path], identities: Iterable[str]) -> list[str]:
    """The vendor's own CDI names of devices, where its toolkit wrote specs: with them come the files of the driver."""
    known = {name for folder in folders for name in _named(folder)}
    return [f"{NVIDIA}={identity}" for identity in identities if identity in known]


def _named(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix not in (".json", ".yaml") or path.name.startswith((".", _FILE)):
            continue
        try:
            spec = yaml.safe_load(path.read_bytes())
        except (OSError, yaml.YAMLError):
            continue
        if isinstance(spec, dict) and spec.get("kind") == NVIDIA:
            yield from (str(row.get("name")) for row in spec.get("devices") or () if isinstance(row, dict))
