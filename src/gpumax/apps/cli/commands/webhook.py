"""webhook."""

from __future__ import annotations

from typing import Literal

import click

from gpumax.errors import Refused


@click.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="0.0.0.0:9443",
    show_default=True,
    help="Where the API server reaches it, over HTTPS.",
)
@click.option(
    "--service",
    metavar="NAMESPACE/NAME",
    default="gpumax-system/gpumax-webhook",
    show_default=True,
    help="The Service in front of it; its certificates are in the Secret NAME-certificates beside that.",
)
@click.option(
    "--configuration",
    metavar="NAME",
    default="gpumax",
    show_default=True,
    help="The MutatingWebhookConfiguration that is told whom to trust.",
)
@click.option(
    "--also",
    "names",
    metavar="NAME",
    multiple=True,
    help="Another name or address by which the API server calls it.",
)
@click.option(
    "--plugin",
    is_flag=True,
    help="Agents are device plugins, though the cluster has Dynamic Resource Allocation: pods ask for a ticket instead of a claim.",
)
@click.option(
    "--context",
    metavar="NAME",
    help="The cluster; unset: that of the pod it runs in, else the current context.",
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    help="Lines for people, or one JSON object a line.",
)
def webhook(
    listen: str,
    service: str,
    configuration: str,
    names: tuple[str, ...],
    plugin: bool,
    context: str | None,
    log_format: Literal["text", "json"],
) -> None:
    """Answer what a cluster's API server asks about pods that ask for gpumax.

    It makes and renews its own certificates; replicas share them. The chart runs it; needs pip install 'gpumax[webhook]'.
    """
    try:
        from gpumax.apps.webhook.main import Place, serve
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("cryptography"):
            raise
        raise Refused("the webhook needs the package cryptography: pip install 'gpumax[webhook]'") from None
    serve(Place(listen, service, configuration, names, plugin), context or "", log_format)
