"""decide."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from gpumax.apps.cli.output import clean, emit_document, terminal_width, use_color
from gpumax.errors import BadFile, GpumaxError, NotFound

if TYPE_CHECKING:
    from gpumax.model.decision import Decision
    from gpumax.model.explanation import Explanation
    from gpumax.model.snapshot import Snapshot

_LONGEST_LINE: Final = 64 << 20


@click.command("decide")
@click.argument("file", default="-", metavar="[FILE]")
@click.option(
    "--format", "format_", type=click.Choice(("yaml", "json", "board")), help="How to print it; unset: yaml."
)
@click.option("--passes", metavar="A,B", help="Run these passes only.")
@click.option("--explain", metavar="WORKLOAD", help="Say why this workload is where it is.")
@click.option("--stream", is_flag=True, help="A JSON snapshot a line in, a JSON decision a line out.")
def decide_command(
    file: str, format_: str | None, passes: str | None, explain: str | None, stream: bool
) -> None:
    """Decide on a snapshot file, YAML or JSON; `-` or nothing reads standard input. Needs no server."""
    # Late, because the command line must start without NumPy.
    from gpumax.formats.decision import dump_decision
    from gpumax.formats.text import read_file
    from gpumax.model.snapshot import Snapshot
    from gpumax.policy.decide import PASSES, decide

    wanted = list(PASSES) if passes is None else [name.strip() for name in passes.split(",")]
    # A bad name is told before anything is read.
    decide(Snapshot(), wanted)
    if stream:
        if format_ not in (None, "json") or explain is not None:
            raise click.UsageError(
                "--stream prints decisions as lines of JSON; leave out --format and --explain"
            )
        _stream(file, wanted)
        return
    if file == "-" and sys.stdin.isatty():
        raise click.UsageError("no FILE; name a snapshot file, or pipe one in")
    source = "standard input" if file == "-" else file
    snapshot = _load(read_file(file), source)
    decision = decide(snapshot, wanted)
    if explain is not None:
        _explain(snapshot, decision, explain, format_, wanted)
    elif format_ == "board":
        from gpumax.formats.board import draw_board

        click.echo(draw_board(snapshot, decision, width=terminal_width(), color=use_color()))
    else:
        emit_document(dump_decision(decision), format_ or "yaml")


def _load(data: bytes, source: str) -> Snapshot:
    from gpumax.formats.snapshot import load_snapshot

    return load_snapshot(data, source=source)


def _explain(
    snapshot: Snapshot, decision: Decision, name: str, format_: str | None, passes: list[str]
) -> None:
    from gpumax.policy.explain import explain

    found = explain(snapshot, decision, name, passes)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, [workload.name for workload in snapshot.workloads], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NotFound(f"there is no workload {clean(name)!r} in the snapshot{hint}")
    if format_ in ("yaml", "json"):
        emit_document(_explanation(found), format_)
    else:
        for sentence in found.sentences:
            click.echo(clean(sentence))


def _explanation(found: Explanation) -> dict[str, Any]:
    """As the API answers `why`."""
    from gpumax.formats.decision import dump_decision
    from gpumax.formats.explanation import dump_facts
    from gpumax.formats.scalars import write_bytes
    from gpumax.model.decision import Decision

    holds = () if found.hold is None else (found.hold,)
    rows = dump_decision(Decision(holds=holds, shares=found.queue))
    return {
        "workload": found.workload,
        "state": found.state,
        "sentences": list(found.sentences),
        "hold": rows["holds"][0] if holds else None,
        "queue": rows["shares"],
        "ahead": list(found.ahead),
        **dump_facts(found, write_bytes),
    }


def _stream(file: str, passes: list[str]) -> None:
    """Answer line by line, until the end of input."""
    if file == "-":
        _answer_lines(sys.stdin.buffer, passes)
        return
    from gpumax.formats.parsed import refuse

    try:
        with Path(file).open("rb") as lines:
            _answer_lines(lines, passes)
    except BrokenPipeError:
        raise
    except OSError as error:
        found = f"a file that can't be read ({(error.strerror or str(error)).lower()})"
        raise refuse(file, None, found, "a readable file") from None


def _answer_lines(lines: BinaryIO, passes: list[str]) -> None:
    for number, line in enumerate(_lines(lines), 1):
        sys.stdout.buffer.write(_answer(line, number, passes) + b"\n")
        sys.stdout.buffer.flush()


def _lines(lines: BinaryIO) -> Iterator[bytes | None]:
    """Line by line; None for one that is too long, of which the rest is passed over."""
    while line := lines.readline(_LONGEST_LINE + 1):
        whole = len(line) <= _LONGEST_LINE
        while not line.endswith(b"\n") and (rest := lines.readline(1 << 20)):
            line = rest
        yield line if whole else None


def _answer(line: bytes | None, number: int, passes: list[str]) -> bytes:
    import msgspec

    from gpumax.formats.decision import encode_decision
    from gpumax.formats.parsed import refuse
    from gpumax.policy.decide import decide

    try:
        if line is None:
            raise refuse("", None, f"a line longer than {_LONGEST_LINE >> 20} MiB", "a shorter one")
        if line.lstrip()[:1] != b"{":
            raise refuse("", None, "no JSON object", "a snapshot in one line of JSON")
        return encode_decision(decide(_load(line, ""), passes))
    except Exception as error:
        return msgspec.json.encode({"error": _error(error, number)})


def _error(error: Exception, number: int) -> dict[str, Any]:
    """As the API words errors. line: of the stream."""
    if not isinstance(error, BadFile):
        known = isinstance(error, GpumaxError)
        message = str(error) if known else f"internal error: {type(error).__name__}: {error}"
        return {"message": message, "faults": []}
    faults = [
        {"path": fault.path, "line": number, "found": fault.found, "wanted": fault.wanted}
        for fault in error.faults
    ]
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    first = error.faults[0]
    place = first.path or "the line"
    message = f"line {number}: {place}: found {first.found}; wanted {first.wanted}{more}"
    return {"message": message, "faults": faults}
