"""kill -9 anywhere: nothing that was accepted is lost, nothing runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from system.harness import Machine, eventually, machine, processes_of
from thorough import examples

KILLS = examples(6, 24)

PROGRAM = """
import os, pathlib, sys, time
notes = pathlib.Path(sys.argv[1])
me = f"{os.environ['GPUMAX_TASK']} {os.environ['GPUMAX_ATTEMPT']}"
def note(word):
    with open(notes, "a") as file:
        file.write(f"{word} {me}\\n")
note("begin")
time.sleep(float(sys.argv[2]))
note("end")
"""


def _submit_until(
    there: Machine, stop: threading.Event, accepted: list[str], program: Path, notes: Path
) -> None:
    """Submit one small workload after another, and keep the names that the server accepted."""
    number = 0
    while not stop.is_set():
        name = f"w{number}"
        number += 1
        command = ["python3", "-S", str(program), str(notes), "0.3"]
        document = {"name": name, "resources": {"gpu": 1}, "run": command}
        done = there.apply(json.dumps(document))
        if done.returncode == 0:
            accepted.append(name)
        else:
            assert done.returncode in (3, 4), (
                done.stderr
            )  # a repeat whose first answer was lost, or no server
            assert "Traceback" not in done.stderr


@pytest.mark.deep
def test_kill_9_of_the_server_at_random_moments_loses_nothing_and_runs_nothing_twice() -> None:
    """Over many kills of the server every accepted submit ends well, each task having run exactly once."""
    chance = random.Random(int(os.environ.get("GPUMAX_TEST_SEED", "1")))
    with machine() as there:
        program, notes = there.data.parent / "note.py", there.data.parent / "notes"
        program.write_text(PROGRAM)
        notes.touch()
        accepted: list[str] = []
        stop = threading.Event()
        submitter = threading.Thread(target=_submit_until, args=(there, stop, accepted, program, notes))
        submitter.start()
        try:
            for number in range(KILLS):
                if number % 4:  # every fourth kill meets a server that may still be starting
                    eventually(there.answers, f"a killed server comes back; it said {there.said()[-1000:]}")
                time.sleep(chance.uniform(0, 0.8))  # the random moment is the point of this test
                there.kill()
                there.up(wait=False)
        finally:
            stop.set()
            submitter.join()
        eventually(there.answers, "the last server answers")
        eventually(lambda: _all_ended(there), f"all end; it said {there.said()[-1000:]}", patience_s=120)
        items = there.items()
        assert len(accepted) >= KILLS // 3, "the test has something to lose"
        assert set(accepted) <= items.keys()
        assert {item["state"] for item in items.values()} == {"succeeded"}
        ran = notes.read_text().split("\n")[:-1]
        begun = [line.split()[1] for line in ran if line.startswith("begin")]
        ended = [line.split()[1] for line in ran if line.startswith("end")]
        assert sorted(begun) == sorted(set(begun)) == sorted(ended), (
            "every task ran once, from its begin to its end"
        )
        assert len(begun) == len(items)


def _all_ended(there: Machine) -> bool:
    return {item["state"] for item in there.items().values()} <= {"succeeded", "failed", "stopped"}


def test_tasks_run_on_without_their_server_and_are_adopted() -> None:
    """A task outlives kill -9 of its server; the next one knows it runs, and how it ended if it ended meanwhile."""
    with machine() as there:
        flag = there.data.parent / "go"
        wait = f"while [ ! -e {flag} ]; do sleep 0.05; done; exit 7"
        for name in ("first", "second"):
            document = {"name": name, "resources": {"gpu": 1}, "run": wait}
            assert there.apply(json.dumps(document)).returncode == 0
        eventually(lambda: all(item["tasks"]["running"] for item in there.items().values()), "both run")
        attempts = {event["seq"] for event in there.events("first") if event["kind"] == "Started"}
        there.kill()
        there.up()
        assert there.show("first")["tasks"][0]["state"] == "running"
        there.kill()
        flag.touch()
        eventually(lambda: not _tasks_of(there), "both end while no server is there")
        there.up()
        eventually(lambda: _all_ended(there), "the ends are known")
        assert [there.show(name)["tasks"][0]["exit_code"] for name in ("first", "second")] == [7, 7]
        assert {e["seq"] for e in there.events("first") if e["kind"] == "Started"} == attempts, (
            "adopted, not started again"
        )


def _tasks_of(there: Machine) -> list[int]:
    return [pid for pid in processes_of(there.data) if pid != (there.server.pid if there.server else 0)]


def _supervisor(task_pid: int) -> int:
    """The parent of a task's process."""
    return int(Path(f"/proc/{task_pid}/stat").read_text().rpartition(")")[2].split()[1])


def _alive(pid: int) -> bool:
    """Whether a process still does something; one that only waits for its parent to take note has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_kill_9_of_a_supervisor_is_noticed_cleaned_up_and_retried() -> None:
    """Where a task's supervisor is killed the task's whole tree goes, and the workload starts again by its retries."""
    with machine() as there:
        pids = there.data.parent / "pids"
        line = f"sleep 1000 & echo $$ >> {pids}; wait"
        document = {"name": "w", "resources": {"gpu": 1}, "run": line, "retries": {"max": 1}}
        assert there.apply(json.dumps(document)).returncode == 0
        eventually(lambda: pids.exists() and pids.read_text().count("\n") == 1, "it runs")
        first = int(pids.read_text())
        os.kill(_supervisor(first), signal.SIGKILL)
        eventually(lambda: pids.read_text().count("\n") == 2, "it runs again")
        assert not _alive(first)
        assert sum(event["kind"] == "Lost" for event in there.events("w")) == 1
        second = int(pids.read_text().split()[1])
        os.kill(_supervisor(second), signal.SIGKILL)
        eventually(lambda: there.in_state("w", "failed"), "its retries are used up")
        assert not _alive(second)
