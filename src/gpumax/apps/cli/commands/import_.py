"""import kai-queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpumax.apps.cli.lazy import Guessing
from gpumax.apps.cli.output import emit_document, say

if TYPE_CHECKING:
    from gpumax.model.queue import Queue
    from gpumax.model.workload import Document


@click.group("import", cls=Guessing)
def import_() -> None:
    """Settings of other schedulers, as gpumax has them."""


@import_.command("kai-queues")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--to",
    type=click.Choice(("file", "kubernetes")),
    default="file",
    help="What to print: a file for `gpumax apply` (unset), or objects for `kubectl apply`.",
)
@click.option("-o", "--output", type=click.Choice(("yaml", "json")), default="yaml", metavar="FORMAT")
def kai_queues(files: tuple[str, ...], to: str, output: str) -> None:
    """Queues of KAI or Run:ai become queues of gpumax; changes nothing.

    \b
      kubectl get queues.scheduling.run.ai -o yaml | gpumax import kai-queues > queues.yaml
      gpumax apply -f queues.yaml
    """
    from gpumax.formats.kai import read_kai_queues
    from gpumax.formats.text import parse_text, read_file

    documents = []
    for file in files or ("-",):
        source = "standard input" if file == "-" else file
        documents += [parsed._replace(source=source) for parsed in parse_text(read_file(file), source)]
    queues, passed = read_kai_queues(documents)
    if passed:
        say(
            f"passed over {passed} {'object that is' if passed == 1 else 'objects that are'} no Queue of scheduling.run.ai"
        )
    if not queues:
        say("no queues")
        return
    ordered = _parents_first(queues)
    if to == "kubernetes":
        emit_document(
            {"apiVersion": "v1", "kind": "List", "items": [_object(queue) for queue in ordered]}, output
        )
    else:
        emit_document([_entry(queue) for queue in ordered], output)


def _parents_first(queues: tuple[Queue, ...]) -> list[Queue]:
    known = {queue.name: queue for queue in queues}

    def depth(queue: Queue) -> int:
        return 0 if queue.parent is None else 1 + depth(known[queue.parent])

    return sorted(queues, key=lambda queue: (depth(queue), queue.name))


def _entry(queue: Queue) -> Document:
    from gpumax.formats.queues import dump_queue

    written = dump_queue(queue)
    written.pop("created", None)
    return {"kind": "queue", **written}


def _object(queue: Queue) -> Document:
    written = _entry(queue)
    del written["kind"]
    names = {"preempt_min_runtime": "preemptMinRuntime", "reclaim_min_runtime": "reclaimMinRuntime"}
    spec = {names.get(key, key): _texts(value) for key, value in written.items() if key != "name"}
    return {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": queue.name},
        "spec": spec,
    }


def _texts(value: object) -> object:
    """Parts of numbers are text in the API."""
    if isinstance(value, dict):
        return {key: _texts(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) else value
