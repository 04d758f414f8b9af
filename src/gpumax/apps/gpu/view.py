"""Shared devices as people see them: what a broker says of itself, by device, as plain rows for the API and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpumax.broker.control import Control
from gpumax.broker.status import DeviceStatus, GroupStatus, Status
from gpumax.errors import GpumaxError

Item = dict[str, Any]


Owners = Callable[[int], str]


def shared(
    control: Control, workload_of: Callable[[str], str] = lambda _: "", owner_of: Owners = lambda _: ""
) -> dict[str, Item]:
    """By UUID, the devices of which parts are given out; empty where no broker answers. workload_of: whose a group is; owner_of: a process."""
    try:
        return rows(control.status(), workload_of, owner_of)
    except GpumaxError:
        return {}


def rows(
    status: Status, workload_of: Callable[[str], str] = lambda _: "", owner_of: Owners = lambda _: ""
) -> dict[str, Item]:
    """The same of a status. Devices of which nobody has a part aren't shared."""
    found = {each.uuid: _device(each, status, workload_of, owner_of) for each in status.devices}
    return {uuid: row for uuid, row in found.items() if row["residents"] or row["unfenced"]}


def exported(metrics: str) -> str:
    """A broker's metrics for Prometheus, empty where there is none, and whether there is one."""
    about = "# HELP gpumax_broker_up Whether a broker gives out parts of the GPUs\n# TYPE gpumax_broker_up gauge\n"
    return f"{about}gpumax_broker_up {1 if metrics else 0}\n{metrics}"


def _device(
    device: DeviceStatus, status: Status, workload_of: Callable[[str], str], owner_of: Owners
) -> Item:
    residents = [_resident(group, device.uuid, workload_of) for group in status.groups]
    return {
        "bytes": device.bytes,
        "used": device.used,
        "state": device.state,
        "holder": device.holder,
        "serial": device.serial,
        "residents": [each for each in residents if each is not None],
        "unfenced": [
            {
                "pid": each.pid,
                "bytes": each.bytes,
                "why": each.why,
                "away": each.away,
                "command": _command(each.pid),
                "workload": owner_of(each.pid),
            }
            for each in device.unfenced
        ],
    }


def _resident(group: GroupStatus, uuid: str, workload_of: Callable[[str], str]) -> Item | None:
    """A group's part of one device; None where it has none of it."""
    if uuid not in group.devices:
        return None
    mine = [each for each in group.clients if uuid in each.devices]
    held = [each.devices[uuid] for each in mine]
    return {
        "group": group.name,
        "workload": workload_of(group.name),
        "mode": group.mode,
        "share": group.share,
        "guaranteed": group.guaranteed,
        "limit": group.limit,
        "swap": group.swap,
        "resident": sum(each.resident for each in held),
        "swapped": sum(each.swapped for each in held),
        "pinned": sum(each.pinned for each in held),
        "processes": [each.pid for each in mine],
        "checkpointed": [each.pid for each in mine if each.lease in ("away", "lost")],
        "works": any(each.lease in ("granted", "revoked") for each in mine),
        "waits": group.waits,
        "hangs": group.hangs,
    }


def _command(pid: int) -> str:
    """What runs there; empty where it's gone, or nobody may know."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def here(environ: Mapping[str, str]) -> tuple[list[Item], Control | None]:
    """The devices of this machine without a server: as its driver tells them, with what this user's own broker says of them."""
    from gpumax.apps.gpu.personal import place
    from gpumax.devices import open_devices
    from gpumax.devices.uuids import sharable

    devices = open_devices(None)
    uuids, there = devices.uuids(), sharable(devices)
    control = Control(place(environ, there)) if there else None
    parts = shared(control) if control is not None else {}
    rows = [
        _row(each.index, each.model, each.memory_mib, each.healthy, parts.get(uuids.get(each.index, "")))
        for each in devices.read()
    ]
    return rows, control


def _row(index: int, model: str, memory_mib: int, healthy: bool, part: Item | None) -> Item:
    from gpumax.units import MILLI, format_memory

    residents = part["residents"] if part else ()
    holders = [{"workload": each["group"], "milli": round(each["share"] * MILLI)} for each in residents]
    return {
        "node": os.uname().nodename, "index": index, "model": model, "memory": format_memory(memory_mib), "healthy": healthy,
        "gone": False, "virtual": False, "used": sum(each["share"] for each in residents), "holders": holders, "shared": part,
    }  # fmt: skip
