"""Settings that are tried: `queue.research.quota.gpu=16`, `policy.max_evictions=4`, `checkpoint.every=10m`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from gpumax.formats.options import POLICY, dump_policy
from gpumax.formats.queues import QUEUE, QUEUE_FIELDS, check_tree, dump_queue, make_queue
from gpumax.formats.scalars import write_duration
from gpumax.formats.scenario import SCENARIO
from gpumax.formats.shape import Bad, Shape, Wrongs, show
from gpumax.model.queue import Queue
from gpumax.model.study import Scenario
from gpumax.model.workload import Document

_NUMBER: Final = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)
_FORM: Final = "NAME=VALUE, as queue.research.quota.gpu=16, policy.max_evictions=4 or checkpoint.every=10m"
_ROOTS: Final = ("queue", "policy", "checkpoint", "start", "grace")
_FIXED: Final = ("name", "created", "usage")
"""What makes a queue another one, or is its past."""


class Setting(NamedTuple):
    """One setting. path: of the field, below what it belongs to; text: as it was written, up to the sign."""

    text: str
    path: tuple[str, ...]
    value: object


class Settings(NamedTuple):
    """All of them, by what they belong to: a queue's name, or one of the other roots."""

    queues: dict[str, list[Setting]]
    rest: dict[str, list[Setting]]


def read_settings(texts: Sequence[str], scenario: Scenario | None, wrongs: Wrongs) -> Settings:
    """What a person wrote. Faults go to `wrongs`; without a scenario only the form is looked at."""
    found = Settings({}, {})
    seen: set[str] = set()
    for text in texts:
        name, sign, value = text.partition("=")
        root, _, rest = name.strip().partition(".")
        name = name.strip()
        if not sign or not name:
            wrongs.add(("--set",), show(text), _FORM)
        elif name in seen:
            wrongs.add((f"--set {name}",), "a second value", "each setting once")
        elif root not in _ROOTS:
            wrongs.add((f"--set {name}",), show(root), f"one of {', '.join(_ROOTS)}", root, _ROOTS)
        elif root != "queue":
            setting = Setting(name, tuple(rest.split(".")) if rest else (), _value(value))
            found.rest.setdefault(root, []).append(setting)
        elif scenario is not None:
            _of_queue(found.queues, name, rest, _value(value), scenario.queues, wrongs)
        seen.add(name)
    return found


def apply_settings(
    scenario: Scenario, settings: Settings, wrongs: Wrongs
) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario with the settings made, and each change in words. Faults go to `wrongs`."""
    told: list[str] = []
    queues = {queue.name: queue for queue in scenario.queues}
    for name, mine in settings.queues.items():
        made = _changed(_written(queues[name]), mine, QUEUE, f"queue.{name}", wrongs, told)
        queues[name] = made or queues[name]
    _check_tree(scenario, queues, settings, wrongs)
    fields = {"queues": tuple(sorted(queues.values(), key=lambda queue: queue.name))}
    documents: dict[str, tuple[Document, Shape[Any], str]] = {
        "policy": (dump_policy(scenario.policy), POLICY, "policy"),
        "checkpoint": (_saving(scenario), SCENARIO.fields["checkpoint"].shape, "checkpoint"),
    }
    for root, mine in settings.rest.items():
        if root in documents:
            document, shape, field = documents[root]
            made = _changed(document, mine, shape, root, wrongs, told)
        else:
            field = f"{root}_ms"
            made = _single(getattr(scenario, field), mine, SCENARIO.fields[root].shape, wrongs, told)
        if made is not None:
            fields[field] = made
    return replace(scenario, **fields), tuple(told)


def _of_queue(
    found: dict[str, list[Setting]], name: str, rest: str, value: object, queues: Iterable[Queue], wrongs: Wrongs
) -> None:  # fmt: skip
    """Names of queues may have dots in them: the longest that fits is meant."""
    names = sorted((queue.name for queue in queues), key=len, reverse=True)
    queue = next((known for known in names if rest == known or rest.startswith(f"{known}.")), None)
    if queue is None:
        unknown = rest.partition(".")[0]
        wrongs.add((f"--set {name}",), f"no queue {show(unknown)}", "a queue that exists", unknown, names)
        return
    path = tuple(rest[len(queue) + 1 :].split(".")) if rest != queue else ()
    found.setdefault(queue, []).append(Setting(name, path, value))


def _changed(
    before: Document, settings: Sequence[Setting], shape: Shape[Any], root: str, wrongs: Wrongs, told: list[str]
) -> Any:  # fmt: skip
    """What a document means with the settings in it; None where it means nothing."""
    after = _copy(before)
    bad = False
    for setting in settings:
        if not setting.path or (shape is QUEUE and setting.path[0] in _FIXED):
            known = [name for name in QUEUE_FIELDS if name not in _FIXED] if shape is QUEUE else before
            wrongs.add((f"--set {setting.text}",), "no field of it", f"one of {', '.join(known)}")
            bad = True
            continue
        _put(after, setting.path, setting.value)
        told.append(f"{setting.text}: {_shown(_get(before, setting.path))} -> {_shown(setting.value)}")
    try:
        made = shape.read(after)
    except Bad as error:
        for wrong in error.wrongs:
            name = ".".join(map(str, (root, *wrong.path)))
            wrongs.add((f"--set {name}",), *wrong[1:])
        return None
    return None if bad else made


def _single(
    before: int, settings: Sequence[Setting], shape: Shape[Any], wrongs: Wrongs, told: list[str]
) -> Any:
    (setting, *more) = settings
    for one in settings:
        if one.path:
            wrongs.add((f"--set {one.text}",), "a field of a duration", "the duration itself")
    try:
        made = shape.read(setting.value)
    except Bad as error:
        wrongs.take(error, f"--set {setting.text}")
        return None
    told.append(f"{setting.text}: {write_duration(before)} -> {setting.value}")
    return made if not more else None


def _check_tree(scenario: Scenario, queues: Mapping[str, Queue], settings: Settings, wrongs: Wrongs) -> None:
    """The tree as it would be: no cycle, nobody below a queue that has work of its own."""
    own = {arrival.queue for arrival in scenario.arrivals}
    parents = {queue.name: queue.parent for queue in scenario.queues}
    moved = [name for name in settings.queues if queues[name].parent != parents[name]]
    found = Wrongs()
    check_tree(dict(enumerate(queues.values())), frozenset(queues), found)
    names = list(queues)
    faulty = {names[int(wrong.path[0])]: wrong for wrong in found.kept if wrong.path[-1] == "parent"}
    for wrong in found.kept:
        if wrong.path[-1] == "fresh":
            wrongs.add((f"--set queue.{names[int(wrong.path[0])]}.fresh",), *wrong[1:])
    for name in moved:
        parent = queues[name].parent
        if name in faulty:
            wrongs.add((f"--set queue.{name}.parent",), *faulty[name][1:])
        elif parent in own:
            wrongs.add(
                (f"--set queue.{name}.parent",),
                f"{show(parent)}, to which work comes",
                "a queue without work of its own",
            )


def _written(queue: Queue) -> Document:
    """A queue as somebody would write it: a weight that follows from the quota goes on following it."""
    document = dump_queue(queue)
    unset = dump_queue(make_queue(queue.name, quota=queue.quota))["weight"]
    document["weight"] = {
        name: weight for name, weight in document["weight"].items() if weight != unset[name]
    }
    return document


def _saving(scenario: Scenario) -> Document:
    saving = scenario.checkpoint
    return {"every": write_duration(saving.every_ms), "restart": write_duration(saving.restart_ms)}


def _value(text: str) -> object:
    """A plain number as a number, nothing as nothing, and everything else as text."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text or None


def _copy(document: Document) -> Document:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in document.items()}


def _put(document: Document, path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        inner = document.get(key)
        if not isinstance(inner, dict):
            inner = document[key] = {}
        document = inner
    document[path[-1]] = value


def _get(document: object, path: tuple[str, ...]) -> object:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)
