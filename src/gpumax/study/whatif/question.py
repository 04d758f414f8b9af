"""What is asked: a scenario, what is changed of it, and perhaps a goal. Every fault is told before anything is played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from gpumax.errors import BadFile, Fault
from gpumax.formats.scenario import POLICIES
from gpumax.formats.shape import Bad, Wrongs, bad_file, show
from gpumax.model.study import Scenario
from gpumax.study.caveats import caveats, window_in_words
from gpumax.study.journal import Source, load_source
from gpumax.study.whatif.cluster import Kind, gpus, read_kind, with_added, without
from gpumax.study.whatif.goal import Goal, read_goal
from gpumax.study.whatif.settings import Settings, apply_settings, read_settings
from gpumax.units import MILLI, UNLIMITED, format_count
from gpumax.words import plural

T = TypeVar("T")

_OPTIONS: Final = ("--set", "--add-nodes", "--remove-nodes", "--find", "--policy")
"""Whose faults are told first."""


class Wish(msgspec.Struct, frozen=True):
    """A question as it was written. seed None: the scenario's first. scale_quotas: whether a search scales them with the cluster."""

    settings: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    goal: str | None = None
    policy: str = "gpumax"
    seed: int | None = None
    scale_quotas: bool = True


class Question(msgspec.Struct, frozen=True):
    """A question that can be answered. changes: in words; assumed: what is taken to be so, in sentences."""

    before: Scenario
    after: Scenario
    policy: str
    seed: int
    changes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    goal: Goal | None = None
    scale_quotas: bool = True


def ask(path: Path, wish: Wish) -> Question:
    """The question about a scenario file or a journal. BadFile with every fault of the file and of the question."""
    source, faults = _source(path)
    wrongs = Wrongs()
    scenario = None if source is None else source.scenario
    settings = read_settings(wish.settings, scenario, wrongs)
    added = _kinds("--add-nodes", wish.added, wrongs)
    removed = _kinds("--remove-nodes", wish.removed, wrongs)
    goal = None if wish.goal is None else _tried(wrongs, "--find", partial(read_goal, wish.goal))
    _check_policy(wish, wrongs)
    question = None
    if source is not None:
        question = _question(source, wish, settings, (added, removed), goal, wrongs)
    _refuse(faults, wrongs, wish)
    assert question is not None
    return question


def _source(path: Path) -> tuple[Source | None, list[Fault]]:
    try:
        source = load_source(path)
    except BadFile as bad:
        places = (" of ".join(filter(None, (fault.path, bad.source))) for fault in bad.faults)
        return None, [fault._replace(path=place) for fault, place in zip(bad.faults, places, strict=True)]
    if source.scenario.protocol != "replay":
        wanted = "protocol replay: inflate knows no tenants and no time"
        return source, [Fault(f"protocol of {path}", None, source.scenario.protocol, wanted)]
    return source, []


def _kinds(option: str, texts: Sequence[str], wrongs: Wrongs) -> list[Kind]:
    whole = option == "--add-nodes"
    found = [_tried(wrongs, option, partial(read_kind, text, whole=whole)) for text in texts]
    return [kind for kind in found if kind is not None]


def _question(
    source: Source, wish: Wish, settings: Settings, kinds: tuple[list[Kind], list[Kind]], goal: Goal | None, wrongs: Wrongs
) -> Question:  # fmt: skip
    before = source.scenario
    after, changes = apply_settings(before, settings, wrongs)
    after, moved, assumed = _other_nodes(after, *kinds, wrongs)
    own = caveats(replace(before, policies=(wish.policy,)))
    doubts = _doubts(before, after, larger=bool(kinds[0] or goal))
    seed = before.seeds[0] if wish.seed is None else wish.seed
    return Question(
        before,
        after,
        wish.policy,
        seed,
        (*changes, *moved),
        (
            *source.assumed,
            *assumed,
            *doubts,
            f"GPU hours and use are those of {window_in_words(after)}; waits are of all work.",
            *own,
        ),
        goal,
        wish.scale_quotas,
    )


def _doubts(before: Scenario, after: Scenario, *, larger: bool) -> Iterator[str]:
    """What a reader should know of the cluster that is asked about."""
    there = gpus(after.nodes)
    quotas = sum(queue.quota.gpu for queue in after.queues if queue.parent is None)
    if there * MILLI < quotas < UNLIMITED:
        yield f"Quotas add up to {format_count(quotas)} of {plural(there, 'GPU')}: each is cut, by priority and then in proportion."
    if larger and any(row.found.endswith("GPUs") for row in before.bad):
        yield "Work that asks for more GPUs than the scenario's own cluster has was left out of both, though a larger one might hold it."


def _other_nodes(
    scenario: Scenario, added: Sequence[Kind], removed: Sequence[Kind], wrongs: Wrongs
) -> tuple[Scenario, tuple[str, ...], tuple[str, ...]]:
    """The scenario with nodes that go and come; that in words, and what is assumed of those that come."""
    nodes, told, assumed = scenario.nodes, list[str](), dict[str, None]()
    for kind in removed:
        left = _tried(wrongs, "--remove-nodes", partial(without, nodes, kind))
        nodes = nodes if left is None else left
        told.append(f"{kind} removed")
    for kind in added:
        nodes, sentence = with_added(nodes, kind, scenario.nodes)
        assumed[sentence] = None
        told.append(f"{kind} added")
    if not gpus(nodes):
        wrongs.add(("--remove-nodes",), "no GPU left", "a cluster with at least one")
    return replace(scenario, nodes=nodes), tuple(told), tuple(assumed)


def _check_policy(wish: Wish, wrongs: Wrongs) -> None:
    """It is one that replays, and options of gpumax's policy are for gpumax."""
    known = POLICIES["replay"]
    if wish.policy not in known:
        wrongs.add(("--policy",), show(wish.policy), f"one of {', '.join(known)}", wish.policy, known)
    elif not wish.policy.startswith("gpumax"):
        for text in wish.settings:
            if text.strip().startswith("policy."):
                name = text.partition("=")[0].strip()
                wrongs.add(
                    (f"--set {name}",),
                    f"an option of gpumax beside --policy {wish.policy}",
                    "--policy gpumax",
                )


def _tried(wrongs: Wrongs, option: str, read: Callable[[], T]) -> T | None:
    """What was written behind an option; its faults are noted."""
    try:
        return read()
    except Bad as bad:
        wrongs.take(bad, option)
        return None


def _refuse(faults: Sequence[Fault], wrongs: Wrongs, wish: Wish) -> None:
    """Raise all faults, if there are any; those of options stand at the option, in the order in which they are written."""
    told = bad_file(Bad(wrongs.kept, wrongs.more)).faults
    own = [fault._replace(path=str(wrong.path[0])) for fault, wrong in zip(told, wrongs.kept, strict=False)]
    names = [text.partition("=")[0].strip() for text in wish.settings]

    def place(fault: Fault) -> tuple[int, int]:
        option, _, name = fault.path.partition(" ")
        return _OPTIONS.index(option), names.index(name) if name in names else len(names)

    if all_of_them := [*faults, *sorted(own, key=place), *told[len(own) :]]:
        raise BadFile(all_of_them)
