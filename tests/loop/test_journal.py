"""What a journal keeps, and that it decides the same again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from board import Sketch, queue
from gpumax.errors import BadFile
from gpumax.loop.entries import Entries
from gpumax.loop.journal import FileJournal, JournalError, journal_files
from gpumax.loop.replay import replay
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import decide


def busy(waiting: int = 1) -> Snapshot:
    """A cluster in which something is placed, evicted and held."""
    sketch = Sketch("n1: bbbbbbbb").with_queues(queue("a", 4), queue("b", 4)).run("b", "b", min=1)
    for number in range(waiting):
        sketch.wait(f"A{number}", "a", tasks=3)
    return sketch.snapshot()


def write(journal: FileJournal, snapshot: Snapshot) -> None:
    journal.write(snapshot, decide(snapshot))


def test_what_was_decided_is_decided_again(tmp_path: Path) -> None:
    """Every entry, in order, over all files."""
    journal = FileJournal(tmp_path / "journal", most_bytes=5000)
    for waiting in range(1, 6):
        write(journal, busy(waiting))
    journal.close()
    assert len(journal_files(tmp_path / "journal")) > 1
    verdicts = list(replay(tmp_path / "journal"))
    assert [verdict.number for verdict in verdicts] == [1, 2, 3, 4, 5]
    assert [verdict.difference for verdict in verdicts] == [""] * 5
    assert list(replay(tmp_path)) == verdicts


def test_the_newest_files_are_kept(tmp_path: Path) -> None:
    """A journal has a largest size, whatever it is given: a file is full when it holds two whole snapshots."""
    journal = FileJournal(tmp_path, most_bytes=1, most_files=3)
    for _ in range(13):
        write(journal, busy())
    journal.close()
    assert [path.name for path in journal_files(tmp_path)] == [
        f"decisions-{number:06}.jsonl" for number in (5, 6, 7)
    ]


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    """One workload more among hundreds costs a line of its size, in each file after one whole snapshot."""
    whole = busy(200)
    journal = FileJournal(tmp_path, most_bytes=1)
    for number in range(100):
        rows = (*whole.workloads[:number], *whole.workloads[number + 1 :])
        snapshot = replace(whole, now_ms=whole.now_ms + number, workloads=rows)
        journal.write(snapshot, Decision())
    journal.close()
    files = journal_files(tmp_path)
    for file in files:
        first, *others = file.read_bytes().splitlines()
        assert b'"snapshot"' in first
        assert b'"step"' in others[0]
        assert 20 * max(len(msgspec.json.encode(msgspec.json.decode(line)["step"])) for line in others) < len(
            first
        )
    entries = Entries()
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    assert [entries.snapshot(entries.read(line)) for line in lines][-1] == snapshot
    assert len(lines) == 100


def test_what_hangs_on_a_broken_entry_is_told(tmp_path: Path) -> None:
    """Its snapshot isn't made up out of an older one; the next whole one is read again."""
    journal = FileJournal(tmp_path)
    snapshot = busy(9)
    for ms in range(3):
        write(journal, replace(snapshot, now_ms=snapshot.now_ms + ms))
    journal.close()
    write(journal, snapshot)  # in the same file
    journal.close()
    (file,) = journal_files(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = b"nonsense\n"
    file.write_bytes(b"".join(lines))
    first, second, third, fourth = (verdict.difference for verdict in replay(tmp_path))
    assert (first, fourth) == ("", "")
    assert second.startswith("no entry: ")
    assert "wanted the entry before it, since which it says what changed" in third


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    """Directory and files: it holds what everybody submitted."""
    journal = FileJournal(tmp_path / "journal")
    write(journal, busy())
    journal.close()
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert journal_files(tmp_path / "journal")[0].stat().st_mode & 0o777 == 0o600


def test_a_torn_line_is_told_and_cut_off_by_the_next_server(tmp_path: Path) -> None:
    """kill -9 in the middle of a write costs that entry and no other."""
    journal = FileJournal(tmp_path)
    write(journal, busy(1))
    journal.close()
    (file,) = journal_files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:100])
    assert [verdict.torn for verdict in replay(tmp_path)] == [False, True]
    journal = FileJournal(tmp_path)
    write(journal, busy(2))
    journal.close()
    assert [(verdict.torn, verdict.difference) for verdict in replay(tmp_path)] == [(False, "")] * 2


def test_a_full_disk_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is told in words; when there is room again, the journal goes on."""
    journal = FileJournal(tmp_path)
    write(journal, busy(1))
    real, calls = os.write, []

    def full(file: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(file, data[:50])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalError, match=r"no space left on device.*decisions go on without it"):
        write(journal, busy(2))
    monkeypatch.undo()
    write(journal, busy(3))
    journal.close()
    verdicts = list(replay(tmp_path))
    assert [(verdict.torn, verdict.difference) for verdict in verdicts] == [(False, "")] * 2


def test_a_difference_is_named_by_its_place(tmp_path: Path) -> None:
    """The first one, with what was recorded and what is decided now."""
    journal = FileJournal(tmp_path)
    write(journal, busy())
    journal.close()
    (file,) = journal_files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"cause":"reclaim"', b'"cause":"preempt"', 1))
    (verdict,) = replay(tmp_path)
    assert verdict.difference == 'evictions[0].cause: recorded "preempt", now "reclaim"'
    assert verdict.at_ms == busy().now_ms


def test_equal_decisions_with_other_bytes_differ(tmp_path: Path) -> None:
    """Byte for byte means just that."""
    journal = FileJournal(tmp_path)
    write(journal, busy())
    journal.close()
    (file,) = journal_files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"evictions":[', b'"evictions": [', 1))
    assert [verdict.difference for verdict in replay(tmp_path)] == ["the same decision, written otherwise"]


def test_a_broken_entry_hides_none_of_the_others(tmp_path: Path) -> None:
    """A line that is no entry, and one whose snapshot can't be read."""
    journal = FileJournal(tmp_path)
    for _ in range(3):
        write(journal, busy())
    journal.close()
    (file,) = journal_files(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = b"nonsense\n"
    lines[2] = lines[2].replace(b'"cpu":', b'"cpus":', 1)
    file.write_bytes(b"".join(lines))
    first, second, third = (verdict.difference for verdict in replay(tmp_path))
    assert first == ""
    assert second.startswith("no entry: ")
    assert third.startswith("the snapshot can't be read: ")
    assert "cpus" in third


def test_what_is_no_journal_is_said_to_be_none(tmp_path: Path) -> None:
    """A missing file, an empty directory, another file."""
    (tmp_path / "other").write_text("a: b\n")
    for path, words in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "no journal"),
        (tmp_path / "other", "no entry"),
    ):
        with pytest.raises(BadFile, match=words):
            list(replay(path))


def test_an_entry_is_made_of_the_public_formats(tmp_path: Path) -> None:
    """A bug report can carry a line: it holds a snapshot file and a decision file."""
    from gpumax.formats.decision import load_decision
    from gpumax.formats.snapshot import load_snapshot

    journal = FileJournal(tmp_path)
    write(journal, busy())
    journal.close()
    entry = msgspec.json.decode(journal_files(tmp_path)[0].read_bytes())
    assert entry["version"] == "gpumax/v1"
    assert load_snapshot(entry["snapshot"]) == busy()
    assert load_decision(entry["decision"]) == decide(busy())
