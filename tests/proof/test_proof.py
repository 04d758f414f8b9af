"""`gpumax gpu check` and `gpumax gpu conformance`: what holds is shown to hold, and what doesn't is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert "gpumax: no CUDA driver that works here" in done.stderr


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
