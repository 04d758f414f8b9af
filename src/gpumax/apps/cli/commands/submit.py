"""run, apply, plan."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.fate import summary, told
from gpumax.apps.cli.options import Where, output_option, project_option, quiet_option, server_options
from gpumax.apps.cli.output import clean, listed, say
from gpumax.apps.cli.wish import Wish, document
from gpumax.errors import BadFile, Fault, Refused

MOST_BYTES: Final = 16 << 20
"""The largest file that is sent."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--gpu", "--gpus", metavar="N", help="Of each task: 2, 0.5, H100, H100:2.")
@click.option(
    "--gpu-memory", metavar="AMOUNT", help="Memory of a GPU instead, as 20Gi; the matching part of one."
)
@click.option(
    "--devices",
    metavar="N",
    type=click.IntRange(min=1),
    help="With a part of a GPU: of so many different GPUs.",
)
@click.option("--cpu", "--cpus", metavar="N", help="Cores of each task: 8, 0.5, 500m.")
@click.option("--memory", metavar="AMOUNT", help="Host memory of each task, as 64Gi.")
@click.option("--tasks", metavar="N|MIN-MAX", help="How many tasks start together; 2-8: at least 2, up to 8.")
@project_option("Project whose queue it counts against.")
@click.option("-n", "--name", metavar="NAME", help="Its name; unset: made from the command.")
@click.option(
    "--priority", metavar="CLASS|N", help="low, normal, interactive, build, inference, or a number."
)
@click.option(
    "-e",
    "--env",
    metavar="KEY=VALUE",
    multiple=True,
    help="A variable of the command; KEY alone: as it is here; may be repeated.",
)
@click.option(
    "--secret", metavar="NAME", multiple=True, help="A secret, as a variable of this name; may be repeated."
)
@click.option("--workdir", metavar="DIR", help="Where it runs; unset: here. On a cluster its files go along.")
@click.option(
    "--image", metavar="NAME", help="Container image, on a cluster; unset: Python's, as it is here."
)
@click.option("--max-duration", metavar="TIME", help="Ends it, as 12h; lets others plan around it.")
@click.option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL when it has to go, as 30s.")
@click.option(
    "--retries",
    metavar="N",
    type=click.IntRange(min=0),
    help="Starts after failures of its own; evictions never count.",
)
@click.option("--checkpoint", metavar="PATH", help="What it saves and starts from again; survives evictions.")
@click.option("-f", "--follow", is_flag=True, help="Print its logs until it ends; exit code 1 if it failed.")
@click.option("--dry-run", is_flag=True, help="Only tell what would happen.")
@output_option
@quiet_option
@server_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def run(where: Where, /, follow: bool, dry_run: bool, output: str, quiet: bool, **wishes: object) -> None:
    """Submit a command as a workload, and say at once where it starts or why it waits.

    COMMAND runs as it is, without a shell; a single argument with spaces in it is a line for the shell.

    \b
      gpumax run --gpu 2 -- python train.py --lr 0.1
      gpumax run --gpu 0.5 -n notebook -f -- jupyter lab
      gpumax run --gpu H100:8 --tasks 4 -p team-a -- torchrun train.py
    """
    wish = Wish(**wishes)  # type: ignore[arg-type]
    _no_file(wish.command)
    body = document(wish)
    try:
        answer = _submit(where.api(), body, {"dry_run": int(dry_run), "base": str(Path.cwd())})
    except BadFile as error:
        raise BadFile([_as_option(fault) for fault in error.faults]) from None
    _tell(answer, output, quiet, dry_run)
    if not (follow or dry_run or quiet) and output == "table" and sys.stderr.isatty():
        say(f"  gpumax logs -f {answer['items'][0]['name']}")
    if follow and not dry_run:
        from gpumax.apps.cli.attend import attend

        attend(where.api(), answer["items"][0]["name"])


def _no_file(command: tuple[str, ...]) -> None:
    """Refused where the command is a file of workloads, which is easily given to the wrong verb."""
    if len(command) == 1 and command[0].endswith((".yaml", ".yml", ".json")) and Path(command[0]).is_file():
        raise Refused(f"{command[0]} is no command but a file; `gpumax apply -f {command[0]}` submits it")


_OPTIONS: Final = {
    "resources.gpu": "--gpu", "resources.cpu": "--cpu", "resources.memory": "--memory", "max_duration": "--max-duration",
    "tasks": "--tasks", "priority": "--priority", "project": "--project", "name": "--name", "grace": "--grace",
    "retries": "--retries", "checkpoint": "--checkpoint", "env": "--env", "secrets": "--secret", "workdir": "--workdir",
    "resources.devices": "--devices", "image": "--image", "run": "COMMAND",
}  # fmt: skip


def _as_option(fault: Fault) -> Fault:
    """The fault, with the option that wrote the field."""
    for path in (
        fault.path,
        *(fault.path.rsplit(".", cut)[0] for cut in (1, 2)),
        fault.path.partition("[")[0],
    ):
        if path in _OPTIONS:
            return fault._replace(path=_OPTIONS[path], line=None)
    return fault._replace(line=None)


def _file(command: Callable[..., None]) -> Callable[..., None]:
    """The file of workloads, as `-f FILE` or just FILE. A second one is refused, since the last alone would be read."""
    option = click.option(
        "-f", "--file", "files", metavar="FILE", multiple=True, help="The file; - is standard input."
    )
    return option(click.argument("given", metavar="[FILE]", required=False)(command))


@click.command()
@_file
@click.option("--dry-run", is_flag=True, help="Only tell what would happen.")
@project_option("Project of workloads that name none.")
@output_option
@quiet_option
@server_options
@click.pass_obj
def apply(
    where: Where,
    files: tuple[str, ...],
    given: str | None,
    dry_run: bool,
    project: str | None,
    output: str,
    quiet: bool,
) -> None:
    """Submit the workloads and set the queues of a file: all of them, or none where one has a fault.

    A workload that is there already just as the file says stays as it is, whether it waits, runs or is done; one that is
    there otherwise is refused, since work that was submitted doesn't change.

    \b
      gpumax apply -f train.yaml
      gpumax schema workload          what may stand in the file
    """
    _apply(where, _one(files, given), project, dry_run=dry_run, output=output, quiet=quiet)


@click.command()
@_file
@project_option("Project of workloads that name none.")
@output_option
@server_options
@click.pass_obj
def plan(where: Where, files: tuple[str, ...], given: str | None, project: str | None, output: str) -> None:
    """What would happen if a file were applied: who starts where, who waits and why, who makes way. Changes nothing.

    \b
      gpumax plan -f train.yaml
    """
    _apply(where, _one(files, given), project, dry_run=True, output=output, quiet=False)


def _one(files: tuple[str, ...], given: str | None) -> str:
    chosen = [name for name in (*files, given) if name is not None]
    if len(chosen) != 1:
        found = f"found {' and '.join(chosen)}" if chosen else "found none"
        context = click.get_current_context()
        raise click.UsageError(
            f"wanted one file, as `{context.command_path} -f train.yaml`; {found}", context
        )
    return chosen[0]


def _apply(where: Where, file: str, project: str | None, *, dry_run: bool, output: str, quiet: bool) -> None:
    data, source, base = _read(file)
    api = where.api()
    query = {"dry_run": int(dry_run), "base": str(base), "project": project, "source": source}
    try:
        answer = _submit(api, data, query)
    except BadFile as error:
        raise BadFile(error.faults, source) from None
    _tell(answer, output, quiet, dry_run)


def _read(file: str) -> tuple[bytes, str, Path]:
    """A file's bytes, what to call it, and the directory that its relative paths start from."""
    if file == "-":
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
        source, base = "standard input", Path.cwd()
    else:
        path = Path(file)
        source, base = file, path.absolute().parent
        try:
            with path.open("rb") as opened:
                data = opened.read(MOST_BYTES + 1)
        except IsADirectoryError:
            raise _fault(source, "a directory", "a file") from None
        except FileNotFoundError:
            raise _fault(source, "no such file", "a file that is there") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise _fault(source, f"a file that can't be read ({why})", "a readable file") from None
    if len(data) > MOST_BYTES:
        raise _fault(source, f"more than {MOST_BYTES >> 20} MiB", f"at most {MOST_BYTES >> 20} MiB")
    return data, source, base


def _fault(source: str, found: str, wanted: str) -> BadFile:
    return BadFile([Fault("", None, found, wanted)], source)


def _submit(api: Api, body: bytes | Item, query: dict[str, object]) -> Item:
    from uuid import uuid4

    try:
        return api.send("POST", "/workloads", body, query=query, headers={"Idempotency-Key": str(uuid4())})
    except KeyboardInterrupt:
        if not query["dry_run"]:
            say("gpumax: interrupted before it was answered; `gpumax ps` shows whether it was submitted")
        raise


def _tell(answer: Item, output: str, quiet: bool, dry_run: bool) -> None:
    """What became of each item, as prose; with -o json or yaml the answer itself, with -q the names.

    What would become of it is what a dry run is asked for, so that goes to stdout.
    """
    items = answer.get("items", [])
    if output in ("json", "yaml") or quiet:
        click.echo(listed(answer, (), output, quiet=quiet))
        return
    if not items:
        raise Refused("nothing in it to submit; wanted a workload or a queue")
    for item in items:
        for line in told(item, dry_run):
            click.echo(clean(line), err=not dry_run)
    if dry_run and len(items) > 1:
        say(summary(items))
