"""What became of each item of a submit, or would become of it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gpumax.apps.cli.client import Item
from gpumax.words import plural

MOST_NAMES: Final = 5
"""Names that one line tells; the rest is counted."""


def told(item: Item, dry_run: bool) -> Iterator[str]:
    """One item's fate in a line, and a line for each workload that makes way for it."""
    if item.get("kind") == "queue":
        yield _queue(item, dry_run)
        return
    name = str(item.get("name"))
    if dry_run and item.get("state") not in ("pending", None):
        yield f"{name} is there already ({item['state']}), and would stay as it is"
        return
    if not dry_run:
        name += ":" if item.get("created", True) else " (submitted before):"
    yield f"{name} {_answer(item, dry_run)}"
    causes: dict[str, list[str]] = {}
    for row in item.get("evictions") or ():
        causes.setdefault(str(row.get("cause", "")), []).append(str(row.get("task")))
    for cause, tasks in causes.items():
        yield f"  {'would evict' if dry_run else 'evicts'} {_some(tasks)} ({cause})"


def _queue(item: Item, dry_run: bool) -> str:
    if dry_run:
        return f"queue {item.get('name')} would be {'made' if item.get('created') else 'set'}"
    return f"queue {item.get('name')}: {'made' if item.get('created') else 'set'}"


def _answer(item: Item, dry_run: bool) -> str:
    hold, places = item.get("hold"), item.get("places") or ()
    if hold:
        return f"{'would wait' if dry_run else 'waits'}: {hold.get('code')}: {hold.get('message')}"
    if places:
        return f"{'would start' if dry_run else 'starts'} on {where(places)}"
    if item.get("state") in ("pending", None):
        if item.get("reason"):
            return f"{'would wait' if dry_run else 'waits'}: {item['reason']}"
        return "would wait" if dry_run else "accepted; `gpumax ps` shows what becomes of it"
    return str(item["state"])


def where(places: Sequence[Item]) -> str:
    """Nodes and the GPUs on them: `n1 (GPU 0, 1), n2`; what it waits for, too."""
    nodes: dict[str, list[str]] = {}
    after: list[str] = []
    for place in places:
        devices = nodes.setdefault(str(place.get("node")), [])
        devices += [_device(device) for device in place.get("devices") or ()]
        after += [name for name in place.get("after") or () if name not in after]
    parts = [
        f"{node} (GPU {', '.join(dict.fromkeys(devices))})" if devices else node
        for node, devices in nodes.items()
    ]
    shown = ", ".join(parts[:MOST_NAMES])
    if len(parts) > MOST_NAMES:
        shown += f" and {plural(len(parts) - MOST_NAMES, 'more node')}"
    return f"{shown} once {_some(after)} {'has' if len(after) == 1 else 'have'} left" if after else shown


def _device(device: Item) -> str:
    milli = device.get("milli", 1000)
    return str(device.get("index")) if milli == 1000 else f"{device.get('index')}: {milli / 10:g}%"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def summary(items: Sequence[Item]) -> str:
    """A plan in one line."""
    work = [item for item in items if item.get("kind") != "queue" and item.get("state") in ("pending", None)]
    waiting = sum(1 for item in work if item.get("hold") or not item.get("places"))
    evictions = sum(len(item.get("evictions") or ()) for item in work)
    parts = [
        f"{len(work) - waiting} of {len(work)} workload{'' if len(work) == 1 else 's'} would start"
        if work
        else "",
        f"{evictions} task{' would' if evictions == 1 else 's would'} be evicted" if evictions else "",
    ]
    return "; ".join(filter(None, (", ".join(filter(None, parts)), "nothing has been changed")))
