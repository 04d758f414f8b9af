"""Virtual devices of a machine get a driver, on which programs run; where there can't be one they are as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpumax.devices import open_devices, with_driver
from gpumax.errors import NotFound


def test_processes_find_the_driver_and_its_devices(tmp_path: Path) -> None:
    devices = with_driver(open_devices("2xA100:40Gi,1xT4:16Gi"), tmp_path / "emulated")
    found = devices.visible((2, 0))
    assert found["CUDA_VISIBLE_DEVICES"] == "2,0"
    config = json.loads(Path(found["GPUMAX_EMU"]).read_text())
    assert [(each["name"], each["memory"] >> 30) for each in config["devices"]] == [
        ("A100", 40),
        ("A100", 40),
        ("T4", 16),
    ]
    folder = Path(found["LD_LIBRARY_PATH"])
    assert {each.name for each in folder.iterdir() if each.is_symlink() and each.exists()} == {
        "libcuda.so.1", "libnvidia-ml.so.1",
    }  # fmt: skip
    assert "emulated driver" in devices.notes()[0]
    assert devices.virtual


FAILS = """
import ctypes, json, sys
from gpumax.devices import open_devices
devices = open_devices(None)
driver = ctypes.CDLL("libcuda.so.1")
assert driver.cuInit(0) == 0
seen = [[each.healthy for each in devices.read()]]
assert driver.gpumax_emu_set(1, sys.argv[1].encode(), ctypes.c_double(float(sys.argv[2]))) == 0
seen.append([each.healthy for each in devices.read()])
print(json.dumps(seen))
if sys.argv[3:]:
    assert driver.gpumax_emu_set(1, sys.argv[1].encode(), ctypes.c_double(0)) == 0
"""


@pytest.mark.parametrize(("what", "value"), [("broken", 719), ("broken", 214), ("ecc", 1)])
def test_a_device_that_fails_is_unhealthy_until_it_is_whole_again(
    what: str, value: int, tmp_path: Path
) -> None:
    """For us, who look from outside, and for NVML, whoever asks it."""
    devices = with_driver(open_devices("2xA100:40Gi"), tmp_path)
    env = {**os.environ, **devices.visible((0, 1))}

    def seen_by_nvml(*words: str) -> object:
        """Before and after."""
        command = [sys.executable, "-c", FAILS, what, str(value), *words]
        return json.loads(
            subprocess.run(command, env=env, check=True, capture_output=True, timeout=60).stdout
        )

    def healthy() -> list[bool]:
        return [device.healthy for device in devices.read()]

    well, ill = [True, True], [True, False]
    assert (healthy(), len(devices.notes())) == (well, 1)
    assert seen_by_nvml("and mends it") == [well, ill]
    assert healthy() == well
    assert seen_by_nvml() == [well, ill]
    assert (healthy(), devices.notes()[1]) == (ill, "devices that fail: 1")
    assert [(each.model, each.memory_mib >> 10) for each in devices.read()] == [("A100", 40)] * 2


def test_other_devices_are_another_machine_and_the_same_ones_the_same(tmp_path: Path) -> None:
    """Work that runs on when a server comes back with others isn't disturbed."""
    first, again, other = (
        with_driver(open_devices(spec), tmp_path).visible((0,))["GPUMAX_EMU"]
        for spec in ("1xT4:16Gi", "1xT4:16Gi", "1xT4:15Gi")
    )
    assert first == again != other


def test_a_process_without_devices_gets_no_driver(tmp_path: Path) -> None:
    assert with_driver(open_devices("1xT4:16Gi"), tmp_path).visible(()) == {
        "CUDA_VISIBLE_DEVICES": "", "GPUMAX_VIRTUAL_DEVICES": "1",
    }  # fmt: skip


@pytest.mark.parametrize("spec", ["17xT4:16Gi", "none"])
def test_more_than_a_driver_has_and_none_are_as_they_were(spec: str, tmp_path: Path) -> None:
    devices = open_devices(spec)
    assert with_driver(devices, tmp_path) is devices
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["with:colon", "with$dollar", "x" * 201])
def test_a_folder_that_a_loader_cant_be_told_is_done_without(name: str, tmp_path: Path) -> None:
    devices = open_devices("1xT4:16Gi")
    assert with_driver(devices, tmp_path / name) is devices


def test_without_native_libraries_devices_are_virtual_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise NotFound(name)

    monkeypatch.setattr("gpumax.devices.emulated.library", missing)
    devices = open_devices("1xT4:16Gi")
    assert with_driver(devices, tmp_path) is devices


ASKS = """
import ctypes, sys
from pathlib import Path
from gpumax.devices import open_devices, with_driver
with_driver(open_devices("2xA100:40Gi"), Path(sys.argv[1])).read()
try:
    print(hasattr(ctypes.CDLL("libnvidia-ml.so.1"), "gpumax_emu_health"))
except OSError:
    print(False)
"""


def test_whoever_looks_at_devices_does_not_take_their_nvml_for_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKS, tmp_path], check=True, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
