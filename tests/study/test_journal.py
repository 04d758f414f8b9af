"""A journal becomes a scenario: what came, to which cluster, and what is assumed where the journal doesn't say."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace as changed

from formats.kit import faults_of
from gpumax.formats.snapshot import load_snapshot
from gpumax.loop.journal import FileJournal
from gpumax.model.decision import Decision
from gpumax.model.study import Moved, Run, Scenario
from gpumax.study.journal import load_source
from gpumax.study.replay import replay
from study.replay_kit import queue, scenario, work

BURST = tuple(
    work(f"w{number:02}", number / 2, 17 + number % 5, 1 + number % 8, "ab"[number % 2])
    for number in range(40)
)


def journalled(played: Scenario, folder: Path) -> Run:
    """What came of a scenario under gpumax, which wrote a journal."""
    journal = FileJournal(folder, most_files=1_000)
    run = replay(played, "gpumax", 1, journal=journal)
    journal.close()
    return run


def test_a_journal_is_played_again_as_it_went(tmp_path: Path) -> None:
    """Where nobody was evicted, the scenario that is read from a journal gives the same waits and ends, to the last digit."""
    rows = [changed(row, priority=100) for row in BURST]
    small = [changed(row, name=f"s{row.name}", devices_per_task=2) for row in rows[::3]]
    played = scenario(*rows, *small, queues=(queue("a", 8), queue("b", 8)))
    run = journalled(played, tmp_path / "journal")
    assert run.evictions == Moved()
    assert run.wait_s.mean > 600
    again = load_source(tmp_path / "journal")
    assert again.scenario.nodes == played.nodes
    # The store knows since when a queue is there.
    assert tuple(changed(row, created_ms=0) for row in again.scenario.queues) == played.queues
    found = replay(again.scenario, "gpumax", 1)
    assert (found.waits_s, found.completion_s, found.makespan_s) == (
        run.waits_s,
        run.completion_s,
        run.makespan_s,
    )
    assert found.queues == run.queues


def _entries(folder: Path, *snapshots: str) -> Path:
    """A journal with these snapshots in it."""
    journal = FileJournal(folder)
    for text in snapshots:
        journal.write(load_snapshot(text), Decision())
    journal.close()
    return folder


def _entry(minute: int, state: str, **parts: str) -> str:
    """A cluster with one workload that is in a state."""
    held = ", node: n1, devices: [{index: 0}]" if state == "running" else ""
    nodes = parts.get("nodes", "[{name: n1, devices: {count: 2, model: A100}}]")
    queues = parts.get("queues", "[{name: a, quota: {gpu: 2}}]")
    more = parts.get("more", "")
    return f"""
        now: 2026-01-01T00:{minute:02}:00Z
        nodes: {nodes}
        queues: {queues}
        policy: {{max_evictions: 3}}
        workloads:
          - {{name: train, queue: a, submitted: 2026-01-01T00:00:00Z, started: 2026-01-01T00:01:00Z, request: {{gpu: 1}},
             tasks: [{{name: train-0, state: {state}{held}}}]}}
          {more}
    """


def test_what_a_journal_does_not_say_is_told(tmp_path: Path) -> None:
    """What still runs, what never ran, nodes that are closed and queues that are gone: each in a sentence, and none in silence."""
    wait = "- {name: wait, queue: b, request: {gpu: 1}, tasks: [{name: wait-0}]}"
    first = _entry(3, "running", queues="[{name: a, quota: {gpu: 2}}, {name: b}]", more=wait)
    closed = "[{name: n1, devices: {count: 2, model: A100}}, {name: n2, cordoned: true, devices: {count: 2}}]"
    last = _entry(9, "running", nodes=closed, more="")
    found = load_source(_entries(tmp_path / "journal", first, last))
    assert [node.name for node in found.scenario.nodes] == ["n1"]
    assert found.scenario.policy.max_evictions == 3
    (train,) = found.scenario.arrivals
    assert train.duration_ms == 8 * 60_000  # it began before the journal did
    told = " ".join(found.assumed)
    assert "1 workload was still running when the journal ended" in told
    assert "1 workload was left out: it never ran" in told
    assert "1 of 2 nodes took no new work" in told


def test_work_of_a_queue_that_is_gone_is_played_without_quota(tmp_path: Path) -> None:
    """It came, and took room from others."""
    entries = _entries(
        tmp_path / "journal", _entry(1, "running"), _entry(2, "succeeded", queues="[{name: b}]", more="")
    )
    found = load_source(entries)
    assert [(queue.name, queue.quota.gpu) for queue in found.scenario.queues] == [("a", 0), ("b", 0)]
    assert "no queue a any more" in " ".join(found.assumed)


def test_what_a_journal_hides_of_demoted_work_is_told(tmp_path: Path) -> None:
    """It knows the queue and the priority that work had, not those with which it came."""
    for steps, told in (("[]", False), ("[1]", True)):
        queues = f"[{{name: a, demote: {steps}}}]"
        entries = _entries(tmp_path / steps, _entry(1, "running", queues=queues, more=""))
        found = " ".join(load_source(entries).assumed)
        assert ("with which the journal saw it last" in found) is told


def test_a_journal_of_no_use_is_refused_in_words(tmp_path: Path) -> None:
    """Nothing ran, and no GPU is there: both are told."""
    entries = _entries(tmp_path / "journal", _entry(1, "pending", nodes="[{name: n1}]"))
    told = [str(fault) for fault in faults_of(load_source, entries)]
    assert told == [
        "the file: found no node with GPUs in its last entry; wanted a cluster to play on",
        "the file: found no workload that ever ran; wanted work to play",
    ]


def test_the_file_of_a_journal_is_known_by_its_beginning(tmp_path: Path) -> None:
    """As its directory is, and the directory of the data that it is in."""
    folder = _entries(tmp_path / "data" / "journal", _entry(1, "running"), _entry(3, "succeeded"))
    found = [load_source(path) for path in (folder, folder.parent, folder / "decisions-000001.jsonl")]
    assert found[0] == found[1] == found[2]
    assert found[0].scenario.arrivals[0].duration_ms == 2 * 60_000
