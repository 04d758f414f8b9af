"""The policies that gpumax is compared with: partitions, and one pool with hard quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.study.replay.pieces import Piece
from gpumax.study.replay.players import Stage, paths_of
from gpumax.study.replay.simple import FirstCome, Running, devices_of
from gpumax.study.replay.wanted import Wanted
from gpumax.units import MILLI


class StaticFifo(FirstCome):
    """Each queue has devices of its own, as many as its quota, and is served strictly in the order of arrival."""

    strict = True

    def divide(self, stage: Stage) -> Mapping[str, Sequence[Piece]]:
        """Whole nodes first, then parts of nodes. Nodes without devices are for all."""
        return partitions(tuple(stage.world.nodes.values()), stage.leaves)


class StaticBackfill(StaticFifo):
    """The same, but who has room passes those who have none."""

    strict = False


class HardQuota(FirstCome):
    """One pool; nobody holds more than its quota, nor do its parents."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._used: Counter[str] = Counter()
        self._quota = {queue.name: queue.quota.gpu for queue in stage.queues}
        self._paths = paths_of(stage.queues)

    def allows(self, work: Wanted, queue: str) -> bool:
        """Whether its queue and all above stay within their quotas."""
        size = devices_of(work)
        return not size or all(self._used[name] + size <= self._quota[name] for name in self._paths[queue])

    def count(self, run: Running, sign: int) -> None:
        """What its queue and all above hold."""
        for name in self._paths[run.queue]:
            self._used[name] += sign * devices_of(run.work)

    def room_came(self, queue: str) -> None:
        """Room that one queue's work has left is for all."""
        for line in self._lines.values():
            line.room_came()


def partitions(nodes: Sequence[Node], leaves: Sequence[Queue]) -> dict[str, list[Piece]]:
    """Pieces for each queue, in the order of nodes: as many devices as its quota, in whole ones.

    Where quotas are more than there is, all are cut alike; what no quota claims stays idle. Whole nodes are dealt first, then
    devices one by one, and cores and memory with them.
    """
    devices = [node for node in nodes if node.devices]
    shares = _devices_of(leaves, sum(len(node.devices) for node in devices))
    found: dict[str, list[Piece]] = {queue.name: [] for queue in leaves}
    rest = []
    for node in devices:
        size = len(node.devices)
        owner = max(found, key=lambda name: shares[name], default="")
        if owner and shares[owner] >= size:
            found[owner].append(Piece(node))
            shares[owner] -= size
        else:
            rest.append(node)
    for node in rest:
        indexes = [device.index for device in node.devices]
        while indexes and any(shares.values()):
            owner = max(shares, key=lambda name: shares[name])
            mine, indexes = indexes[: shares[owner]], indexes[shares[owner] :]
            found[owner].append(Piece(node, mine, part=(len(mine), len(node.devices))))
            shares[owner] -= len(mine)
    common = [Piece(node) for node in nodes if not node.devices]
    return {name: [*pieces, *common] for name, pieces in found.items()}


def _devices_of(leaves: Sequence[Queue], total: int) -> dict[str, int]:
    """Whole devices for each queue: its quota, cut alike where there are too few, rounded by largest remainder."""
    quotas = {queue.name: min(queue.quota.gpu, total * MILLI) for queue in leaves}
    whole = sum(quotas.values())
    scale = min(whole, total * MILLI)
    exact = {
        name: divmod(quota * scale, whole * MILLI) if whole else (0, 0) for name, quota in quotas.items()
    }
    shares = {name: part for name, (part, _) in exact.items()}
    spare = scale // MILLI - sum(shares.values())
    for name in sorted(exact, key=lambda name: (-exact[name][1], name))[:spare]:
        shares[name] += 1
    return shares
