"""Bad input: what can't be used is left out and named, with its line and its column; the rest is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from formats.kit import faults_of
from gpumax.errors import BadFile
from gpumax.traces.collect import MOST_TOLD, UNSORTED, Wish
from gpumax.traces.read import CUT, read_trace
from traces.kit import HEAD, bad, read

GOOD = "ok,5,60,1,a\n"


@pytest.mark.parametrize(
    ("row", "column", "found", "wanted"),
    [
        ("x,0,-5,1,a", "duration", '"-5"', "0 or more"),
        ("x,0,soon,1,a", "duration", '"soon"', "a duration: seconds, 90m, or 1-02:03:04"),
        ("x,0,nan,1,a", "duration", '"nan"', "a duration: seconds, 90m, or 1-02:03:04"),
        ("x,0,inf,1,a", "duration", '"inf"', "a duration: seconds, 90m, or 1-02:03:04"),
        ("x,0,,1,a", "duration", "nothing", "a duration"),
        ("x,0,1e10,1,a", "duration", '"1e10"', "100 years at most"),
        ("x,,60,1,a", "submitted", "nothing", "a time"),
        ("x,-1,60,1,a", "submitted", '"-1"', "0 or more"),
        ("x,yesterday,60,1,a", "submitted", '"yesterday"', "a time like 2026-11-23 12:00:00, or seconds"),
        ("x,2026-02-30,60,1,a", "submitted", '"2026-02-30"', "a time that exists"),
        ("x,1969-12-31,60,1,a", "submitted", '"1969-12-31"', "a time after 1970"),
        ("x,1700000000000,60,1,a", "submitted", '"1700000000000"', "seconds before the year 10000; this looks like milliseconds"),
        ("x,0,60,-1,a", "gpu", '"-1"', "0 or more"),
        ("x,0,60,1.5,a", "gpu", '"1.5"', "whole GPUs, or a part of one"),
        ("x,0,60,many,a", "gpu", '"many"', "an amount like 4, 0.5 or 500m"),
        ("x,0,60,1e13,a", "gpu", '"1e13"', "less than that"),
        ("x,0,60,17,a", "gpu", "17 GPUs", "at most the 16 of the cluster"),
        ("x,0,60,1,who", "queue", '"who"', "a queue of the scenario"),
        ("x,0,60,1,", "queue", "nothing", "a queue of the scenario"),
        ("ok,0,60,1,a", "name", '"ok" again, first in line 2', "each name once"),
        ("a\tb,0,60,1,a", "name", '"a\\tb"', "a name: text on one line, at most 253 characters"),
        (",0,60,1,a", "name", "nothing", "a name: text on one line, at most 253 characters"),
        ("x,0,60", "", "3 cells", "5, as in the first line"),
        ("x,0,60,1,a,b", "", "6 cells", "5, as in the first line"),
        ("caf\udce9,0,60,1,a", "name", '"caf?", which is not UTF-8', "a name: text on one line, at most 253 characters"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_left_out(
    tmp_path: Path, row: str, column: str, found: str, wanted: str
) -> None:
    """The rows around it are read."""
    trace = read(tmp_path, HEAD + GOOD + row + "\nlast,6,1,1,a\n", queues=frozenset({"a"}), devices=16)
    assert bad(trace) == [(3, column, found, wanted)]
    assert [arrival.name for arrival in trace.arrivals] == ["ok", "last"]
    assert (trace.rows, trace.bad_rows) == (3, 1)


def test_an_end_before_the_beginning_is_bad(tmp_path: Path) -> None:
    """Of the end, and of the start."""
    trace = read(
        tmp_path,
        """\
        submitted,started,ended,gpu
        100,110,120,1
        100,110,105,1
        100,90,120,1
        100,,90,1
        """,
    )
    assert [arrival.duration_ms for arrival in trace.arrivals] == [10_000]
    assert bad(trace) == [
        (3, "ended", '"105"', "an end at or after the beginning"),
        (4, "started", '"90"', "a start at or after the submission"),
        (5, "ended", '"90"', "an end at or after the beginning"),
    ]


def test_columns_are_named_as_the_file_names_them(tmp_path: Path) -> None:
    """So that they are found there."""
    trace = read(tmp_path, "timestamp,duration,num_gpus,cluster\n2017-10-01 00:00:00,-1,1,a\n1,1,x,b\n")
    assert [(row.row, row.column) for row in trace.bad] == [(2, "duration"), (3, "num_gpus")]


def test_rows_in_any_order_are_sorted_and_that_is_noted(tmp_path: Path) -> None:
    """It is no fault."""
    trace = read(tmp_path, HEAD + "b,9,1,1,a\na,9,1,1,a\nc,3,1,1,a\n")
    assert [arrival.name for arrival in trace.arrivals] == ["c", "a", "b"]
    assert trace.notes == {UNSORTED: 1}
    assert trace.bad_rows == 0


def test_a_line_that_breaks_off_at_the_end_is_bad(tmp_path: Path) -> None:
    """With the name of what it is."""
    trace = read(tmp_path, HEAD + GOOD + "x,0,6")
    assert bad(trace) == [(3, "", "a line that breaks off", "a whole one")]
    assert len(trace.arrivals) == 1


def test_a_last_line_without_an_end_is_read_and_noted(tmp_path: Path) -> None:
    """Nobody knows whether it was cut off."""
    trace = read(tmp_path, HEAD + GOOD.strip())
    assert len(trace.arrivals) == 1
    assert trace.notes == {CUT: 1}


def test_a_packed_file_that_breaks_off_is_read_to_there(tmp_path: Path) -> None:
    """And the break is a bad row."""
    packed = gzip.compress(
        (HEAD + "".join(f"w{i},{i},{i * 7919 % 1013},1,a\n" for i in range(20_000))).encode()
    )
    trace = read(tmp_path, packed[: len(packed) // 2])
    assert 1000 < len(trace.arrivals) < 20_000
    assert [(row.found.partition("(")[0], row.wanted) for row in trace.bad][-1] == (
        "a .gz file that breaks off ", "a whole one"
    )  # fmt: skip


@pytest.mark.parametrize("less", range(9, 60))
@pytest.mark.parametrize("form", ["table", "objects"])
def test_a_break_is_one_bad_row_wherever_it_is(tmp_path: Path, form: str, less: int) -> None:
    """In the middle of a line or at its end: a row that was read is not bad, and one that is bad is counted once."""
    rows = [f"w{i},{i},{i * 7919 % 1013},1,a" for i in range(200)]
    text = HEAD + "".join(f"{row}\n" for row in rows)
    if form == "objects":
        text = "[" + ",\n".join(f'{{"jobid": "{row}", "attempts": []}}' for row in rows) + "]"
    trace = read(tmp_path, gzip.compress(text.encode())[:-less])
    (row,) = trace.bad
    assert row.found.startswith("a .gz file that breaks off (")
    assert trace.rows == len(trace.arrivals) + sum(trace.notes.values()) + 1
    if form == "table":
        assert row.row == trace.rows + 1


def test_a_small_packed_file_that_breaks_off_is_read_to_there(tmp_path: Path) -> None:
    """However little of it there is."""
    packed = gzip.compress((HEAD + "".join(f"w{i},{i},{i * 7919 % 1013},1,a\n" for i in range(200))).encode())
    trace = read(tmp_path, packed[:-100])
    assert 10 < len(trace.arrivals) < 200
    assert trace.bad[-1].found.startswith("a .gz file that breaks off (")


def test_between_bars_a_quote_is_a_character(tmp_path: Path) -> None:
    """Slurm quotes nothing: names of jobs may hold anything."""
    trace = read(
        tmp_path,
        """\
        JobID|JobName|Submit|Start|End|AllocTRES
        1|"odd|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|gres/gpu=1
        2|it"s|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|gres/gpu=1
        """,
    )
    assert [arrival.name for arrival in trace.arrivals] == ["1", "2"]
    assert trace.bad_rows == 0


def test_quoted_cells_may_hold_lines(tmp_path: Path) -> None:
    """Rows are counted by the line on which they begin."""
    trace = read(tmp_path, 'submitted,note,duration,gpu\n0,"two\nlines, here",60,1\n1,"x",-1,1\n')
    assert [arrival.name for arrival in trace.arrivals] == ["row-0000002"]
    assert bad(trace) == [(4, "duration", '"-1"', "0 or more")]


def test_other_dividers_and_empty_lines_are_fine(tmp_path: Path) -> None:
    """Tabs, semicolons and bars."""
    for divider in "\t;|":
        trace = read(tmp_path, f"\n{HEAD}\n{GOOD}\n\n".replace(",", divider))
        assert [arrival.name for arrival in trace.arrivals] == ["ok"]
        assert trace.bad_rows == 0


def test_only_the_first_bad_rows_are_told_and_all_are_counted(tmp_path: Path) -> None:
    """Nobody reads a million lines."""
    trace = read(tmp_path, HEAD + GOOD + "x,0,-1,1,a\n" * 1000)
    assert (len(trace.bad), trace.bad_rows, trace.rows) == (MOST_TOLD, 1000, 1001)


def test_stopping_at_bad_rows_names_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    """Each with its line."""
    (tmp_path / "trace").write_text(HEAD + GOOD + "x,0,-1,1,a\n" * 60)
    faults = faults_of(read_trace, tmp_path / "trace", wish=Wish(on_bad_row="stop"))
    assert str(faults[0]) == 'line 3: duration: found "-1"; wanted 0 or more'
    assert (len(faults), faults[-1].found) == (MOST_TOLD + 1, "10 more faults")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file: found nothing in it; wanted a trace"),
        (b"\xef\xbb\xbf\r\n\n", "the file: found nothing in it; wanted a trace"),
        ("name,gpu\n".encode("utf-16"), "line 1: the file: found text in UTF-16; wanted text in UTF-8"),
        (b"a,b\nc\0,d\n", "line 2: the file: found a NUL byte at byte 5; wanted text"),
        (b"just words\n", 'line 1: the file: found no column for submitted; wanted one; the file has "just words"'),
        (b"\x1f\x8bnot gzip at all", "the file: found a .gz file that can't be unpacked (Unknown compression method); wanted a whole one"),
        (b'{"what": 1}', "line 1: the file: found JSON of which the beginning tells nothing; wanted a trace; --format names what it is"),
        (b"a,b\n1,2\n", 'line 1: the file: found no column for submitted; wanted one; the file has "a", "b"'),
        (b"JobID|User|Submit\n1|a|2026-01-01\n", 'line 1: "Start": found no such column; wanted one of "JobID", "User", "Submit"'),
        (b"gpu,gpu,submitted,duration\n", 'line 1: "gpu": found 2 columns of this name; wanted one of "gpu", "gpu", "submitted", "duration"'),
    ],
)  # fmt: skip
def test_a_file_that_is_no_trace_is_refused_in_words(tmp_path: Path, data: bytes, told: str) -> None:
    """With what was found."""
    (tmp_path / "trace").write_bytes(data)
    assert str(faults_of(read_trace, tmp_path / "trace")[0]) == told


def test_a_missing_file_and_an_empty_directory_are_refused(tmp_path: Path) -> None:
    """A directory may be a journal's."""
    assert faults_of(read_trace, tmp_path / "gone")[0].found == "no such file"
    with pytest.raises(BadFile, match="found no journal in it"):
        read_trace(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"jobid": "a", "attempts": []}, {"jobid": ', "JSON that can't be read (expecting value); nothing behind it is read"),
        ('[{"jobid": "a", "attempts": []},', "a list that breaks off"),
        ('[{"jobid": "a", "attempts": []}, 7]', "7"),
        ('[{"jobid": "a", "attempts": []}, null]', "nothing"),
        ('[{"jobid": "a", "attempts": []}, ["a", "b"]]', "a list of 2"),
        ('[{"jobid": "a", "attempts": []}, {"jobid": ' + "[" * 100_000, "JSON that can't be read (nested too deep); nothing behind it is read"),
        ('[{"jobid": "a", "attempts": []}, ' + "9" * 5000 + "]", "JSON that can't be read (a number of too many digits); nothing behind it is read"),
    ],
)  # fmt: skip
def test_json_that_breaks_off_is_read_to_there(tmp_path: Path, text: str, found: str) -> None:
    """And the break is a bad row."""
    trace = read(tmp_path, text)
    assert [row.found for row in trace.bad] == [found]
    assert trace.rows == 2
