"""Writes what follows from the lists of names: trampolines, their slots, the table of hooks, and the gated functions."""

import sys
from dataclasses import dataclass
from pathlib import Path

HEAD = "/* Generated from names/ by layer/generate.py. */\n"


@dataclass(frozen=True)
class Hook:
    """One line of a list of hooks: a function with which more is done than to forward it."""

    symbol: str
    kind: str
    arguments: int


@dataclass(frozen=True)
class Version:
    """One line of procaddress.txt: what cuGetProcAddress gives for a name since a version of CUDA."""

    base: str
    since: int
    streams: str
    symbol: str


def lines(path: Path) -> list[str]:
    """The lines of a list that say something."""
    stripped = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in stripped if line]


def hooks(path: Path) -> list[Hook]:
    """All hooks, as the list says them."""
    rows = [line.split() for line in lines(path)]
    return [Hook(row[0], row[1], int(row[2])) for row in rows]


def versions(path: Path) -> list[Version]:
    """All versions of all names, older ones of a name first."""
    rows = [line.split() for line in lines(path)]
    found = [Version(row[0], int(row[1]), row[2], row[3]) for row in rows]
    return sorted(found, key=lambda each: (each.base, each.since))


def trampolines(names: list[str], hooked: set[str]) -> str:
    """One line of assembler a name; the macros stand in the file of each architecture."""
    return HEAD + "".join(
        f"{'HOOKED' if name in hooked else 'FORWARD'} {name}, {index}\n" for index, name in enumerate(names)
    )


def slots(names: list[str]) -> str:
    """The number of each name's slot, and how many there are."""
    rows = "".join(f"\tSLOT_{name} = {index},\n" for index, name in enumerate(names))
    return f"{HEAD}enum slot {{\n{rows}\tSLOTS = {len(names)}\n}};\n"


def strings(names: list[str]) -> str:
    """The names by slot."""
    return HEAD + "".join(f'"{name}",\n' for name in names)


def hooked(rows: list[Hook]) -> str:
    """One hook a line: HOOKED(symbol)."""
    return HEAD + "".join(f"HOOKED({row.symbol})\n" for row in rows)


def table(rows: list[Version], hooked: set[str]) -> str:
    """One version of a hooked name a line: VERSION(base, since, whether streams are per thread, symbol)."""
    bases = {row.base for row in rows if row.symbol in hooked}
    return HEAD + "".join(
        f"VERSION({row.base}, {row.since}, {int(row.streams != '-')}, {row.symbol})\n"
        for row in rows
        if row.base in bases and row.symbol in hooked
    )


def gates(rows: list[Hook]) -> str:
    """One function a line: GATE_n(symbol), BEGIN_n(symbol) or END_n(symbol) for n arguments."""
    kinds = {"gate", "begin", "end"}
    return HEAD + "".join(
        f"{row.kind.upper()}_{row.arguments}({row.symbol})\n" for row in rows if row.kind in kinds
    )


def main(lists: str, library: str, out: str) -> None:
    """Read the lists of a library (driver, nvml) in the folder `lists`, write into the folder `out`."""
    rows = hooks(Path(lists) / f"{library}-hooks.txt")
    symbols = {row.symbol for row in rows}
    names = lines(Path(lists) / f"{library}.txt")
    unknown = sorted(symbols - set(names))
    if unknown:
        sys.exit(f"{library}-hooks.txt: {', '.join(unknown)}: not in {library}.txt")
    made = {
        "trampolines.inc": trampolines(names, symbols),
        "slots.h": slots(names),
        "names.inc": strings(names),
        "hooked.inc": hooked(rows),
        "gates.inc": gates(rows),
    }
    if library == "driver":
        made["versions.inc"] = table(versions(Path(lists) / "procaddress.txt"), symbols)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
