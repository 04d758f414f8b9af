"""Where nobody else watches over a broker, a process beside it takes over when it's killed; and goes when it isn't needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.test_process import GPU, Broker, broker, eventually, half, names
from gpumax.errors import Unreachable

__all__ = ["broker"]
OPTIONS = ("--device", f"{GPU}:1Gi:A100", "--swap-memory", "4Gi", "--heartbeat", "0.2", "--heir")


def pid_of(broker: Broker, module: str) -> int:
    """Its process, by what it runs; 0: there is none."""
    mark = [b"gpumax.broker" + module.encode(), str(broker.directory).encode()]
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if mark[1] in words and words[words.index(b"-m") + 1] == mark[0]:
            return int(entry.name)
    return 0


@pytest.fixture
def watched(broker: Broker) -> Iterator[Broker]:
    broker.up(*OPTIONS)
    eventually(lambda: pid_of(broker, ".heir") > 0)
    yield broker
    while left := pid_of(broker, "") or pid_of(broker, ".heir"):
        os.kill(left, signal.SIGKILL)


def epoch(broker: Broker) -> int:
    """Of the broker that answers now; 0: none does, or it's just being killed."""
    try:
        return broker.control.status().epoch
    except Unreachable:
        return 0


def follows(broker: Broker) -> None:
    """The broker is killed, another one answers, and has an heir of its own."""
    before = epoch(broker)
    send(broker, signal.SIGKILL)
    eventually(lambda: epoch(broker) > before)
    eventually(lambda: pid_of(broker, ".heir") > 0)


def send(broker: Broker, number: int) -> None:
    """To the broker, whoever that is by now."""
    eventually(lambda: pid_of(broker, "") > 0)
    os.kill(pid_of(broker, ""), number)


def end(broker: Broker) -> None:
    """In good order, and with it its heir."""
    send(broker, signal.SIGTERM)
    eventually(lambda: not pid_of(broker, "") and not pid_of(broker, ".heir"))


def test_a_broker_that_is_killed_is_followed_again_and_again(watched: Broker) -> None:
    watched.control.add(half("a"))
    for _ in range(2):
        follows(watched)
    assert names(watched.control.status()) == ["a"]
    end(watched)


def test_an_heir_that_is_killed_is_followed_too(watched: Broker) -> None:
    watched.control.add(half("a"))
    first = pid_of(watched, ".heir")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: pid_of(watched, ".heir") not in (0, first))
    follows(watched)
    end(watched)


def test_where_nobody_has_a_part_nobody_takes_over(watched: Broker) -> None:
    send(watched, signal.SIGKILL)
    eventually(lambda: not pid_of(watched, ".heir"))
    assert not watched.answers
