"""Why a workload is where it is: the facts, and the sentences that tell them."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gpumax.model.amounts import Amounts, Resource
from gpumax.model.decision import Hold, Share

State = Literal["placed", "held", "evicted", "running", "releasing", "gated", "pending", "finished"]

ShareRule = Literal["demand", "limit", "cut", "nothing_left", "no_weight", "priority", "weight", "usage"]

SHARE_RULES: Final[dict[ShareRule, str]] = {
    "demand": "it gets all that its work asks for",
    "limit": "it gets as much as its limit allows",
    "cut": "the quotas that are asked for exceed what there is, so they are cut by priority, then in proportion",
    "nothing_left": "it gets its quota; nothing is left beyond quotas",
    "no_weight": "it gets its quota; its weight is 0, so it gets nothing beyond",
    "priority": "it gets its quota; what was left went to queues of higher priority",
    "weight": "it gets its quota, and its part of the rest by weight",
    "usage": "the same, with past use counted",
}
"""What a queue's share of a resource is decided by."""

TriedReason = Literal[
    "over_share", "within_share", "non_preemptible", "min_runtime", "not_enough", "none_lower", "too_many_evictions",
    "search_steps",
]  # fmt: skip

TRIED_REASONS: Final[dict[TriedReason, str]] = {
    "over_share": "its own queue, or one above, would hold more than its share",
    "within_share": "the other queue holds no more than its share, or than its quota, so it gives nothing",
    "non_preemptible": "all that runs there is non-preemptible, or the minimum of semi-preemptible work",
    "min_runtime": "what runs there is younger than its minimum runtime",
    "not_enough": "all that may go there would not make room where it is needed",
    "none_lower": "nothing of a lower priority runs in its queue",
    "too_many_evictions": "more would have to go than one decision may evict",
    "search_steps": "the steps of this decision's search were used up before its turn",
}
"""Why a pass did not make room."""

Change = Literal["wait", "room", "node", "limit", "quota"]

CHANGES: Final[dict[Change, str]] = {
    "wait": "nothing has to be done: at this time enough work has ended its minimum runtime",
    "room": "so much more is free on these nodes, or, where they lack it even when empty, is there",
    "node": "these nodes are ready and not cordoned",
    "limit": "the limits of these queues are higher by so much",
    "quota": "the quotas of these queues are higher by so much",
}
"""What would let it start. Each was tried by deciding again, and is enough by itself."""


class Derived(msgspec.Struct, frozen=True):
    """How a queue came by its share of a resource: its own queue first, then those above.

    total: what is divided among it and its siblings; guaranteed: what it gets of its quota; left: what remains beyond all quotas.
    """

    queue: str
    resource: Resource
    parent: str | None
    rule: ShareRule
    share: int
    quota: int
    limit: int
    demand: int
    total: int
    guaranteed: int
    left: int


class Tried(msgspec.Struct, frozen=True):
    """Why a pass made no room. queue: whose work was looked at; held: what runs there; until_ms: when that changes."""

    pass_: str
    reason: TriedReason
    message: str
    queue: str = ""
    held: Amounts = Amounts()
    until_ms: int | None = None


class Need(msgspec.Struct, frozen=True):
    """Something that would let it start. nodes, queues: by name, how much more; at_ms: when."""

    change: Change
    message: str
    nodes: dict[str, dict[str, int]] = {}
    queues: dict[str, dict[str, int]] = {}
    at_ms: int | None = None


class Explanation(msgspec.Struct, frozen=True):
    """What is known of one workload. queue: its queue's shares; ahead: what waits, can start, and is served before it."""

    workload: str
    state: State
    sentences: tuple[str, ...]
    hold: Hold | None = None
    queue: tuple[Share, ...] = ()
    ahead: tuple[str, ...] = ()
    started_ms: int | None = None
    derived: tuple[Derived, ...] = ()
    tried: tuple[Tried, ...] = ()
    needs: tuple[Need, ...] = ()
