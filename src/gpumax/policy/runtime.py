"""Minimum runtimes: for how long work of a queue is protected, and from whom."""

from __future__ import annotations

from gpumax.policy.tree import Account


def preempt_ms(victim: Account) -> int:
    """From work of its own queue: set there, or else at the nearest queue above."""
    written = (account.queue.preempt_min_runtime_ms for account in victim.path)
    return next((runtime for runtime in written if runtime is not None), 0)


def reclaim_ms(side: Account) -> int:
    """From work of other queues: set one step below the common ancestor, `side`, or else at the nearest queue above."""
    written = (account.queue.reclaim_min_runtime_ms for account in side.path)
    return next((runtime for runtime in written if runtime is not None), 0)


def sides(asker: Account, victim: Account) -> tuple[Account, Account]:
    """The siblings under the lowest common ancestor of two queues: the asker's side and the victim's."""
    above = {account.parent for account in asker.path}
    theirs = next(account for account in victim.path if account.parent in above)
    mine = next(account for account in asker.path if account.parent is theirs.parent)
    return mine, theirs
