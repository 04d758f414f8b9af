"""`gpumax gpu check` and `gpumax gpu conformance`: what holds is shown to hold, and what doesn't is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpumax.apps.cli.commands import gpu_check
from gpumax.errors import Refused
from gpumax.model.node import Device
from gpumax.proof import run
from gpumax.proof.others import unlayered
from gpumax.units import MIB
from proof.machine import environment, gpumax

LIMIT = 256 * MIB


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of one emulated machine."""
    return environment(tmp_path_factory.mktemp("machine") / "lib")


def test_a_report_says_what_was_run_where_and_all_that_the_emulated_driver_can_do_is_shown_to_hold(
    machine: dict[str, str], tmp_path: Path
) -> None:
    """What isn't shown has its reason, and is none of what is there."""
    file = tmp_path / "report.json"
    done = gpumax(machine, "gpu", "conformance", "--report", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["machine"]["emulated"] is True
    assert report["machine"]["driver"] == "13.0"
    assert {each["section"] for each in report["results"]} >= {"driver", "memory", "ways", "swap", "time", "guarantee", "second tier", "detection", "deaths", "costs", "pytorch"}  # fmt: skip
    missing = {each["name"]: each["why"] for each in report["results"] if each["verdict"] == "not shown"}
    assert all(missing.values())
    for timed in ("fair", "strict", "strict alone"):  # tests run beside other tests
        assert missing.pop(timed, "does this machine do other work, too?").endswith("other work, too?")
    assert not missing.keys() & {"plain", "pitch", "managed", "async", "pool", "physical", "array", "fork", "identical", "by path", "driver", "fair", "strict", "strict alone", "unfenced", "mipmapped", "graph", "together", "guarantee", "broker killed", "taken off", "ipc", "lent"}  # fmt: skip


def test_without_the_layer_every_check_of_memory_and_of_ways_around_it_says_so(
    machine: dict[str, str],
) -> None:
    """A check that can't fail shows nothing."""
    bare = run.Given(LIMIT, unlayered(machine), own=True)
    found = {each.name: each.verdict for each in run.prove(run.select(["memory", "ways"]), bare)}
    assert set(found.values()) == {"broken"}


@pytest.mark.parametrize(
    "share", [("--gpu-memory", "256Mi"), ("--gpu", "0.5", "--gpu-memory", "160Mi", "--gpu-memory-limit", "256Mi", "--swap")]
)  # fmt: skip
def test_a_check_within_a_share_judges_that_share(
    machine: dict[str, str], share: tuple[str, ...], runtime: Path
) -> None:
    """With memory alone, and with a broker, of which only what is guaranteed need be had of memory that can't move."""
    machine = machine | {"XDG_RUNTIME_DIR": str(runtime)}
    words = ("gpu", "run", *share, "--", "gpumax", "gpu", "check", "-o", "json")
    path = f"{Path(sys.executable).parent}:{machine['PATH']}"
    done = gpumax(machine | {"PATH": path}, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["limit"] == LIMIT
    assert {each["verdict"] for each in found["items"]} <= {"holds", "not shown"}
    # Programs that are held are never taken for unfenced, whichever way they begin and end.
    assert not [log for log in runtime.glob("gpumax/*/log") if "unfenced" in log.read_text()]


def test_gangs_are_shown_where_there_are_two_devices(tmp_path: Path) -> None:
    there = environment(tmp_path / "lib", devices=2)
    done = gpumax(there, "gpu", "conformance", "--only", "gangs", "-o", "json")
    [found] = json.loads(done.stdout)["items"]
    assert (found["name"], found["verdict"]) == ("gang", "holds"), found["why"]


def test_a_table_says_that_it_is_no_gpu(machine: dict[str, str]) -> None:
    done = gpumax(machine, "gpu", "conformance", "--only", "driver")
    assert done.returncode == 0
    assert "emulated: no GPU" in done.stderr
    assert done.stdout.startswith("holds     driver   version")


def test_on_a_terminal_nothing_is_cut_off_and_words_stand_below_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere each is one line, however long."""
    why = (
        "the device has no memory that could be moved away while others have their turn, so nothing is shown"
    )
    found = [
        run.Result("plain", "memory", 1, "cuMemAlloc", "not shown", why),
        run.Result("cuGetProcAddress", "ways", 1, "every version", "holds", figures={"calls": 3}),
    ]
    monkeypatch.setattr(gpu_check, "on_terminal", lambda: True)
    monkeypatch.setattr(gpu_check, "terminal_width", lambda: 80)
    assert gpu_check._told(found, "table") == found
    told = capsys.readouterr().out
    assert told == (
        "not shown memory   plain            the device has no memory that could be moved\n"
        "                                    away while others have their turn, so\n"
        "                                    nothing is shown\n"
        "holds     ways     cuGetProcAddress every version: calls 3\n"
    )
    monkeypatch.setattr(gpu_check, "terminal_width", lambda: 40)
    gpu_check._told(found, "table")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40
    monkeypatch.setattr(gpu_check, "on_terminal", lambda: False)
    gpu_check._told(found, "table")
    assert capsys.readouterr().out.splitlines()[0].endswith(f"plain            {why}")


def test_a_report_for_people(machine: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    assert gpumax(machine, "gpu", "conformance", "--only", "driver", "--report", str(file)).returncode == 0
    text = file.read_text()
    assert "Run on an emulated driver: nothing here was run on a GPU" in text
    assert "| moved | holds |" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check",), "there is no share in this environment"),
        (("check", "--gpu-memory", "lots"), "--gpu-memory: found lots"),
        (("check", "--gpu", "1.2"), "--gpu: found 1.2; wanted a share beside which another one has room"),
        (("check", "--gpu-memory", "1Mi"), "a limit of 1 MiB shows nothing"),
        (("check", "--gpu-memory", "1Gi"), "may be refused by the device itself"),
        (("conformance", "--only", "nonsense"), "there is no section nonsense; there are driver, memory"),
        (("check", "--device", "5", "--gpu-memory", "256Mi"), "the driver has no device 5"),
        (("conformance", "--report", "/nowhere/x.md"), "--report /nowhere/x.md: no such file or directory"),
    ],
)
def test_what_cant_be_judged_is_refused_in_words(
    machine: dict[str, str], words: tuple[str, ...], said: str
) -> None:
    done = gpumax(machine, "gpu", *words)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_driver_it_says_so(machine: dict[str, str]) -> None:
    done = gpumax(
        machine | {"LD_LIBRARY_PATH": "/nowhere", "GPUMAX_REAL_LIBCUDA": ""},
        "gpu",
        "check",
        "--gpu-memory",
        "256Mi",
    )
    assert done.returncode == 2
    assert "gpumax: no CUDA driver here: " in done.stderr


def test_a_static_program_is_told_from_one_that_is_held(machine: dict[str, str], tmp_path: Path) -> None:
    source, program = tmp_path / "x.c", tmp_path / "x"
    source.write_text("int main(void) { return 0; }\n")
    made = subprocess.run(
        ["cc", "-static", source, "-o", program], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip("this machine has no static C library")
    script = tmp_path / "x.sh"
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    for each in (program, script):
        done = gpumax(machine, "gpu", "check", str(each))
        assert done.returncode == 1
        assert "linked statically, so nothing can be preloaded: a limit wouldn't hold it" in done.stdout
    assert gpumax(machine, "gpu", "check", "/bin/sh").returncode == 0


def test_a_script_that_clears_the_environment_is_told(machine: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "x.sh"
    script.write_text("#!/usr/bin/env -S -i python3\n")
    script.chmod(0o755)
    done = gpumax(machine, "gpu", "check", str(script), "-o", "json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["holds"], found["why"]) == (False, "begins with an empty environment (env -i)")


def test_a_share_of_nonsense_is_said_to_be_nonsense(machine: dict[str, str]) -> None:
    done = gpumax(machine | {"GPUMAX_LIMIT": "lots"}, "gpu", "check")
    assert done.returncode == 2
    assert "GPUMAX_LIMIT=lots of this environment is no amount of memory above zero, as 10Gi" in done.stderr


def test_a_driver_without_a_device_is_told_of_with_what_may_hide_it(machine: dict[str, str]) -> None:
    done = gpumax(machine | {"CUDA_VISIBLE_DEVICES": ""}, "gpu", "check", "--gpu-memory", "256Mi")
    assert done.returncode == 2
    assert (
        "it has no device; `nvidia-smi` lists what it sees, and CUDA_VISIBLE_DEVICES may hide some"
        in done.stderr
    )


def test_a_machine_with_gpus_of_others_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver isn't missing: parts of these GPUs aren't given out."""
    monkeypatch.setattr(
        "gpumax.devices.sysfs.SysfsDevices.read", lambda self: (Device(0, "MI300X"), Device(1, "MI300X"))
    )
    monkeypatch.setattr(run, "machine", refuse)
    with pytest.raises(Refused, match=r"^the GPUs here \(MI300X\) are not NVIDIA's: .*as wholes"):
        gpu_check._machine(0, own=False)


def refuse(*_: object, **__: object) -> None:
    raise Refused(run._no_driver("libcuda.so.1: cannot open shared object file", 0))


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("cuInit gave 803", "load the module anew, or restart the machine"),
        ("cuInit gave 34", "take its folder out of LD_LIBRARY_PATH"),
        ("cuInit gave 999", "`nvidia-smi` and `gpumax doctor` tell more"),
        ("it ended", "`nvidia-smi` and `gpumax doctor` tell more"),
        (
            "OSError: libcuda.so.1: cannot open shared object file: No such file or directory",
            "try an emulated GPU",
        ),
    ],
)
def test_each_way_in_which_a_driver_fails_has_its_remedy(said: str, todo: str) -> None:
    assert todo in run._no_driver(said, 0)
