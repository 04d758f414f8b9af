"""Trains a small neural network with NumPy, and can be stopped and started again at any step.

    python examples/train.py --steps 300 --seed 7

What makes it fit for a shared cluster, and would do the same for a real model:
- it saves weights, optimizer, step and loss history to GPUMAX_CHECKPOINT_DIR, atomically;
- on SIGTERM it finishes its step, saves and exits with 143;
- on its next start it goes on from what was saved;
- every batch follows from seed and step alone, so a run that was interrupted ends with the very same loss.

With WORLD_SIZE > 1 it trains data-parallel: every rank works on its part of the batch (examples/team.py).
The last line of each run is JSON: the step it reached, the steps wanted, the loss, the step it started from.
"""

from __future__ import annotations

import os

# One thread a process: several of them share this machine, and sums stay the same from run to run.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from team import Team

Array = NDArray[np.float32]

FEATURES: Final = 256
HIDDEN: Final = 512
CLASSES: Final = 10
RATE: Final = 0.08
MOMENTUM: Final = 0.9

INTERRUPTED: Final = 128 + signal.SIGTERM


class Net:
    """Two layers, with momentum. Everything that training changes is in `arrays`."""

    def __init__(self, seed: int) -> None:
        chance = np.random.default_rng((seed, 0))
        first = chance.normal(0, FEATURES**-0.5, (FEATURES, HIDDEN))
        second = chance.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES))
        self.arrays: dict[str, Array] = {
            "first": first.astype(np.float32),
            "second": second.astype(np.float32),
            "first_momentum": np.zeros((FEATURES, HIDDEN), np.float32),
            "second_momentum": np.zeros((HIDDEN, CLASSES), np.float32),
        }

    def gradient(self, x: Array, labels: NDArray[np.int64]) -> tuple[float, Array, Array]:
        """The loss on a batch, and its gradient for both layers."""
        first, second = self.arrays["first"], self.arrays["second"]
        hidden = np.maximum(x @ first, 0)
        scores = hidden @ second
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores)
        chances /= chances.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = float(-np.log(chances[rows, labels] + 1e-12).mean())
        chances[rows, labels] -= 1
        chances /= len(labels)
        back = (chances @ second.T) * (hidden > 0)
        return loss, x.T @ back, hidden.T @ chances

    def step(self, first: Array, second: Array) -> None:
        """One step down the gradient."""
        for name, slope in (("first", first), ("second", second)):
            momentum = self.arrays[f"{name}_momentum"]
            momentum *= MOMENTUM
            momentum -= RATE * slope
            self.arrays[name] += momentum


class Teacher:
    """The problem: points in space, labelled by a fixed random network with some noise."""

    def __init__(self, seed: int) -> None:
        chance = np.random.default_rng((seed, 1))
        self._seed = seed
        self._truth = chance.normal(0, FEATURES**-0.5, (FEATURES, CLASSES)).astype(np.float32)

    def batch(self, step: int, size: int) -> tuple[Array, NDArray[np.int64]]:
        """The batch of a step: always the same one."""
        chance = np.random.default_rng((self._seed, 2, step))
        x = chance.standard_normal((size, FEATURES), np.float32)
        noise = chance.standard_normal((size, CLASSES), np.float32)
        return x, np.argmax(x @ self._truth + np.float32(0.05) * noise, axis=1)


class Checkpoint:
    """One file that is always whole: a new one takes the place of the old one at once."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "model.npz" if folder else None

    def load(self, net: Net) -> list[float]:
        """Fill the net from the file, and return the losses so far; none where there is no file."""
        if self._path is None or not self._path.exists():
            return []
        with np.load(self._path) as saved:
            net.arrays = {name: saved[name] for name in net.arrays}
            losses: list[float] = saved["losses"].tolist()
        return losses

    def save(self, net: Net, losses: list[float]) -> None:
        """Write everything that the next run needs; the step is the number of losses."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".tmp")
        with fresh.open("wb") as file:
            np.savez(file, losses=np.array(losses, np.float64), **net.arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def train(args: argparse.Namespace, team: Team, stop: list[int]) -> int:
    """Train to the end or until a signal, and return the exit code."""
    net, teacher, checkpoint = Net(args.seed), Teacher(args.seed), Checkpoint(args.checkpoint)
    losses = team.share(checkpoint.load(net) if team.leads else [], net.arrays)
    start, code = len(losses), 0
    if start and team.leads:
        print(f"resumed from step {start}", flush=True)
    while len(losses) < args.steps and not code:
        x, labels = teacher.batch(len(losses), args.batch)
        mine = slice(team.rank, None, team.size)
        try:
            (loss, *slopes), stopped = team.average(net.gradient(x[mine], labels[mine]), bool(stop))
        except (EOFError, ConnectionError):
            code = 1  # a rank is gone; what was learned so far is kept
            break
        net.step(*slopes)
        losses.append(float(loss))
        code = INTERRUPTED if stopped else 0
        if team.leads:
            report(args, losses)
            if len(losses) % args.save == 0:
                checkpoint.save(net, losses)
    if team.leads:
        checkpoint.save(net, losses)
        end = {"steps": len(losses), "of": args.steps, "loss": smooth(losses), "resumed_from": start}
        print(json.dumps(end), flush=True)
    return 0 if len(losses) >= args.steps else code


def report(args: argparse.Namespace, losses: list[float]) -> None:
    """Print a line now and then."""
    if len(losses) % args.report == 0:
        print(f"step {len(losses)} loss {smooth(losses):.3f}", flush=True)


def smooth(losses: list[float]) -> float:
    """The mean of the last twenty losses: batches differ."""
    last = losses[-20:]
    return sum(last) / len(last)


def main() -> int:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--batch", type=int, default=512, metavar="N", help="examples in a step")
    parser.add_argument("--report", type=int, default=20, metavar="N", help="print the loss every N steps")
    parser.add_argument("--save", type=int, default=50, metavar="N", help="save every N steps")
    folder = os.environ.get("GPUMAX_CHECKPOINT_DIR")
    parser.add_argument("--checkpoint", type=Path, default=Path(folder) if folder else None, metavar="DIR")
    args = parser.parse_args()
    with Team.from_environment() as team:
        # Not before the team is complete: until then there is nothing to save, and a signal ends the wait.
        stop: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
        return train(args, team, stop)


if __name__ == "__main__":
    sys.exit(main())
