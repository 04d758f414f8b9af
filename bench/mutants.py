"""Mutation testing of the policy: `python bench/mutants.py [--sample N] [--seed N] [--jobs N]`; `make mutants`.

Each mutant is one small fault in one module of `gpumax.policy` (bench/mutate.py says which kinds). It is killed by the
first test that fails, or by a test that takes many times as long as without it. Tests that never enter the function with
the fault are not run. Printed: the score, and every survivor.

Nothing is written: each mutant lives in a process of its own, which compiles the faulty module while importing it.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, Final, NamedTuple

import msgspec  # noqa: F401  imported once here, so that no process has to
import numpy  # noqa: F401
import pytest

from measure import machine
from mutate import changed, sites, told

ROOT: Final = Path(__file__).parents[1]
POLICY: Final = ROOT / "src" / "gpumax" / "policy"
TESTS: Final = ("tests/policy", "tests/properties")
EXAMPLES: Final = "20"
"""How many clusters each property draws: a look in seconds. The same ones in every run."""


class Mutant(NamedTuple):
    """A change of a module, by its number there."""

    path: Path
    number: int
    function: int | None


class Known(NamedTuple):
    """What a test does without a fault: the functions that it enters, by file and first line, and its seconds."""

    functions: frozenset[tuple[str, int]]
    seconds: float


class Faulty(importlib.machinery.SourceFileLoader):
    """Loads a module with one change."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: the change stands in no file."""
        tree = changed(self._mutant.path.read_text(encoding="utf-8"), self._mutant.number)
        return compile(tree, str(self._mutant.path), "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the faulty module in place of the right one."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"gpumax.policy.{mutant.path.stem}"
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Of this one module only."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self._mutant.path, loader=Faulty(fullname, self._mutant)
        )


class Watch:
    """Notes which functions of the policy each test enters, and how long it takes."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Around each test."""
        entered: set[CodeType] = set()

        def enter(frame: FrameType, event: str, _: object) -> None:
            if event == "call":
                entered.add(frame.f_code)

        start = time.process_time()
        sys.setprofile(enter)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            ours = {
                (Path(code.co_filename).name, code.co_firstlineno) for code in entered if _is_policy(code)
            }
            self.tests[item.nodeid] = {"functions": sorted(ours), "seconds": time.process_time() - start}


class Chosen:
    """Runs these tests only, the shortest first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rank = {name: rank for rank, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Others are left out."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )


def _is_policy(code: CodeType) -> bool:
    return code.co_filename.startswith(str(POLICY))


def _run(tests: Iterable[str], plugin: object) -> int:
    """The exit status of pytest, in this process."""
    os.environ["GPUMAX_EXAMPLES"] = EXAMPLES
    arguments = [
        *tests,
        "-x",
        "-q",
        "-p",
        "no:xdist",
        "--hypothesis-seed=0",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    return int(pytest.main(arguments, plugins=[plugin]))


def _silent() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)


def known_tests() -> dict[str, Known]:
    """All tests, without a fault; exits where one fails."""
    with tempfile.NamedTemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            _silent()
            watch = Watch()
            status = _run(TESTS, watch)
            Path(file.name).write_text(json.dumps(watch.tests))
            os._exit(status)
        if os.waitpid(pid, 0)[1]:
            sys.exit("a test fails without any fault")
        rows = json.loads(Path(file.name).read_bytes())
    return {
        name: Known(frozenset((file, line) for file, line in row["functions"]), row["seconds"])
        for name, row in rows.items()
    }


def all_mutants() -> list[Mutant]:
    """Those of every module."""
    return [
        Mutant(path, number, site.function)
        for path in sorted(POLICY.glob("*.py"))
        for number, site in enumerate(sites(ast.parse(path.read_text(encoding="utf-8"))))
    ]


def start(mutant: Mutant, tests: dict[str, Known]) -> int:
    """The process in which its tests run; its status is 0 where all pass."""
    name = (mutant.path.name, mutant.function or 0)
    mine = {
        test: row.seconds for test, row in tests.items() if mutant.function is None or name in row.functions
    }
    pid = os.fork()
    if pid:
        return pid
    _silent()
    if not mine:
        os._exit(0)
    seconds = 20 + round(5 * sum(mine.values()))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    sys.meta_path.insert(0, Finder(mutant))
    order = sorted(mine, key=lambda test: mine[test])
    os._exit(_run(sorted({test.partition("::")[0] for test in mine}), Chosen(order)))


def survivors(mutants: list[Mutant], tests: dict[str, Known], jobs: int) -> list[Mutant]:
    """Those that no test kills, in order; what is printed meanwhile is true of those that are done, in the order of the draw."""
    waiting, running, left = list(reversed(mutants)), dict[int, Mutant](), []
    done = 0
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant, tests)] = mutant
        pid, status = os.wait()
        mutant = running.pop(pid)
        done += 1
        if status == 0:
            left.append(mutant)
            print(f"{done} of {len(mutants)}: {_told(mutant)}", file=sys.stderr, flush=True)
    return sorted(left)


def _told(mutant: Mutant) -> str:
    return f"{mutant.path.name}:{told(mutant.path.read_text(encoding='utf-8'), mutant.number)}"


def main() -> None:
    """Read the flags, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=200, help="how many, drawn from all; 0: all of them")
    parser.add_argument("--seed", type=int, default=1, help="which ones are drawn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run side by side")
    parser.add_argument("--module", default="", help="of one module only, such as `order`")
    flags = parser.parse_args()
    os.chdir(ROOT)
    mutants = [row for row in all_mutants() if flags.module in ("", row.path.stem)]
    count = len(mutants)
    if 0 < flags.sample < count:
        mutants = random.Random(flags.seed).sample(mutants, flags.sample)
    left = survivors(mutants, known_tests(), flags.jobs)
    killed = len(mutants) - len(left)
    print(
        f"{killed} of {len(mutants)} mutants killed ({killed / len(mutants):.1%}), of {count} in all; seed {flags.seed}"
    )
    print(machine())
    for mutant in left:
        print(f"- {_told(mutant)}")


if __name__ == "__main__":
    main()
