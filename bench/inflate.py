"""How much of a large cluster is used when it is filled: the protocol of the FGD paper on the lists of Alibaba's openb trace.

python bench/inflate.py --data DIR [--lists default cpu100 ..] [--rules fgd gpumax ..] [--seeds 42 .. 51] [--jobs 2] [--whole] [--step 100]

DIR holds openb_node_list_gpu_node.csv and openb_pod_list_*.csv. Mean GPU allocation in percent of the capacity when as much as 100 %
and 130 % of it was asked for, over all seeds; beside it what the paper's authors published, where they did. --whole: what fractions
are worth, instead: the same arrivals where whoever asks for part of a GPU gets all of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.model.study import Run, Scenario
from gpumax.policy import dense
from gpumax.study.load import load_scenario
from gpumax.study.run import run_study
from measure import machine

RULES: Final = ("random", "dotprod", "clustering", "packing", "bestfit", "fgd", "gpumax-pack", "gpumax")
LISTS: Final = ("default", "cpu100", "gpushare40", "gpushare100", "gpuspec20", "multigpu30")
SEEDS: Final = tuple(range(42, 52))
PUBLISHED: Final = {
    "default": (87.47, 90.85, 91.88, 92.00, 93.08, 95.39), "cpu050": (91.24, 93.27, 93.79, 93.72, 93.79, 95.21),
    "cpu100": (89.11, 91.96, 92.64, 92.72, 93.44, 95.35), "cpu200": (83.77, 87.70, 89.92, 90.22, 92.40, 95.04),
    "cpu250": (80.41, 83.80, 87.99, 88.28, 91.45, 93.41), "gpushare100": (79.44, 82.42, 82.65, 82.57, 85.01, 86.90),
    "gpushare40": (86.00, 89.56, 90.02, 90.03, 91.69, 94.15), "gpushare60": (83.65, 87.12, 87.20, 87.45, 89.36, 91.40),
    "gpushare80": (81.22, 84.49, 84.85, 85.00, 87.01, 89.30), "gpuspec10": (87.43, 90.39, 92.18, 92.46, 93.30, 94.95),
    "gpuspec20": (87.24, 89.97, 92.24, 92.94, 93.30, 94.84), "gpuspec25": (86.94, 89.63, 92.08, 92.98, 93.23, 94.74),
    "gpuspec33": (86.46, 89.14, 92.12, 93.22, 93.09, 94.55), "multigpu20": (88.69, 92.06, 93.56, 93.71, 93.93, 95.65),
    "multigpu30": (89.27, 93.28, 94.72, 94.87, 94.72, 96.46), "multigpu40": (90.09, 94.19, 95.50, 95.74, 95.24, 96.99),
    "multigpu50": (90.28, 94.85, 95.81, 96.18, 95.74, 97.18),
}  # fmt: skip
"""The authors' means of ten seeds at 130 %, in the order of the first six RULES (analysis_allo_discrete.csv of their artifact)."""
WHOLE: Final = ("fgd", "bestfit", "gpumax", "bestfit-whole")


class Flags(NamedTuple):
    """What is measured."""

    data: Path
    lists: list[str]
    rules: list[str]
    seeds: list[int]
    jobs: int


def scenario(flags: Flags, name: str) -> Scenario:
    """One list."""
    pods = flags.data / f"openb_pod_list_{name}.csv"
    with pods.open(encoding="utf-8") as file:
        typed = "gpu_spec" in file.readline()
    columns = {"name": "name", "cpu_milli": "cpu_milli", "memory_mib": "memory_mib", "devices": "num_gpu", "gpu_milli": "gpu_milli"}  # fmt: skip
    nodes = {"name": "sn", "cpu_milli": "cpu_milli", "memory_mib": "memory_mib", "devices": "gpu", "model": "model"}  # fmt: skip
    document = {
        "version": "gpumax/v1",
        "name": name,
        "protocol": "inflate",
        "nodes": {"csv": str((flags.data / "openb_node_list_gpu_node.csv").resolve()), "columns": nodes},
        "arrivals": {"csv": str(pods.resolve()), "columns": columns | ({"models": "gpu_spec"} if typed else {})},
        "policies": flags.rules,
        "seeds": flags.seeds,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.json"
        path.write_text(json.dumps(document))
        return load_scenario(path)


def played(flags: Flags, filled: Scenario, rule: str) -> tuple[list[Run], float]:
    """All seeds under one rule; and the seconds of one core that a run took, 0 where several went side by side."""
    begin = time.process_time()
    result = run_study(replace(filled, policies=(rule,)), jobs=flags.jobs)
    if result.failed or result.unfinished:
        raise SystemExit(f"{filled.name}, {rule}: {result.failed or 'stopped'}")
    took = time.process_time() - begin
    return list(result.runs), took / len(flags.seeds) if flags.jobs == 1 else 0.0


def mean(runs: list[Run], percent: str) -> float:
    """Of all seeds, in percent of the capacity."""
    return 100 * statistics.mean(run.allocation[percent] for run in runs)


def spread(runs: list[Run], percent: str) -> float:
    """The standard deviation over the seeds."""
    values = [100 * run.allocation[percent] for run in runs]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def table(flags: Flags) -> dict[str, list[float]]:
    """A row a list and rule; by rule what comes of it at 130 %, a number a list."""
    print(
        "list         rule          @100 %  @130 %     sd  published  fragments @130 %  s of one core a run"
    )
    found: dict[str, list[float]] = {rule: [] for rule in flags.rules}
    for name in flags.lists:
        filled = scenario(flags, name)
        for rule in flags.rules:
            runs, seconds = played(flags, filled, rule)
            at = mean(runs, "130")
            found[rule].append(at)
            known = dict(zip(RULES, PUBLISHED.get(name, ()), strict=False)).get(rule)
            beside = "" if known is None else f"{known:.2f} ({at - known:+.2f})"
            lost = 100 * statistics.mean(run.fragments["130"] for run in runs)
            print(
                f"{name:<12} {rule:<12} {mean(runs, '100'):>7.2f} {at:>7.2f} {spread(runs, '130'):>6.2f}  "
                f"{beside:<14} {lost:>12.2f}  {seconds:>15.2f}",
                flush=True,
            )
    return found


def whole(flags: Flags) -> None:
    """What fractions are worth, a row a list."""
    print(
        "list         rule           placed   in use %  GPUs held %   against bestfit-whole: placed, in use"
    )
    for name in flags.lists:
        filled = scenario(flags, name)
        by = {rule: played(flags, filled, rule)[0] for rule in WHOLE}
        placed = {rule: statistics.mean(run.placed for run in runs) for rule, runs in by.items()}
        used = {rule: 100 * statistics.mean(run.use.requested for run in runs) for rule, runs in by.items()}
        for rule, runs in by.items():
            held = 100 * statistics.mean(run.use.allocated for run in runs)
            times = (
                f"{placed[rule] / placed['bestfit-whole']:.2f} x, {used[rule] / used['bestfit-whole']:.2f} x"
            )
            print(f"{name:<12} {rule:<14} {placed[rule]:>6.0f} {used[rule]:>10.2f} {held:>12.2f}   {times}", flush=True)  # fmt: skip


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the trace")
    parser.add_argument("--lists", nargs="+", default=list(LISTS))
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="what fractions are worth")
    parser.add_argument("--step", type=int, help="another constant of `dense`: milli-devices that are equal")
    given = parser.parse_args()
    if given.step:
        vars(dense)["STEP"] = given.step
    rules = list(WHOLE) if given.whole else given.rules
    flags = Flags(given.data, given.lists, rules, given.seeds, given.jobs)
    begin = time.perf_counter()
    if given.whole:
        whole(flags)
    else:
        found = table(flags)
        if len(flags.lists) > 1:
            means = ", ".join(f"{rule} {statistics.mean(rows):.2f}" for rule, rows in found.items())
            print(f"mean of {len(flags.lists)} lists @130 %: {means}")
    print(f"seeds {' '.join(map(str, flags.seeds))}; {time.perf_counter() - begin:.0f} s, jobs {flags.jobs}")
    print(machine())


if __name__ == "__main__":
    main()
