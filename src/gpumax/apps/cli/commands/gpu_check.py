"""gpu check, gpu conformance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpumax.apps.cli.options import output_option
from gpumax.apps.cli.output import document, on_terminal, paint, say, terminal_width, use_color, wrapped
from gpumax.errors import BadFile, Fault, GpumaxError, Refused
from gpumax.units import MIB, parse_quantity

if TYPE_CHECKING:
    from gpumax.proof.run import Given, Machine, Result

ON_THE_SPOT = ("memory", "ways", "deaths")
"""What `gpu check` looks at: whether limits hold here and now."""
_TEXT = 26
"""Where the words begin, behind section and name."""
_HUES = {"holds": "green", "broken": "red", "not shown": "yellow"}

_memory = click.option("--gpu-memory", metavar="SIZE", help="A limit to try it with, as 10Gi.")
_device = click.option(
    "--device", type=click.IntRange(0, 63), default=0, help="Which of the devices.", show_default=True
)


@click.command("check")
@click.option(
    "--gpu",
    metavar="SHARE",
    help="A share of the time to try, too, as 0.5; of the memory, unless that is named.",
)
@_memory
@_device
@output_option
@click.argument("program", required=False)
def check(gpu: str | None, gpu_memory: str | None, device: int, output: str, program: str | None) -> None:
    """Prove that limits hold: try to get more memory in every way there is, and more time.

    Under the share of this environment, as within `gpumax gpu run`; with --gpu-memory under one of that size, made for it. With --gpu two
    programs that submit as fast as they can share the time, too. With PROGRAM: whether a limit would hold that program. Exit code 1:
    something doesn't hold.

    \b
      gpumax gpu check --gpu 0.5 --gpu-memory 10Gi
      gpumax gpu run --gpu-memory 10Gi -- gpumax gpu check
      gpumax gpu check ./train
    """
    if program is not None:
        _program(program, output)
        return
    from gpumax.proof import run

    on = _machine(device, own=gpu is None and gpu_memory is None)
    sections: tuple[str, ...] = ON_THE_SPOT
    if gpu is None:
        given = _given(gpu_memory, on, device)
    else:
        share = _share(gpu)
        limit = int(share * on.bytes) // MIB * MIB if gpu_memory is None else amount(gpu_memory)
        given = run.made(os.environ, limit, on, device, share)
        sections += ("time", "detection")
    _judge(_told(run.prove(run.select(sections), given), output), on, given.limit, output)


def _machine(device: int, *, own: bool) -> Machine:
    """This machine, as `proof.run` finds it. Refused where there is nothing to look at, with what helps."""
    from gpumax.proof import run

    try:
        return run.machine(os.environ, device, own=own)
    except Refused as error:
        from gpumax.devices.sysfs import open_sysfs

        others = ", ".join(dict.fromkeys(each.model for each in open_sysfs().read()))
        if run.INSTALL not in str(error) or not others:
            raise
        raise Refused(
            f"the GPUs here ({others}) are not NVIDIA's: gpumax gives such GPUs out as wholes only, so there are no limits to prove"
        ) from None


def _share(text: str) -> float:
    try:
        found = float(parse_quantity(text))
    except (ValueError, OverflowError):
        found = 0.0
    if not 0.01 <= found <= 0.99:
        raise BadFile(
            [Fault("--gpu", None, text, "a share beside which another one has room: 0.01 to 0.99, as 0.5")]
        )
    return found


def _program(name: str, output: str) -> None:
    from gpumax.native.preload import found, unreachable

    path = found(name)
    why = unreachable(path)
    if output in ("json", "yaml"):
        click.echo(document({"program": str(path), "holds": why is None, "why": why}, output))
    elif why is None:
        click.echo(f"{path}: a limit holds it")
    if why is not None:
        if output not in ("json", "yaml"):
            click.echo(f"{path} {why}, so nothing can be preloaded: a limit wouldn't hold it")
        raise click.exceptions.Exit(1)


def _given(gpu_memory: str | None, on: Machine, device: int) -> Given:
    from gpumax.native.preload import is_layered
    from gpumax.proof import run

    if gpu_memory is not None:
        return run.made(os.environ, amount(gpu_memory), on, device)
    limit = _declared()
    if not limit or not is_layered(os.environ):
        raise Refused(
            "there is no share in this environment; run it where there is one (`gpumax gpu run --gpu-memory 10Gi -- gpumax gpu check`), "
            "or give --gpu-memory 10Gi to try one"
        )
    return run.Given(limit, dict(os.environ), own=True, device=device)


def _declared() -> int:
    text = os.environ.get("GPUMAX_LIMIT", "")
    try:
        return amount(text) if text else 0
    except GpumaxError:
        raise Refused(
            f"GPUMAX_LIMIT={text} of this environment is no amount of memory above zero, as 10Gi: nothing is enforced here"
        ) from None


def _told(results: Iterable[Result], output: str) -> list[Result]:
    """Each as soon as it's there."""
    if output in ("json", "yaml"):
        return list(results)
    return list(_lines(results))


def _lines(results: Iterable[Result]) -> Iterator[Result]:
    color, width, person = use_color(), terminal_width(), on_terminal()
    for each in results:
        seen = each.why or ", ".join(f"{name} {value:.4g}" for name, value in each.figures.items())
        text = f"{f'{each.section:8} {each.name:16}':{_TEXT}}{each.text if each.verdict == 'holds' else ''}"
        line = f"{text}{': ' if seen and each.verdict == 'holds' else ''}{seen}"
        verdict = f"{each.verdict:10}"
        # Nothing of why is cut off; what goes elsewhere than to a person stays in one line.
        shown = (
            wrapped(line, width - len(verdict), _TEXT).replace("\n", f"\n{' ' * len(verdict)}")
            if person
            else line
        )
        click.echo((paint(verdict, _HUES[each.verdict]) if color else verdict) + shown.rstrip())
        yield each


def _judge(results: Sequence[Result], on: Machine, limit: int, output: str) -> None:
    import msgspec

    from gpumax.proof.report import counted

    if output in ("json", "yaml"):
        rows = [msgspec.to_builtins(each) for each in results]
        answer = {"machine": msgspec.to_builtins(on), "limit": limit, "items": rows}
        click.echo(document(answer, output))
    else:
        where = f"{on.device}{' (emulated: no GPU)' if on.emulated else ''}, CUDA {on.driver}, limit {limit // MIB} MiB"
        say(f"{counted(results)}; {where}")
    if any(each.verdict == "broken" for each in results):
        raise click.exceptions.Exit(1)


def amount(text: str) -> int:
    """Bytes that an option says."""
    try:
        found = int(parse_quantity(text))
    except ValueError:
        found = 0
    if not 0 < found < 1 << 60:
        raise BadFile([Fault("--gpu-memory", None, text, "an amount of memory above zero, as 10Gi")])
    return found


def _writable(report: Path) -> None:
    """It takes minutes until there is something to write."""
    try:
        report.open("a").close()
    except OSError as error:
        raise click.UsageError(f"--report {report}: {(error.strerror or str(error)).lower()}") from None


@click.command("conformance")
@_memory
@_device
@click.option(
    "--report", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report there: Markdown, or JSON where the name ends in .json.",
)  # fmt: skip
@click.option("--only", metavar="SECTION", multiple=True, help="Of these sections alone.")
@output_option
def conformance(
    gpu_memory: str | None, device: int, report: Path | None, only: tuple[str, ...], output: str
) -> None:
    """Run all that is promised of shared GPUs against the driver of this machine, and report.

    It is the first thing to run on a machine with a GPU: it needs no server, changes no settings, and takes a few minutes. Without
    --gpu-memory it takes a quarter of what is free.

    \b
      gpumax gpu conformance --report conformance.md
    """
    import msgspec

    from gpumax.proof import report as reports
    from gpumax.proof import run

    checks = run.select(only)
    if not checks:
        known = ", ".join(dict.fromkeys(each.section for each in run.select(())))
        raise click.UsageError(f"there is no section {', '.join(only)}; there are {known}")
    if report is not None:
        _writable(report)
    on = _machine(device, own=False)
    limit = amount(gpu_memory) if gpu_memory is not None else on.free // 4 // (2 * MIB) * 2 * MIB
    given = run.made(os.environ, limit, on, device)
    results = _told(run.prove(checks, given), output)
    if report is not None:
        made = reports.Report(datetime.now(UTC).isoformat(timespec="seconds"), on, limit, tuple(results))
        if report.suffix == ".json":
            text = msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"
        else:
            text = reports.markdown(made)
        report.write_text(text, encoding="utf-8")
        say(f"the report is in {report}")
    _judge(results, on, limit, output)
