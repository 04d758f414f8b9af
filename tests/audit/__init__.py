"""What an API server's audit log proves: that at no moment a device was over-full, a gang in parts for too long, a limit broken, a pod bound
twice, or anything written by a replica that didn't hold the lease.

Reads the log alone, after the fact, and knows nothing of who decided. A pod holds room from when its bind was *received* until the end of it
was *received*: whoever binds on what they saw end does so later, so sound schedules pass whatever the order in which writes were completed.
What others did a moment before a bind (a node that shrank, a limit that was lowered, a pod that somebody else bound) need not be known to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from audit.amounts import amounts
from audit.cluster import Cluster
from audit.rules import Gangs, Leader, over_full, over_limit

__all__ = ["check"]

Entry = Mapping[str, Any]


def check(
    entries: Iterable[Entry],
    *,
    limits: Mapping[str, int] | None = None,
    together_s: float = 15.0,
    deadline_s: float = 120.0,
    unseen_s: float = 1.0,
    careless: Collection[str] = ("somebody-else",),
    lease: str = "",
    since: str = "",
) -> list[str]:
    """Every violation, as a sentence.

    limits: GPUs by queue, beside those of the queues' own objects. together_s: how long a gang may take to start; deadline_s: how long one that
    ran may be in parts. unseen_s: for how long what others did need not be known. careless: schedulers whose own binds aren't judged. lease: by which
    replicas agree who steers, `namespace/name`. since: what was so before this moment of the log is somebody else's to judge.
    """
    cluster, gangs, leader = Cluster(unseen_s), Gangs(together_s, deadline_s), Leader(lease)
    for queue, most in (limits or {}).items():
        cluster.limits[queue].be(amounts({"gpu": most}), 0)
    found: list[str] = []
    now_s = 0.0
    for entry in sorted(filter(_counts, entries), key=lambda one: one["requestReceivedTimestamp"]):
        now_s = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
        sentences = leader.look(entry, now_s)
        sentences += cluster.apply(entry, now_s)
        if (bound := cluster.bound) is not None and bound.scheduler not in careless:
            sentences += [*over_full(cluster, bound, now_s), *over_limit(cluster, bound, now_s)]
        sentences += gangs.look(cluster, now_s)
        moment = entry["requestReceivedTimestamp"]
        if moment >= since:
            found += [f"{sentence}, at {moment}" for sentence in sentences]
    return found + list(_last(gangs, cluster, now_s))


def _last(gangs: Gangs, cluster: Cluster, now_s: float) -> Iterator[str]:
    return (f"{sentence}, at the end" for sentence in gangs.look(cluster, now_s))


def _counts(entry: Entry) -> bool:
    """Requests for no object, like /readyz, and those that were refused, changed nothing."""
    return (
        "objectRef" in entry
        and entry.get("stage") == "ResponseComplete"
        and entry["verb"] not in ("get", "list", "watch")
        and entry["responseStatus"]["code"] in range(200, 300)
    )
