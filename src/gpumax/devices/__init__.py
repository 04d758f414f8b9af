"""Devices of this machine: those of its driver, or made-up ones."""

from __future__ import annotations

from pathlib import Path

from gpumax.ports.devices import Devices


def open_devices(spec: str | None) -> Devices:
    """Virtual devices as in "8xH100:80Gi,2xA100:40Gi", or "none"; for None, what a driver reports, if there is one:
    NVIDIA's, else AMD's, else Intel's.

    BadFile, with every fault, for a spec that can't be read.
    """
    if spec is not None:
        from gpumax.devices.virtual import parse_spec

        return parse_spec(spec)
    from gpumax.devices.nvml import open_nvml
    from gpumax.devices.sysfs import open_sysfs

    nvidia = open_nvml()
    if nvidia.read():
        return nvidia
    others = open_sysfs()
    return others if others.read() else nvidia


def with_driver(devices: Devices, folder: Path) -> Devices:
    """Virtual devices with an emulated driver for processes of this machine; all others as they are. folder: a place for its files."""
    from gpumax.devices.emulated import with_driver

    return with_driver(devices, folder)
