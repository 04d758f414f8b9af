"""up, down, status."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from gpumax.apps.cli.client import Api, Item, segment
from gpumax.apps.cli.options import Where, broker_options, data_option, output_option, server_options
from gpumax.apps.cli.output import age, emit_document, fields, number, say
from gpumax.errors import GpumaxError, Refused, Unreachable

if TYPE_CHECKING:
    from threading import Event

START_S: Final = 60.0
"""How long a server may take to answer."""

END_S: Final = 60.0
"""How long a server may take to end."""

_POLL_S: Final = 0.05
_PROGRESS_S: Final = 2.0
"""Before this long nobody needs to be told that something goes on."""


@click.command()
@click.option(
    "--devices", metavar="SPEC", help="Virtual devices, as 8xH100:80Gi,2xA100:40Gi; unset: the machine's own."
)
@click.option(
    "-d", "--detach", is_flag=True, help="Return when the server is ready; it goes on in the background."
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Listen on TCP, too; callers need the token in DATA/token. With --kubernetes: answer /healthz, /readyz and /metrics there.",
)
@click.option("--name", metavar="NODE", help="Name of this node; unset: as before, at first the host's.")
@click.option(
    "--evict-unfenced",
    is_flag=True,
    help="Suspend workloads of which a process uses a shared GPU without having said so.",
)
@click.option(
    "--checkpoint-unfenced",
    is_flag=True,
    help="Have the driver take processes off a shared GPU that use it without having said so, while others need the room.",
)
@broker_options
@click.option(
    "--kubernetes",
    is_flag=True,
    help="Schedule pods of a cluster instead: those whose schedulerName is gpumax.",
)
@click.option("--context", metavar="NAME", help="With --kubernetes: the context; unset: the current one.")
@click.option(
    "--lease",
    metavar="NAMESPACE/NAME",
    help="With --kubernetes: the lease by which replicas agree who schedules.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --kubernetes: decide, write nothing to the cluster, and say what differs from what its scheduler does.",
)
@click.option(
    "--suppose",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --dry-run: a snapshot file whose `policy` and `queues` hold instead of the cluster's.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    help="With --dry-run: a table of what differs, or a JSON object a line; unset: text.",
)
@click.option(
    "--scheduler",
    metavar="NAME",
    help="With --kubernetes: schedule pods whose schedulerName is this; unset: gpumax.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="With --kubernetes: sentences, or a JSON object a line; unset: text.",
)
@click.option(
    "--install", is_flag=True, help="With --kubernetes: add our kinds of objects to the cluster first."
)
@click.option(
    "--default-queue", is_flag=True, help="With --kubernetes: make a queue `default` where there is none."
)
@click.option(
    "--require-use",
    is_flag=True,
    help="With --kubernetes: pods go only to queues that their service account has the right to use.",
)
@data_option
@click.pass_obj
def up(
    where: Where,
    devices: str | None,
    detach: bool,
    listen: str | None,
    name: str | None,
    evict_unfenced: bool,
    checkpoint_unfenced: bool,
    stuck: str | None,
    cold: float | None,
    kubernetes: bool,
    context: str | None,
    lease: str | None,
    dry_run: bool,
    install: bool,
    default_queue: bool,
    require_use: bool,
    log_format: Literal["text", "json"] | None,
    scheduler: str | None,
    suppose: Path | None,
    output: Literal["text", "json"] | None,
) -> None:
    """Start gpumax on this machine: server, scheduler and engine in one process.

    Tasks that run already, from an earlier server on this data directory, are adopted.

    \b
      gpumax up                                the GPUs of this machine
      gpumax up --devices 8xH100:80Gi -d       eight made-up ones, in the background
      gpumax up --kubernetes --dry-run         what it would do on the cluster of your current context
    """
    distant = {
        "context": context, "lease": lease, "dry": dry_run, "add": install, "log_format": log_format,
        "queue": default_queue, "require_use": require_use, "scheduler": scheduler, "suppose": suppose, "output": output,
    }  # fmt: skip
    given = {name: value for name, value in distant.items() if value}
    if kubernetes:
        local = {
            "--devices": devices, "--detach": detach, "--name": name,
            "--evict-unfenced": evict_unfenced, "--checkpoint-unfenced": checkpoint_unfenced,
            "--stuck": stuck, "--cold": cold is not None,
        }  # fmt: skip
        _steer(where, [option for option, value in local.items() if value], {**given, "listen": listen or ""})
        return
    if given:
        raise click.UsageError(f"{_options(given)} go with --kubernetes")
    if detach:
        from gpumax.apps.server.starting import check_options

        check_options(devices=devices, listen=listen, name=name)
        options = {"--devices": devices, "--listen": listen, "--name": name, "--data": str(where.data),
                   "--stuck": stuck, "--cold": None if cold is None else f"{cold:g}"}  # fmt: skip
        words = [part for option, value in options.items() if value for part in (option, value)]
        flags = {"--evict-unfenced": evict_unfenced, "--checkpoint-unfenced": checkpoint_unfenced}
        _detach(where, [*words, *(flag for flag, given in flags.items() if given)])
        return
    from threading import Event, Thread

    from gpumax.apps.gpu.rules import Rules
    from gpumax.apps.server.main import serve

    over = Event()
    Thread(target=_announce, args=(where, over), daemon=True).start()
    try:
        serve(
            where.data, devices=devices, listen=listen, name=name,
            evict_unfenced=evict_unfenced, rules=Rules(stuck == "end", checkpoint_unfenced, cold),
        )  # fmt: skip
    finally:
        over.set()


def _steer(where: Where, local: Sequence[str], wished: dict[str, Any]) -> None:
    """Schedule on a cluster, until Ctrl-C. local: options that were given and mean nothing there."""
    if local:
        raise click.UsageError(f"{', '.join(local)} and --kubernetes don't go together")
    if wished.get("dry") and (writes := {"add", "queue"} & wished.keys()):
        raise click.UsageError(
            f"--dry-run writes nothing to the cluster, so {_options(writes)} can't go with it"
        )
    if not wished.get("dry") and (trial := {"suppose", "output"} & wished.keys()):
        raise click.UsageError(f"{_options(trial)} go with --dry-run")
    from gpumax.apps.scheduler.main import Wishes, steer
    from gpumax.apps.server import home

    home.prepare(where.data)
    steer(where.data, Wishes(**wished))


def _options(fields: Iterable[str]) -> str:
    """As they are written."""
    names = {"dry": "dry-run", "add": "install", "queue": "default-queue"}
    return ", ".join(sorted(f"--{names.get(field, field).replace('_', '-')}" for field in fields))


def _announce(where: Where, over: Event) -> None:
    """Tell on stderr what this process manages, as soon as it answers; not when it is over before that."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and not over.wait(_POLL_S):
        status = _answer(where.data)
        if status is not None and status.get("pid") == os.getpid():
            say(_banner(status, where))
            say("Ctrl-C stops the server; tasks run on.")
            return


def _answer(data: Path) -> Item | None:
    """What the server of this directory says of itself; None while there is none."""
    try:
        return Where(data_option=str(data)).api(timeout_s=5, retry_s=()).get("/status")
    except GpumaxError:
        return None


def _detach(where: Where, options: list[str]) -> None:
    import subprocess

    from gpumax.apps.server import home

    data = where.data
    home.prepare(data)
    log = data / "server.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    begun = os.fstat(descriptor).st_size
    with os.fdopen(descriptor, "ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "gpumax.apps.cli.main", "up", *options],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    started = time.monotonic()
    with Progress("waiting for the server") as progress:
        while (status := _answer(data)) is None or status.get("pid") != child.pid:
            if child.poll() is not None:
                raise _Failed(_last_words(log, begun), child.returncode)
            if time.monotonic() - started > START_S:
                raise Unreachable(f"the server does not answer after {START_S:.0f} s; see {log}")
            progress.show()
            time.sleep(_POLL_S)
    # The child outlives us on purpose; without this its destructor complains that it still runs.
    child.returncode = 0
    say(_banner(status, where))
    say(f"It runs in the background (pid {child.pid}, log {log}); `gpumax down` stops it.")


class _Failed(GpumaxError):
    """The server ended while it started."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code if 0 < exit_code <= 4 else 1


def _last_words(log: Path, begun: int) -> str:
    with log.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode("utf-8", "replace").splitlines()
    told = [line.removeprefix("gpumax: ") for line in lines if line.startswith("gpumax: ")] or lines[-1:]
    return "; ".join(told[-2:]) if told else f"the server ended at once, without a word; see {log}"


def _banner(status: Item, where: Where) -> str:
    import shlex

    engine = status.get("engine") or {}
    counts = {state: count for state, count in (status.get("counts") or {}).items() if count}
    work = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [
        f"gpumax {status.get('version', '')} is up: {_devices(engine)} on {_nodes(engine)}",
        *(f"  note      {note}" for note in engine.get("notes") or ()),
        *(f"  trouble   {trouble}" for trouble in status.get("trouble") or ()),
        f"  data      {status.get('data', '')}",
        f"  socket    {status.get('socket', '')}",
        *([f"  url       {status['url']}"] if status.get("url") else []),
        *([f"  work      {work}"] if work else []),
        *([f"  first     export GPUMAX_DATA={shlex.quote(where.data_option)}"] if where.data_option else []),
        f"  try       gpumax run {'--gpu 1 ' if engine.get('devices') else ''}-- sleep 60     gpumax ps     gpumax board",
    ]
    return "\n".join(lines)


def _devices(engine: Item) -> str:
    devices = engine.get("devices")
    if isinstance(devices, int):
        return f"{devices} GPU{'' if devices == 1 else 's'}"
    return str(devices or "no GPUs")


def _nodes(engine: Item) -> str:
    nodes = engine.get("nodes")
    if isinstance(nodes, int):
        return f"{nodes} node{'' if nodes == 1 else 's'} ({engine.get('name', '')} engine)"
    return str(nodes)


class Progress:
    """A line on the terminal that tells what is waited for, from two seconds on; nothing where nobody looks."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = time.monotonic()
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def show(self) -> None:
        """Bring the line up to date."""
        waited = time.monotonic() - self._begun
        if waited >= _PROGRESS_S and sys.stderr.isatty():
            click.echo(f"\r{self._what} ... {waited:.0f} s\x1b[K", err=True, nl=False)
            self._shown = True

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)


@click.command()
@click.option("--tasks", is_flag=True, help="Suspend all unfinished work first, so that nothing runs on.")
@data_option
@click.pass_obj
def down(where: Where, tasks: bool) -> None:
    """Stop the server of this machine. Its tasks run on, and the next `gpumax up` adopts them, unless --tasks is given."""
    if where.server is not None:
        raise Refused("down stops the server of this machine only; unset GPUMAX_SERVER or name its --data")
    api = where.api()
    status = api.get("/status")
    running = (status.get("counts") or {}).get("running")
    if tasks:
        _suspend_all(api)
    _end(int(status["pid"]))
    say("gpumax is down" + ("; tasks that were running run on" if running and not tasks else ""))


def _suspend_all(api: Api) -> None:
    from gpumax.apps.cli.paging import all_items

    unfinished = {"state": "pending,running"}
    names = [item["name"] for item in all_items(api, "/workloads", unfinished)["items"]]
    for name in names:
        api.send("POST", f"/workloads/{segment(name)}/suspend")
    with Progress("waiting for tasks to end") as progress:
        while all_items(api, "/workloads", unfinished)["items"]:
            progress.show()
            time.sleep(0.2)
    if names:
        say(f"suspended {', '.join(names)}; after the next `gpumax up`, `gpumax resume NAME` lets them go on")


def _end(pid: int) -> None:
    import psutil

    try:
        process = psutil.Process(pid)
        process.terminate()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise Refused(f"the server (pid {pid}) belongs to another user; only its owner may stop it") from None
    deadline = time.monotonic() + END_S
    with Progress("waiting for the server to end") as progress:
        while _alive(process):
            if time.monotonic() > deadline:
                raise GpumaxError(f"the server (pid {pid}) has not ended after {END_S:.0f} s; see its log")
            progress.show()
            time.sleep(_POLL_S)


def _alive(process: object) -> bool:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        # A zombie has ended; whether its parent took note is not our matter.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@click.command()
@output_option
@server_options
@click.pass_obj
def status(where: Where, output: str) -> None:
    """What the server is and does."""
    found = where.api().get("/status")
    if output in ("json", "yaml"):
        emit_document(found, output)
        return
    engine, loop, counts = (found.get(part) or {} for part in ("engine", "loop", "counts"))
    pairs = [
        ("version", str(found.get("version", ""))),
        ("pid", str(found.get("pid", ""))),
        ("up for", age(found.get("started"))),
        ("data", str(found.get("data", ""))),
        ("socket", str(found.get("socket", ""))),
        ("url", str(found.get("url") or "")),
        ("engine", f"{_devices(engine)} on {_nodes(engine)}"),
        *(("note", str(note)) for note in engine.get("notes") or ()),
        *(("trouble", str(trouble)) for trouble in found.get("trouble") or ()),
        *(("warning", str(warning)) for warning in found.get("warnings") or ()),
        ("workloads", ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"),
        ("loop", ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in loop.items())),
    ]
    click.echo(fields(pairs))
