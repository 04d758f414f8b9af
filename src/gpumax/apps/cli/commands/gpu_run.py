"""gpu run."""

from __future__ import annotations

import os

import click

from gpumax.errors import BadFile, Fault
from gpumax.native.preload import check, environment, found
from gpumax.units import parse_quantity


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--gpu-memory", metavar="SIZE", required=True, help="Memory of each GPU that it may use, as 10Gi."
)
@click.option("--swap", is_flag=True, help="Its memory can be taken off the GPU and given back.")
@click.option("--group", metavar="NAME", help="Share the limit with other programs of this group.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(gpu_memory: str, swap: bool, group: str | None, command: tuple[str, ...]) -> None:
    """Run a program here with a part of the memory of the GPUs, without a server. It needs no change.

    It and all that it starts see a smaller GPU, and get no more. The exit code is the program's. Who wants out gets out: this
    keeps friends apart, not strangers.

    \b
      gpumax gpu run --gpu-memory 10Gi -- python train.py
      gpumax gpu run --gpu-memory 4Gi -- nvidia-smi
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("wanted a command, as `gpumax gpu run --gpu-memory 10Gi -- python train.py`")
    limit = _bytes(gpu_memory)
    program = found(words[0])
    check(program)
    os.execve(program, list(words), environment(os.environ, limit, group, swap))  # noqa: S606


def _bytes(text: str) -> int:
    try:
        amount = int(parse_quantity(text))
    except ValueError:
        amount = 0
    if not 0 < amount < 1 << 63:
        raise BadFile([Fault("--gpu-memory", None, text, "an amount of memory above zero, as 10Gi")])
    return amount
