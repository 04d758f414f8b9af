"""Options that many commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpumax.errors import Refused

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gpumax.apps.cli.client import Api

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Where:
    """Which server a command speaks to: that of a data directory, or one at an address."""

    data_option: str | None = None
    server_option: str | None = None

    @property
    def data(self) -> Path:
        """The data directory, absolute."""
        chosen = self.data_option or os.environ.get("GPUMAX_DATA")
        try:
            return Path(chosen or "~/.local/share/gpumax").expanduser().absolute()
        except RuntimeError:
            raise Refused(
                f"{chosen or 'this user'} has no home directory; name the data directory with --data"
            ) from None

    @property
    def server(self) -> str | None:
        """The address of a server elsewhere; None: the one of the data directory. Options win over the environment."""
        if self.server_option is None and self.data_option is not None:
            return None
        return self.server_option or os.environ.get("GPUMAX_SERVER") or None

    def api(
        self, *, timeout_s: float | None = None, retry_s: Sequence[float] | None = None, silent: bool = False
    ) -> Api:
        """The way to the server. Unreachable where there is none. timeout_s: until it begins an answer; retry_s: waits before
        a lost request is sent again; silent: nobody reads what is said.
        """
        from gpumax.apps.cli import client
        from gpumax.apps.cli.output import say

        data, server = self.data, self.server
        if not silent and server and client.find_door(data, server).exposed:
            say(
                f"gpumax: {server} is not encrypted: who sees the traffic sees the token; put TLS in front of it"
            )
        return client.Api(
            lambda: client.find_door(data, server),
            timeout_s=timeout_s,
            retry_s=client.RETRY_S if retry_s is None else retry_s,
            notice=say if not silent and sys.stderr.isatty() else None,
        )


def _keep(field: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def keep(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None and isinstance(context.obj, Where):
            setattr(context.obj, field, value)

    return keep


def server_options(command: Command) -> Command:
    """--data and --server, which every command that speaks to a server takes; they end up in its Where."""
    where = click.option(
        "--server", metavar="URL", expose_value=False, callback=_keep("server_option"),
        help="Server elsewhere, with the token in GPUMAX_TOKEN.  [env GPUMAX_SERVER]",
    )  # fmt: skip
    return where(data_option(command))


def data_option(command: Command) -> Command:
    """--data alone."""
    return click.option(
        "--data", metavar="DIR", expose_value=False, callback=_keep("data_option"),
        help="Data directory of the server.  [env GPUMAX_DATA]",
    )(command)  # fmt: skip


def output_option(command: Command) -> Command:
    """-o for everything that lists."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(("table", "wide", "json", "yaml")),
        default="table",
        metavar="FORMAT",
        help="How to print it: table, wide, json or yaml.",
    )(command)


def quiet_option(command: Command) -> Command:
    """-q: names only."""
    return click.option("-q", "--quiet", is_flag=True, help="Print names only.")(command)


def watch_option(command: Command) -> Command:
    """-w: draw again when something happens."""
    return click.option("-w", "--watch", is_flag=True, help="Draw again whenever something changes.")(command)


def project_option(help_: str) -> Callable[[Command], Command]:
    """-p/--project, by default the environment's."""

    def add(command: Command) -> Command:
        return click.option(
            "-p", "--project", metavar="NAME", envvar="GPUMAX_PROJECT", help=f"{help_}  [env GPUMAX_PROJECT]"
        )(command)

    return add


def complete_workload(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of workloads, for the shell; none where the server doesn't answer at once."""
    return _names(context, "/workloads", incomplete)


def complete_queue(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of queues, for the shell; none where the server doesn't answer at once."""
    return _names(context, "/queues", incomplete)


def _names(context: click.Context, path: str, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from gpumax.errors import GpumaxError

    where = context.obj if isinstance(context.obj, Where) else Where()
    try:
        items = where.api(timeout_s=0.5, retry_s=(), silent=True).get(path)["items"]
        names = [str(item["name"]) for item in items]
    except (GpumaxError, OSError, LookupError, TypeError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
