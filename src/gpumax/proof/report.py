"""What a run of all checks leaves: for people as Markdown, for programs as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gpumax.proof.run import Machine, Result
from gpumax.units import MIB

TITLES: Final = {
    "driver": "What the layer relies on in the driver",
    "memory": "Memory beyond the limit is refused",
    "ways": "No way around by accident",
    "swap": "Memory that is swapped comes back whole",
    "time": "Time is shared",
    "guarantee": "What is guaranteed is to be had",
    "gangs": "Several devices together, or none",
    "second tier": "A whole process is taken off the device",
    "deaths": "What ends leaves nothing behind",
    "costs": "What it costs",
    "pytorch": "PyTorch",
    "detection": "Who gets around it is seen",
}
"""Of the sections."""


class Report(msgspec.Struct, frozen=True):
    """One run. date: RFC 3339. limit: bytes of the share under which it was."""

    date: str
    machine: Machine
    limit: int
    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing that was looked at is broken."""
        return all(each.verdict != "broken" for each in self.results)


def counted(results: Sequence[Result]) -> str:
    """How many of each verdict."""
    return ", ".join(
        f"{count} {verdict}"
        for verdict in ("holds", "broken", "not shown")
        if (count := sum(each.verdict == verdict for each in results)) or verdict == "broken"
    )


def markdown(report: Report) -> str:
    """For people."""
    on = report.machine
    kind = "an emulated driver: nothing here was run on a GPU" if on.emulated else "the driver of a GPU"
    lines = [
        "# Conformance of the layer under CUDA", "",
        f"{counted(report.results)}. Run on {kind}.", "",
        "| | |", "|---|---|",
        f"| date | {report.date} |", f"| gpumax | {on.gpumax}, Python {on.python} |", f"| machine | {_cell(on.processor)}, Linux {_cell(on.kernel)} |",
        f"| driver | CUDA {on.driver}{', emulated' if on.emulated else ''} |",
        f"| device | {_cell(on.device)}, {on.bytes // MIB} MiB, {on.uuid} |", f"| limit | {report.limit // MIB} MiB |",
    ]  # fmt: skip
    for section in dict.fromkeys(each.section for each in report.results):
        of = [each for each in report.results if each.section == section]
        promise = f" (promise {of[0].promise})" if of[0].promise else ""
        lines += [
            "",
            f"## {TITLES.get(section, section)}{promise}",
            "",
            "| check | | what | seen |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {each.name} | {each.verdict} | {_cell(each.text)} | {_cell(_seen(each))} |" for each in of
        ]
    return "\n".join(lines) + "\n"


def _seen(result: Result) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())
    return "; ".join(each for each in (result.why, figures) if each)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
