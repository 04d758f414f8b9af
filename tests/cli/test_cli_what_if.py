"""what-if: what is printed, what is asked back, and that a stopped one leaves nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Cli
from gpumax.apps.cli import patient
from gpumax.formats.scenario import POLICIES
from gpumax.loop.journal import FileJournal
from gpumax.model.whatif import Difference, Found
from gpumax.study.load import load_scenario
from gpumax.study.replay import replay

SCENARIO = """
version: gpumax/v1
nodes: [{count: 2, cpu: 8, memory: 64Gi, devices: {count: 4, model: A100, memory: 80Gi}}]
queues: [{name: a, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}, {name: b, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}]
arrivals: {csv: trace.csv}
"""
TRACE = "name,submitted,duration,gpu,queue\n" + "".join(
    f"w{number},{number * 60},{600 + number * 40},{1 + number % 4},{'ab'[number % 3 == 0]}\n"
    for number in range(24)
)


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """Two dozen workloads of two queues on eight GPUs, who can't all run at once."""
    (tmp_path / "trace.csv").write_text(TRACE)
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return str(path)


def test_the_finding_stands_above_a_line_for_each_queue(cli: Cli, scenario: str) -> None:
    """As it is and as it would be, with a word; what was changed and what is assumed is told on stderr."""
    result = cli(
        "what-if", "--from", scenario, "--set", "queue.b.quota.gpu=6", "--set", "queue.a.quota.gpu=2"
    )
    assert result.code == 0
    assert result.out.isascii()
    who, together, empty, head, *rows = result.out.splitlines()
    assert who.startswith("On average b waits ")
    assert together.startswith("All together: mean wait ")
    assert empty == ""
    assert head.split("  ")[0] == "QUEUE"
    assert [row.split()[0] for row in rows] == ["a", "b", "all"]
    assert rows[0].split()[1:4] == ["4", "->", "2"]
    assert "better" in rows[1]
    assert "worse" in rows[0]
    assert "changed:\n- queue.b.quota.gpu: 4 -> 6\n- queue.a.quota.gpu: 4 -> 2\n" in result.err
    assert "assumed:\n- " in result.err


def test_a_program_gets_every_figure(cli: Cli, scenario: str) -> None:
    """The same as JSON, in the shape that is documented."""
    result = cli("what-if", "--from", scenario, "--add-nodes", "1xA100:4", "-o", "json")
    found = json.loads(result.out)
    assert list(found) == list(Difference.__struct_fields__)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "studies.md").read_text()
    assert [name for name in (*found, *found["queues"][0]) if f"`{name}`" not in page] == []
    assert (found["gpus"], found["nodes"]) == ({"before": 8, "after": 12}, {"before": 2, "after": 3})
    assert found["changes"] == ["1 node of 4 A100 added"]
    assert found["wait_mean_s"]["after"] < found["wait_mean_s"]["before"]
    assert [row["name"] for row in found["queues"]] == ["a", "b"]
    assert (
        json.loads(cli("what-if", "--from", scenario, "--add-nodes", "1xA100:4", "-o", "json").out) == found
    )


def test_a_search_tells_its_steps_as_it_goes(cli: Cli, scenario: str) -> None:
    """A line a cluster on stderr in the order in which they are played; the answer and all of them by size on stdout."""
    goal = "smallest cluster with p99 wait < 10 min"
    result = cli("what-if", "--from", scenario, "--find", goal)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("The smallest cluster with p99 wait < 10m has ")
    assert lines[1].startswith("Next to it: with ")
    head = next(number for number, line in enumerate(lines) if line.startswith("NODES  GPUS  P99 WAIT"))
    sizes = [int(line.split()[0]) for line in lines[head + 1 :]]
    assert sizes == sorted(sizes)
    assert result.err.splitlines()[0].startswith("2 nodes, 8 GPUs: ")
    assert sorted(int(line.split()[0]) for line in result.err.splitlines() if " GPUs: " in line) == sizes
    found = json.loads(cli("what-if", "--from", scenario, "--find", goal, "-o", "json").out)
    assert list(found) == list(Found.__struct_fields__)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "studies.md").read_text()
    assert [name for name in (*found, *found["tries"][0]) if f"`{name}`" not in page] == []
    assert [row["nodes"] for row in found["tries"]] == sizes
    assert f"has {found['nodes']} nodes ({found['gpus']} GPUs)" in lines[0]


def test_a_journal_is_asked_like_a_scenario(cli: Cli, scenario: str, tmp_path: Path) -> None:
    """A run that wrote a journal, asked by it: as many workloads, and what is assumed of a journal is told."""
    journal = FileJournal(tmp_path / "journal")
    played = load_scenario(Path(scenario))
    run = replay(played, "gpumax", 1, journal=journal)
    journal.close()
    result = cli("what-if", "--from", str(tmp_path / "journal"), "--add-nodes", "1x4", "-o", "json")
    found = json.loads(result.out)
    assert found["workloads"] == {"before": 24, "after": 24}
    assert found["gpus"] == {"before": 8, "after": 12}
    assert found["wait_mean_s"]["before"] == pytest.approx(run.wait_s.mean, rel=0.5)
    assert any("for as long as it really ran" in sentence for sentence in found["assumed"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing is asked; wanted --set, --add-nodes, --remove-nodes or --find"),
        (("--set", "queue.c.quota.gpu=1"), 'found no queue "c"; wanted a queue that exists'),
        (("--add-nodes", "H100"), "wanted COUNTxMODEL:GPUS like 4xH100:8"),
        (("--find", "cheapest"), 'wanted "smallest cluster with MEASURE < TIME"'),
        (
            ("--from", "/nowhere", "--add-nodes", "1x8"),
            "gpumax: /nowhere: found no such file; wanted a file that is there",
        ),
        (("--add-nodes", "1x8", "--policy", "gpumx"), "did you mean gpumax?"),
    ],
)
def test_what_can_not_be_answered_is_refused_before_anything_is_played(
    cli: Cli, scenario: str, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 2, nothing on stdout, and what is understood."""
    for play in ("compare", "find"):
        monkeypatch.setattr(f"gpumax.study.whatif.{play}", None)
    result = cli("what-if", "--from", scenario, *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_what_is_left(
    cli: Cli, scenario: str, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    """Half a comparison is none, nor is half a run: nothing is printed, and that is said. So with what a batch system sends."""

    def stopped(*_arguments: Any) -> None:
        signal.raise_signal(how)

    monkeypatch.setattr(patient.Patient, "__call__", stopped)
    for asked, said in (
        (("--add-nodes", "1x4"), "a comparison needs both sides, and writes nothing"),
        (("--find", "smallest cluster with p99 wait < 1h"), "no cluster was played to its end"),
    ):
        result = cli("what-if", "--from", scenario, *asked)
        assert (result.code, result.out, result.err) == (130, "", f"stopped; nothing is kept: {said}\n")


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("10 h", "2 nodes meet the goal; whether fewer do isn't known"),
        ("1 s", "none of them meets the goal"),
    ],
)
def test_a_search_that_is_stopped_says_what_it_knows(
    cli: Cli, scenario: str, monkeypatch: pytest.MonkeyPatch, bound: str, said: str
) -> None:
    """Of the clusters that were played, whether one meets the goal."""

    def stopped(_self: object, what: str, _part: float) -> None:
        if what != "2 nodes":
            raise KeyboardInterrupt

    monkeypatch.setattr(patient.Patient, "__call__", stopped)
    result = cli("what-if", "--from", scenario, "--find", f"smallest cluster with p99 wait < {bound}")
    assert (result.code, result.out) == (130, "")
    assert result.err.endswith(f"\nstopped after 1 cluster, told above: {said}\n")


def test_both_sides_at_once_find_the_same(cli: Cli, scenario: str) -> None:
    """However many run side by side; a search is one after the other, and says so."""
    question = ("what-if", "--from", scenario, "--set", "queue.b.quota.gpu=6", "-o", "json")
    assert cli(*question, "--jobs", "2")[:2] == cli(*question)[:2]
    search = cli(
        "what-if", "--from", scenario, "--find", "smallest cluster with p99 wait < 1h", "--jobs", "2"
    )
    assert search.code == 2
    assert "--jobs is for comparing" in search.err


def test_where_nothing_is_smaller_nothing_is_said_of_it(cli: Cli, scenario: str) -> None:
    """One node is the smallest cluster there is; a row that was left out is one."""
    trace = Path(scenario).parent / "trace.csv"
    trace.write_text(TRACE + "bad,1,-1,1,a\n")
    result = cli("what-if", "--from", scenario, "--find", "smallest cluster with max completion < 30 d")
    assert "has 1 node (4 GPUs)" in result.out
    assert "bisection" not in result.out
    assert "1 row was left out of the work, because something in it can't be used\n" in result.err


def test_it_says_which_time_its_figures_are_of(cli: Cli, scenario: str) -> None:
    """GPU hours and use are measured over a window, waits are not."""
    result = cli("what-if", "--from", scenario, "--set", "queue.b.quota.gpu=6")
    assert "- GPU hours and use are those of 23m from the first arrival on, to the last arrival; waits are of all work.\n" in result.err  # fmt: skip


def test_whoever_waits_is_told_how_far_it_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds, and then now and then; never of what is over."""
    now = [0.0]
    monkeypatch.setattr("gpumax.apps.cli.patient.time.monotonic", lambda: now[0])
    with patient.Patient() as told:
        for now[0], part in ((0.5, 0.1), (2.5, 0.25), (3.0, 0.5), (40.0, 0.8), (90.0, 1.0)):
            told("as it is", part)
    assert capfd.readouterr().err == "as it is: 25%, about 6s left\nas it is: 80%, about 9s left\n"


def test_the_policies_are_those_of_scenarios() -> None:
    """They are written down twice, so that --help starts fast."""
    from gpumax.apps.cli.commands.what_if import POLICIES as COMPLETED

    assert POLICIES["replay"] == COMPLETED
