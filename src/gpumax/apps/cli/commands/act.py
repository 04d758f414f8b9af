"""stop, suspend, resume, delete."""

from __future__ import annotations

import click

from gpumax.apps.cli.client import Api, segment
from gpumax.apps.cli.each import each
from gpumax.apps.cli.options import Where, complete_workload, quiet_option, server_options
from gpumax.errors import Refused

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_workload)


@click.command()
@_names
@quiet_option
@server_options
@click.pass_obj
def stop(where: Where, names: tuple[str, ...], quiet: bool) -> None:
    """End workloads for good: SIGTERM, after their grace SIGKILL. What they were stays on record until `delete`."""
    _post(where.api(), names, "stop", "stopping", quiet)


@click.command()
@_names
@quiet_option
@server_options
@click.pass_obj
def suspend(where: Where, names: tuple[str, ...], quiet: bool) -> None:
    """Take workloads off their GPUs until `gpumax resume`; checkpoints are kept."""
    _post(where.api(), names, "suspend", "suspending", quiet)


@click.command()
@_names
@quiet_option
@server_options
@click.pass_obj
def resume(where: Where, names: tuple[str, ...], quiet: bool) -> None:
    """Let suspended workloads run again, as soon as there is room."""
    _post(where.api(), names, "resume", "resumed", quiet)


@click.command()
@_names
@click.option("-y", "--yes", is_flag=True, help="Delete work that is running, too, without asking.")
@quiet_option
@server_options
@click.pass_obj
def delete(where: Where, names: tuple[str, ...], yes: bool, quiet: bool) -> None:
    """Stop workloads and forget them, with their logs and checkpoints."""
    import sys

    api = where.api()
    if not yes:
        running = [name for name in names if api.get(f"/workloads/{segment(name)}").get("state") == "running"]
        told = f"{', '.join(running)} {'is' if len(running) == 1 else 'are'} still running"
        if running and not sys.stdin.isatty():
            raise Refused(f"{told}; -y deletes running work, too")
        if running and not click.confirm(f"{told}; delete?", err=True):
            raise click.Abort
    each(api, names, "DELETE", "/workloads/{}", "deleting", quiet)


def _post(api: Api, names: tuple[str, ...], action: str, done: str, quiet: bool) -> None:
    each(api, names, "POST", f"/workloads/{{}}/{action}", done, quiet)
