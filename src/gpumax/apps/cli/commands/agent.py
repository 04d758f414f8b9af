"""agent."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from gpumax.apps.cli.options import broker_options
from gpumax.apps.gpu.rules import Rules
from gpumax.errors import BadFile, Fault, Refused
from gpumax.units import parse_quantity


@click.command()
@click.option(
    "--node-name", required=True, envvar="NODE_NAME", metavar="NODE", help="This node's name in the cluster; or NODE_NAME in the environment."
)  # fmt: skip
@click.option(
    "--devices", metavar="SPEC", help="Virtual devices, as 8xH100:80Gi,2xA100:40Gi; unset: the machine's own."
)
@click.option(
    "--kubelet-dir", type=click.Path(path_type=Path), default=Path("/var/lib/kubelet"), show_default=True, help="The kubelet's folder."
)  # fmt: skip
@click.option(
    "--cdi-dir", type=click.Path(path_type=Path), default=Path("/var/run/cdi"), show_default=True,
    help="Where the container runtime looks for CDI specs.",
)  # fmt: skip
@click.option(
    "--layer", type=click.Path(path_type=Path), default=Path("/usr/local/lib/gpumax"), show_default=True,
    help="Where the layer under CUDA lies on the node, if it is there.",
)  # fmt: skip
@click.option(
    "--swap-memory", metavar="SIZE",
    help="Of the node's memory, as 64Gi: what GPUs don't hold of programs that swap. Unset: what the limit of its container leaves; without a limit none, "
    "so nobody swaps.",
)  # fmt: skip
@click.option(
    "--evict-unfenced", is_flag=True, help="Delete pods with a part of which a process got around it."
)
@click.option(
    "--checkpoint-unfenced", is_flag=True,
    help="Have the driver take processes off a shared GPU that use it without having said so, while others need the room: where the agent finds the driver's libcuda.",
)  # fmt: skip
@broker_options
@click.option(
    "--listen", metavar="HOST:PORT", help="Answer /healthz, /readyz and /metrics there; off loopback metrics are for whom the cluster lets read them."
)  # fmt: skip
@click.option(
    "--plugin", is_flag=True, help="Be a device plugin, though the cluster serves ResourceClaims; without them it is one anyway."
)  # fmt: skip
@click.option(
    "--context", metavar="NAME", help="The context; unset: the pod's own cluster, else the current one."
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Lines for people, or for programs."
)  # fmt: skip
def agent(
    node_name: str,
    devices: str | None,
    kubelet_dir: Path,
    cdi_dir: Path,
    layer: Path,
    swap_memory: str | None,
    evict_unfenced: bool,
    checkpoint_unfenced: bool,
    stuck: str | None,
    cold: float | None,
    listen: str | None,
    plugin: bool,
    context: str | None,
    log_format: str,
) -> None:
    """Give out parts of a node's GPUs to its containers, as the scheduler decides. Runs on each node with GPUs, beside the kubelet.

    \b
      gpumax agent --node-name n1                            the GPUs of this node
      gpumax agent --node-name n1 --devices 8xH100:80Gi      eight made-up ones, to try it out
    """
    if find_spec("grpc") is None or find_spec("google.protobuf") is None:
        raise Refused("`gpumax agent` needs gRPC, which is not installed: pip install 'gpumax[agent]'")
    from gpumax.apps.agent.main import Wishes, serve

    serve(
        Wishes(
            node_name,
            devices,
            kubelet_dir,
            cdi_dir,
            layer,
            plugin,
            context or "",
            "json" if log_format == "json" else "text",
            _bytes(swap_memory),
            evict_unfenced,
            listen or "",
            Rules(stuck == "end", checkpoint_unfenced, cold),
        )
    )


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        amount = int(parse_quantity(text))
    except ValueError:
        amount = -1
    if not 0 <= amount < 1 << 60:
        raise BadFile([Fault("--swap-memory", None, text[:80], "an amount of memory, as 64Gi")])
    return amount
