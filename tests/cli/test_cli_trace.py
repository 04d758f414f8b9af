"""trace inspect, trace convert."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from cli.conftest import Cli
from gpumax.apps.cli.commands import trace
from gpumax.apps.cli.plot import plot, resampled
from gpumax.formats.scenario_shapes import TRACE_FORMATS
from gpumax.traces.read import read_trace

JOBS = "id,at,ran,n,team\n" + "".join(
    f"j{hour},{hour * 3600},7200,{1 + hour % 4},{'ab'[hour // 12 % 2]}\n" for hour in range(48)
)
COLUMNS = ("--column", "name=id", "--column", "submitted=at", "--column", "duration=ran", "--column", "gpu=n", "--column", "queue=team")  # fmt: skip


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    """Two days of two teams, who take turns."""
    path = tmp_path / "jobs.csv"
    path.write_text(JOBS)
    return str(path)


def test_a_trace_is_told_in_words_and_tables(cli: Cli, jobs: str) -> None:
    """Plain text where nobody looks."""
    result = cli("trace", "inspect", jobs, *COLUMNS)
    assert (result.code, result.err) == (0, "")
    assert result.out.isascii()
    lines = result.out.splitlines()
    assert lines[0] == f"{jobs}: csv, 48 rows, 48 workloads"
    assert lines[1] == "came from 0s to 1d23h, 1d23h"
    assert lines.count(lines[1]) == 1
    assert "TENANT       WORKLOADS  GPU HOURS  MEAN GPUS  P95  P99  MOST" in lines
    assert "all, pooled  48         240        4.87       7    7    7" in lines
    assert any(line.startswith("One pool at p99 needs 7 GPUs") for line in lines)
    assert "- Moments count from the beginning of the trace; it knows no dates." in lines
    assert max(map(len, lines[4:13])) <= 100


def test_a_trace_is_told_as_data(cli: Cli, jobs: str) -> None:
    """The same in JSON."""
    result = cli("trace", "inspect", jobs, *COLUMNS, "-o", "json")
    found = json.loads(result.out)
    assert (found["format"], found["rows"], found["workloads"], found["bad_rows"]) == ("csv", 48, 48, 0)
    assert (found["first"], found["last"]) == ("1970-01-01T00:00:00Z", "1970-01-02T23:00:00Z")
    assert [load["tenant"] for load in found["tenants"]] == ["a", "b"]
    assert found["pooled"]["max"] == 7.0
    assert sum(size["workloads"] for size in found["sizes"]) == 48


def test_one_time_alone_can_be_looked_at(cli: Cli, jobs: str) -> None:
    """From a moment until before another one."""
    result = cli("trace", "inspect", jobs, *COLUMNS, "--between", "0", "36000", "-o", "json")
    assert json.loads(result.out)["workloads"] == 10


def test_bad_rows_are_counted_or_refused(cli: Cli, jobs: str) -> None:
    """As asked."""
    Path(jobs).write_text(JOBS + "x,0,-1,1,a\n")
    found = cli("trace", "inspect", jobs, *COLUMNS)
    assert found.code == 0
    assert (
        '- 1 row of 49 could not be used; the first: line 50, column ran: found "-1"; wanted 0 or more.'
        in found.out.splitlines()
    )
    refused = cli("trace", "inspect", jobs, *COLUMNS, "--on-bad-row", "stop")
    assert (refused.code, refused.out) == (2, "")
    assert 'line 50: ran: found "-1"; wanted 0 or more' in refused.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--column", "what=x"), "'what=x' is no OURS=THEIRS; ours are name, submitted"),
        (("--column", "gpu"), "'gpu' is no OURS=THEIRS"),
        (("--between", "2026-02-30", "2026-03-01"), 'found "2026-02-30"; wanted a time that exists'),
        (("--between", "2026-03-01", "2026-03-01"), "the first moment is not before the second"),
        (("--format", "slurm", "--column", "gpu=n"), "--column is for tables of one's own"),
        (("--format", "what"), "'what' is not one of"),
        ((), "found no column for submitted"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, jobs: str, arguments: tuple[str, ...], told: str) -> None:
    """In words, with exit code 2."""
    result = cli("trace", "inspect", jobs, *arguments)
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_a_missing_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    """With its name."""
    result = cli("trace", "inspect", str(tmp_path / "gone"))
    assert result.code == 2
    assert "found no such file; wanted a file that is there" in result.err


def test_a_converted_trace_reads_as_the_first_did(cli: Cli, jobs: str, tmp_path: Path) -> None:
    """Without being told of columns; packed where its name says so, in the same bytes each time."""
    plain = cli("trace", "convert", jobs, *COLUMNS)
    assert plain.err == "48 workloads of 48 rows\n"
    out = tmp_path / "out.csv.gz"
    assert cli("trace", "convert", jobs, *COLUMNS, "-o", str(out)).code == 0
    assert gzip.decompress(out.read_bytes()).decode() == plain.out
    first = out.read_bytes()
    cli("trace", "convert", str(out), "-o", str(tmp_path / "again.csv.gz"))
    assert (tmp_path / "again.csv.gz").read_bytes() == first
    assert len(read_trace(out).arrivals) == 48


def test_who_is_called_otherwise_is_told(cli: Cli, tmp_path: Path) -> None:
    """A table that is written has our names, so whoever reads it must know whose they are."""
    (tmp_path / "jobs.csv").write_text("submitted,duration,gpu,team\n0,60,1,R&D\n")
    result = cli("trace", "convert", str(tmp_path / "jobs.csv"))
    assert "R_x26_D" in result.out
    assert 'The tenant "R&D" of the trace is called R_x26_D here.\n' in result.err


def test_a_place_that_cannot_be_written_is_refused(cli: Cli, jobs: str, tmp_path: Path) -> None:
    """With why."""
    result = cli("trace", "convert", jobs, *COLUMNS, "-o", str(tmp_path / "no" / "out.csv"))
    assert result.code == 2
    assert result.err == f"gpumax: can't write {tmp_path}/no/out.csv: no such file or directory\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["full.csv", "full.csv.gz"])
def test_a_disk_that_is_full_is_no_wrong_usage(cli: Cli, jobs: str, tmp_path: Path, name: str) -> None:
    """The same code as where standard output can't be written: nothing on the command line would mend it."""
    (tmp_path / name).symlink_to("/dev/full")
    result = cli("trace", "convert", jobs, *COLUMNS, "-o", str(tmp_path / name))
    assert (result.code, result.err) == (
        1,
        f"gpumax: can't write {tmp_path}/{name}: no space left on device\n",
    )


def test_standard_input_is_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `-`."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"submitted,duration,gpu\n0,60,1\n")))
    result = cli("trace", "inspect", "-")
    assert result.out.startswith("standard input: csv, 1 row, 1 workload\n")


def test_the_formats_are_those_that_are_read() -> None:
    """The help and the shell name each."""
    assert trace.FORMATS == TRACE_FORMATS


def test_a_plot_is_as_wide_as_there_is_room() -> None:
    """As high as the largest value, in eighths of a row; in plain text in whole ones."""
    lines = plot([0, 1, 2, 4], ("begin", "end"), 80, blocks=True)
    assert lines[0] == "4 │   █"
    assert lines[4] == "2 │  ██"
    assert lines[-2] == "  │ ███"
    plain = plot([0.0, 8.0] * 200, ("begin", "end"), 40, blocks=False)
    assert "".join(plain).isascii()
    assert max(map(len, plain)) <= 40
    assert plain[-1].startswith("   begin")
    assert plain[-1].endswith("end")
    assert plot([], ("a", "b"), 40, blocks=True)
    assert plot([0.0], ("a", "b"), 40, blocks=True)


def test_narrower_numbers_are_means() -> None:
    """Of equal parts, so that nothing is lost."""
    assert resampled([1, 2, 3, 4, 5, 6], 3) == [1.5, 3.5, 5.5]
    assert resampled([1, 2, 3], 2) == pytest.approx([4 / 3, 8 / 3])


def test_a_trace_of_which_nothing_can_be_used_is_refused(cli: Cli, tmp_path: Path) -> None:
    """As what it was said to be, in words; nothing is written."""
    (tmp_path / "t.csv").write_text("submitted,duration,gpu\n0,100,1\n")
    out = tmp_path / "out.csv"
    for command in (("inspect",), ("convert", "-o", str(out))):
        result = cli("trace", *command, str(tmp_path / "t.csv"), "--format", "philly")
        assert result.code == 2
        assert "t.csv: not one row can be used as philly; the first: line 1: found JSON" in result.err
    assert not out.exists()


def test_a_column_that_is_not_there_is_named_beside_those_that_are_missing(cli: Cli, tmp_path: Path) -> None:
    """All at once."""
    (tmp_path / "t.csv").write_text("when,lasted,units\n0,100,1\n")
    result = cli("trace", "inspect", str(tmp_path / "t.csv"), "--column", "submitted=nope")
    assert result.code == 2
    assert '"nope" for submitted: found no such column; wanted one of "when", "lasted", "units"' in result.err
    assert "no column for duration or ended" in result.err
