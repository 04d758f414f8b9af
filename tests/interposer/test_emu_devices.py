"""An emulated machine has the devices that GPUMAX_EMU says, and none where it says nothing or something wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, cc
from interposer.emulated import Machine

DESCRIBE = """
ok(d.cuInit(0))
def one(i):
    device = ok(d.cuDeviceGet(i))
    a = d.CUdevice_attribute
    return {
        "name": ok(d.cuDeviceGetName(64, device)).rstrip(b"\\0 ").decode().split(chr(0))[0],
        "memory": ok(d.cuDeviceTotalMem(device)),
        "uuid": ok(d.cuDeviceGetUuid(device)).bytes.hex(),
        "cc": [ok(d.cuDeviceGetAttribute(k, device)) for k in (
            a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)],
        "sms": ok(d.cuDeviceGetAttribute(a.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device)),
    }
say([one(i) for i in range(ok(d.cuDeviceGetCount()))])
"""


def test_devices_are_those_of_the_configuration(tmp_path: Path) -> None:
    config = {
        "devices": [
            {"model": "A100-40GB", "count": 2},
            {
                "name": "Mine",
                "memory": "1500Mi",
                "cc": "9.0",
                "sms": 7,
                "uuid": "GPU-01234567-89ab-cdef-0123-456789abcdef",
            },
        ]
    }
    first, second, third = Machine(tmp_path, config).run(DESCRIBE)
    assert first["name"] == second["name"] == "Emulated A100-40GB"
    assert first["memory"] == 40 << 30
    assert first["cc"] == [8, 0]
    assert first["uuid"] != second["uuid"]
    assert third == {
        "name": "Mine", "memory": 1500 << 20, "cc": [9, 0], "sms": 7, "uuid": "0123456789abcdef0123456789abcdef",
    }  # fmt: skip


def test_the_same_configuration_gives_every_process_the_same_devices(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"devices": [{"model": "T4", "count": 3}]})
    assert machine.run(DESCRIBE) == machine.run(DESCRIBE)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("1", [1]),
        ("2,0", [2, 0]),
        ("", []),
        ("0,9,1", [0]),
        ("-1", []),
        ("0,0", []),
        ("GPU-b", [1]),
        ("GPU-zz", []),
    ],
)
def test_a_process_sees_what_cuda_visible_devices_names(
    visible: str, seen: list[int], tmp_path: Path
) -> None:
    devices = [
        {"name": f"n{i}", "memory": "1Gi", "uuid": f"GPU-{c * 8}-0000-0000-0000-{'0' * 12}"}
        for i, c in enumerate("abc")
    ]
    machine = Machine(tmp_path, {"devices": devices})
    program = """
    said = name(d.cuInit(0))
    say([said, [int(ok(d.cuDeviceGetName(64, ok(d.cuDeviceGet(i))))[1:2]) for i in range(ok(d.cuDeviceGetCount()))]] if said == "CUDA_SUCCESS" else [said, []])
    """
    said, names = machine.run(program, CUDA_VISIBLE_DEVICES=visible)
    assert names == seen
    assert said == ("CUDA_SUCCESS" if seen else "CUDA_ERROR_NO_DEVICE")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("", ["not set; wanted JSON like"]),
        ("{", ["no JSON: no name of a member at character 2"]),
        ("[]", ["the file [] can't be read"]),
        ("/no/such/file", ["the file /no/such/file can't be read"]),
        ('{"devices": 3}', ["devices: wanted a list"]),
        ('{"devices": [{"model": "T5"}]}', ["devices[0].model: found T5; wanted T4, V100-16GB"]),
        (
            '{"devices": [{"memory": "lots", "sms": 0, "granularity": 3000, "colour": 1}, 4], "clock": "wall", "shard": 1}',
            [
                'devices[0].memory: wanted bytes, at least 1Mi, like "16Gi"', "devices[0].sms: wanted 1 to 1024",
                "devices[0].granularity: wanted a power of two", "devices[0].colour: no such member", "devices[1]: found no object",
                'clock: wanted "real" or "virtual"', "shard: no such member",
            ],
        ),
        ('{"faults": [{"call": "", "nth": 0}]}', ["faults[0].call: wanted the name", "faults[0].nth: wanted"]),
        (
            '{"faults": [{"call": "cuMemAloc_v2"}, {"call": "cuCtxDestroy"}, {"call": "flush"}, {"call": "cuInit"}]}',
            [
                "faults[0].call: found cuMemAloc_v2; wanted a function that the emulated driver has, like cuMemAlloc_v2; ",
                "faults[1].call: found cuCtxDestroy; wanted a function that the emulated driver has, like cuCtxDestroy_v2; ",
                "faults[2].call: found flush; wanted a function that the emulated driver has. ",
            ],
        ),
        ('{"devices": [{"count": 17}]}', ["devices[0].count: wanted 0 to 16"]),
    ],
)  # fmt: skip
def test_all_faults_of_a_configuration_are_told_in_one_line_and_there_are_no_devices(
    config: str, told: list[str], tmp_path: Path
) -> None:
    process = Machine(tmp_path, {}).start(
        "print(name(d.cuInit(0)), name(d.cuInit(0)), name(d.cuDeviceGetCount()))", GPUMAX_EMU=config
    )
    out, err = process.communicate(timeout=60)
    assert out.split() == ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NOT_INITIALIZED"]
    [line] = err.splitlines()
    assert line.startswith("gpumax: emulated driver: GPUMAX_EMU: ")
    for each in told:
        assert each in line


def test_a_configuration_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    file.write_text(json.dumps({"shared": str(tmp_path / "m"), "devices": [{"model": "L4"}]}))
    assert Machine(tmp_path, {}).run(DESCRIBE, GPUMAX_EMU=str(file))[0]["name"] == "Emulated L4"


def test_processes_with_other_devices_dont_share_a_machine(tmp_path: Path) -> None:
    one = Machine(tmp_path, {"devices": [{"model": "T4"}]})
    other = Machine(tmp_path, {"devices": [{"model": "L4"}]})
    holder = one.start("ok(d.cuInit(0)); say(1); wait_for_a_line()")
    assert holder.stdout is not None
    holder.stdout.readline()
    refused = other.start("print(name(d.cuInit(0)))")
    out, err = refused.communicate(timeout=60)
    holder.kill()
    holder.communicate()
    assert out.strip() == "CUDA_ERROR_SYSTEM_NOT_READY"
    assert "in use by processes with other devices; wanted the same GPUMAX_EMU" in err
    assert other.run(DESCRIBE)[0]["name"] == "Emulated L4"  # nobody is left on the first


def test_before_cuinit_and_after_a_fork_there_is_no_driver(machine: Machine) -> None:
    """As with the real one, a child of a process that uses the driver can't; one whose parent didn't, can."""
    program = """
    def in_child(what):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(into, what().encode())
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(out, 100).decode()
    before = name(d.cuDeviceGetCount())
    fresh = in_child(lambda: name(d.cuInit(0)))
    current()
    say([before, fresh, in_child(lambda: name(d.cuInit(0))), in_child(lambda: name(d.cuMemAlloc(100))), name(d.cuMemAlloc(100))])
    """
    assert machine.run(program) == [
        "CUDA_ERROR_NOT_INITIALIZED", "CUDA_SUCCESS", "CUDA_ERROR_NOT_INITIALIZED", "CUDA_ERROR_NOT_INITIALIZED", "CUDA_SUCCESS",
    ]  # fmt: skip


def test_the_version_of_the_driver_is_the_configured_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"driver": "12.4", "devices": [{"model": "T4"}]})
    assert machine.run("say(ok(d.cuDriverGetVersion()))") == 12040


def test_a_program_in_c_links_against_it(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "count.c"
    source.write_text(
        '#include "gpumax/cuda_api.h"\n#include <stdio.h>\n'
        "int main(void) { int n = 0; if (cuInit(0) || cuDeviceGetCount(&n)) return 2; return n == 1 ? 0 : 1; }\n"
    )

    done = cc(source, f"-I{INTERPOSER}/include", machine.libraries / "libcuda.so.1", "-o", tmp_path / "count")
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(
        [tmp_path / "count"], env=machine.environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
