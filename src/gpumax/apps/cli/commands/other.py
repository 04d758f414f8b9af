"""schema, completion, version."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from gpumax import __version__
from gpumax.apps.cli.output import emit_document, say
from gpumax.errors import Refused

_KINDS = ("json", "yaml")
_SHELLS = {
    "bash": "gpumax completion bash > ~/.local/share/bash-completion/completions/gpumax",
    "zsh": "gpumax completion zsh > ~/.zfunc/_gpumax   (with ~/.zfunc in fpath before compinit)",
    "fish": "gpumax completion fish > ~/.config/fish/completions/gpumax.fish",
}


def _schemas(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from gpumax.formats.schema import NAMES

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, shell_complete=_schemas)
@click.option(
    "-o",
    "--output",
    type=click.Choice(_KINDS),
    default="json",
    metavar="FORMAT",
    help="How to print it: json or yaml.",
)
def schema(name: str | None, output: str) -> None:
    """JSON Schema of a file format: workload, queue, snapshot, decision, scenario, result. Editors check and complete files with it."""
    from gpumax.formats import schema as schemas

    if name is None:
        raise Refused(f"wanted the name of a schema: {', '.join(schemas.NAMES)}")
    emit_document(schemas.schema(name), output)


@click.command()
@click.argument("shell", type=click.Choice(tuple(_SHELLS)), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Script that completes commands, options, and names of workloads and queues.

    \b
      gpumax completion bash > ~/.local/share/bash-completion/completions/gpumax
    """
    import sys

    from click.shell_completion import get_completion_class

    from gpumax.apps.cli.main import COMPLETE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "gpumax", COMPLETE).source())
    if sys.stdout.isatty():
        say(f"to install it: {_SHELLS[shell]}")


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Choice(("table", *_KINDS)),
    default="table",
    metavar="FORMAT",
    help="table, json or yaml.",
)
def version(output: str) -> None:
    """The version of this program; `gpumax status` tells the server's."""
    if output == "table":
        click.echo(f"gpumax {__version__}")
    else:
        emit_document({"version": __version__}, output)
