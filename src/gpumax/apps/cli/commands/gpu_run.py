"""gpu run."""

from __future__ import annotations

import os
import time
from typing import Final

import click

from gpumax.apps.cli.options import broker_options
from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.errors import BadFile, Fault
from gpumax.native.preload import check, environment, found
from gpumax.units import parse_quantity

_SIZE: Final = "an amount of memory above zero, as 10Gi"


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--gpu",
    metavar="SHARE",
    help="Part of one GPU's time that it gets, and of its memory unless that is named: 0.5.",
)
@click.option(
    "--gpu-memory",
    metavar="SIZE",
    help="Memory that it may use, as 10Gi. Beside --gpu or --swap: that it's guaranteed.",
)
@click.option(
    "--gpu-memory-limit",
    metavar="SIZE",
    help="With --swap: memory that it may grow to, where others leave it.",
)
@click.option(
    "--swap", is_flag=True, help="Its memory may be moved to host memory while others have their turn."
)
@click.option(
    "--mode",
    type=click.Choice(["fair", "strict"]),
    help="fair: what others leave idle is its, too; strict: exactly its share. Unset: fair.",
)
@click.option("--group", metavar="NAME", help="Share one part with other programs of this group.")
@click.option(
    "--ranks",
    type=click.IntRange(1, 256),
    metavar="N",
    help="With --gpu: so many processes of the group begin on the GPU together, as those of torchrun. Unset: whoever is there.",
)
@click.option("--device", "which", hidden=True, expose_value=False, callback=lambda *given: _which(given[2]))
@broker_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(
    gpu: str | None, gpu_memory: str | None, gpu_memory_limit: str | None, swap: bool, mode: str | None,
    group: str | None, ranks: int | None, stuck: str | None, cold: float | None, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a program here with a part of a GPU, without a server. It needs no change.

    It and all that it starts see a smaller GPU, and get no more. With --gpu, --swap or --mode a broker gives out the parts of the GPUs: it is
    started where there is none, with --stuck and --cold as they're given, and ends by itself. With --gpu-memory alone nothing but memory is held. The exit code is the program's. Who
    wants out gets out: this keeps friends apart, not strangers.

    \b
      gpumax gpu run --gpu 0.5 -- python train.py
      gpumax gpu run --gpu 0.5 --gpu-memory 8Gi --gpu-memory-limit 14Gi --swap -- python serve.py
      gpumax gpu run --gpu-memory 4Gi -- nvidia-smi
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("wanted a command, as `gpumax gpu run --gpu 0.5 -- python train.py`")
    if gpu is None and gpu_memory is None:
        raise click.UsageError(
            "wanted --gpu SHARE or --gpu-memory SIZE, as `gpumax gpu run --gpu 0.5 -- python train.py`"
        )
    share, guaranteed, limit = _read(gpu, gpu_memory, gpu_memory_limit, swap=swap)
    program = found(words[0])
    check(program, words[1:])
    if gpu is None and mode is None and not swap:
        if ranks is not None:
            raise click.UsageError(
                "--ranks is for turns, which a broker gives; wanted --gpu, --swap or --mode beside it"
            )
        if stuck is not None or cold is not None:
            raise click.UsageError(
                "--stuck and --cold are for a broker that is started; wanted --gpu, --swap or --mode beside them"
            )
        env = environment(os.environ, guaranteed, group)
    else:
        rules = Rules(stuck == "end", cold_s=cold)
        env = shared(share, guaranteed, limit, mode or "fair", swap, group, rules)
        env |= {"GPUMAX_RANKS": str(ranks or 0)}
    os.execve(program, list(words), env)  # noqa: S606


def _which(device: str | None) -> None:
    """Other programs have an option for that."""
    if device is not None:
        raise click.UsageError(
            f"there is no --device: write CUDA_VISIBLE_DEVICES={device} before the command; unset, it's the GPU of which least is given out"
        )


def shared(
    share: float, guaranteed: int, limit: int, mode: str, swap: bool, name: str | None, rules: Rules = USUAL
) -> dict[str, str]:
    """The environment of a program that has a part of its own, from a broker."""
    from gpumax.apps.gpu.personal import Wish, part
    from gpumax.broker.control import NAME, WANTED_NAME
    from gpumax.devices import open_devices
    from gpumax.devices.uuids import sharable
    from gpumax.errors import Refused

    if name is not None and not NAME.fullmatch(name):
        raise BadFile([Fault("--group", None, repr(name[:80]), WANTED_NAME)])
    devices = open_devices(None)
    there = sharable(devices)
    if not there:
        raise Refused("; ".join(devices.notes()) or "no GPU here works")
    name = name or f"run-{os.getpid()}-{time.time_ns() % 0x1000000:x}"
    given = part(Wish(share, guaranteed, limit, mode, swap, name), there, os.environ, rules)
    context = max(each.context for each in there if each.uuid in given.group.devices)
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(given.group.devices), "GPUMAX_SOCKET": str(given.socket)}
    if context and "GPUMAX_CONTEXT" not in os.environ:
        seen["GPUMAX_CONTEXT"] = str(context)
    return environment(os.environ, given.group.limit or given.group.guaranteed, name, swap) | seen


def _read(gpu: str | None, memory: str | None, limit: str | None, *, swap: bool) -> tuple[float, int, int]:
    """Share, guaranteed bytes and the limit in bytes; 0 for what wasn't said. BadFile, with every fault."""
    share = 0.0 if gpu is None else _amount(gpu)
    guaranteed, most = (0 if text is None else _bytes(text) for text in (memory, limit))
    faults = []
    if gpu is not None and not 0.001 <= share <= 1:
        faults.append(Fault("--gpu", None, gpu, "a part of one GPU: 0.001 to 1, as 0.5"))
    if memory is not None and not guaranteed:
        faults.append(Fault("--gpu-memory", None, memory, _SIZE))
    if limit is not None and not most:
        faults.append(Fault("--gpu-memory-limit", None, limit, _SIZE))
    elif limit is not None and not swap:
        faults.append(
            Fault(
                "--gpu-memory-limit",
                None,
                f"{limit} without --swap",
                "--swap beside it: only what can be moved away may be borrowed",
            )
        )
    elif most and most < guaranteed:
        faults.append(
            Fault(
                "--gpu-memory-limit",
                None,
                f"{limit} beside --gpu-memory {memory}",
                "no less than what is guaranteed",
            )
        )
    if faults:
        raise BadFile(faults)
    return share, guaranteed, most


def _amount(text: str) -> float:
    try:
        return float(parse_quantity(text))
    except (ValueError, OverflowError):
        return 0.0


def _bytes(text: str) -> int:
    """Bytes, or 0 for what is none."""
    try:
        amount = int(parse_quantity(text))
    except ValueError:
        return 0
    return amount if 0 < amount < 1 << 60 else 0
