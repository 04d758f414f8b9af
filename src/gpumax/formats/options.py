"""Options of the policy, as they stand in a snapshot."""

from __future__ import annotations

from typing import Any, Final, get_args

from gpumax.formats.not_yet import NOT_YET
from gpumax.formats.queues import MILLION
from gpumax.formats.scalars import NAME, Choice, Decimal, Duration, Whole, write_duration, write_number
from gpumax.formats.shape import Bad, Field, Map, Object, Wrong, Wrongs
from gpumax.model.snapshot import Placement, Policy, Strategy
from gpumax.model.workload import Document

_STRATEGIES: Final = Choice(get_args(Strategy))
_PLACEMENT: Final[Object[dict[str, Any]]] = Object(
    "Placement",
    {
        "gpu": Field(
            _STRATEGIES,
            "For work with GPUs: fill nodes (pack, unset), spread over them, or (dense) choose them so that the fewest GPUs are left without the cores and memory to use them.",
        ),
        "cpu": Field(_STRATEGIES, "For work without GPUs."),
    },
    dict,
)
_REST: Final[dict[str, Field]] = {
    "fairness_k": Field(Decimal(MILLION), "Weight of past use in over-quota division; unset: 1."),
    "reserve_after": Field(
        Duration(),
        "A gang that waits for longer at the head gets a reservation; unset: 1h.",
        to="reserve_after_ms",
    ),
    "max_evictions": Field(Whole(), "In one decision; 0 (unset): no bound."),
    "stale_grace": Field(
        Duration(), "How long a gang may stay below its minimum; unset: 60s.", to="stale_grace_ms"
    ),
    "search_steps": Field(Whole(1), "Budget of a bounded search; unset: 10000."),
}


_POOL: Final[Object[dict[str, Any]]] = Object(
    "PoolPolicy",
    {
        "placement": Field(_PLACEMENT, "How nodes of the pool are filled."),
        **{key: field._replace(about=f"For this pool: {field.about}") for key, field in _REST.items()},
    },
    dict,
    about="Options of one pool, where they differ.",
)


def _policy(
    placement: dict[str, Any] | None = None, pools: dict[str, dict[str, Any]] | None = None, **rest: int
) -> Policy:
    everywhere = placement or {}
    by_pool = {
        name: Placement(**{**everywhere, **own.pop("placement", {})}) for name, own in (pools or {}).items()
    }
    policy = Policy(placement=Placement(**everywhere), pools=by_pool, **rest)
    _check_pools(policy, pools or {})
    return policy


def _check_pools(policy: Policy, pools: dict[str, dict[str, Any]]) -> None:
    """Beside its placement, a pool may only say again what holds everywhere."""
    wrongs = Wrongs()
    for name, own in pools.items():
        for option, value in own.items():
            if value != getattr(policy, option):
                wanted = f"the same as for all pools: this version does not honour {NOT_YET['pools']}"
                field = option.removesuffix("_ms")
                wrongs.take(Bad([Wrong((), f"{field} of its own", wanted)]), "pools", name, field)
    wrongs.check()


POLICY: Final = Object(
    "Policy",
    {
        "placement": Field(_PLACEMENT, "How nodes are filled."),
        **_REST,
        "pools": Field(Map(NAME, _POOL), "Options of single pools."),
    },
    _policy,
    about="Options of the policy.",
)


def dump_policy(policy: Policy) -> Document:
    """As it is read."""
    document: Document = {
        "placement": _dump_placement(policy.placement),
        "fairness_k": write_number(policy.fairness_k, MILLION),
        "reserve_after": write_duration(policy.reserve_after_ms),
        "max_evictions": policy.max_evictions,
        "stale_grace": write_duration(policy.stale_grace_ms),
        "search_steps": policy.search_steps,
    }
    if policy.pools:
        document["pools"] = {
            name: {"placement": _dump_placement(placement)}
            for name, placement in sorted(policy.pools.items())
        }
    return document


def _dump_placement(placement: Placement) -> Document:
    return {"gpu": placement.gpu, "cpu": placement.cpu}
