"""Who watches over a broker passes on what it reports: each report once, whoever watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from gpumax.apps.gpu import keeper
from gpumax.apps.gpu.keeper import Keeper, News
from gpumax.broker.control import Seen, Told
from gpumax.devices.absent import NoDevices


class Broker:
    """Stands in for `Control`: says the same to whoever watches, until the test ends."""

    says: tuple[Seen, ...] = ()
    over = Event()

    def __init__(self, directory: Path) -> None:
        pass

    def watch(self) -> Iterator[Seen]:
        yield from self.says
        self.over.wait()


def reported(epoch: int, *numbers: int) -> Seen:
    return Seen(epoch, (), (), tuple(Told(each, "thrashing", "a", f"{epoch}.{each}") for each in numbers))


def heard(directory: Path, *says: Seen) -> list[str]:
    """What a server that begins to watch now passes on of it."""
    Broker.says, Broker.over = says, Event()
    news: SimpleQueue[News] = SimpleQueue()
    seen = Event()
    watching = Keeper(directory, NoDevices(""), news.put)
    watching.look = lambda status: seen.set() if status is says[-1] else None
    watching.open()
    assert seen.wait(60)
    watching.close()
    Broker.over.set()
    return [news.get().text for _ in range(news.qsize())]


def test_what_an_earlier_server_has_told_is_not_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "Control", Broker)
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "a.json").touch()
    assert heard(tmp_path, reported(1, 1), reported(1, 1, 2)) == ["1.1", "1.2"]
    assert heard(tmp_path, reported(1, 1, 2, 3)) == ["1.3"]
    assert heard(tmp_path, reported(2, 1)) == ["2.1"]
    (tmp_path / "told").write_text("nonsense")
    assert heard(tmp_path, reported(2, 1, 2)) == ["2.1", "2.2"]
