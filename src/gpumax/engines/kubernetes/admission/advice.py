"""What whoever applies an object is told at once, as warnings: what the scheduler would tell the pod later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.settings import check_words
from gpumax.engines.kubernetes.tasks import read_task
from gpumax.engines.kubernetes.views import Document, Pod
from gpumax.errors import Fault
from gpumax.formats.lines import format_path
from gpumax.formats.shape import nearest

MOST: Final = 8
LONGEST: Final = 250
"""The most characters of a warning; the API server cuts longer ones."""


def advice(document: Document) -> list[str]:
    """What is wrong with a pod, or with the pods that an object makes, in few words whatever its size."""
    template = at(document, "spec", "template")
    pod, above = (template, "spec.template.") if isinstance(template, dict) else (document, "")
    faults = list(_faults(pod))
    told = [_short(f"{above}{fault}") for fault in faults[:MOST]]
    return [*told, f"{len(faults) - MOST} more"] if len(faults) > MOST else told


def _faults(document: Document) -> Iterator[Fault]:
    try:
        pod = msgspec.json.decode(msgspec.json.encode(document), type=Pod)
    except msgspec.DecodeError:
        # No pod at all; the API server says so in its own words.
        return
    own: list[Fault] = []
    check_words(pod, own)
    yield from dict.fromkeys((*read_task(pod).faults, *own))
    for part in ("labels", "annotations"):
        for name in sorted(at(document, "metadata", part) or ()):
            if name.startswith(f"{keys.OWN}/") and name not in keys.READ | keys.MADE:
                where = format_path(("metadata", part, name))
                yield Fault(
                    where,
                    None,
                    "a name that nobody reads",
                    f"one that is known{nearest(name, sorted(keys.READ))}",
                )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
