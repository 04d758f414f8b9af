"""`gpumax`: reads the command line, runs one command, and turns whatever goes wrong into a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import click

from gpumax import __version__
from gpumax.apps.cli.habits import OPTIONS, did_you_mean, guesses
from gpumax.apps.cli.lazy import SECTIONS, LazyGroup
from gpumax.apps.cli.options import Where, server_options
from gpumax.apps.cli.output import clean, say
from gpumax.errors import BadFile, GpumaxError

MOST_FAULTS: Final = 20
"""Faults of one file that are told; the rest is counted."""

_GONE: Final = 128 + 13
"""The exit code of a program that writes where nobody reads, as shells have it."""

COMPLETE: Final = "_GPUMAX_COMPLETE"
"""The variable by which a shell asks for completions."""


@click.group(
    "gpumax",
    cls=LazyGroup,
    sections=SECTIONS,
    package="gpumax.apps.cli.commands",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `gpumax up`, then `gpumax run --gpu 1 -- CMD`. Exit codes: 0 done, 1 the work failed, "
    "2 wrong usage or bad file, 3 refused, 4 the server can't be reached.",
)
@server_options
@click.version_option(__version__, message="gpumax %(version)s")
def cli() -> None:
    """Schedules and shares GPUs, and says why work waits."""


def main() -> int:
    """The program, to its exit code."""
    if instruction := os.environ.get(COMPLETE):
        return _complete(instruction)
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run one command line. The exit code; everything that goes wrong is told on stderr in a line or two."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _invoke(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _hush()
        return code or (_GONE if isinstance(error, BrokenPipeError) else _report(error))
    return code


def _open_closed() -> None:
    """Where a shell gave us no stdin, stdout or stderr (`>&-`), nothing is read there, and what is written goes nowhere.

    Else the next file or connection that is opened would take its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as we live


def _invoke(arguments: Sequence[str]) -> int:
    words = list(arguments) or ["--help"]
    if words[0] == "help":
        words = [*words[1:], "--help"]
    where = Where()
    try:
        with closing(where), cli.make_context("gpumax", words, obj=where) as context:
            cli.invoke(context)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does: nothing is left to be said.
        return _GONE
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as error:
        return _report(error)
    return 0


def _hush() -> None:
    """Let what is still to be written go nowhere, or the interpreter complains at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception) -> int:
    code, lines = describe(error)
    for line in lines:
        say(clean(f"gpumax: {line}"))
    if os.environ.get("GPUMAX_DEBUG") and not isinstance(error, click.UsageError):
        import traceback

        traceback.print_exception(error)
    return code


def describe(error: Exception) -> tuple[int, list[str]]:
    """The exit code for an error, and what to say."""
    if isinstance(error, BadFile):
        return error.exit_code, _faults(error)
    if isinstance(error, GpumaxError):
        return error.exit_code, str(error).splitlines()
    if isinstance(error, click.UsageError):
        return 2, [_usage(error)]
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


def _usage(error: click.UsageError) -> str:
    """What was wrong on the command line, and what to do."""
    path = error.ctx.command_path if error.ctx is not None else "gpumax"
    see = f"see `{path} --help`"
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [name for option in error.ctx.command.params for name in option.opts]
        hint = did_you_mean(guesses(error.option_name, known, OPTIONS))
        return f"`{path}` has no option {error.option_name}; {hint or see}"
    message = error.format_message().rstrip(".")
    message = message if not message[1:2].islower() else message[0].lower() + message[1:]
    return message if ";" in message else f"{message}; {see}"


def _faults(error: BadFile) -> list[str]:
    head = f"{error.source}: " if error.source else ""
    lines = [
        # What is called by its name need not be called "the file", too.
        f"{head}{str(fault).replace('the file: ', '', 1) if head and not fault.path else fault}"
        for fault in error.faults[:MOST_FAULTS]
    ]
    more = len(error.faults) - MOST_FAULTS
    return [*lines, f"and {more} more"] if more > 0 else lines


def _complete(instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(cli, {"obj": Where()}, "gpumax", COMPLETE, instruction)


if __name__ == "__main__":
    sys.exit(main())
