"""A cgroup (version 2) an attempt, where this machine lets us: one order ends all that is in it.

No controller is needed for that. Standard library only: supervisors use it. An empty path stands for no cgroup.
"""

from __future__ import annotations

import os

PREFIX = "gpumax-"


def home(mounts: str = "/proc/self/mounts", own: str = "/proc/self/cgroup") -> str:
    """The cgroup that we are in, as a directory, also where both versions are mounted side by side. OSError without."""
    with open(own, encoding="utf-8") as file:
        paths = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
    with open(mounts, encoding="utf-8") as file:
        rows = [line.split() for line in file]
    roots = [row[1].encode().decode("unicode_escape") for row in rows if row[2] == "cgroup2"]
    if not paths or not roots:
        raise FileNotFoundError("cgroup version 2 is not mounted")
    return os.path.join(roots[0], paths[0].lstrip("/")).rstrip("/")


def make(parent: str, attempt: str) -> str:
    """A cgroup of the attempt's own. OSError where that isn't allowed."""
    path = os.path.join(parent, f"{PREFIX}{attempt}")
    os.makedirs(path, exist_ok=True)
    return path


def weigh(path: str, cpu_milli: int) -> None:
    """Give the cgroup processor time in proportion to its request, where that can be said; a request is no limit."""
    # The scale of Kubernetes: one core is 1024 shares, and 2 to 262144 shares map to weights of 1 to 10000.
    shares = min(max(cpu_milli * 1024 // 1000, 2), 262_144)
    _write(os.path.join(path, "cpu.weight"), str(1 + (shares - 2) * 9999 // 262_142))


def join(path: str) -> None:
    """Put this process, and so all that it will start, into the cgroup."""
    if path:
        _write(os.path.join(path, "cgroup.procs"), "0")


def members(path: str) -> set[int]:
    """The processes in the cgroup and those below it."""
    found: set[int] = set()
    for directory, _, _ in os.walk(path) if path else ():
        try:
            with open(os.path.join(directory, "cgroup.procs"), encoding="ascii") as file:
                found.update(int(line) for line in file)
        except OSError:
            continue
    return found


def kill(path: str) -> None:
    """SIGKILL to all in the cgroup at once, so that none forks away meanwhile. Before Linux 5.14 it does nothing."""
    if path:
        _write(os.path.join(path, "cgroup.kill"), "1")


def remove(path: str) -> None:
    """Remove the cgroup with those below it, if nothing is left in them."""
    for directory, _, _ in os.walk(path, topdown=False) if path else ():
        try:
            os.rmdir(directory)
        except OSError:
            return


def _write(path: str, text: str) -> None:
    """Write to a file of the kernel's; where there is none, or it refuses, things stay as they are."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(file, text.encode())
    except OSError:
        return
    finally:
        os.close(file)
