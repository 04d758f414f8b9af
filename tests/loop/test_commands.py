"""`gpumax decide` and `gpumax replay`: data to stdout, words to stderr, exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gpumax import decide, load_snapshot
from gpumax.apps.cli import main
from gpumax.formats.decision import load_decision
from gpumax.formats.snapshot import dump_snapshot
from gpumax.loop.journal import FileJournal, journal_files
from loop.test_journal import busy


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """One command line."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main.run([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A snapshot in which A0 is served by reclaim and A1 waits."""
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(dump_snapshot(busy(2))))
    return path


def test_a_decision_is_printed_as_yaml_and_as_json(run: Run, file: Path) -> None:
    """Both read back as the decision that Python gets; nothing else is on stdout, nothing on stderr."""
    expected = decide(load_snapshot(file.read_bytes()))
    for arguments, read in (((), yaml.safe_load), (("--format", "json"), json.loads)):
        result = run("decide", file, *arguments)
        assert (result.code, result.err) == (0, "")
        assert load_decision(read(result.out)) == expected


def test_a_board_shows_the_cluster(run: Run, file: Path) -> None:
    """The picture with who makes way for whom."""
    result = run("decide", file, "--format", "board")
    assert result.code == 0
    assert "n1" in result.out
    assert "A1" in result.out


def test_some_passes_run_alone(run: Run, file: Path) -> None:
    """Without reclaim nobody is evicted; a pass that isn't there is named with those that are."""
    result = run("decide", file, "--format", "json", "--passes", "allocate")
    assert json.loads(result.out)["evictions"] == []
    for passes in ("allocate,reclam", ""):
        result = run("decide", file, "--passes", passes)
        assert (result.code, result.out) == (2, "")
        assert "allocate, consolidate, reclaim, preempt, stale" in result.err


def test_an_explanation_says_why_in_sentences(run: Run, file: Path) -> None:
    """For people, or as the API gives it; an unknown name gets near ones."""
    result = run("decide", file, "--explain", "A1")
    assert result.code == 0
    assert "It waits (" in result.out
    found = json.loads(run("decide", file, "--explain", "A1", "--format", "json").out)
    assert found["workload"] == "A1"
    assert found["hold"]["workload"] == "A1"
    assert {row["queue"] for row in found["queue"]} == {"a"}
    result = run("decide", file, "--explain", "A")
    assert (result.code, result.out) == (2, "")
    assert "did you mean A" in result.err


def test_a_bad_file_is_refused_with_all_its_faults(run: Run, tmp_path: Path) -> None:
    """Path, line, found, wanted; exit code 2."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("nodes:\n- {name: n1, cpu: -1}\nqueue: []\n")
    result = run("decide", bad)
    assert (result.code, result.out) == (2, "")
    assert "line 2: nodes[0].cpu" in result.err
    assert "queue" in result.err
    assert run("decide", tmp_path).code == 2
    assert run("decide", tmp_path / "none").code == 2
    assert run("decide", tmp_path / "none", "--stream").code == 2


def test_a_stream_answers_line_by_line(run: Run, tmp_path: Path) -> None:
    """A bad line gets an error with all its faults, and the next one is read."""
    good: dict[str, Any] = dump_snapshot(busy())
    lines = [
        json.dumps(good), "nonsense", "", json.dumps({"nodes": [{"name": 1}], "x": 1}), json.dumps(good)[:-1],
        "[1]", "\udcff", json.dumps(good),
    ]  # fmt: skip
    path = tmp_path / "lines"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    result = run("decide", path, "--stream")
    assert (result.code, result.err) == (0, "")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert len(answers) == len(lines)
    expected = decide(busy())
    for answer in (answers[0], answers[-1]):
        assert load_decision(answer) == expected
    for number, answer in enumerate(answers[1:-1], 2):
        assert list(answer) == ["error"]
        assert answer["error"]["message"].startswith(f"line {number}: ")
        assert {fault["line"] for fault in answer["error"]["faults"]} == {number}
    assert [fault["path"] for fault in answers[3]["error"]["faults"]] == ["x", "nodes[0].name"]


def test_a_stream_reads_standard_input_and_takes_passes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a study would drive it."""
    text = io.TextIOWrapper(io.BytesIO(json.dumps(dump_snapshot(busy())).encode() + b"\n"))
    monkeypatch.setattr("sys.stdin", text)
    result = run("decide", "--stream", "--passes", "allocate")
    assert result.code == 0
    assert json.loads(result.out)["evictions"] == []
    assert run("decide", "--stream", "--format", "yaml").code == 2


def test_a_replay_that_is_the_same_says_so(run: Run, tmp_path: Path) -> None:
    """Exit code 0 and nothing on stdout; a torn line is told and passed over."""
    journal = FileJournal(tmp_path / "journal")
    for waiting in (1, 2):
        journal.write(busy(waiting), decide(busy(waiting)))
    journal.close()
    (file,) = journal_files(tmp_path / "journal")
    for path in (file, tmp_path / "journal", tmp_path):
        result = run("replay", path)
        assert (result.code, result.out) == (0, "")
        assert "2 decisions, each the same again" in result.err
    file.write_bytes(file.read_bytes() + b'{"version"')
    result = run("replay", file)
    assert result.code == 0
    assert "torn" in result.err


def test_a_replay_that_differs_names_entry_time_and_place(run: Run, tmp_path: Path) -> None:
    """Exit code 1; a line for each difference."""
    journal = FileJournal(tmp_path)
    for waiting in (1, 2):
        journal.write(busy(waiting), decide(busy(waiting)))
    journal.close()
    (file,) = journal_files(tmp_path)
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second.replace(b'"reclaim"', b'"preempt"', 1))
    result = run("replay", tmp_path)
    assert result.code == 1
    assert result.out.startswith("entry 2 of 2001-09-09T01:46:40Z (")
    assert 'evictions[0].cause: recorded "preempt", now "reclaim"' in result.out
    assert "1 of 2 decisions differ" in result.err


def test_what_is_no_journal_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    """Exit code 2."""
    result = run("replay", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "no journal" in result.err
