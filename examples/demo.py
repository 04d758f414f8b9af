"""Two teams share eight GPUs: one uses the other's idle quota, gives it back when the owner asks, and loses nothing.

    python examples/demo.py

Starts a gpumax of its own in a temporary directory, with eight virtual GPUs; the trainings are real (examples/train.py).
Ends with 1 if a guarantee was broken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gpumax.apps.cli.client import ServerApi, find_door
from gpumax.apps.cli.output import Column, on_terminal, table, terminal_width, use_color
from gpumax.apps.cli.paging import all_items
from gpumax.apps.cli.screen import Screen
from gpumax.errors import GpumaxError
from gpumax.formats.board import draw_board
from gpumax.formats.decision import load_decision
from gpumax.formats.snapshot import load_snapshot

HERE: Final = Path(__file__).resolve().parent
GPUS: Final = 8
QUOTA: Final = 4
BACK_S: Final = 12.0
"""The owner has its quota back after this long at the latest: the grace of ten seconds, and two to start."""
LONGEST_S: Final = 120.0
LOOK_S: Final = 0.5

Item = dict[str, Any]


class Broken(Exception):
    """The demo did not go as it must."""


class Demo:
    """One server, what happened on it, and how it is shown."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.api = ServerApi(lambda: find_door(data))
        self.events: list[Item] = []
        self.most_held: dict[str, float] = {}
        self.share: dict[str, float] = {}  # while both teams ask
        self._seen = 0
        self._begun = time.monotonic()

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Show the cluster until something is true; Broken where it takes too long."""
        with Screen() as screen:
            while not done():
                if time.monotonic() - self._begun > LONGEST_S:
                    raise Broken(f"after {LONGEST_S:.0f} s still waiting for {what}")
                self.look(screen)
                time.sleep(LOOK_S)
            self.look(screen)

    def look(self, screen: Screen) -> None:
        """Take note of what happened, check that no GPU is held twice, and draw."""
        board = self.api.get("/board")
        snapshot = load_snapshot(board["snapshot"])
        held: dict[str, float] = {}
        for workload in snapshot.workloads:
            for task in workload.tasks:
                if task.state in ("bound", "running"):
                    milli = sum(share.milli for share in task.devices)
                    held[workload.queue] = held.get(workload.queue, 0) + milli / 1000
        if sum(held.values()) > GPUS:
            raise Broken(f"{sum(held.values()):g} GPUs are held; there are {GPUS}")
        for queue, gpus in held.items():
            self.most_held[queue] = max(gpus, self.most_held.get(queue, 0))
        decision = load_decision(board["decision"])
        gpu = [share for share in decision.shares if share.resource == "gpu"]
        if all(share.demand for share in gpu if share.queue in ("vision", "language")):
            self.share.update({share.queue: share.share / 1000 for share in gpu})
        fresh = self.api.get("/events", {"after": self._seen, "limit": 500})
        self._seen = fresh.get("next") or self._seen
        self.events += fresh["items"]
        if screen.live:
            picture = draw_board(snapshot, decision, width=terminal_width(), color=use_color())
            screen.show("\n".join([picture, "", *map(self._line, self.events[-8:])]))
        else:
            for event in fresh["items"]:
                print(self._line(event), flush=True)

    def picture(self, title: str) -> None:
        """The board, where it isn't drawn all the time."""
        if not on_terminal():
            print(f"\n--- {title}", self.board(), "", sep="\n", flush=True)

    def board(self) -> str:
        """The cluster as text."""
        return _gpumax(self.data, "board")

    def all(self) -> list[Item]:
        """Every workload, oldest first."""
        items: list[Item] = all_items(self.api, "/workloads", {})["items"]
        return sorted(items, key=lambda item: str(item["name"]))

    def running(self, project: str) -> bool:
        """Whether all workloads of a project have all their tasks running."""
        mine = [item for item in self.all() if item["project"] == project]
        return bool(mine) and all(item["tasks"]["running"] == item["tasks"]["total"] for item in mine)

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(item["state"] in ("succeeded", "failed", "stopped") for item in self.all())

    def seconds_between(self, name: str, first: str, second: str) -> float:
        """From a workload's first event of one kind to its first of another."""
        at = {event["kind"]: event["at"] for event in reversed(self.events) if event["workload"] == name}
        if first not in at or second not in at:
            raise Broken(f"{name}: no {second} after {first}")
        return (datetime.fromisoformat(at[second]) - datetime.fromisoformat(at[first])).total_seconds()

    def _line(self, event: Item) -> str:
        at = datetime.fromisoformat(event["at"]).astimezone()
        return f"{at:%H:%M:%S}  {event['kind']:<9}  {event['task'] or event['workload'] or '-':<12}  {event['message']}"


class Ended:
    """What one workload did, from its logs: the lines of JSON with which the training ends each of its runs."""

    def __init__(self, demo: Demo, item: Item) -> None:
        self.item = item
        self.name: str = item["name"]
        log = _gpumax(demo.data, "logs", self.name, "--task", "0")
        self.runs: list[Item] = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        self.wait_s = demo.seconds_between(self.name, "Submitted", "Started")

    @property
    def lost(self) -> int:
        """Steps that had to be done again: where a run ended, less where the next one went on."""
        pairs = zip(self.runs, self.runs[1:], strict=False)
        return sum(before["steps"] - after["resumed_from"] for before, after in pairs)

    def faults(self) -> Iterator[str]:
        """Which guarantees were broken for it."""
        if self.item["state"] != "succeeded":
            yield f"{self.name} {self.item['state']}: {self.item['reason']}"
        if len(self.runs) != self.item["runs"]:
            yield f"{self.name}: {self.item['runs']} runs, {len(self.runs)} of them told how they ended"
        if not self.runs or self.runs[-1]["steps"] != self.runs[-1]["of"]:
            yield f"{self.name}: did not reach its last step"
        if self.lost:
            yield f"{self.name}: {self.lost} steps were lost"


def _gpumax(data: Path, *words: str) -> str:
    """Run a command line of gpumax; its standard output. Its prose goes where ours goes."""
    done = subprocess.run(
        [sys.executable, "-m", "gpumax.apps.cli.main", *words],
        env={**os.environ, "GPUMAX_DATA": str(data)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Broken(f"`gpumax {' '.join(words)}` ended with {done.returncode}")
    return done.stdout.rstrip()


def _say(data: Path, *words: str) -> None:
    """Show a command, and run it."""
    print(f"$ gpumax {' '.join(words)}", flush=True)
    if told := _gpumax(data, *words):
        print(told, flush=True)


@contextmanager
def _server() -> Iterator[Path]:
    """A server of its own, gone afterwards with all that it ran."""
    data = Path(tempfile.mkdtemp(prefix="gpumax-demo-"))
    os.chdir(HERE)
    # The trainings are written as `python train.py`: that must be the Python that has NumPy.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    try:
        _say(data, "up", "--detach", "--devices", f"{GPUS}xH100:80Gi", "--name", "n1")
        yield data
    finally:
        try:
            _gpumax(data, "down", "--tasks")
        except Broken:
            print("the server is gone already", file=sys.stderr)
        shutil.rmtree(data, ignore_errors=True)


def play(demo: Demo) -> None:
    """The story."""
    _say(demo.data, "apply", "-f", "teams.yaml")
    print("\nTeam vision asks for 8 GPUs. Its quota is 4; the other 4 are idle, so it gets all 8.")
    _say(demo.data, "apply", "-f", "vision.yaml")
    demo.until(lambda: demo.running("vision"), "team vision to run on all GPUs")
    demo.picture("vision runs on all eight GPUs")
    _train_for(demo, 4.0)
    print("\nTeam language asks for its 4 GPUs. Those of vision who lose least by it save, and make way.")
    _say(demo.data, "apply", "-f", "language.yaml")
    demo.until(lambda: demo.running("language"), "team language to get its quota back")
    demo.picture("language has its four GPUs back; what made way waits, with its checkpoint")
    print("\nAs language ends, vision goes on from its checkpoints.")
    demo.until(demo.finished, "all trainings to end")


def _train_for(demo: Demo, seconds: float) -> None:
    end = time.monotonic() + seconds
    demo.until(lambda: time.monotonic() >= end, "the trainings to make some steps")


def judge(demo: Demo, ended: list[Ended]) -> list[str]:
    """Which guarantees were broken."""
    faults = [fault for one in ended for fault in one.faults()]
    if demo.most_held.get("vision", 0) < GPUS:
        faults.append(
            f"vision held {demo.most_held.get('vision', 0):g} GPUs at most, though {GPUS} were idle"
        )
    faults += [
        f"{one.name} waited {one.wait_s:.1f} s for its quota; {BACK_S:g} s are allowed"
        for one in ended
        if one.item["project"] == "language" and one.wait_s > BACK_S
    ]
    if not any(one.item["evictions"] for one in ended):
        faults.append("nobody was evicted, so nothing was shown")
    if any(one.item["evictions"] for one in ended if one.item["project"] == "language"):
        faults.append("team language was evicted within its quota")
    twins: dict[str, tuple[str, float]] = {}
    for one in (one for one in ended if one.runs):
        name, loss = twins.setdefault(str(one.item["seed"]), (one.name, one.runs[-1]["loss"]))
        if loss != one.runs[-1]["loss"]:
            faults.append(f"{name} and {one.name} are the same training, but ended with different losses")
    return faults


def _seed(api: ServerApi, item: Item) -> str:
    """What makes two trainings the same: their command."""
    return str(api.get(f"/workloads/{item['name']}")["spec"]["run"])


WORKLOADS: Final = (
    Column("WORKLOAD", lambda row: str(row["name"])),
    Column("QUEUE", lambda row: str(row["project"])),
    Column("WAITED", lambda row: f"{row['wait_s']:.2f} s"),
    Column("RUNS", lambda row: str(row["runs"])),
    Column("EVICTIONS", lambda row: str(row["evictions"])),
    Column("STEPS", lambda row: str(row["steps"])),
    Column("STEPS LOST", lambda row: str(row["lost"])),
    Column("FINAL LOSS", lambda row: f"{row['loss']:.6f}"),
)
QUEUES: Final = (
    Column("QUEUE", lambda row: str(row["name"])),
    Column("QUOTA", lambda row: f"{row['quota']:g} GPUs"),
    Column("SHARE WHILE BOTH ASK", lambda row: f"{row['share']:g} GPUs"),
    Column("HELD AT MOST", lambda row: f"{row['most']:g} GPUs"),
    Column("GOT", lambda row: f"{row['seconds']:.0f} GPU seconds"),
)


def tell(demo: Demo, ended: list[Ended]) -> None:
    """The two tables at the end."""
    rows = [
        {**one.item, "wait_s": one.wait_s, "lost": one.lost,
         "steps": one.runs[-1]["steps"] if one.runs else 0, "loss": one.runs[-1]["loss"] if one.runs else 0.0}
        for one in ended
    ]  # fmt: skip
    print("\n" + table(rows, WORKLOADS) + "\n")
    queues = [
        {"name": name, "quota": QUOTA, "share": demo.share.get(name, 0), "most": demo.most_held.get(name, 0),
         "seconds": sum(row["device_seconds"] for row in rows if row["project"] == name)}
        for name in ("language", "vision")
    ]  # fmt: skip
    print(table(queues, QUEUES) + "\n")


def main() -> int:
    """Play, tell, judge."""
    try:
        with _server() as data:
            demo = Demo(data)
            play(demo)
            ended = [Ended(demo, {**item, "seed": _seed(demo.api, item)}) for item in demo.all()]
            tell(demo, ended)
            faults = judge(demo, ended)
    except (Broken, GpumaxError) as error:
        print(f"demo: broken: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for fault in faults:
        print(f"demo: broken: {fault}", file=sys.stderr)
    if not faults:
        print(
            "Every guarantee held: idle quota was used, given back when its owner asked, and no step was lost;"
            "\ntrainings that were evicted ended with the very loss of their twins that were not."
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
