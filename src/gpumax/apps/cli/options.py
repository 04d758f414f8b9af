"""Options that many commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from gpumax.errors import Refused

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gpumax.apps.cli.client import Api
    from gpumax.apps.kubernetes.door import ClusterApi

Command = TypeVar("Command", bound=Callable[..., Any])


KUBERNETES: Final = "kubernetes"


@dataclass
class Where:
    """Whom a command speaks to: the server of a data directory, one at an address, or a cluster of Kubernetes."""

    data_option: str | None = None
    server_option: str | None = None
    engine_option: str | None = None
    namespace_option: str | None = None
    _cluster: ClusterApi | None = None

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

    @property
    def context(self) -> str | None:
        """The context of the cluster that is spoken to, empty for the current one; None: it is a server. Refused for an unknown engine."""
        named = self.server_option is not None or self.data_option is not None
        engine = self.engine_option or ("" if named else os.environ.get("GPUMAX_ENGINE", "")) or "local"
        name, _, context = engine.partition(":")
        if name == KUBERNETES:
            return context
        if engine != "local":
            source = "--engine" if self.engine_option else "GPUMAX_ENGINE"
            raise Refused(f"{source} {engine}: wanted local, kubernetes, or kubernetes:CONTEXT")
        return None

    def api(
        self, *, timeout_s: float | None = None, retry_s: Sequence[float] | None = None, silent: bool = False
    ) -> Api:
        """The way to the server. Unreachable where there is none. timeout_s: until it begins an answer; retry_s: waits before
        a lost request is sent again; silent: nobody reads what is said.
        """
        from gpumax.apps.cli import client
        from gpumax.apps.cli.output import say

        context = self.context
        if context is not None:
            return self._of_cluster(context, silent=silent, timeout_s=timeout_s)
        data, server = self.data, self.server
        if not silent and server and client.find_door(data, server).exposed:
            say(
                f"gpumax: {server} is not encrypted: who sees the traffic sees the token; put TLS in front of it"
            )
        return client.ServerApi(
            lambda: client.find_door(data, server),
            timeout_s=timeout_s,
            retry_s=client.RETRY_S if retry_s is None else retry_s,
            notice=say if not silent and sys.stderr.isatty() else None,
        )

    def close(self) -> None:
        """Let go of the cluster, where one was spoken to."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def cluster(self) -> ClusterApi:
        """The cluster, for what only a cluster can. Refused where it is a server that is spoken to."""
        if self.context is None:
            raise Refused("on one machine that isn't there yet; `--engine kubernetes` does it on a cluster")
        return self._of_cluster(self.context, silent=False)

    @property
    def namespace(self) -> str:
        """The namespace that was named; empty for the context's."""
        return self.namespace_option or os.environ.get("GPUMAX_NAMESPACE", "")

    def _of_cluster(self, context: str, *, silent: bool, timeout_s: float | None = None) -> ClusterApi:
        """The way to a cluster, opened once; who answers is said on stderr."""
        if self._cluster is None:
            import logging

            from gpumax.apps.cli.output import say
            from gpumax.apps.kubernetes.door import ClusterApi, access

            # What is to be known of the way to it is said below, once.
            logging.getLogger("gpumax.kubernetes").addHandler(logging.NullHandler())
            found = access(context, self.namespace)
            scheduler = os.environ.get("GPUMAX_SCHEDULER") or "gpumax"
            self._cluster = ClusterApi(found, scheduler, timeout_s=timeout_s)
            for line in () if silent else (*found.notes(), self._cluster.about):
                say(f"gpumax: {line}")
        return self._cluster


def _keep(field: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def keep(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None and isinstance(context.obj, Where):
            setattr(context.obj, field, value)

    return keep


def server_options(command: Command) -> Command:
    """--server, --engine, --namespace and --data, which every command that speaks to a server takes; they end up in its Where."""
    where = click.option(
        "--server", metavar="URL", expose_value=False, callback=_keep("server_option"),
        help="Server elsewhere, with the token in GPUMAX_TOKEN.  [env GPUMAX_SERVER]",
    )  # fmt: skip
    engine = click.option(
        "--engine", metavar="ENGINE", expose_value=False, callback=_keep("engine_option"),
        help="Who answers: local, kubernetes, or kubernetes:CONTEXT.  [env GPUMAX_ENGINE]",
    )  # fmt: skip
    namespace = click.option(
        "--namespace", metavar="NAME", expose_value=False, callback=_keep("namespace_option"),
        help="Of a cluster; unset: the context's.  [env GPUMAX_NAMESPACE]",
    )  # fmt: skip
    return where(engine(namespace(data_option(command))))


def data_option(command: Command) -> Command:
    """--data alone."""
    return click.option(
        "--data", metavar="DIR", expose_value=False, callback=_keep("data_option"),
        help="Data directory of the server.  [env GPUMAX_DATA]",
    )(command)  # fmt: skip


def _number(_context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """`nan` is within all bounds."""
    if value != value:
        raise click.BadParameter("nan is no number of seconds", param=option)
    return value


def broker_options(command: Command) -> Command:
    """What becomes of those who share GPUs and don't answer, or rest: `stuck` and `cold`, of a broker that is started for this."""
    stuck = click.option(
        "--stuck",
        type=click.Choice(["wait", "end"]),
        help="What becomes of a process that holds a shared GPU, or borrowed memory that others need, and doesn't answer: it's told of, or ended. Unset: wait.",
    )
    cold = click.option(
        "--cold",
        callback=_number,
        type=click.FloatRange(0, 86400),
        metavar="SECONDS",
        help="Who has rested on a shared GPU for so long may be taken off it as a whole by the driver, where others need the room; 0: nobody is. Unset: 600.",
    )
    return stuck(cold(command))


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
