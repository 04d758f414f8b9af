"""The Dockerfile: its steps, run here without Docker in a folder of their own, come to a program that works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEEL = "gpumax-0.1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
LATER = ("hatchling", "editables", "pip", "pytest")
"""What builds and tests, and has no place where it runs."""


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their words, in order."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def of_stage(number: int) -> list[tuple[str, str]]:
    """Those of a stage, without its FROM."""
    found: list[list[tuple[str, str]]] = []
    for step in steps():
        if step[0] == "FROM":
            found.append([])
        elif found:
            found[-1].append(step)
    return found[number]


def let_through(path: str) -> bool:
    """Whether .dockerignore gives this file to the build; the last line that fits counts, and one of a folder counts for what is in it."""
    given = True
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        fits = any(fnmatch(part, pattern) for part in (path, Path(path).name, *map(str, Path(path).parents)))
        given = given if not fits else line.startswith("!")
    return given


def test_all_that_is_copied_is_let_through_and_nothing_private() -> None:
    """What .dockerignore keeps out would be missing in the build; what it lets through could end up in an image."""
    copied = [word for name, words in of_stage(0) if name == "COPY" for word in words.split()[:-1]]
    assert copied
    assert let_through(f"dist/{WHEEL}")
    for name in copied:
        if name == "dist":  # made, not kept
            continue
        files = [ROOT / name] if (ROOT / name).is_file() else list((ROOT / name).rglob("*.py"))[:20]
        assert files
        assert all(let_through(str(file.relative_to(ROOT))) for file in files), name
    for name in (
        ".git/config",
        ".venv/bin/python",
        "tests/audit.py",
        "src/gpumax/__pycache__/a.pyc",
        "key.pem",
        "dist/notes.txt",
    ):
        assert not let_through(name), name


def test_the_last_stage_builds_nothing_and_is_no_roots() -> None:
    """It has a base and what was built, runs no command, and its user is a number, as `runAsNonRoot` needs it."""
    last = of_stage(-1)
    assert [name for name, _ in last if name in ("RUN", "ADD")] == []
    user = dict(last)["USER"]
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)
    assert dict(last)["ENTRYPOINT"] == '["gpumax"]'


@pytest.mark.slow
def test_its_steps_make_a_program_that_works(tmp_path: Path) -> None:
    """Packages come by their hashes and without a compiler; what is left has what a cluster needs, and neither builds nor tests."""
    context, target = tmp_path / "src", tmp_path / "opt"
    context.mkdir()
    wheels = wheel(tmp_path / "dist")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "CC": "false",
        "HOME": str(tmp_path),
    }
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    for name, words in of_stage(0):
        if name == "COPY":
            *sources, end = words.split()
            for source in sources:
                copy(wheels if source == "dist" else ROOT / source, context / end, Path(source).name)
        elif name == "RUN":
            command = words.replace("/opt/gpumax", str(target))
            done = subprocess.run(
                ["sh", "-ec", command], cwd=context, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    shutil.rmtree(context)
    works = [["--version"], ["up", "--help"], ["agent", "--node-name", "n", "--devices", "nonsense"]]
    said = [
        subprocess.run([target / "bin/gpumax", *words], env=environment, capture_output=True, text=True)
        for words in works
    ]
    assert [one.returncode for one in said[:2]] == [0, 0], said
    assert "nonsense" in said[2].stderr, said[2].stderr
    layer = tmp_path / "layer"
    laid = (
        f"from gpumax.apps.agent.layer import lay; from pathlib import Path; print(lay(Path({str(layer)!r})))"
    )
    done = subprocess.run(
        [target / "bin/python", "-I", "-c", laid], capture_output=True, text=True, check=False
    )
    assert (done.stdout, sorted(each.name for each in layer.iterdir())) == (
        "\n",
        ["libgpumax-cuda.so", "libgpumax-ml.so"],
    ), done.stderr
    names = ("gpumax.apps.scheduler.main", "gpumax.apps.webhook.main", "gpumax.apps.agent.main")
    python = [str(target / "bin/python"), "-I", "-c"]
    assert subprocess.run([*python, f"import {', '.join(names)}"], check=False).returncode == 0
    for name in LATER:
        assert (
            subprocess.run([*python, f"import {name}"], capture_output=True, check=False).returncode == 1
        ), name


def wheel(out: Path) -> Path:
    """A folder with a wheel for this machine, by its own compiler: what `make wheels` does for every machine takes a compiler of 100 MB."""
    sources = out.with_name("sources")
    sources.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, sources / name)
    for name in ("src", "interposer"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=sources, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def copy(source: Path, end: Path, name: str) -> None:
    """As COPY does: a file into a folder, the content of a folder into another."""
    if source.is_dir():
        shutil.copytree(source, end, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        end.mkdir(exist_ok=True)
        shutil.copy(source, end / name)
