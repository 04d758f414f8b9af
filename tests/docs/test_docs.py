"""The examples of README.md and docs/ are true: they are read and run as they stand.

- ```yaml          a snapshot, a scenario, a workload file or objects of a cluster; it is read. Rights are given by a test on a real API server.
- ```console       lines that start with `$ ` are run in the order of the page, in a directory of the page's own, and exit
                   with 0. A line that ends in a backslash goes on. `exit=2` behind it names another exit code; `output`:
                   what is printed is what stands there.
- ```python        is run by Python, after the files and commands above it.

A block of any kind with `file=NAME` behind it is saved under that name for the page's commands.

A page that says `gpumax up` gets a server of its own, in the background. Blocks of any other kind (```sh, ```text) are
never run, nor are commands that start with `make`, `git` or `pip` or that watch (`-w`, `--watch`, `-f`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import manifests
from gpumax.formats.scenario import SCENARIO
from gpumax.formats.snapshot import load_snapshot
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue

ROOT = Path(__file__).parents[2]
EVERY_PAGE = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
PAGES = [
    page
    for page in EVERY_PAGE
    if "reference" not in page.relative_to(ROOT).parts and "```" in page.read_text(encoding="utf-8")
]
LONGEST_S = 120
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEVER = re.compile(r"^(make|git|pip|python -m pip|cd)\b|\s(-w|--watch|-f|--follow)(\s|$)")
_SNAPSHOT = frozenset(("nodes", "workloads", "queues", "policy"))


class Block(NamedTuple):
    """A fenced block. words: what stands behind its kind."""

    kind: str
    words: list[str]
    text: str

    def word(self, name: str) -> str:
        """The value of `name=value`; empty where it isn't there."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), "")


class Command(NamedTuple):
    """A command of a console block, and what stands below it."""

    line: str
    output: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(kind, words.split(), body) for kind, words, body in _BLOCK.findall(text)]


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL)
        assert match is not None
        yield Command(match[1], match[2])


class Page:
    """A directory, an environment and, where it is needed, a server for the blocks of one page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ours = Path(sys.executable).parent
        self.environment = {
            "PATH": f"{ours}:{os.environ.get('PATH', '/usr/bin:/bin')}", "HOME": str(home), "GPUMAX_DATA": str(home / "data"),
            "NO_COLOR": "1", "COLUMNS": "80", "LC_ALL": "C.UTF-8", "TMPDIR": str(home),
        }  # fmt: skip

    def take(self, block: Block) -> None:
        """Save, run and compare, whatever the block asks for."""
        if name := block.word("file"):
            (self.home / name).write_text(block.text, encoding="utf-8")
        if block.kind == "python":
            self.run(
                f"{sys.executable} -c '{block.text.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}'",
                0,
            )
        elif block.kind == "console":
            for command in commands(block.text):
                if _NEVER.search(command.line) is None:
                    printed = self.run(_in_background(command.line), int(block.word("exit") or 0))
                    if "output" in block.words:
                        assert printed.strip() == command.output.strip(), f"{command.line} prints\n{printed}"

    def run(self, line: str, code: int) -> str:
        """Run a shell line; returns what it prints for people and programs together."""
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONGEST_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{line} exits with {done.returncode}\n{done.stdout}"
        return done.stdout

    def close(self) -> None:
        """Stop the server that the page started, with its tasks."""
        if (self.home / "data").exists():
            subprocess.run(
                ["gpumax", "down", "--tasks"], cwd=self.home, env=self.environment, capture_output=True,
                timeout=LONGEST_S, check=False,
            )  # fmt: skip


def _in_background(line: str) -> str:
    return f"{line} --detach" if line.startswith("gpumax up") and "--detach" not in line else line


@pytest.fixture
def page() -> Iterator[Page]:
    """In /tmp, because the path of a socket is short."""
    home = Path(tempfile.mkdtemp(prefix="gd", dir="/tmp"))
    opened = Page(home)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(home, ignore_errors=True)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_examples_do_what_the_page_says(path: Path, page: Page) -> None:
    """Every command exits as it should, and prints what stands there where the page promises it."""
    for block in blocks(path.read_text(encoding="utf-8")):
        page.take(block)


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_files_on_a_page_are_sound(path: Path) -> None:
    """Snapshots, scenarios and workload files that people will copy."""
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.kind == "yaml":
            parsed = parse_text(block.text.encode(), _id(path))
            if "apiVersion: rbac." in block.text:
                continue  # tests/controlplane/test_queue_rights.py has an API server take them
            if isinstance(parsed[0].document, dict) and "apiVersion" in parsed[0].document:
                _check_objects([one.document for one in parsed])
            elif isinstance(parsed[0].document, dict) and "arrivals" in parsed[0].document:
                SCENARIO.read(parsed[0].document)
            elif isinstance(parsed[0].document, dict) and _SNAPSHOT & parsed[0].document.keys():
                load_snapshot(block.text, source=_id(path))
            else:
                projects = sorted(set(re.findall(r"project: *([\w.-]+)", block.text)) | {"default"})
                known = [Queue(name) for name in projects if f"name: {name}" not in block.text]
                load_workloads(parsed, base="/", queues=known, default_project="default")


def _check_objects(documents: list[Any]) -> None:
    """Objects of a cluster: on one with room, every pod that they make is placed."""
    made: list[Any] = [manifests.node("n1", 8)]
    for document in documents:
        meta = document["metadata"]
        meta |= {"uid": meta["name"], "namespace": "default", "creationTimestamp": manifests.CREATED}
        made.append(document)
        if document["kind"] == "Job":
            template = document["spec"]["template"]
            for number in range(document["spec"]["parallelism"]):
                one = manifests.pod(f"{meta['name']}-{number}", owner=document, namespace="default")
                one["metadata"]["labels"] = template["metadata"]["labels"]
                made.append({**one, "spec": template["spec"]})
    decision = manifests.decided(*made)
    assert len(decision.places) == sum(one["kind"] == "Pod" for one in made) > 0
    assert manifests.assembled(*made).faults == {}


@pytest.mark.parametrize("path", EVERY_PAGE, ids=_id)
def test_links_lead_somewhere(path: Path) -> None:
    """To files of the repository, and to headings of their own page."""
    text = path.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    ):
        file, _, heading = target.partition("#")
        if "://" in target:
            continue
        assert not file or (path.parent / file).exists(), f"{_id(path)} links to {target}"
        assert file or heading in headings, f"{_id(path)} links to {target}"


def test_a_block_is_taken_apart_as_the_pages_are_told() -> None:
    """Commands, lines that go on, output, and words behind the kind."""
    (block,) = blocks("text\n```console output exit=2\n$ a \\\n  b\nsaid\n$ c\n```\n")
    assert (block.kind, block.words, block.word("exit")) == ("console", ["output", "exit=2"], "2")
    assert list(commands(block.text)) == [Command("a \\\n  b", "said\n"), Command("c", "")]
    assert _in_background("gpumax up --devices 8xH100:80Gi") == "gpumax up --devices 8xH100:80Gi --detach"


def test_a_page_whose_command_fails_fails(page: Page) -> None:
    """With what was printed."""
    with pytest.raises(AssertionError, match="a directory"):
        page.take(Block("console", [], "$ gpumax decide .\n"))
    page.take(Block("console", ["exit=2"], "$ gpumax decide .\n"))
    with pytest.raises(AssertionError, match="prints"):
        page.take(Block("console", ["output"], "$ gpumax version\nsomething else\n"))
