"""What `gpumax doctor` looks at. A check tells what it found and, where something is amiss, what mends it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gpumax import __version__
from gpumax.apps.cli.checks_data import Check, database, directory, socket_file
from gpumax.apps.cli.client import Item
from gpumax.apps.cli.options import Where
from gpumax.errors import GpumaxError, Unreachable
from gpumax.words import plural

_EPOCH_S: Final = 1_735_689_600  # 2025-01-01; a clock before that was never set


def checks(where: Where) -> Iterator[Check]:
    """All checks, each as soon as it is made. They change nothing and need no server."""
    yield python()
    yield clock(where.data)
    if where.server is None:
        yield from directory(where.data)
        yield from socket_file(where.data)
        yield from database(where.data)
        yield cgroup()
        yield gpus()
    yield from server(where)


def python() -> Check:
    """The interpreter and the system below it."""
    found = f"{'.'.join(map(str, sys.version_info[:3]))} on {sys.platform}, gpumax {__version__}"
    if sys.platform != "linux":
        return Check(
            "python", "fail", found, "run the server on Linux; commands work with --server from here"
        )
    return Check("python", "ok", found)


def clock(data: Path) -> Check:
    """The time, against what is known to be past."""
    now = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    newest = max(
        (_changed_s(data / name) for name in ("gpumax.db", "gpumax.db-wal", "server.json")), default=0.0
    )
    wish = "set the clock; waits and shares are measured by it"
    if now < _EPOCH_S:
        return Check("clock", "fail", f"{text}, which is long past", wish)
    if newest > now + 60:
        return Check("clock", "warn", f"{text}, before the data directory was last written", wish)
    return Check("clock", "ok", text)


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def cgroup() -> Check:
    """Whether tasks can be put into cgroups of their own, out of which no process escapes when a task has to end."""
    wish = "start it as root or as a systemd user service; without, tasks run, but processes that hide may outlive them"
    own = _own_cgroup()
    if own is None:
        return Check("cgroup", "warn", "cgroup v2 is not mounted", wish)
    if not os.access(own, os.W_OK):
        return Check("cgroup", "warn", f"{own} may not be written", wish)
    return Check("cgroup", "ok", f"{own}")


def _own_cgroup() -> Path | None:
    """This process's cgroup of version 2, also where both versions are mounted side by side."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return None
    own = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), None)
    root = next((row[1] for row in mounts if row[2] == "cgroup2"), None)
    return None if own is None or root is None else Path(root) / own


def gpus() -> Check:
    """What the driver reports."""
    wish = "install the NVIDIA driver, or make some up for a try: `gpumax up --devices 8xH100:80Gi`"
    try:
        from gpumax.devices import open_devices

        found = open_devices(None).read()
    except (GpumaxError, OSError) as error:
        return Check("gpu", "warn", str(error), wish)
    broken = [str(device.index) for device in found if not device.healthy]
    if not found:
        return Check("gpu", "warn", "no NVIDIA driver, or no GPU", wish)
    models = ", ".join(dict.fromkeys(device.model or "unknown" for device in found))
    if broken:
        wish = "see `nvidia-smi -q` and the kernel's log; nothing is placed on them"
        return Check("gpu", "warn", f"{len(found)} ({models}), of which {', '.join(broken)} unhealthy", wish)
    return Check("gpu", "ok", f"{len(found)} ({models})")


def server(where: Where) -> Iterator[Check]:
    """Whether a server answers, and is of this version."""
    try:
        status = where.api(timeout_s=5.0, retry_s=()).get("/status")
    except Unreachable as error:
        yield _silent(where, error)
        return
    except GpumaxError as error:
        yield Check("server", "fail", str(error), "set GPUMAX_TOKEN, or ask its owner")
        return
    yield _speaks(status)
    yield from shares(where)
    for trouble in status.get("trouble") or ():
        yield Check("loop", "fail", str(trouble), f"mend that; see {where.data / 'server.log'}")
    for warning in status.get("warnings") or ():
        yield Check(
            "cluster", "warn", str(warning), "`gpumax queue list` and `gpumax nodes` show what there is"
        )
    for note in (status.get("engine") or {}).get("notes") or ():
        yield Check("engine", "ok", str(note))


def shares(where: Where) -> Iterator[Check]:
    """GPUs of which parts are given out: whether anybody uses them who hasn't declared it."""
    try:
        items = where.api(timeout_s=5.0, retry_s=()).get("/gpus").get("items") or ()
    except GpumaxError:
        return
    parts = [item for item in items if item.get("shared")]
    if parts:
        yield _shared(parts)


def _shared(parts: Sequence[Item]) -> Check:
    beyond = [each for item in parts for each in item["shared"]["unfenced"] if not each.get("away")]
    if not beyond:
        residents = sum(len(item["shared"]["residents"]) for item in parts)
        return Check("shares", "ok", f"{plural(residents, 'part')} of {plural(len(parts), 'GPU')}")
    pids = ", ".join(
        f"{each['pid']} of {each['workload']}" if each.get("workload") else str(each["pid"])
        for each in beyond
    )
    found = f"unfenced: {'process' if len(beyond) == 1 else 'processes'} {pids}, which no part holds"
    return Check(
        "shares",
        "warn",
        found,
        "`gpumax gpu list` shows them; end them, or give them a part: `gpumax run --gpu 0.5`",
    )


def _speaks(status: Item) -> Check:
    version = status.get("version")
    found = f"pid {status.get('pid')}, version {version}"
    if version != __version__:
        wish = "`gpumax down`, then `gpumax up`; tasks run on"
        return Check("server", "warn", f"{found}; this program is {__version__}", wish)
    return Check("server", "ok", found)


def _silent(where: Where, error: Unreachable) -> Check:
    if where.server is not None:
        return Check("server", "fail", str(error), "start it there, or correct --server")
    try:
        holder = lock_holder(where.data)
    except OSError as failed:
        wish = "ask its owner, or choose another directory with --data"
        return Check("server", "fail", f"{where.data / 'lock'}: {failed.strerror}", wish)
    if holder is not None:
        wish = f"if it has not just been started: see {where.data / 'server.log'}; "
        wish += f"`kill -9 {holder}` and `gpumax up` are safe, tasks run on" if holder else "ask who runs it"
        return Check("server", "fail", f"pid {holder or 'unknown'} lives but does not answer", wish)
    # Not Path.exists, which raises where it may not be looked at.
    if not os.path.exists(where.data / "server.json"):
        return Check("server", "ok", "not running; `gpumax up` starts it")
    wish = "`gpumax up` starts it again and finds its tasks"
    return Check("server", "warn", "it ended without a word", wish)


def lock_holder(data: Path) -> int | None:
    """The process that has locked the data directory, as a server does for as long as it lives; 0 where it doesn't say which.

    A process id alone proves nothing: it may have become another's. None: nobody has. OSError where that can't be found out.
    """
    import fcntl

    try:
        descriptor = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(descriptor, 20).decode("ascii", "replace").strip()
        return int(told) if told.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None
