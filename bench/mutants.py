"""Mutation testing of the policy: `python bench/mutants.py [--sample N] [--seed N] [--jobs N]`; `make mutants`.

Each mutant is one small fault in one module of `gpumax.policy` (bench/mutate.py says which kinds). It is killed by the
first test that fails, or by a test that takes many times as long as without it. Tests that never reach the statement with
the fault are not run. Printed: the score, every survivor, and apart from them those of bench/equivalent.py, which change
no answer and no effort; these are not counted.

Nothing is written: each mutant lives in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import os
import random

import msgspec  # noqa: F401  imported once here, so that no process has to
import numpy  # noqa: F401

from equivalent import EQUIVALENT
from faults import POLICY, ROOT, Mutant, survivors
from measure import machine
from mutate import sites


def all_mutants() -> list[Mutant]:
    """Those of every module."""
    return [
        Mutant(path, number, site.mark is not None)
        for path in sorted(POLICY.glob("*.py"))
        for number, site in enumerate(sites(ast.parse(path.read_text(encoding="utf-8"))))
    ]


def _change(mutant: Mutant) -> str:
    """The change without its line, as bench/equivalent.py names it."""
    return f"{mutant.path.stem}: {mutant.told().partition(': ')[2]}"


def main() -> None:
    """Read the flags, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=200, help="how many, drawn from all; 0: all of them")
    parser.add_argument("--seed", type=int, default=1, help="which ones are drawn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many run side by side")
    parser.add_argument("--module", default="", help="of one module only, such as `order`")
    flags = parser.parse_args()
    os.chdir(ROOT)
    mutants = [row for row in all_mutants() if flags.module in ("", row.path.stem)]
    count = len(mutants)
    if 0 < flags.sample < count:
        mutants = random.Random(flags.seed).sample(mutants, flags.sample)
    alike = {mutant: reason for mutant in mutants if (reason := EQUIVALENT.get(_change(mutant)))}
    mutants = [mutant for mutant in mutants if mutant not in alike]
    left = survivors(mutants, flags.jobs)
    killed = len(mutants) - len(left)
    print(
        f"{killed} of {len(mutants)} mutants killed ({killed / len(mutants):.1%}), of {count} in all; seed {flags.seed}"
    )
    print(machine())
    for mutant in left:
        print(f"- {mutant.told()}")
    for mutant, reason in sorted(alike.items()):
        print(f"- not counted: {mutant.told()}: {reason}")


if __name__ == "__main__":
    main()
