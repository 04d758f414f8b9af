"""`gpumax`: reads the command line, runs one command, and turns whatever goes wrong into a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from gpumax import __version__
from gpumax.apps.cli.lazy import SECTIONS, LazyGroup
from gpumax.apps.cli.options import Where, server_options
from gpumax.errors import BadFile, GpumaxError

MOST_FAULTS: Final = 20
"""Faults of one file that are told; the rest is counted."""

_COMPLETE: Final = "_GPUMAX_COMPLETE"


@click.group(
    "gpumax",
    cls=LazyGroup,
    sections=SECTIONS,
    package="gpumax.apps.cli.commands",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `gpumax up`, then `gpumax run --gpu 1 -- CMD`. Exit codes: 0 done, 1 the work failed, "
    "2 wrong usage or bad file, 3 refused, 4 the server can't be reached.",
)
@server_options
@click.version_option(__version__, message="gpumax %(version)s")
def cli() -> None:
    """Schedules and shares GPUs, and says why work waits."""


def main() -> NoReturn:
    """The program."""
    if instruction := os.environ.get(_COMPLETE):
        sys.exit(_complete(instruction))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line. The exit code; everything that goes wrong is told on stderr in a line or two."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with cli.make_context("gpumax", list(arguments) or ["--help"], obj=Where()) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        return _flushed(exit_.exit_code)
    except BrokenPipeError:
        return _hush()
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as error:
        return _report(error)
    return 0


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _hush()
    return code


def _hush() -> int:
    """The reader of our output has gone, as `head` does: nothing is left to be said, at the interpreter's end neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


def _report(error: Exception) -> int:
    code, lines = describe(error)
    for line in lines:
        click.echo(f"gpumax: {line}", err=True)
    if os.environ.get("GPUMAX_DEBUG") and not isinstance(error, click.UsageError):
        import traceback

        traceback.print_exception(error)
    return code


def describe(error: Exception) -> tuple[int, list[str]]:
    """The exit code for an error, and what to say."""
    if isinstance(error, BadFile):
        return error.exit_code, _faults(error)
    if isinstance(error, GpumaxError):
        return error.exit_code, [str(error)]
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "gpumax"
        message = error.format_message().rstrip(".")
        message = message if not message[1:2].islower() else message[0].lower() + message[1:]
        return 2, [message if ";" in message else f"{message}; see `{path} --help`"]
    if isinstance(error, click.ClickException):
        return error.exit_code, [error.format_message()]
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return 1, [f"{error.strerror.lower()}{where}; `gpumax doctor` checks this machine"]
    return 1, [
        f"internal error: {type(error).__name__}: {error}; run with GPUMAX_DEBUG=1 for the traceback".replace(
            "\n", " "
        )
    ]


def _faults(error: BadFile) -> list[str]:
    head = f"{error.source}: " if error.source else ""
    lines = [f"{head}{fault}" for fault in error.faults[:MOST_FAULTS]]
    more = len(error.faults) - MOST_FAULTS
    return [*lines, f"and {more} more"] if more > 0 else lines


def _complete(instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(cli, {"obj": Where()}, "gpumax", _COMPLETE, instruction)


if __name__ == "__main__":
    main()
