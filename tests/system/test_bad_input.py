"""Bad input gets a message of a line or two that names place, finding and wish, exit code 2, and never a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.harness import Machine, machine


@pytest.fixture(scope="module")
def there() -> Iterator[Machine]:
    """One server for all of this file; no bad file may hurt it."""
    with machine() as made:
        yield made


BAD = {
    "unknown queue": ("name: a\nproject: nobody\nrun: x\n", ["project", "nobody"]),
    "a cycle of parents": (
        "- {kind: queue, name: a, parent: b}\n- {kind: queue, name: b, parent: a}\n", ["parent", "cycle"]
    ),
    "duplicate names": ("- {name: a, run: x}\n- {name: a, run: x}\n", ["name", "twice"]),
    "a negative amount": ("name: a\nrun: x\nresources: {gpu: -1}\n", ["line 3", "resources.gpu", "-1"]),
    "no number": ("name: a\nrun: x\nresources: {cpu: .nan}\n", ["resources.cpu"]),
    "one and a half GPUs": ("name: a\nrun: x\nresources: {gpu: 1.5}\n", ["resources.gpu", "1.5"]),
    "tabs": ("name: a\n\trun: x\n", ["line 2", "tab"]),
    "an unknown field": ("name: a\nrun: x\nresorces: {gpu: 1}\n", ["resorces", "did you mean resources"]),
    "nothing to run": ("name: a\n", ["run"]),
    "deep nesting": ("[" * 5000, ["nest"]),
    "aliases that explode": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{after}: &{after} [{', '.join([f'*{name}'] * 9)}]\n" for name, after in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        ["alias"],
    ),
    "an empty file": ("", ["nothing"]),
    "a kind of the future": ("name: a\nkind: inference\nrun: x\n", ["kind", "inference"]),
    "a field that is not honoured yet": ("name: a\nrun: x\ntopology: {required: rack}\n", ["topology"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_words(there: Machine, case: str) -> None:
    """Place, finding and wish on stderr, exit code 2, nothing submitted."""
    text, words = BAD[case]
    done = there.apply(text)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 400
    assert there.items() == {}


def test_all_faults_of_a_file_are_told_at_once(there: Machine) -> None:
    """Three faults, three lines, each with its line in the file."""
    done = there.apply("name: a\nrun: x\nproject: nobody\nresources: {gpu: -1}\ngrace: soon\n")
    assert done.returncode == 2
    assert [line.split(": ")[2] for line in done.stderr.splitlines()] == ["line 3", "line 4", "line 5"]


def test_files_that_are_none(there: Machine, tmp_path: Path) -> None:
    """A directory, a missing file, bytes that are no text and 100 MB: told in a line, quickly."""
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: café\nrun: x\n".encode("latin-1"))
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 100 << 20)
    wanted = {
        str(tmp_path): "directory",
        str(tmp_path / "missing"): "no such file",
        str(latin): "UTF-8",
        str(large): "MiB",
    }
    for path, word in wanted.items():
        for command in (["apply", "-f", path], ["plan", "-f", path], ["decide", path]):
            done = there.cli(*command)
            assert done.returncode == 2, (command, done.stderr)
            assert word in done.stderr
            assert len(done.stderr.splitlines()) <= 2
            assert "Traceback" not in done.stderr


def test_a_snapshot_s_unknown_queue_is_a_hold_and_its_contradictions_are_faults(
    there: Machine, tmp_path: Path
) -> None:
    """What only that one workload suffers from is a hold; what makes the state meaningless is refused."""
    node = {
        "name": "n1",
        "cpu": 8,
        "memory": "8Gi",
        "devices": {"count": 2, "model": "H100", "memory": "80Gi"},
    }
    task = {"name": "w-0", "state": "pending", "request": {"gpu": 1}}
    snapshot = {"version": "gpumax/v1", "now": 0, "nodes": [node], "queues": [],
                "workloads": [{"name": "w", "queue": "nobody", "tasks": [task]}]}  # fmt: skip
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(snapshot))
    done = there.cli("decide", str(file), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["holds"][0]["code"] == "QueueNotFound"
    file.write_text(json.dumps({**snapshot, "nodes": [node, node]}))
    done = there.cli("decide", str(file))
    assert done.returncode == 2
    assert "nodes[1].name" in done.stderr


def test_work_that_can_never_run_is_accepted_and_said_so_at_once(there: Machine) -> None:
    """More than any node has: accepted, held with the reason, and `apply` and `run` tell it."""
    done = there.apply("name: huge\nrun: sleep 1\nresources: {gpu: 9}\n")
    assert done.returncode == 0
    assert "NoNodeMatches" in done.stderr
    assert there.apply("{kind: queue, name: small, limit: {gpu: 1}}").returncode == 0
    done = there.cli("run", "-n", "over", "-p", "small", "--gpu", "2", "--", "sleep", "1")
    assert done.returncode == 0
    assert "OverLimit" in done.stderr
    assert "never" in done.stderr
    there.must("delete", "huge", "over")
