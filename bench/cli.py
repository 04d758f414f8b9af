"""How long the command line takes: --help, and ps with a server that is up; beside them a Python that does nothing."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial

from measure import Figure, Row, seconds, show
from server import command, running


def figures(repeat: int) -> list[Row]:
    """Wall times of whole processes."""
    with running() as server:
        environment = {**os.environ, "GPUMAX_DATA": str(server.data)}

        def call(words: list[str]) -> None:
            subprocess.run(words, env=environment, check=True, capture_output=True)

        kinds = (
            ("python -c pass", [sys.executable, "-c", "pass"], None),
            ("gpumax --help", command("--help"), 150.0),
            ("gpumax ps", command("ps"), 150.0),
        )
        return [
            Figure(
                name, "ms", tuple(1000 * time for time in seconds(partial(call, words), repeat, warm=3)), goal
            )
            for name, words, goal in kinds
        ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=20)
    show(figures(parser.parse_args().repeat))


if __name__ == "__main__":
    main()
