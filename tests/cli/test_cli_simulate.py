"""simulate, report: what is printed, what is written, and what is kept when something breaks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.conftest import Cli
from gpumax.apps.cli import progress
from gpumax.errors import Refused
from gpumax.formats.result import encode_result, load_result
from gpumax.model.study import Arrived, Failed, Moved, Result, Run, Scenario, Use
from gpumax.study.run import Progress, Step, Turn

SCENARIO = """
version: gpumax/v1
name: tiny
nodes: [{count: 2, cpu: 8, memory: 64Gi, devices: {count: 4, model: A100, memory: 80Gi}}]
queues: [{name: a, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}, {name: b, quota: {gpu: 4, cpu: unlimited, memory: unlimited}}]
arrivals: {csv: trace.csv}
policies: [static-fifo, gpumax]
seeds: [1, 2]
"""
TRACE = "name,submitted,duration,gpu,queue\n" + "".join(
    f"w{number},{number * 60},{600 + number * 40},{1 + number % 4},{'ab'[number % 3 == 0]}\n"
    for number in range(12)
)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Twelve workloads of two teams on eight GPUs."""
    (tmp_path / "trace.csv").write_text(TRACE)
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


def made(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """A run that nobody played."""
    return Run(policy, seed, 8, Arrived(12, 1.0), Use(0.5, 0.5))


def faked(
    monkeypatch: pytest.MonkeyPatch, break_at: tuple[str, int], error: BaseException | signal.Signals
) -> None:
    """Let all runs succeed but one."""

    def replay(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
        if (policy, seed) == break_at:
            if isinstance(error, signal.Signals):
                signal.raise_signal(error)
            else:
                raise error
        return made(scenario, policy, seed, progress)

    monkeypatch.setattr("gpumax.study.replay.replay", replay)


def comparable(text: str) -> Any:
    """A result without what differs from run to run."""
    document = json.loads(text)
    for run in document["runs"]:
        del run["scheduler"]
    return document


def test_a_table_for_people_and_files_for_later(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """A line a run on stdout; what was found, and where the files are, on stderr."""
    result = cli("simulate", str(scenario), "--out", str(tmp_path / "out"))
    assert result.code == 0
    head, *rows = result.out.splitlines()
    assert head.split()[:3] == ["POLICY", "SEED", "GPUS"]
    assert [row.split()[:3] for row in rows] == [
        [policy, seed, "8"] for policy in ("static-fifo", "gpumax") for seed in ("1", "2")
    ]
    assert "99 % of workloads wait at most" in result.err
    assert f"wrote {tmp_path}/out/result.json and {tmp_path}/out/report.html" in result.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "result.json"]
    found = load_result(tmp_path / "out" / "result.json")
    assert [(run.policy, run.seed) for run in found.runs] == [
        ("static-fifo", 1), ("static-fifo", 2), ("gpumax", 1), ("gpumax", 2),
    ]  # fmt: skip
    assert found.command == f"gpumax simulate {scenario}"
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_the_same_figures_however_many_run_side_by_side(cli: Cli, scenario: Path) -> None:
    """To the last digit, but for the time that deciding took."""
    alone = cli("simulate", str(scenario), "--format", "json")
    beside = cli("simulate", str(scenario), "--format", "json", "--jobs", "4")
    assert (alone.code, beside.code) == (0, 0)
    assert comparable(alone.out) == comparable(beside.out)


def test_policies_and_seeds_can_be_chosen(cli: Cli, scenario: Path) -> None:
    """Instead of the scenario's; the command in the result says so."""
    found = load_result(
        cli("simulate", str(scenario), "--policy", "hard-quota", "--seed", "7", "--format", "json").out
    )
    assert [(run.policy, run.seed) for run in found.runs] == [("hard-quota", 7)]
    assert found.command == f"gpumax simulate {scenario} --policy hard-quota --seed 7"


def test_an_unknown_policy_is_refused_before_anything_runs(cli: Cli, scenario: Path) -> None:
    """With those that there are, and the nearest."""
    result = cli("simulate", str(scenario), "--policy", "gpumx")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "gpumax: replay knows no policy 'gpumx', but static-fifo, static-backfill, hard-quota, kubernetes-default, gpumax, "
        "gpumax-fractions; did you mean gpumax?\n"
    )


def test_clusters_of_other_sizes(cli: Cli, scenario: Path) -> None:
    """Each policy on each of them; one without a node is refused before anything runs."""
    found = load_result(
        cli(
            "simulate", str(scenario), "--seed", "1", "--scale", "0.5", "--scale", "1", "--format", "json"
        ).out
    )
    assert [(run.policy, run.gpus) for run in found.runs] == [
        ("static-fifo", 4), ("static-fifo", 8), ("gpumax", 4), ("gpumax", 8),
    ]  # fmt: skip
    assert found.command.endswith("--seed 1 --scale 0.5 --scale 1")
    nan = cli("simulate", str(scenario), "--scale", "nan")
    assert nan.code == 2
    assert "nan is not a number" in nan.err
    none = cli("simulate", str(scenario), "--scale", "0.1")
    assert (none.code, none.err) == (2, "gpumax: 0.1 of 2 nodes is not even one; choose a larger scale\n")


@pytest.mark.parametrize("option", ["--out", "--plots"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    cli: Cli, scenario: Path, option: str
) -> None:
    """Hours of work would be lost."""
    result = cli("simulate", str(scenario), option, str(scenario))
    assert (result.code, result.err) == (2, f"gpumax: {scenario} is a file; name a directory\n")


@pytest.mark.parametrize(
    ("option", "name"), [("--out", "result.json"), ("--out", "report.html"), ("--plots", "waits.svg")]
)
def test_a_directory_where_a_file_belongs_is_refused_before_anything_runs(
    cli: Cli, scenario: Path, tmp_path: Path, option: str, name: str
) -> None:
    """Its name is told."""
    (tmp_path / "out" / name).mkdir(parents=True)
    result = cli("simulate", str(scenario), option, str(tmp_path / "out"))
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"gpumax: {tmp_path}/out/{name} is a directory; a file of that name is to be written\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "{}", "--out", ""),
        ("simulate", "{}", "--plots", ""),
        ("simulate", ""),
        ("report", ""),
        ("report", "{}", "--out", ""),
        ("what-if", "--from", "", "--add-nodes", "1x4"),
        ("trace", "convert", "{}", "-o", ""),
        ("trace", "inspect", ""),
    ],
)
def test_an_empty_name_is_no_directory(
    cli: Cli, scenario: Path, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell makes it of a variable that is unset: nothing is read or written where one happens to be."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = cli(*(word.format(scenario) for word in words))
    assert (result.code, result.out) == (2, "")
    assert "an empty name; `.` is the directory that you are in" in result.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_trace_is_no_scenario(cli: Cli, scenario: Path) -> None:
    """Who names one where a scenario belongs is told how it gets into one."""
    for command in (("simulate", "{}"), ("what-if", "--add-nodes", "1x4", "--from", "{}")):
        result = cli(*(word.format(scenario.parent / "trace.csv") for word in command))
        assert (result.code, result.out) == (2, "")
        assert "wanted a scenario: nodes, and arrivals that name a trace, as {csv: trace.csv}" in result.err


def test_bad_rows_are_told_and_counted(cli: Cli, scenario: Path) -> None:
    """Skipped with the first of them named, or the end of it."""
    trace = scenario.parent / "trace.csv"
    trace.write_text(TRACE + "w99,10,-5,1,a\n")
    skipped = cli("simulate", str(scenario), "--policy", "static-fifo", "--seed", "1", "--format", "json")
    assert skipped.code == 0
    assert "1 row is left out (--on-bad-row stop stops there)\n  row 14, duration: found" in skipped.err
    assert load_result(skipped.out).bad_rows == 1
    stopped = cli("simulate", str(scenario), "--on-bad-row", "stop")
    assert (stopped.code, stopped.out) == (2, "")


def test_a_run_that_breaks_loses_no_other(
    cli: Cli, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named with policy, seed and why; the exit code says that something broke."""
    faked(monkeypatch, ("static-fifo", 2), Refused("queue b has no nodes"))
    result = cli("simulate", str(scenario), "--out", str(tmp_path / "out"))
    assert result.code == 1
    assert result.err.endswith("static-fifo, seed 2, broke: queue b has no nodes\n")
    found = load_result(tmp_path / "out" / "result.json")
    assert len(found.runs) == 3
    assert found.failed == (Failed("static-fifo", 2, "queue b has no nodes"),)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(
    cli: Cli, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    """Written and shown; what is missing is counted. Ctrl-C, or what a batch system sends before it kills."""
    faked(monkeypatch, ("gpumax", 1), how)
    result = cli("simulate", str(scenario), "--out", str(tmp_path / "out"))
    assert result.code == 130
    assert result.err.endswith("stopped with 2 runs missing; what is done was kept\n")
    assert len(result.out.splitlines()) == 3
    assert load_result(tmp_path / "out" / "result.json").unfinished == 2


def test_an_interrupt_before_the_first_run_touches_nothing(
    cli: Cli, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier study left stays."""
    faked(monkeypatch, ("static-fifo", 1), KeyboardInterrupt())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("earlier")
    result = cli("simulate", str(scenario), "--out", str(tmp_path / "out"))
    assert (result.code, result.out) == (130, "")
    assert "nothing was done, nothing was written" in result.err
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["earlier"]


def test_a_disk_that_is_full_leaves_what_was_there(
    cli: Cli, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half a file nor a piece beside it; the figures were shown all the same."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("earlier")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    result = cli(
        "simulate", str(scenario), "--policy", "static-fifo", "--seed", "1", "--out", str(tmp_path / "out")
    )
    assert result.code == 1
    assert result.out.startswith("POLICY")
    assert result.err.endswith(f"gpumax: can't write {tmp_path}/out/result.json: no space left on device\n")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["earlier"]


def test_the_page_on_stdout(cli: Cli, scenario: Path) -> None:
    """For a pipe."""
    result = cli("simulate", str(scenario), "--policy", "static-fifo", "--seed", "1", "--format", "html")
    assert result.out.startswith("<!doctype html>")
    assert result.out.endswith("</html>\n")


def test_report_draws_what_simulate_wrote(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """The same page again; a directory stands for the result in it."""
    cli("simulate", str(scenario), "--out", str(tmp_path / "out"))
    again = cli("report", str(tmp_path / "out"), "--format", "html")
    assert again.code == 0
    assert again.out == (tmp_path / "out" / "report.html").read_text()


def test_report_joins_results(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """All runs in one."""
    for seed in ("1", "2"):
        cli("simulate", str(scenario), "--seed", seed, "--out", str(tmp_path / seed))
    result = cli("report", str(tmp_path / "1" / "result.json"), str(tmp_path / "2"), "--format", "json")
    assert [run.seed for run in load_result(result.out).runs] == [1, 1, 2, 2]
    assert result.err == ""


def test_rows_of_different_work_have_a_note(cli: Cli, tmp_path: Path) -> None:
    """Who reads the table alone learns that its waits are not of the same work, or not of all of it."""
    runs = [
        Run(policy, 1, 8, Arrived(12, 1.0, never), Use(0.5, 0.5))
        for policy, never in (("gpumax", 0), ("static-fifo", 3))
    ]
    (tmp_path / "unlike.json").write_bytes(encode_result(Result("x", tuple(runs))))
    (tmp_path / "like.json").write_bytes(encode_result(Result("x", (runs[1],))))
    said = cli("report", str(tmp_path / "unlike.json")).err
    assert (
        "note: not the same work: of the workloads, 3 under static-fifo can never run; no wait of theirs is counted"
        in said
    )
    assert (
        "3 workloads can never run under static-fifo; of the work that is counted: on the same 8 GPUs"
        in said.replace("\u00a0", " ")
    )
    alone = "note: 3 of 12 workloads can never run under static-fifo; no wait of theirs is counted\n"
    assert alone in cli("report", str(tmp_path / "like.json")).err
    both = (runs[1], msgspec.structs.replace(runs[1], policy="hard-quota"))
    (tmp_path / "both.json").write_bytes(encode_result(Result("x", both)))
    said = cli("report", str(tmp_path / "both.json")).err
    assert (
        "note: 3 of 12 workloads can never run, whatever the policy; no wait of theirs is counted\n" in said
    )
    (tmp_path / "all.json").write_bytes(encode_result(Result("x", (runs[0],))))
    assert "note:" not in cli("report", str(tmp_path / "all.json")).err


def test_a_table_says_what_was_done_again(cli: Cli, tmp_path: Path) -> None:
    """For it counts as at work."""
    run = Run("gpumax", 1, 8, Arrived(12, 1.0), Use(0.5, 0.5), evictions=Moved(reclaim=2), lost=0.25)
    (tmp_path / "result.json").write_bytes(encode_result(Result("x", (run,))))
    said = cli("report", str(tmp_path)).err.replace("\u00a0", " ")
    assert "note: at work counts work that was done again and restarts, too: 25.0 % under gpumax\n" in said


def test_a_result_that_is_named_twice_counts_once(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """And that is said."""
    cli("simulate", str(scenario), "--policy", "gpumax", "--out", str(tmp_path / "out"))
    file = str(tmp_path / "out" / "result.json")
    twice = cli("report", file, file, str(tmp_path / "out"), "--format", "json")
    assert [run.seed for run in load_result(twice.out).runs] == [1, 2]
    assert twice.err == "4 runs stand in several of the results; each counts once\n"
    assert "stand in several" not in cli("report", file).err


def test_what_is_named_twice_is_played_once(cli: Cli, scenario: Path) -> None:
    """And that is said: 1 and 1.0 are the same scale."""
    result = cli(
        *("simulate", str(scenario), "--policy", "hard-quota", "--policy", "hard-quota", "--format", "json"),
        *("--scale", "1", "--scale", "1.0", "--seed", "3", "--seed", "3", "--seed", "3"),
    )
    assert [(run.seed, run.gpus) for run in load_result(result.out).runs] == [(3, 8)]
    assert result.err.startswith(
        "--policy hard-quota is named twice; it is played once\n"
        "--seed 3 is named 3 times; it is played once\n"
        "--scale 1 is named twice; it is played once\n"
    )
    assert load_result(result.out).command.endswith("--policy hard-quota --seed 3 --scale 1")


def test_scales_that_make_the_same_cluster_are_refused(cli: Cli, scenario: Path) -> None:
    """A report would take the runs for seeds of one another."""
    result = cli("simulate", str(scenario), "--scale", "0.5", "--scale", "0.6", "--scale", "1")
    assert (result.code, result.out) == (2, "")
    assert result.err == "gpumax: --scale 0.5 and 0.6 both make 4 of 8 GPUs; name one of them\n"


def test_report_names_every_fault_of_a_result(cli: Cli, tmp_path: Path) -> None:
    """As of every file."""
    (tmp_path / "result.json").write_text('{"scenario": 1}')
    result = cli("report", str(tmp_path / "result.json"))
    assert result.code == 2
    assert "scenario: found 1; wanted" in result.err
    assert "runs: found nothing; wanted" in result.err


def test_pictures_for_papers(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """An SVG each."""
    result = cli("simulate", str(scenario), "--plots", str(tmp_path / "plots"))
    assert result.code == 0
    names = {path.stem for path in (tmp_path / "plots").glob("*.svg")}
    assert {"waits", "use", "queues"} <= names
    assert all(path.read_text().startswith("<svg xmlns=") for path in (tmp_path / "plots").glob("*.svg"))


def test_without_a_rasteriser_it_says_how_to_get_one(
    cli: Cli, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SVG files are there all the same."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    result = cli("simulate", str(scenario), "--plots", str(tmp_path / "plots"))
    assert "as SVG; for PNG beside them: pip install resvg-py" in result.err
    assert not list((tmp_path / "plots").glob("*.png"))


def test_with_a_rasteriser_each_picture_is_a_png_too(cli: Cli, scenario: Path, tmp_path: Path) -> None:
    """Where gpumax[plots] is installed."""
    pytest.importorskip("resvg_py", reason="gpumax[plots] is not installed")
    cli("simulate", str(scenario), "--plots", str(tmp_path))
    assert {path.stem for path in tmp_path.glob("*.png")} == {path.stem for path in tmp_path.glob("*.svg")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))


def test_lines_say_how_far_it_is_now_and_then() -> None:
    """Every half minute, with the time that is left, and at the end of each run."""
    told: list[str] = []
    now = [0.0]
    lines = progress.Lines([Turn("a", 1), Turn("b", 1)], told.append, lambda: now[0])
    run = Run("a", 1, 8, Arrived(1, 1.0), Use(0.5, 0.5))
    for moment, step in (
        (1.0, Step(0, 0.1)),
        (29.0, Step(0, 0.4)),
        (31.0, Step(0, 0.5)),
        (40.0, Step(0, 0.6)),
        (61.0, Step(0, 1.0, run)),
        (62.0, Step(1, 1.0, Failed("b", 1, "no nodes"))),
    ):
        now[0] = moment
        lines(step)
    assert told == [
        "25% done, 0 of 2 runs, about 93s left",
        "a, seed 1: done after 60s (1 of 2 runs)",
        "b, seed 1: broke: no nodes (2 of 2 runs)",
    ]


def test_a_terminal_gets_a_bar(cli: Cli, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time that is left; nothing of it is on stdout."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = cli("simulate", str(scenario), "--policy", "static-fifo", "--format", "json")
    assert "2 of 2 runs" in result.err
    assert "left" in result.err
    assert "\x1b" not in result.out
    assert len(load_result(result.out).runs) == 2


def test_a_study_logs_nothing(scenario: Path, tmp_path: Path) -> None:
    """What a server would log of its cluster, again and again as nodes fail, is no news of a study."""
    text = SCENARIO.replace("policies: [static-fifo, gpumax]", "policies: [gpumax]").replace(
        "gpu: 4", "gpu: 8"
    )
    scenario.write_text(text + "failures: {node_mtbf: 10m, node_mttr: 10m}\n")
    command = [
        sys.executable,
        "-m",
        "gpumax.apps.cli.main",
        "simulate",
        str(scenario),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "exceed" not in done.stderr
