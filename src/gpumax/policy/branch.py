"""The scopes of what is to be placed, as a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gpumax.policy.ask import Ask
from gpumax.policy.topology import Scope

if TYPE_CHECKING:
    from gpumax.policy.gang import Want


class Branch:
    """A scope, and what is to be placed in it: directly, and in narrower scopes."""

    def __init__(self, scope: Scope | None) -> None:
        self.scope = scope
        self.wants: list[Want] = []
        self.inner: list[Branch] = []

    def everyone(self) -> list[Want]:
        """All that is to be placed in it."""
        found = list(self.wants)
        for branch in self.inner:
            found += branch.everyone()
        return found

    def count(self) -> int:
        """How many scopes it is made of."""
        return 1 + sum(branch.count() for branch in self.inner)

    def sign(self) -> object:
        """Equal for branches that are served alike."""
        scope = None if self.scope is None else self.scope.sign()
        asks = frozenset(Counter(want.ask for want in self.wants).items())
        return scope, asks, frozenset(Counter(branch.sign() for branch in self.inner).items())


def grown(wants: Iterable[Want]) -> Branch:
    """The scopes of wants as a tree."""
    root = Branch(None)
    known: dict[int, Branch] = {}
    for want in wants:
        at = root
        for scope in reversed(list(want.scope.path())) if want.scope is not None else ():
            inner = known.get(id(scope))
            if inner is None:
                inner = known[id(scope)] = Branch(scope)
                at.inner.append(inner)
            at = inner
        at.wants.append(want)
    return root


def scoped(wants: Sequence[Want]) -> bool:
    """Whether anything is wished of the topology."""
    if len(wants) == 1:
        return wants[0].scope is not None
    return any(want.scope is not None for want in wants)


def sign(wants: list[Want]) -> object:
    """Equal for chunks that are served alike."""
    if scoped(wants):
        return grown(wants).sign()
    if len(wants) == 1:
        return ((wants[0].ask, 1),)
    counts: dict[Ask, int] = {}
    for want in wants:
        counts[want.ask] = counts.get(want.ask, 0) + 1
    return tuple(counts.items())
