"""Files in shared memory go with the last process that uses them, or with the next one that looks where it was killed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interposer.conftest import SMALL
from interposer.emulated import PRELUDE, Machine, end, line, tell
from interposer.under import Layer, heard, layer, page, scripted
from sharing.rig import eventually

__all__ = ["layer", "scripted"]


def test_the_page_of_a_group_that_was_killed_is_taken_away_by_whoever_comes_next(layer: Layer) -> None:
    killed = Layer(layer.driver)
    process = killed.start("c = Cuda(); c.alloc(MIB); say('there'); hear()", GPUMAX_LIMIT="64Mi")
    assert heard(process) == "there"
    assert page(killed.group).exists()
    killed.end()
    layer.run("c = Cuda(); c.alloc(MIB); say(0)", GPUMAX_LIMIT="64Mi")
    assert not page(killed.group).exists()


def test_the_page_of_a_group_that_lives_is_left_alone(layer: Layer) -> None:
    other = Layer(layer.driver)
    process = other.start(
        "c = Cuda(); c.alloc(60 * MIB); say('there'); hear(); say(c.try_alloc(5 * MIB)[0])",
        GPUMAX_LIMIT="64Mi",
    )
    try:
        assert heard(process) == "there"
        layer.run("c = Cuda(); c.alloc(MIB); say(0)", GPUMAX_LIMIT="64Mi")
        assert page(other.group).exists()
        beside = other.run("c = Cuda(); say(c.try_alloc(5 * MIB)[0])", GPUMAX_LIMIT="64Mi")
        assert beside == 2, "both of one group look at one page"
    finally:
        other.end()


def test_a_page_whose_maker_was_killed_before_it_was_ready_is_taken_away(layer: Layer) -> None:
    empty = page(Layer(layer.driver).group)
    empty.touch(mode=0o600)
    layer.run("c = Cuda(); c.alloc(MIB); say(0)", GPUMAX_LIMIT="64Mi")
    assert not empty.exists()


def test_whoever_has_opened_a_page_that_is_taken_away_makes_another(layer: Layer) -> None:
    """All of a group look at one page, also those that come later."""
    other = Layer(layer.driver)
    place = page(other.group)
    with place.open("w") as file:
        place.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        process = other.start("c = Cuda(); c.alloc(60 * MIB); say('there'); hear()", GPUMAX_LIMIT="64Mi")
        eventually(lambda: waits_for_a_lock(process.pid))
        place.unlink()
    try:
        assert heard(process) == "there"
        assert other.run("c = Cuda(); say(c.try_alloc(5 * MIB)[0])", GPUMAX_LIMIT="64Mi") == 2
    finally:
        other.end()
    layer.run("c = Cuda(); c.alloc(MIB); say(0)", GPUMAX_LIMIT="64Mi")
    assert not place.exists()


def waits_for_a_lock(pid: int) -> bool:
    return any("->" in each and f" {pid} " in each for each in Path("/proc/locks").read_text().splitlines())


class Unnamed(Machine):
    """A machine whose file nobody named."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        super().__init__(folder, config)
        del self.config["shared"]

    @property
    def file(self) -> Path:
        """As the emulated driver names it: by user and configuration."""
        value = 14695981039346656037
        for byte in json.dumps(self.config).encode():
            value = (value ^ byte) * 1099511628211 % (1 << 64)
        return Path(f"/dev/shm/gpumax-emu-{os.getuid()}-{value:016x}")


@pytest.fixture
def unnamed(tmp_path: Path) -> Unnamed:
    return Unnamed(tmp_path, {"clock": "virtual", "devices": [SMALL | {"name": str(os.getpid())}]})


THERE = "current(); say('there'); wait_for_a_line()"


def test_the_file_of_a_machine_goes_with_its_last_process(unnamed: Unnamed) -> None:
    one, other = unnamed.start(THERE), unnamed.start(THERE)
    try:
        for each in (one, other):
            assert line(each) == "there"
        tell(one)
        assert one.wait(60) == 0
        assert unnamed.file.exists()
        tell(other)
        assert other.wait(60) == 0
        assert not unnamed.file.exists()
    finally:
        end(one)
        end(other)


def test_the_file_of_a_machine_whose_last_process_was_killed_goes_with_the_next_look(
    unnamed: Unnamed,
) -> None:
    """Whichever machine it's for; and one that only looks on keeps the file of what it looks at."""
    process = unnamed.start(THERE)
    assert line(process) == "there"
    watch = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + "import pynvml; pynvml.nvmlInit(); say('looks'); wait_for_a_line()"],
        env=unnamed.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    next_one = Unnamed(unnamed.libraries.parent, {"devices": [SMALL | {"name": f"next {os.getpid()}"}]})
    try:
        assert line(watch) == "looks"
        end(process)
        next_one.run("current(); say(0)")
        assert unnamed.file.exists()
        end(watch)
        next_one.run("current(); say(0)")
        assert not unnamed.file.exists()
        assert not next_one.file.exists()
    finally:
        end(process)
        end(watch)
