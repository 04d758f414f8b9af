"""`python -m gpumax.broker`: the broker of a node as a process. `gpumax up`, `gpumax agent` and `gpumax gpu run` start it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import msgspec
import psutil

from gpumax.broker.control import Device, key
from gpumax.broker.core.shapes import SECOND, Settings, Stuck
from gpumax.broker.node.ears import run
from gpumax.broker.node.main import Wishes, serve
from gpumax.devices import open_devices
from gpumax.devices.processes import Processes
from gpumax.devices.uuids import sharable
from gpumax.errors import BadFile, Fault, GpumaxError, Refused
from gpumax.units import parse_quantity

_WANTED = "UUID:BYTES or UUID:BYTES:NAME, like GPU-00112233-4455-6677-8899-aabbccddeeff:40Gi:A100"


def _number(_context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """`nan` is within all bounds."""
    if value != value:
        raise click.BadParameter("nan is no number of seconds", param=option)
    return value


@click.command("gpumax.broker")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    required=True,
    help="Where its sockets and files are; one broker a directory.",
)
@click.option(
    "--devices",
    metavar="JSON",
    help='Devices, as [{"uuid": "GPU-...", "bytes": 42949672960, "name": "A100"}]; unset: those of the driver.',
)
@click.option(
    "--device",
    "more",
    multiple=True,
    metavar="UUID:BYTES[:NAME]",
    help="One device, also where the driver knows none.",
)
@click.option("--swap-memory", metavar="SIZE", help="Host memory to swap to; unset: half of the machine's.")
@click.option(
    "--sparse-swap",
    is_flag=True,
    help="Make that memory page by page as it's written: for emulated devices, whose zeros take none.",
)
@click.option(
    "--heartbeat",
    callback=_number,
    type=click.FloatRange(0.05, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often programs give a sign of life.",
)
@click.option(
    "--stuck",
    type=click.Choice(["wait", "end"]),
    default="wait",
    show_default=True,
    help="What becomes of a process that holds a device and doesn't answer.",
)
@click.option(
    "--cold",
    callback=_number,
    type=click.FloatRange(0, 86400),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Who has rested for so long may be taken off its devices as a whole by the driver, where others need the room; 0: nobody is.",
)
@click.option(
    "--unfenced",
    type=click.Choice(["report", "checkpoint"]),
    default="report",
    show_default=True,
    help="What becomes of a process that uses a device without having said so: it's told of, or the driver takes it off while others need the room, too.",
)
@click.option(
    "--idle",
    callback=_number,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="End after so long without a group; unset: never.",
)
@click.option(
    "--exclusive",
    is_flag=True,
    help="Begin only where no other broker of this machine gives out any of the devices.",
)
@click.option("--heir", is_flag=True, help="Have a process beside it that takes over where it's killed.")
def command(
    directory: Path, devices: str | None, more: tuple[str, ...], swap_memory: str | None, sparse_swap: bool,
    heartbeat: float, stuck: str, cold: float, unfenced: str, idle: float | None,
    exclusive: bool, heir: bool,
) -> None:  # fmt: skip
    """Decide who of those who share this node's GPUs has room on them, and who may submit, for how long.

    Groups come and go by DIRECTORY/control.sock; each has a socket of its own beside it, which GPUMAX_SOCKET names for its programs.
    """
    settings = Settings(
        pool_bytes=_pool(swap_memory), sparse_pool=sparse_swap, heartbeat_ns=int(heartbeat * SECOND),
        grace_ns=int(heartbeat * SECOND), stuck=Stuck(stuck), cold_ns=int(cold * SECOND),
    )  # fmt: skip
    found = _devices(devices, more)
    takes_off = unfenced == "checkpoint"
    run(
        serve(
            Wishes(directory.absolute(), found, settings, idle, Processes().read, exclusive, heir, takes_off)
        )
    )


def _devices(text: str | None, more: tuple[str, ...]) -> tuple[Device, ...]:
    named = tuple(_device(each) for each in more)
    if text is not None:
        try:
            named += tuple(msgspec.json.decode(text, type=list[Device]))
        except msgspec.DecodeError as error:
            raise BadFile(
                [
                    Fault(
                        "--devices",
                        None,
                        str(error),
                        'a list like [{"uuid": "GPU-...", "bytes": 42949672960}]',
                    )
                ]
            ) from None
    elif not named:
        there = open_devices(None)
        named = tuple(Device(each.uuid, each.bytes, each.name) for each in sharable(there))
        if not named:
            raise Refused(
                f"{'; '.join(there.notes()) or 'no GPU'}; name devices with --device {_WANTED.split(' ')[0]}"
            )
    wrong = [each for each in named if key(each.uuid) is None or not 0 < each.bytes < 1 << 60]
    twice = {key(each.uuid) for each in named}
    if wrong or len(twice) < len(named):
        what = f"{wrong[0].uuid[:80]} with {wrong[0].bytes} bytes" if wrong else "a device twice"
        raise BadFile([Fault("--devices" if text else "--device", None, what, _WANTED)])
    return named


def _device(text: str) -> Device:
    uuid, _, rest = text.partition(":")
    size, _, name = rest.partition(":")
    return Device(uuid, _bytes("--device", size, _WANTED, text), name or "GPU")


def _pool(text: str | None) -> int:
    if text is None:
        total: int = psutil.virtual_memory().total
        return total // 2
    return 0 if text == "0" else _bytes("--swap-memory", text, "an amount of memory, as 64Gi")


def _bytes(place: str, text: str, wanted: str, whole: str = "") -> int:
    try:
        amount = int(parse_quantity(text))
    except ValueError:
        amount = 0
    if not 0 < amount < 1 << 60:
        raise BadFile([Fault(place, None, (whole or text)[:120], wanted)])
    return amount


def main() -> int:
    """The program, to its exit code; whatever goes wrong is told in a line or two."""
    logging.basicConfig(level=logging.INFO, format="gpumax broker: %(message)s", stream=sys.stderr)
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except GpumaxError as error:
        sys.stderr.write(f"gpumax broker: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"gpumax broker: {error.filename or 'the system'}: {error.strerror or error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
