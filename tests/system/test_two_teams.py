"""Two teams share one machine: idle quota is used, given back, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

from system.harness import Machine, eventually, machine

TEAMS = """
- {kind: queue, name: vision, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}
- {kind: queue, name: language, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}
"""

COUNTS = """
import os, pathlib, signal, sys, time
saved = pathlib.Path(os.environ["GPUMAX_CHECKPOINT_DIR"]) / "count"
count = int(saved.read_text()) if saved.exists() else 0
def save(*_):
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.write_text(str(count))
    print("saved", count, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("from", count, flush=True)
done = pathlib.Path(sys.argv[1])
while not done.exists():
    count += 1
    time.sleep(0.01)
"""
"""Counts until a file appears; saves and leaves when told to go, which it is ready for once it has said where it counts from."""


def _submit(there: Machine, name: str, project: str, gpus: int, tasks: int, command: list[str]) -> None:
    document = {
        "name": name, "project": project, "tasks": tasks, "resources": {"gpu": gpus}, "run": command, "grace": "10s"
    }  # fmt: skip
    done = there.apply(json.dumps(document))
    assert done.returncode == 0, done.stderr


def test_idle_quota_is_used_given_back_and_the_evicted_go_on_from_their_checkpoints() -> None:
    """A team uses the other's idle GPUs, gives them back when the owner submits, and finishes later from its checkpoints."""
    with machine() as there:
        program = there.data.parent / "count.py"
        program.write_text(COUNTS)
        flag = there.data.parent / "done"
        assert there.apply(TEAMS).returncode == 0
        for number in range(4):
            _submit(there, f"v{number}", "vision", 2, 1, ["python3", str(program), str(flag)])
        eventually(
            lambda: all("from 0" in there.must("logs", f"v{number}") for number in range(4)),
            "vision runs on 8 GPUs and would save",
        )
        _submit(there, "l0", "language", 2, 2, ["python3", "-c", "import time; time.sleep(1)"])
        eventually(lambda: there.in_state("l0", "succeeded"), "language has its quota back and finishes")
        flag.touch()
        eventually(
            lambda: {item["state"] for item in there.items().values()} == {"succeeded"}, "all end well"
        )
        items = there.items()
        evicted = {name for name, item in items.items() if item["evictions"]}
        assert evicted == {"v2", "v3"}, (
            "the youngest of the team that is over its share make way, no more than needed"
        )
        for name in evicted:
            lines = there.must("logs", name).splitlines()
            saved = [line.split()[1] for line in lines if line.startswith("saved")]
            assert saved, lines
            assert lines[-1] == f"from {saved[-1]}", "it went on where it had stopped"
        assert items["l0"]["runs"] == 1


def test_a_gang_has_what_launchers_need(tmp_path: Path) -> None:
    """Every task of a gang is told its rank, the size of the world and one meeting point, and sees only its own GPUs."""
    with machine() as there:
        line = "echo $RANK $WORLD_SIZE $MASTER_ADDR:$MASTER_PORT [$CUDA_VISIBLE_DEVICES] $GPUMAX_WORKLOAD"
        document = {"name": "gang", "tasks": 3, "resources": {"gpu": 2}, "run": line}
        assert there.apply(json.dumps(document)).returncode == 0
        eventually(lambda: there.in_state("gang", "succeeded"), "the gang ends")
        said = [there.must("logs", "gang", "--task", str(rank)).split() for rank in range(3)]
        assert [words[0] for words in said] == ["0", "1", "2"]
        assert {words[1] for words in said} == {"3"}
        assert len({words[2] for words in said}) == 1
        seen = [index for words in said for index in words[3].strip("[]").split(",")]
        assert len(seen) == len(set(seen)) == 6
