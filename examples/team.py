"""Ranks that average what they computed: the part of a training framework that a gang needs, in plain Python.

It reads what launchers set (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). Rank 0 leads: it collects, averages in rank
order, so that the sum is the same every time, and answers. All ranks stop at the same step, whoever got the signal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Final, TypeVar

import numpy as np

CONNECT_S: Final = 60  # the leader may be slow to start

Values = TypeVar("Values", bound=tuple[Any, ...])


class Team:
    """All tasks of one run. Alone, nothing is sent anywhere."""

    def __init__(self, rank: int, size: int, address: tuple[str, int]) -> None:
        self.rank = rank
        self.size = size
        self._peers: list[Connection] = []
        if size == 1:
            return
        key = os.environ.get("GPUMAX_RUN", "").encode() or b"team"
        if self.leads:
            with Listener(address, backlog=size, authkey=key) as door:
                peers = [door.accept() for _ in range(size - 1)]
            self._peers = [peer for _, peer in sorted((peer.recv(), peer) for peer in peers)]
        else:
            self._peers = [_connect(address, key)]
            self._peers[0].send(rank)

    @classmethod
    def from_environment(cls) -> Team:
        """The team that the launcher describes; just this process where there is none."""
        env = os.environ
        address = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
        return cls(int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1")), address)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, who saves and reports."""
        return self.rank == 0

    def share(self, losses: list[float], arrays: dict[str, Any]) -> list[float]:
        """Give every rank the leader's state: the losses are returned, the arrays filled."""
        if self.leads:
            self._tell((losses, arrays))
            return losses
        losses, theirs = self._peers[0].recv()
        _fill(arrays, theirs)
        return losses

    def average(self, values: Values, stop: bool) -> tuple[Values, bool]:
        """The mean of each value over all ranks, and whether any of them was told to stop."""
        if self.size == 1:
            return values, stop
        if not self.leads:
            self._peers[0].send((values, stop))
            answer: tuple[Values, bool] = self._peers[0].recv()
            return answer
        heard = [(values, stop), *(peer.recv() for peer in self._peers)]
        mean: Any = tuple(
            sum(parts[1:], parts[0]) / np.float32(self.size)
            for parts in zip(*(v for v, _ in heard), strict=True)
        )
        answer = mean, any(stopped for _, stopped in heard)
        self._tell(answer)
        return answer

    def _tell(self, message: object) -> None:
        for peer in self._peers:
            peer.send(message)


def _fill(arrays: dict[str, Any], theirs: Mapping[str, Any]) -> None:
    for name, values in theirs.items():
        arrays[name][...] = values


def _connect(address: tuple[str, int], key: bytes) -> Connection:
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return Client(address, authkey=key)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
