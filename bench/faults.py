"""Tests under a fault: who reaches it, and whether any of them fails.

All tests are loaded once, in one process; each fault is put into a copy of it by giving the function around it other code.
A fault outside of all functions takes an import of its own.
"""

from __future__ import annotations

import builtins
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import Phase, settings

from mutate import MARK, changed, marked, told

ROOT: Final = Path(__file__).parents[1]
POLICY: Final = ROOT / "src" / "gpumax" / "policy"
TESTS: Final = ("tests/policy", "tests/properties")
EXAMPLES: Final = "20"
"""How many clusters each property draws: a look in seconds. The same ones in every run."""
A_FUNCTION: Final = 1
"""The flag of code that is a function's, and not a class's."""
TO_BE_LOADED: Final = 77
"""The exit status of a process that can't put a fault into what is loaded."""


class Mutant(NamedTuple):
    """A change of a module, by its number there. inside: whether it is in a function."""

    path: Path
    number: int
    inside: bool

    def code(self) -> CodeType:
        """The module with the change, compiled: it stands in no file."""
        tree = changed(self.path.read_text(encoding="utf-8"), self.number)
        return compile(tree, str(self.path), "exec")

    def told(self) -> str:
        """In words."""
        return f"{self.path.name}:{told(self.path.read_text(encoding='utf-8'), self.number)}"


class Known(NamedTuple):
    """What a test does without a fault: which faults it would reach, by their places in the list, and its seconds."""

    reached: frozenset[int]
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
    """Notes which faults each test would reach, and how long it takes."""

    def __init__(self, mutants: list[Mutant]) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self._mutants = mutants

    def prepare(self) -> None:
        """Mark where the faults would be."""
        marks: dict[Path, dict[int, int]] = {}
        for at, mutant in enumerate(self._mutants):
            marks.setdefault(mutant.path, {})[mutant.number] = at
        for path, numbers in marks.items():
            tree = marked(path.read_text(encoding="utf-8"), numbers)
            put(path, compile(tree, str(path), "exec"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Around each test, with what is made ready for it."""
        reached: set[int] = set()
        # Not the set's own method: tests that count steps count what the policy itself calls of such.
        setattr(builtins, MARK, lambda number: reached.add(number))
        start = time.process_time()
        try:
            return (yield)
        finally:
            seconds = time.process_time() - start
            self.tests[item.nodeid] = {"reached": sorted(reached), "seconds": seconds}


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
        tests = self._watched(session)

        def attempt(mutant: Mutant, names: list[str]) -> int:
            if not names:
                return 0
            if not inject(mutant):
                return TO_BE_LOADED
            return int(not self._pass(session, names, tests))

        left, unknown = tried(self._mutants, tests, self._jobs, attempt)
        rows = {name: {"reached": sorted(row.reached), "seconds": row.seconds} for name, row in tests.items()}
        self._into.write_text(json.dumps({"tests": rows, "left": left, "unknown": unknown}))
        return True

    def _watched(self, session: pytest.Session) -> dict[str, Known]:
        """What each test reaches, and its seconds; the tests are dealt out to processes."""
        names = list(self._items)
        with tempfile.TemporaryDirectory() as folder:
            pids = []
            for number in range(self._jobs):
                pid = os.fork()
                if pid == 0:
                    watch = Watch(self._mutants)
                    watch.prepare()
                    session.config.pluginmanager.register(watch)
                    fine = self._pass(session, names[number :: self._jobs])
                    Path(folder, str(number)).write_text(json.dumps(watch.tests))
                    os._exit(not fine)
                pids.append(pid)
            statuses = [os.waitpid(pid, 0)[1] for pid in pids]
            if any(statuses):
                os._exit(1)
            found = [json.loads(Path(folder, str(number)).read_bytes()) for number in range(self._jobs)]
        return {name: row for rows in found for name, row in known(rows).items()}

    def _pass(self, session: pytest.Session, names: list[str], tests: dict[str, Known] | None = None) -> bool:
        """Whether these tests pass, run in this order until one doesn't; one that takes many times as long ends the process."""
        for name, after in zip(names, [*names[1:], None], strict=True):
            if tests is not None:
                signal.setitimer(signal.ITIMER_PROF, 5 + 5 * tests[name].seconds)
            item, following = self._items[name], None if after is None else self._items[after]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail or session.shouldstop:
                if tests is None:
                    print(f"{name} fails", file=sys.stderr, flush=True)
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


def known(rows: dict[str, dict[str, Any]]) -> dict[str, Known]:
    """What was noted of tests."""
    return {name: Known(frozenset(row["reached"]), row["seconds"]) for name, row in rows.items()}


def inject(mutant: Mutant) -> bool:
    """Put a fault into the loaded module; False where that takes an import."""
    return mutant.inside and put(mutant.path, mutant.code())


def put(path: Path, module: CodeType) -> bool:
    """Give the functions of a loaded module other code, where it differs; whether any did."""
    fresh = {code.co_qualname: code for code in _functions(module)}
    name, different = str(path), False
    for found in gc.get_objects():
        if not isinstance(found, FunctionType) or found.__code__.co_filename != name:
            continue
        code = fresh.get(found.__code__.co_qualname)
        if code is not None and code != found.__code__:
            try:
                found.__code__ = code
            except ValueError:  # it has other names of functions around it
                return False
            different = True
    return different


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
            mine = {
                name: row.seconds
                for name, row in tests.items()
                if not mutants[at].inside or at in row.reached
            }
            running[_start(mutants[at], mine, attempt)] = at
        pid, status = os.wait()
        at = running.pop(pid)
        done += 1
        if status == 0:
            left.append(at)
            print(f"{done} of {len(mutants)}: {mutants[at].told()}", file=sys.stderr, flush=True)
        elif os.waitstatus_to_exitcode(status) == TO_BE_LOADED:
            unknown.append(at)
        if done % 10 == 0:
            print(f"{done} of {len(mutants)}: {len(left)} survive so far", file=sys.stderr, flush=True)
    return left, unknown


def _start(mutant: Mutant, tests: dict[str, float], attempt: Callable[[Mutant, list[str]], int]) -> int:
    """The process in which these tests run, the shortest first; tests: with their seconds."""
    pid = os.fork()
    if pid == 0:
        seconds = 20 + round(5 * sum(tests.values()))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        silent(1, 2)
        os._exit(attempt(mutant, sorted(tests, key=lambda name: tests[name])))
    return pid


def silent(*streams: int) -> None:
    """Nobody is to read what this process writes there."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nothing, stream)


def run(tests: Iterable[str], plugin: object) -> int:
    """The exit status of pytest, in this process."""
    os.environ |= {"GPUMAX_EXAMPLES": EXAMPLES, "THOROUGH": "1"}
    # A test that fails is enough: nobody looks for its smallest example.
    settings.register_profile("faults", phases=(Phase.explicit, Phase.generate))
    settings.load_profile("faults")
    arguments = [
        *tests, "-x", "-q", "-p", "no:xdist", "--hypothesis-seed=0", "--assert=plain", "--tb=no",
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
    tests, unknown = known(found["tests"]), found["unknown"]
    at = {place: number for number, place in enumerate(unknown)}
    # By their places among those that are left.
    rows = {
        name: Known(frozenset(at[place] for place in row.reached if place in at), row.seconds)
        for name, row in tests.items()
    }

    def attempt(mutant: Mutant, names: list[str]) -> int:
        # What is loaded already would not be looked for.
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpumax"]:
            del sys.modules[name]
        sys.meta_path.insert(0, Finder(mutant))
        return run(sorted({name.partition("::")[0] for name in names}), Chosen(names))

    rest = [mutants[place] for place in unknown]
    left, _ = tried(rest, rows, jobs, attempt)
    return sorted([*(mutants[place] for place in found["left"]), *(rest[place] for place in left)])
