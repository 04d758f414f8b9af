"""Whatever moment a kill -9 chooses, nothing that a call returned for is lost, and nothing is half there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.stores.sql import SqlStore
from stores.submitter import TASKS, to_be_deleted
from thorough import examples

TESTS = Path(__file__).parents[1]
KILLS = examples(5, 24)
Row = tuple[WorkloadRecord, tuple[TaskRecord, ...]]


def _run_and_kill(path: Path, prefix: str, lines: int) -> list[tuple[str, str]]:
    """Let a process use the store, kill it after so many lines, and return all that it was told is certain."""
    with subprocess.Popen(
        [sys.executable, TESTS / "stores" / "submitter.py", path, prefix],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.readlines()
        child.wait()
    assert all(line.endswith("\n") for line in said)
    return [(act, name) for act, _, name in (line.strip().partition(" ") for line in said)]


def _check(name: str, acts: set[str], row: Row | None) -> None:
    """A workload is as the acknowledged acts left it, or one act further; all its tasks are alike."""
    if "deleted" in acts:
        assert row is None
        return
    if row is None:
        assert to_be_deleted(name)  # and that was on its way
        return
    record, tasks = row
    assert [task.index for task in tasks] == list(range(TASKS))
    assert {(task.state, task.node) for task in tasks} in ({("pending", None)}, {("running", "n1")})
    assert record.state == tasks[0].state
    assert "started" not in acts or record.state == "running"
    assert "stopped" not in acts or record.wish == "stop"


@pytest.mark.deep
def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Time and again a process is killed in the middle of its writes; the same file is used each time."""
    path = tmp_path / "gpumax.db"
    chance = random.Random(7)
    acts: dict[str, set[str]] = {}
    for turn in range(KILLS):
        certain = _run_and_kill(path, f"w{turn}", chance.randrange(1, 60))
        for act, name in certain:
            acts.setdefault(name, set()).add(act)
        with closing(SqlStore(path)) as store:
            rows = {record.name: (record, tasks) for record, tasks in store.live().workloads}
            for name in acts:
                _check(name, acts[name], rows.get(name))
            unsaid = rows.keys() - acts.keys()
            assert len(unsaid) <= 1  # at most the one that was being submitted
            acts.update((name, {"submitted"}) for name in unsaid)
            told = store.events(limit=100_000)
            assert [event.seq for event in told] == list(range(1, len(told) + 1))
            assert {event.workload for event in told if event.kind == "Submitted"} >= set(acts)
            for name, (record, _) in rows.items():
                started = [event for event in told if event.workload == name and event.kind == "Started"]
                assert len(started) == (TASKS if record.state == "running" else 0)
    assert sum("deleted" in its for its in acts.values()) >= KILLS // 2
