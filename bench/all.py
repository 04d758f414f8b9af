"""Every figure, one table: `python bench/all.py [--data DIR]`; each script by itself has flags for sizes and repeats."""

from __future__ import annotations

import argparse
from pathlib import Path

import cli
import decide
import idle
import large
import latency
import openb_trace
import small
from consolidate import CONSOLIDATE
from hard import REPEAT
from measure import Row, apart, show
from preempt import PREEMPT
from reclaim import RECLAIM


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the openb trace, where it is at hand")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a measurement")
    parser.add_argument("--svg", type=Path, help="where to draw how cost grows with the number of nodes")
    flags = parser.parse_args()
    few = flags.quick
    rows: list[Row] = [
        *latency.figures(20 if few else 100),
        *cli.figures(5 if few else 20),
        *apart(decide.figures, 1000, 10_000, 2_000, seed=1, repeat=3 if few else 7),
        *apart(small.figures, small.NODES, 50 if few else small.STEPS, 3 if few else 5),
        *apart(RECLAIM.figures, 3 if few else REPEAT),
        *apart(CONSOLIDATE.figures, 3 if few else REPEAT),
        *apart(PREEMPT.figures, 3 if few else REPEAT),
        *large.figures(1 if few else 5, large.cases()),
        *large.growth(1 if few else 2, flags.svg),
        *openb_trace.figures(flags.data, repeat=2 if few else 5),
        *idle.figures(5.0 if few else 20.0),
    ]
    show(rows)


if __name__ == "__main__":
    main()
