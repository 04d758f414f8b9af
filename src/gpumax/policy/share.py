"""What each queue may hold now: quota first, then the rest by priority and weight. Integers throughout.

Each level of the tree divides its parent's share among the children, one resource at a time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gpumax.units import UNLIMITED

PPM: Final = 1_000_000
"""Millionths of a whole, the unit of usage and of fairness_k."""


class Claim(NamedTuple):
    """One queue's side of a division, in base units. want: what it could use, within its limit.

    weight: any unit, the same for all siblings; usage: past use in millionths of the cluster.
    """

    name: str
    quota: int
    want: int
    weight: int
    priority: int
    created_ms: int
    usage: int


def divide(total: int, claims: list[Claim], *, unit: int, fairness_k: int) -> list[int]:
    """Each claim's share, in the order of the claims; together at most `total`.

    unit: the size in which over-quota is dealt (1000 milli-devices, 1 millicore, 1 MiB); fairness_k in millionths.
    """
    if sum([claim.want for claim in claims]) <= total and not any(claim.usage for claim in claims):
        # There is enough for all; only those without weight get nothing beyond their quota.
        return [claim.want if claim.weight else min(claim.quota, claim.want) for claim in claims]
    shares = guaranteed(total, claims)
    left = total - sum(shares)
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        if left <= 0:
            break
        rows = [row for row, claim in enumerate(claims) if claim.priority == priority]
        left = _over_quota(left, rows, claims, shares, unit, fairness_k)
    return shares


def quota_cut(total: int, claims: list[Claim]) -> bool:
    """Whether the quotas that are wanted exceed what there is."""
    return sum(min(claim.quota, claim.want) for claim in claims) > total


def guaranteed(total: int, claims: list[Claim]) -> list[int]:
    """min(quota, want) each. Where that exceeds the total: by priority, then in proportion to quota, never above want."""
    shares = [0] * len(claims)
    left = total
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        rows = [row for row, claim in enumerate(claims) if claim.priority == priority]
        needs = {row: min(claims[row].quota, claims[row].want) for row in rows}
        if sum(needs.values()) <= left:
            for row, need in needs.items():
                shares[row] = need
            left -= sum(needs.values())
        else:
            _cut(left, needs, claims, total, shares)
            left = 0
    return shares


def _cut(left: int, needs: dict[int, int], claims: list[Claim], total: int, shares: list[int]) -> None:
    """Divide `left` in proportion to quota; who needs less than its part leaves the rest to the others."""
    if left <= 0:
        return
    # An unlimited quota stands for all there is.
    quota = {row: total if claims[row].quota >= UNLIMITED else claims[row].quota for row in needs}
    open_rows = [row for row in needs if needs[row] > 0]
    while open_rows:
        whole = sum(quota[row] for row in open_rows)
        met = [row for row in open_rows if needs[row] * whole <= left * quota[row]]
        if not met:
            break
        for row in met:
            shares[row] = needs[row]
        left -= sum(needs[row] for row in met)
        open_rows = [row for row in open_rows if row not in met]
    whole = sum(quota[row] for row in open_rows)
    parts = {row: divmod(left * quota[row], whole) for row in open_rows if whole}
    rest = left - sum(part for part, _ in parts.values())
    for row in sorted(parts, key=lambda row: (-parts[row][1], claims[row].created_ms, claims[row].name)):
        extra = 1 if rest > 0 else 0
        shares[row] = parts[row][0] + extra
        rest -= extra


def _over_quota(
    left: int, rows: list[int], claims: list[Claim], shares: list[int], unit: int, fairness_k: int
) -> int:
    """Deal what is left to the queues of one priority, until they want no more or nothing is left; returns the rest."""
    while left > 0:
        parts, over = _parts(left, rows, claims, shares, fairness_k)
        dealt = _deal(left, parts, over, claims, shares, unit)
        if dealt == 0:
            break
        left -= dealt
    return left


def _parts(
    left: int, rows: list[int], claims: list[Claim], shares: list[int], fairness_k: int
) -> tuple[dict[int, int], int]:
    """Exact parts of what is left, over one denominator, which is the second.

    In rounds, each dealing all of it; a queue that needs less than its part drops out.
    """
    needs = {row: claims[row].want - shares[row] for row in rows if claims[row].weight > 0}
    parts = {row: 0 for row, need in needs.items() if need > 0}
    hungry, rest, over = list(parts), left, 1
    while rest > 0:
        pulls = _pulls(hungry, claims, fairness_k)
        whole = sum(pulls.values())
        if whole == 0:
            break
        over *= whole
        parts = {row: part * whole for row, part in parts.items()}
        dealt, still = 0, []
        for row in hungry:
            part, need = rest * pulls[row], needs[row] * over - parts[row]
            if part < need:
                still.append(row)
            parts[row] += min(part, need)
            dealt += min(part, need)
        rest = rest * whole - dealt
        if len(still) == len(hungry):
            break
        hungry = still
    return parts, over


def _deal(
    left: int, parts: dict[int, int], over: int, claims: list[Claim], shares: list[int], unit: int
) -> int:
    """Round the parts to whole units; what is left goes one unit each by largest remainder, oldest, name. over: their denominator."""
    dealt = 0
    remainders: list[tuple[int, int]] = []
    for row, part in parts.items():
        need = claims[row].want - shares[row]
        give = need if part == need * over else part // (unit * over) * unit
        if part > give * over:
            remainders.append((part - give * over, row))
        shares[row] += give
        dealt += give
    for _, row in sorted(remainders, key=lambda r: (-r[0], claims[r[1]].created_ms, claims[r[1]].name)):
        give = min(unit, left - dealt, claims[row].want - shares[row])
        shares[row] += give
        dealt += give
    return dealt


def _pulls(hungry: list[int], claims: list[Claim], fairness_k: int) -> dict[int, int]:
    """s = max(0, w + k (w - usage)) with w = weight / sum of weights, scaled to integers (KAI-Scheduler's formula)."""
    if not any(claims[row].usage for row in hungry):
        return {row: claims[row].weight for row in hungry}
    whole = sum(claims[row].weight for row in hungry)
    return {
        row: max(0, claims[row].weight * (PPM + fairness_k) * PPM - fairness_k * claims[row].usage * whole)
        for row in hungry
    }
