"""Names in other letters than ours: no work is lost for them, and who was renamed is told."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gpumax.formats.scalars import NAME
from gpumax.study.caveats import caveats
from gpumax.study.load import load_scenario
from gpumax.traces.inspect import inspect
from gpumax.traces.names import legal
from study.kit import scenario, write
from traces.kit import bad, read

SACCT = """\
JobID|Submit|Start|End|Account|AllocTRES
1|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|R&D|gres/gpu=1
2|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|_root|gres/gpu=1
3|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|plain|gres/gpu=1
4|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|größe 2|gres/gpu=1
5|2026-01-01T00:00:00|2026-01-01T00:00:00|2026-01-01T01:00:00|R&D|gres/gpu=1
"""


def back(name: str) -> str:
    """The text that a name was made of."""
    name = re.sub(r"^x([0-9a-f]+)_", r"_x\1_", name) if re.match(r"x[0-9a-f]+_", name) else name
    return re.sub(r"_x([0-9a-f]+)_", lambda match: chr(int(match[1], 16)), name)


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20))
def test_a_name_can_be_read_back(text: str) -> None:
    """Whatever stands in it: every letter that is not ours is its number. What is a name already stays."""
    name = legal("queue", text)
    assert NAME.read(name) == name
    if "_x" not in text and not text.startswith("x"):
        assert back(name) == text


def test_accounts_of_slurm_keep_their_work(tmp_path: Path) -> None:
    """Under names of ours, which are told; those that were ours already are not."""
    trace = read(tmp_path, SACCT)
    assert trace.bad == ()
    assert [one.queue for one in trace.arrivals] == [
        "R_x26_D",
        "x5f_root",
        "plain",
        "gr_xf6__xdf_e_x20_2",
        "R_x26_D",
    ]
    odd = inspect(trace, "slurm").odd
    assert 'The tenant "R&D" of the trace is called R_x26_D here.' in odd
    assert not any("plain" in sentence for sentence in odd)


def test_two_tenants_of_one_name_are_named(tmp_path: Path) -> None:
    """They share a queue, which nobody would guess."""
    trace = read(tmp_path, SACCT.replace("plain", "R_x26_D"))
    assert trace.renamed["R_x26_D"] == ("R&D", "R_x26_D")
    assert any(
        'tenants "R&D" and "R_x26_D" of the trace are both called R_x26_D here' in sentence
        for sentence in inspect(trace, "slurm").odd
    )


def test_a_study_says_who_was_renamed(tmp_path: Path) -> None:
    """Beside what it assumes; a scenario's queues, and a table of them, are found by the same names."""
    found = scenario(tmp_path, "queues: null\n", "submitted,duration,gpu,queue\n0,60,1,R&D\n")
    assert 'The tenant "R&D" of the trace is called R_x26_D here.' in caveats(found)
    tables = """
    nodes: [{devices: {count: 8}}]
    queues: {csv: queues.csv}
    arrivals: {csv: jobs.csv}
    """
    write(
        tmp_path,
        {
            "study.yaml": tables,
            "queues.csv": "name,gpu\nR&D,4\nb,4\n",
            "jobs.csv": "submitted,duration,gpu,queue\n0,60,1,R&D\n1,60,1,A&D\n",
        },
    )
    again = load_scenario(tmp_path / "study.yaml")
    assert [queue.name for queue in again.queues] == ["R_x26_D", "b"]
    assert [one.queue for one in again.arrivals] == ["R_x26_D"]
    assert [(row.found, row.wanted) for row in again.bad] == [
        ('"A&D" (here A_x26_D)', "a queue of the scenario")
    ]


def test_names_of_work_are_kept_in_our_letters(tmp_path: Path) -> None:
    """And counted; a name that is nothing, or too long, is none."""
    trace = read(
        tmp_path, f"name,submitted,duration,gpu\ntrain a,0,60,1\n,0,60,1\n{'é' * 200},0,60,1\nb,1,60,1\n"
    )
    assert [one.name for one in trace.arrivals] == ["train_x20_a", "b"]
    assert next(row[2] for row in bad(trace)) == "nothing"
    assert trace.bad_rows == 2
    assert list(trace.notes.values()) == [1]
