"""Turn Alibaba's GPU cluster trace (gpu-v2023, "openb") into a snapshot for `gpumax decide`.

    python examples/openb.py DIR [--pods N] [--list default] > openb.json
    gpumax decide openb.json --format board

DIR holds the trace's CSV files. Every node of openb_node_list_gpu_node.csv becomes a node; every pod becomes a
workload of one task that waits, in a queue by its quality of service, in the order in which the pods were created.

Assumed, because the trace does not say it: the memory of each device by its model (MEMORY; G2 and G3 are code
names), and equal weights for the queues. A pod's list of models is taken in its order: any of them will do.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

MEMORY: Final = {
    "P100": "16Gi",
    "T4": "16Gi",
    "V100M16": "16Gi",
    "V100M32": "32Gi",
    "A10": "24Gi",
    "G2": "24Gi",
    "G3": "24Gi",
}
NO_QUEUE: Final = "pods"  # the queue of pods whose list has no qos column

Row = dict[str, str]


def convert(nodes: Iterable[Row], pods: Iterable[Row]) -> dict[str, object]:
    """The snapshot document of the rows of a node list and of a pod list. KeyError where a column is missing."""
    waiting = sorted(pods, key=lambda pod: (_created(pod), pod["name"]))
    return {
        "version": "gpumax/v1",
        "now": 1 + max(map(_created, waiting), default=0),
        "nodes": [_node(row) for row in nodes],
        "queues": [{"name": name} for name in sorted({_queue(pod) for pod in waiting})],
        "workloads": [_workload(pod) for pod in waiting],
    }


def _node(row: Row) -> dict[str, object]:
    node: dict[str, object] = {
        "name": row["sn"],
        "cpu": f"{row['cpu_milli']}m",
        "memory": f"{row['memory_mib']}Mi",
    }
    if count := int(row["gpu"]):
        node["devices"] = {"count": count, "model": row["model"], "memory": MEMORY[row["model"]]}
    return node


def _workload(pod: Row) -> dict[str, object]:
    request: dict[str, object] = {"cpu": f"{pod['cpu_milli']}m", "memory": f"{pod['memory_mib']}Mi"}
    if count := int(pod["num_gpu"]):
        # Part of a device is only ever asked of one; several GPUs are whole.
        amount = f"{pod['gpu_milli']}m" if count == 1 and pod["gpu_milli"] != "1000" else str(count)
        models = dict.fromkeys(pod.get("gpu_spec", "").split("|"))
        request["gpu"] = [f"{model}:{amount}" for model in models] if any(models) else amount
    return {
        "name": pod["name"],
        "queue": _queue(pod),
        "submitted": _created(pod),
        "tasks": [{"name": pod["name"], "state": "pending", "request": request}],
    }


def _queue(pod: Row) -> str:
    return pod.get("qos", "").lower() or NO_QUEUE


def _created(pod: Row) -> int:
    """Seconds since the trace began; lists without times keep the order of their names."""
    return int(pod.get("creation_time") or 0)


def _rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> int:
    """Write the snapshot to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dir", type=Path, help="where the CSV files lie")
    parser.add_argument("--pods", type=int, metavar="N", help="take only the first N pods of the list")
    parser.add_argument("--list", default="default", metavar="NAME", help="which openb_pod_list_NAME.csv")
    args = parser.parse_args()
    try:
        nodes = _rows(args.dir / "openb_node_list_gpu_node.csv")
        pods = _rows(args.dir / f"openb_pod_list_{args.list}.csv")
        snapshot = convert(nodes, pods[: args.pods])
    except OSError as error:
        print(f"openb.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"openb.py: {args.dir}: unknown column or device model {error}", file=sys.stderr)
        return 2
    json.dump(snapshot, sys.stdout, separators=(",", ":"))
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
