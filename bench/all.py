"""Every figure, one table: `python bench/all.py [--data DIR]`; each script by itself has flags for sizes and repeats.

Of how far each program is from its share of a GPU's time there are only the fewest and the most programs here, with two kinds of
kernels: `bench/sharing.py error` has all, in ten minutes.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import broker
import cli
import decide
import idle
import interposer
import large
import latency
import openb_trace
import sharing
import small
import swap
from consolidate import CONSOLIDATE
from gpumax.errors import GpumaxError
from hard import REPEAT
from measure import Row, Skipped, apart, show
from preempt import PREEMPT
from reclaim import RECLAIM


def or_why_not(name: str, work: Callable[[], list[Row]]) -> list[Row]:
    """The figures; where something that they need isn't here, a row that says what, and the others are measured all the same."""
    try:
        return work()
    except subprocess.CalledProcessError as error:
        said = error.stderr or b""
        last = (said if isinstance(said, str) else said.decode(errors="replace")).strip().rpartition("\n")[2]
        why = last or f"{Path(str(error.cmd[0])).name} ended with {error.returncode}"
    except (OSError, GpumaxError, SystemExit) as error:
        why = str(error)
    return [Skipped(name, why)]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
        *or_why_not(openb_trace.NAME, partial(openb_trace.figures, flags.data, repeat=2 if few else 5)),
        *idle.figures(5.0 if few else 20.0),
        *or_why_not("the layer under CUDA", partial(interposer.figures, 3 if few else 15)),
        *or_why_not("swapping", partial(swap.figures, quick=few)),
        *or_why_not("shares of a GPU's time", partial(sharing.error, True)),
        *or_why_not("a loop of kernels", partial(sharing.loop, few)),
        *or_why_not("two programs on a GPU that is too small", partial(sharing.swap, few)),
        *or_why_not(
            "the broker", partial(broker.figures, seconds=2.0 if few else 5.0, repeat=3 if few else 5)
        ),
    ]
    show(rows)


if __name__ == "__main__":
    main()
