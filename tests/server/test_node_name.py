"""The node's name is the data directory's, so that what tasks hold under it is never handed out twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumax.apps.server.node_name import checked, node_name
from gpumax.errors import Conflict, Refused
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.spec import WorkloadSpec

NOTHING = Live()


def holding(node: str) -> Live:
    """A task that runs on this node."""
    record = WorkloadRecord("w-1", WorkloadSpec("w", "q", ()), 0, "running")
    return Live((), ((record, (TaskRecord("w-1", 0, "w-0", "", "running", "a0", node),)),))


def test_the_first_start_gives_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's, made fit; later starts without one use it, whatever the host is called by then."""
    monkeypatch.setattr("socket.gethostname", lambda: "my host.")
    assert node_name(tmp_path, None, NOTHING) == "my-host"
    monkeypatch.setattr("socket.gethostname", lambda: "other")
    assert node_name(tmp_path, None, NOTHING) == "my-host"
    assert node_name(tmp_path, None, holding("my-host")) == "my-host"


def test_another_name_waits_until_nothing_is_held_under_the_old_one(tmp_path: Path) -> None:
    """Refused in words, and the old one stays; then it replaces it for good."""
    assert node_name(tmp_path, "n1", NOTHING) == "n1"
    with pytest.raises(Conflict, match="can't be n2: 1 task of n1"):
        node_name(tmp_path, "n2", holding("n1"))
    assert node_name(tmp_path, None, holding("n1")) == "n1"
    assert node_name(tmp_path, "n1", holding("n1")) == "n1"
    assert node_name(tmp_path, "n2", NOTHING) == "n2"
    assert node_name(tmp_path, None, NOTHING) == "n2"


def test_a_name_that_can_be_none_is_refused(tmp_path: Path) -> None:
    """Wished for, or found in the directory."""
    with pytest.raises(Refused, match="--name a b: wanted letters"):
        checked("a b")
    (tmp_path / "node").write_text("\n")
    with pytest.raises(Refused, match="holds no name of a node"):
        node_name(tmp_path, None, NOTHING)
