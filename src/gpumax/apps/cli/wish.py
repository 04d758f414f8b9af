"""The options of `gpumax run` as a workload document."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from gpumax.apps.cli.client import Item
from gpumax.errors import Refused

_NUMBER: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_TASKS: Final = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Wish(NamedTuple):
    """What was asked for on the command line; None where nothing was said."""

    command: tuple[str, ...]
    gpu: str | None = None
    gpu_memory: str | None = None
    devices: int | None = None
    cpu: str | None = None
    memory: str | None = None
    tasks: str | None = None
    project: str | None = None
    name: str | None = None
    priority: str | None = None
    env: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    workdir: str | None = None
    image: str | None = None
    max_duration: str | None = None
    grace: str | None = None
    retries: int | None = None
    checkpoint: str | None = None


def document(wish: Wish) -> Item:
    """The workload file that says the same. Refused for options that contradict each other or can't be read;
    amounts are left to the reader of workload files.
    """
    _check_text(wish)
    fields: Item = {
        "name": wish.name,
        "project": wish.project,
        "priority": plain_number(wish.priority),
        "tasks": _tasks(wish.tasks),
        "resources": _resources(wish),
        "workdir": str(Path(wish.workdir or ".").expanduser().absolute()),
        "image": wish.image,
        "env": _environment(wish.env),
        "secrets": list(wish.secret),
        "run": _command(wish.command),
        "max_duration": wish.max_duration,
        "grace": wish.grace,
        "retries": None if wish.retries is None else {"max": wish.retries},
        "checkpoint": None if wish.checkpoint is None else {"path": wish.checkpoint},
    }
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _check_text(wish: Wish) -> None:
    """Refused for bytes that are no text: the command travels as JSON, which has none."""
    for field, value in wish._asdict().items():
        for number, word in enumerate(value if isinstance(value, tuple) else (value,), 1):
            if isinstance(word, str) and any("\ud800" <= char <= "\udfff" for char in word):
                place = (
                    f"argument {number} of the command"
                    if field == "command"
                    else f"--{field.replace('_', '-')}"
                )
                # The value of a variable may be a secret.
                found = "bytes" if field == "env" else repr(os.fsencode(word))[1:]
                raise Refused(f"{place}: found {found}, which is no UTF-8; wanted text")


def _command(command: tuple[str, ...]) -> str | list[str]:
    if len(command) == 1 and any(char.isspace() for char in command[0]):
        return command[0]
    return list(command)


def _resources(wish: Wish) -> Item:
    resources: Item = {
        "gpu": _gpu(wish),
        "devices": wish.devices,
        "cpu": plain_number(wish.cpu),
        "memory": wish.memory,
    }
    if wish.devices is not None and resources["gpu"] is None:
        raise Refused("--devices says of how many GPUs a part is wanted; add --gpu 0.5 or --gpu-memory 20Gi")
    return {name: value for name, value in resources.items() if value is not None}


def _gpu(wish: Wish) -> object:
    """A number, `MODEL:N`, or memory; the model of `--gpu MODEL` may go with --gpu-memory."""
    if wish.gpu_memory is None:
        return plain_number(wish.gpu)
    if wish.gpu is None:
        return {"memory": wish.gpu_memory}
    if _NUMBER.fullmatch(wish.gpu) or ":" in wish.gpu:
        raise Refused(
            "--gpu-memory is asked for instead of a number of GPUs; leave out --gpu, or give it a model only"
        )
    return {"model": wish.gpu, "memory": wish.gpu_memory}


def plain_number(text: str | None) -> object:
    """A plain number as a number; everything else as it was written."""
    if text is None or not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _tasks(text: str | None) -> object:
    if text is None:
        return None
    match = _TASKS.fullmatch(text)
    if match is None:
        raise Refused(f"--tasks {text}: found {text!r}; wanted a number, or two as 2-8")
    return int(match[1]) if match[2] is None else {"min": int(match[1]), "max": int(match[2])}


def _environment(pairs: tuple[str, ...]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not _VARIABLE.fullmatch(name):
            # The value may be a secret that slipped in; only the name is told.
            raise Refused(f"--env {name}: wanted KEY=VALUE, KEY of letters, digits and _")
        if not equals and name not in os.environ:
            raise Refused(f"--env {name}: {name} is not set here; set it, or write {name}=VALUE")
        environment[name] = value if equals else os.environ[name]
    return environment
