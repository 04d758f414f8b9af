"""Tests under a fault: who reaches it, and whether any of them fails.

All tests are loaded once, in one process; each fault is put into a copy of it by giving the function around it other code.
A fault outside of all functions takes an import of its own.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import pytest

from mutate import changed, told

ROOT: Final = Path(__file__).parents[1]
POLICY: Final = ROOT / "src" / "gpumax" / "policy"
TESTS: Final = ("tests/policy", "tests/properties")
EXAMPLES: Final = "20"
"""How many clusters each property draws: a look in seconds. The same ones in every run."""
OFTEN: Final = 1000
"""A test that enters a function more often is taken to reach all of it: to look on would take too long."""
A_FUNCTION: Final = 1
"""The flag of code that is a function's, and not a class's."""

Line = tuple[str, int]
"""A file of the policy, and a line of it."""


class Mutant(NamedTuple):
    """A change of a module, by its number there; its function and the lines of its statement, as of a Site."""

    path: Path
    number: int
    function: int | None
    span: tuple[int, int]

    def lines(self) -> set[Line]:
        """Of these a test reaches one, where it reaches the fault at all."""
        first, last = self.span
        return {(self.path.name, line) for line in range(first, last + 1)}

    def code(self) -> CodeType:
        """The module with the change, compiled: it stands in no file."""
        tree = changed(self.path.read_text(encoding="utf-8"), self.number)
        return compile(tree, str(self.path), "exec")

    def told(self) -> str:
        """In words."""
        return f"{self.path.name}:{told(self.path.read_text(encoding='utf-8'), self.number)}"


class Known(NamedTuple):
    """What a test does without a fault: the lines that it reaches, of those that were asked about, and its seconds."""

    lines: frozenset[Line]
    seconds: float


class Faulty(importlib.machinery.SourceFileLoader):
    """Loads a module with one change."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """With the change."""
        return self._mutant.code()


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
    """Notes which of these lines each test reaches, and how long it takes."""

    def __init__(self, lines: set[Line]) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self._lines = lines
        self._asked: dict[CodeType, frozenset[int]] = {}  # by function, those of its lines
        self._left: dict[CodeType, set[int]] = {}  # those that the test hasn't reached yet
        self._entered: dict[CodeType, int] = {}  # how often it was looked for them

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Around each test."""
        self._left.clear()
        start = time.process_time()
        sys.settrace(self._enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            reached = sorted(
                (Path(code.co_filename).name, line)
                for code, left in self._left.items()
                for line in self._asked[code] - left
            )
            self.tests[item.nodeid] = {"lines": reached, "seconds": time.process_time() - start}

    def _enter(self, frame: FrameType, _: str, __: object) -> Callable[..., Any] | None:
        code = frame.f_code
        asked = self._asked.get(code)
        if asked is None:
            asked = self._asked[code] = self._of(code)
        if not asked:
            return None
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = set(asked)
            left.discard(code.co_firstlineno)
            self._entered[code] = 0
        if not left:
            return None
        self._entered[code] += 1
        if self._entered[code] > OFTEN:
            left.clear()
            return None

        def step(frame: FrameType, _: str, __: object) -> Callable[..., Any] | None:
            left.discard(frame.f_lineno)
            return step if left else None

        return step

    def _of(self, code: CodeType) -> frozenset[int]:
        if not code.co_filename.startswith(str(POLICY)):
            return frozenset()
        name = Path(code.co_filename).name
        lines = {line for _, _, line in code.co_lines() if line is not None} | {code.co_firstlineno}
        return frozenset(line for line in lines if (name, line) in self._lines)


class Loaded:
    """One session in which all tests are loaded: it looks who reaches what, and tries each fault in a copy of itself."""

    def __init__(self, mutants: list[Mutant], jobs: int, into: Path) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._into = into
        self._items: dict[str, pytest.Item] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running the tests one after the other."""
        self._items = {item.nodeid: item for item in session.items}
        lines = set[Line]().union(*(mutant.lines() for mutant in self._mutants))
        tests = self._watched(session, lines)

        def attempt(mutant: Mutant, names: list[str]) -> int:
            if not names:
                return 0
            if not inject(mutant):
                return TO_BE_LOADED
            return int(not self._pass(session, names))

        left, unknown = tried(self._mutants, tests, self._jobs, attempt)
        rows = [
            {"name": name, "lines": sorted(row.lines), "seconds": row.seconds} for name, row in tests.items()
        ]
        told_apart = {"tests": rows, "left": left, "unknown": unknown}
        self._into.write_text(json.dumps(told_apart))
        return True

    def _watched(self, session: pytest.Session, lines: set[Line]) -> dict[str, Known]:
        with tempfile.NamedTemporaryFile() as file:
            pid = os.fork()
            if pid == 0:
                watch = Watch(lines)
                session.config.pluginmanager.register(watch)
                fine = self._pass(session, list(self._items))
                Path(file.name).write_text(json.dumps(watch.tests))
                os._exit(not fine)
            if os.waitpid(pid, 0)[1]:
                os._exit(1)
            return known(json.loads(Path(file.name).read_bytes()))

    def _pass(self, session: pytest.Session, names: list[str]) -> bool:
        """Whether these tests pass, run in this order until one doesn't."""
        for name, after in zip(names, [*names[1:], None], strict=True):
            item, following = self._items[name], None if after is None else self._items[after]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail or session.shouldstop:
                return False
        return True


class Chosen:
    """Runs these tests only, in this order."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rank = {name: rank for rank, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Others are left out."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )


TO_BE_LOADED: Final = 77
"""The exit status of a process that can't put a fault into what is loaded."""


def known(rows: dict[str, dict[str, Any]]) -> dict[str, Known]:
    """What was noted of tests."""
    return {
        name: Known(frozenset((file, line) for file, line in row["lines"]), row["seconds"])
        for name, row in rows.items()
    }


def inject(mutant: Mutant) -> bool:
    """Put a fault into the loaded module; False where that takes an import."""
    fresh = {code.co_qualname: code for code in _functions(mutant.code())}
    name, put = str(mutant.path), False
    for found in gc.get_objects():
        if not isinstance(found, FunctionType) or found.__code__.co_filename != name:
            continue
        code = fresh.get(found.__code__.co_qualname)
        if code is not None and code != found.__code__:
            try:
                found.__code__ = code
            except ValueError:  # it has other names of functions around it
                return False
            put = True
    return put


def _functions(code: CodeType) -> Iterator[CodeType]:
    """The functions of a module and of its classes, without those inside them."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & A_FUNCTION:
                yield inner
            else:
                yield from _functions(inner)


def tried(
    mutants: list[Mutant],
    tests: dict[str, Known],
    jobs: int,
    attempt: Callable[[Mutant, list[str]], int],
) -> tuple[list[int], list[int]]:
    """Places in the list: of those that no test kills, and of those of which that isn't known yet. Told meanwhile: the former.

    attempt: run in a process of its own; its exit status.
    """
    waiting, running = list(reversed(range(len(mutants)))), dict[int, int]()
    left, unknown, done = list[int](), list[int](), 0
    while waiting or running:
        while waiting and len(running) < jobs:
            at = waiting.pop()
            running[_start(mutants[at], tests, attempt)] = at
        pid, status = os.wait()
        at = running.pop(pid)
        done += 1
        if status == 0:
            left.append(at)
            print(f"{done} of {len(mutants)}: {mutants[at].told()}", file=sys.stderr, flush=True)
        elif os.waitstatus_to_exitcode(status) == TO_BE_LOADED:
            unknown.append(at)
    return left, unknown


def _start(mutant: Mutant, tests: dict[str, Known], attempt: Callable[[Mutant, list[str]], int]) -> int:
    """The process in which its tests run, the shortest first."""
    lines = mutant.lines()
    mine = {
        test: row.seconds
        for test, row in tests.items()
        if mutant.function is None or not lines.isdisjoint(row.lines)
    }
    pid = os.fork()
    if pid == 0:
        seconds = 20 + round(5 * sum(mine.values()))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        silent(1, 2)
        os._exit(attempt(mutant, sorted(mine, key=lambda test: mine[test])))
    return pid


def silent(*streams: int) -> None:
    """Nobody is to read what this process writes there."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nothing, stream)


def run(tests: Iterable[str], plugin: object) -> int:
    """The exit status of pytest, in this process."""
    os.environ["GPUMAX_EXAMPLES"] = EXAMPLES
    arguments = [
        *tests, "-x", "-q", "-p", "no:xdist", "--hypothesis-seed=0",
        "-W", "ignore::pytest.PytestAssertRewriteWarning",
    ]  # fmt: skip
    return int(pytest.main(arguments, plugins=[plugin]))


def survivors(mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Those that no test kills; exits where a test fails without any fault."""
    with tempfile.NamedTemporaryFile() as file:
        into = Path(file.name)
        pid = os.fork()
        if pid == 0:
            silent(1)
            run(TESTS, Loaded(mutants, jobs, into))
            os._exit(0)
        if os.waitpid(pid, 0)[1] or not into.stat().st_size:
            sys.exit("a test fails without any fault")
        found = json.loads(into.read_bytes())
    tests = known({row["name"]: row for row in found["tests"]})
    rest = [mutants[at] for at in found["unknown"]]

    def attempt(mutant: Mutant, names: list[str]) -> int:
        sys.meta_path.insert(0, Finder(mutant))
        return run(sorted({name.partition("::")[0] for name in names}), Chosen(names))

    left, _ = tried(rest, tests, jobs, attempt)
    return sorted([*(mutants[at] for at in found["left"]), *(rest[at] for at in left)])
