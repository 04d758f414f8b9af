"""Why not now, for work that is tied to other tasks: nodes have room, but not where these have to be, or must not be."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.model.workload import Affinity, Expression, TaskTerm
from gpumax.policy.gang import Want
from gpumax.policy.gather import brought, needy, tied
from gpumax.policy.ledger import Ledger
from gpumax.policy.place import Placer
from gpumax.policy.topology import NOWHERE
from gpumax.policy.words import NEVER, chunk_words, count, listed
from gpumax.policy.world import World

_SAID: Final = {
    "TaskAffinityMismatch": "not near the tasks that it must be near",
    "TaskAntiAffinityMismatch": "not away from those that it must be away from",
    "KeptAwayByTask": "kept from it by a task there",
}


class Lonely(NamedTuple):
    """What ties keep apart. matches: some node could ever do for each task; possible: all could ever stand together."""

    matches: bool
    possible: bool
    message: str
    nodes: dict[str, int]


class Lonelies:
    """Looks at chunks that are tied to other tasks; chunks that ask the same are looked at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[tuple[object, ...], Lonely | None] = {}
        self._empty: Ledger | None = None

    def of(self, chunk: list[Want]) -> Lonely | None:
        """What keeps the chunk from places that have room; None where nothing ties it, or there is no room."""
        if self._world.ties is None or not tied(chunk):
            return None
        key = tuple((want.ask, want.scope) for want in chunk)
        if key not in self._known:
            self._known[key] = self._look(chunk)
        return self._known[key]

    def _look(self, chunk: list[Want]) -> Lonely | None:
        world = self._world
        for want in chunk:
            keys = self._nowhere(want)
            if keys:
                message = f"{_needs([want])}; no node that may take it has the label {listed(keys)}{NEVER}"
                return Lonely(False, False, message, world.fits.reasons(world.ledger.later, want.ask))
        # Whoever it needs may come; those who are placed together keep each other away for ever.
        aloof = [replace(want, ask=world.asks.aloof(want.ask)) for want in chunk]
        if self._empty is None:
            self._empty = Ledger(world.nodes, world.ties)
        if len(chunk) > 1 and not self._fits(self._empty.copy(), aloof):
            message = f"{_needs(chunk)}; even on empty nodes they can't all be so far apart{NEVER}"
            return Lonely(True, False, message, world.fits.reasons(world.ledger.later, chunk[0].ask))
        alone = [replace(want, ask=want.ask.plain) for want in chunk]
        if not self._fits(world.ledger.copy(), alone):
            return None
        return self._tell(chunk)

    def _nowhere(self, want: Want) -> list[str]:
        """The labels that it needs of its node, where no node that could take it has them."""
        mine, ties = want.ask.filter.tied, self._world.ties
        if mine is None or ties is None or not mine.needs:
            return []
        fits = self._world.fits
        rows = {row for at in range(len(want.ask.gpu)) for row in fits.possible(want.ask, at).nonzero()[0]}
        if any(all(ties.domains[column].of[row] != NOWHERE for column in mine.needs) for row in rows):
            return []
        return sorted({ties.columns[column].key for column in mine.needs})

    def _fits(self, ledger: Ledger, wants: list[Want]) -> bool:
        return Placer(self._world.fits, self._world.scores).place(ledger, wants) is not None

    def _tell(self, chunk: list[Want]) -> Lonely:
        """The first task that finds no place when the others took theirs, and how many nodes fail it for what."""
        world, ledger = self._world, self._world.ledger.copy()
        placer = Placer(world.fits, world.scores)
        left = None
        for want in sorted(chunk, key=lambda want: needy((want,))):
            others = brought(other for other in chunk if other is not want)
            if placer.spot(ledger, want, tuple(range(len(want.ask.gpu))), coming=others) is None:
                left = want
                break
        want = left or chunk[0]
        nodes = world.fits.reasons(ledger.later, want.ask)
        apart = {why: nodes[why] for why in _SAID if why in nodes}
        if left is None or not apart:
            message = f"{_needs(chunk)}; each could by itself, but not all at once"
            return Lonely(True, True, message, nodes)
        said = [f"{number} {'is' if number == 1 else 'are'} {_SAID[why]}" for why, number in apart.items()]
        last = "" if len(chunk) == 1 else " for the last of its tasks"
        room = (
            f"{count(sum(apart.values()), 'node')} {'has' if sum(apart.values()) == 1 else 'have'} room{last}"
        )
        message = f"{_needs(chunk)}; {room}, but {listed(said)}"
        return Lonely(True, True, message, nodes)


def _needs(chunk: list[Want]) -> str:
    wishes = dict.fromkeys(
        words
        for want in chunk
        if want.task.affinity is not None
        for words in company_words(want.task.affinity)
    )
    return f"needs {chunk_words(chunk)}{' together' if len(chunk) > 1 else ''}" + "".join(
        f", {words}" for words in wishes
    )


def company_words(affinity: Affinity) -> list[str]:
    """`near a task with app=db in its zone`, `away from any task with app=web on its kubernetes.io/hostname`."""
    near = [f"near a {_term(term)}" for term in affinity.near.required]
    return near + [f"away from any {_term(term)}" for term in affinity.apart.required]


def _term(term: TaskTerm) -> str:
    labels = [_expression(expression) for expression in term.labels or ()]
    labels += [f"the same {key}" for key in term.same] + [f"another {key}" for key in term.other]
    what = f"task with {listed(labels)}" if labels else "task"
    if term.queue_labels == ():
        what += " of any queue"
    elif term.queues or term.queue_labels:
        some = [_expression(expression) for expression in term.queue_labels or ()]
        what += f" of queue {listed([*term.queues, *some], 'or')}"
    return f"{what} in its {term.key}"


def _expression(expression: Expression) -> str:
    values = listed(list(expression.values), "or")
    match expression.operator:
        case "In":
            return f"{expression.key}={values}"
        case "NotIn":
            return f"{expression.key} other than {values}"
        case "Exists":
            return expression.key
        case _:
            return f"no {expression.key}"
