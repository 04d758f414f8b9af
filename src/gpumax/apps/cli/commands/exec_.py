"""exec."""

from __future__ import annotations

import click

from gpumax.apps.cli.options import Where, complete_workload, server_options


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "--task", metavar="I", type=click.IntRange(min=0), default=0, show_default=True, help="Beside this task."
)
@server_options
@click.argument("name", shell_complete=complete_workload)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def exec_(where: Where, name: str, task: int, command: tuple[str, ...]) -> None:
    """Run a command beside a task, in its container; the exit code is the command's. On a cluster only, as yet.

    \b
      gpumax exec train -- nvidia-smi
      gpumax exec --task 3 train -- bash
    """
    from gpumax.apps.cli.console import Console

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("wanted a command, as `gpumax exec NAME -- bash`")
    cluster = where.cluster()
    with Console() as console:
        code = cluster.attach(name, task, words, console)
    raise click.exceptions.Exit(code)
