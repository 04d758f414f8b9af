"""Programs that run under the layer, as processes of their own: one page a group, and no page is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from interposer.conftest import INTERPOSER, cc
from interposer.natives import library, preloaded

HERE = Path(__file__).parent


def page(group: str) -> Path:
    """Where the page of a group is; others on this machine have theirs beside it."""
    value = 0xCBF29CE484222325
    for byte in f"group{group}".encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return Path(f"/dev/shm/gpumax-1-{os.geteuid()}-{value:016x}")


@dataclass
class Layer:
    """How programs are started under the layer."""

    driver: Path
    group: str = field(default_factory=lambda: uuid.uuid4().hex)
    more: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GPUMAX_")}
        own = {
            "LD_PRELOAD": f"{library('cuda')}:{library('ml')}",
            "GPUMAX_REAL_LIBCUDA": str(self.driver),
            "GPUMAX_GROUP": self.group,
            "PYTHONPATH": str(HERE),
        }
        said = {k: v for k, v in (kept | own | self.more | dict(settings)).items() if v}
        return preloaded(said)

    def start(self, program: str, **settings: str) -> subprocess.Popen[str]:
        """A program that prints one line of JSON for each `say`, and reads lines for each `hear`."""
        head = "import json, sys\nfrom client import *\n"
        head += "def say(x): print(json.dumps(x), flush=True)\ndef hear(): return sys.stdin.readline()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(program)],
            env=self.environment(settings), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """Whatever a failed test left."""
        for process in self.started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()

    def run(self, program: str, **settings: str) -> Any:
        """What the program said last; it must have said nothing on stderr."""
        said, errors = self.talk(program, **settings)
        assert errors == ""
        return said

    def talk(self, program: str, **settings: str) -> tuple[Any, str]:
        """What the program said last, and its stderr."""
        process = self.start(program, **settings)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        lines = out.splitlines()
        return (json.loads(lines[-1]) if lines else None), err


def heard(process: subprocess.Popen[str]) -> Any:
    """The next thing that a started program says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=60)
        raise AssertionError(f"it ended with {process.returncode}: {errors}")
    return json.loads(line)


def tell(process: subprocess.Popen[str], line: str = "on") -> None:
    """Let a program that waits in `hear` go on."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> None:
    """It ends well when it is let go on."""
    _, errors = process.communicate("on\n", timeout=60)
    assert process.returncode == 0, errors


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver that does what a test asks, also what no real one would."""
    out = tmp_path_factory.mktemp("driver") / "libscripted.so"
    done = cc(
        "-shared", "-fPIC", "-O1", "-w", "-D_GNU_SOURCE", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so.1",
        f"-I{INTERPOSER / 'include'}", HERE / "c/driver.c", "-o", out, "-ldl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def layer(scripted: Path) -> Iterator[Layer]:
    """Programs under the layer on the scripted driver; afterwards no page of theirs may be left."""
    here = Layer(scripted)
    yield here
    here.end()
    assert not page(here.group).exists()
