"""Whatever stands in a file, in the environment or in a message: the C code that reads it stays within it, and answers.

Each reader gets inputs that nobody would write for FUZZ_SECONDS (15), beginning with those of fuzz/corpus; the compiler's checks of memory and of
undefined behaviour watch. libFuzzer makes the inputs where clang has it; elsewhere fuzz/standalone.c, with what gcc tells of coverage.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER
from interposer.under import scripted

__all__ = ["scripted"]

HERE = Path(__file__).parent / "fuzz"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
TARGETS = {
    "config": ["common/json.c", "emu/config.c", "emu/known.c", "emu/results.c"],
    "cache": ["share/search.c"],
    "words": ["share/words.c", "share/open.c", "share/search.c"],
    "wire": ["layer/client/wire.c"],
    "connection": [
        *(
            f"{folder}/{path.name}"
            for folder in ("layer", "share")
            for path in sorted((INTERPOSER / folder).glob("*.c"))
        ),
        *(
            f"layer/client/{path.name}"
            for path in sorted((INTERPOSER / "layer/client").glob("*.c"))
            if path.stem not in {"connection", "wire", "worker"}  # which the target takes in
        ),
        f"layer/{platform.machine()}.S",
    ],
    "image": ["common/json.c", *(f"emu/{path.name}" for path in sorted((INTERPOSER / "emu").glob("*.c")))],
}
MADE = {
    "wire": "obj/generated/layer/slots.h",
    "connection": "obj/generated/layer/slots.h",
    "image": "libgpumax-emu.so",
}
"""What has to be made before a target, for what is generated on the way."""
LONGEST = {"config": 1024, "cache": 512, "words": 128, "wire": 700, "connection": 300, "image": 512}
LEAST = 1000
"""Inputs that a reader must have had: fewer are no proof of anything."""


def compiler(folder: Path) -> tuple[list[str], list[str | Path]]:
    """A compiler with what it needs to know, and what is compiled beside a target."""
    clang = shutil.which("clang")
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]
    if clang is not None:
        trial = folder / "trial.c"
        trial.write_text("int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }\n")
        done = subprocess.run(
            [clang, "-fsanitize=fuzzer", trial, "-o", folder / "trial"], capture_output=True, check=False
        )
        if done.returncode == 0:
            return [clang, *checks, "-fsanitize=fuzzer"], []
    cc = os.environ.get("CC", "cc").split()
    plain = folder / "standalone.o"
    made = subprocess.run(
        [*cc, "-std=c11", "-D_GNU_SOURCE", "-O2", "-c", HERE / "standalone.c", "-o", plain],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return [*cc, *checks, "-fsanitize-coverage=trace-pc"], [plain]


@pytest.mark.parametrize("target", TARGETS)
def test_a_reader_stays_within_what_it_reads(target: str, scripted: Path, tmp_path: Path) -> None:
    command, beside = compiler(tmp_path)
    if target in MADE:
        made = subprocess.run(
            ["make", "-s", "-C", INTERPOSER, f"OUT={tmp_path}", tmp_path / MADE[target]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    tables = [tmp_path / "obj/emu" / each for each in ("entries.c", "stubs.c")] if target == "image" else []
    built = subprocess.run(
        [*command, "-std=c11", "-D_GNU_SOURCE", "-w", "-pthread", f"-I{INTERPOSER}", f"-I{INTERPOSER / 'include'}", f"-I{tmp_path / 'obj/generated/layer'}",
         HERE / f"{target}.c", *(INTERPOSER / each for each in TARGETS[target]), *tables, *beside,
         "-o", tmp_path / target, "-ldl", "-lm", "-lrt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    corpus = tmp_path / "corpus"
    shutil.copytree(HERE / "corpus" / target, corpus)
    words = [str(SECONDS), str(LONGEST[target]), str(corpus)]
    if not beside:
        words = [
            f"-max_total_time={SECONDS}",
            f"-max_len={LONGEST[target]}",
            "-timeout=20",
            "-print_final_stats=1",
            str(corpus),
        ]
    ran = subprocess.run(
        [tmp_path / target, *words],
        cwd=tmp_path,
        capture_output=True,
        timeout=SECONDS * 5 + 60,
        check=False,
        env=os.environ | {"GPUMAX_REAL_LIBCUDA": str(scripted)},
    )
    said = (ran.stdout + ran.stderr).decode(errors="replace")
    assert ran.returncode == 0, said[-4000:]
    count = re.search(r"stat::number_of_executed_units: *(\d+)", said)
    assert count is not None, said[-4000:]
    assert int(count[1]) > LEAST
    by = "standalone.c" if beside else "libFuzzer"
    sys.stdout.write(f"{target}: {count[1]} inputs by {by} in {SECONDS} s\n")
