"""How a queue came by its share, level by level: for the person who asks why it isn't more."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.model.amounts import RESOURCES
from gpumax.model.explanation import Derived, ShareRule
from gpumax.policy.share import Claim, guaranteed
from gpumax.policy.tree import Account, Vector, claims_of
from gpumax.policy.words import amount, bare
from gpumax.policy.world import World


def derived(world: World, leaf: Account, wanted: Vector) -> Iterator[Derived]:
    """For each resource that is wanted: the queue, then those above it."""
    for position, resource in enumerate(RESOURCES):
        if not wanted[position]:
            continue
        for account in leaf.path:
            siblings = world.tree.roots if account.parent is None else account.parent.children
            total = (world.capacity() if account.parent is None else account.parent.share)[position]
            claims = claims_of(siblings, position)
            firm = guaranteed(total, claims)
            at = siblings.index(account)
            left = total - sum(firm)
            before = sum(
                other.share[position] - share
                for other, share in zip(siblings, firm, strict=True)
                if other.queue.priority > account.queue.priority
            )
            yield Derived(
                queue=account.name,
                resource=resource,
                parent=None if account.parent is None else account.parent.name,
                rule=_rule(account, position, claims, firm[at], left, before),
                share=account.share[position],
                quota=account.quota[position],
                limit=account.limit[position],
                demand=account.demand[position],
                total=total,
                guaranteed=firm[at],
                left=left,
            )


def _rule(
    account: Account, position: int, claims: list[Claim], firm: int, left: int, before: int
) -> ShareRule:
    share = account.share[position]
    if share >= account.demand[position]:
        return "demand"
    if share >= account.limit[position]:
        return "limit"
    if firm < min(account.quota[position], account.want(position)):
        return "cut"
    if left <= 0:
        return "nothing_left"
    if not account.queue.weight.vector()[position]:
        return "no_weight"
    if before >= left:
        return "priority"
    equals = [claim for claim in claims if claim.priority == account.queue.priority]
    return "usage" if any(claim.usage for claim in equals) else "weight"


def share_words(steps: tuple[Derived, ...]) -> list[str]:
    """How it came about: a sentence for the queue, and one for the nearest queue above that is short of something itself."""
    said: list[str] = []
    for resource in dict.fromkeys(step.resource for step in steps):
        first, *above = [step for step in steps if step.resource == resource]
        if said and first.rule == "demand":
            continue
        said.append(_sentence(first))
        scarce = next((step for step in above if step.rule != "demand"), None)
        if scarce is not None and first.rule != "demand":
            said.append(_sentence(scarce))
    return said


def _sentence(step: Derived) -> str:
    owner = "the cluster" if step.parent is None else f"queue {step.parent}"
    total, left = bare(step.resource, step.total), bare(step.resource, step.left)
    more = amount(step.resource, step.share - step.guaranteed)
    firm = bare(step.resource, step.guaranteed)
    quota = f"its quota of {bare(step.resource, step.quota)}"
    how = {
        "demand": "all that its work asks for",
        "limit": "as much as its limit allows",
        "cut": f"{owner} has {total} to divide and quotas below it exceed that, so its quota of "
        f"{bare(step.resource, step.quota)} is cut",
        "nothing_left": f"{quota}; beyond quotas {owner} has nothing left",
        "no_weight": f"{quota}; its weight is 0, so it gets nothing beyond",
        "priority": f"{quota}; the {left} beyond quotas went to queues of higher priority",
        "weight": f"{firm} of its quota and {more} of the {left} beyond quotas in {owner}, by weight",
        "usage": f"{firm} of its quota and {more} of the {left} beyond quotas in {owner}, by weight and past use",
    }[step.rule]
    return f"Queue {step.queue} has a share of {amount(step.resource, step.share)}: {how}."
