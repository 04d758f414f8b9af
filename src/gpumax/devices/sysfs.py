"""Whole devices of AMD and Intel, as Linux shows them in /sys. Tested with made-up trees only: no such device was at hand yet.

No library of a vendor is asked, so there is nothing to install, and nothing to load into a process that only counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gpumax.devices.absent import NoDevices
from gpumax.model.node import Device
from gpumax.ports.devices import Devices
from gpumax.units import MIB

LEAST: Final = 1024
"""MiB of its own that a device has at least; what has less shares the host's, and isn't given out."""
AMD: Final = 0x1002
INTEL: Final = 0x8086
_LOCAL: Final = ("1", "2")
"""Heaps of KFD that are the device's own memory: seen by the host, or not."""


class Found(msgspec.Struct, frozen=True):
    """A device at one moment. number: by which its runtime knows it; uuid: by which it does, where it has one."""

    key: str
    number: int
    model: str
    memory_mib: int
    uuid: str = ""


def open_sysfs(root: Path = Path("/sys")) -> Devices:
    """Devices of the first vendor that has some, or none with the reason."""
    for vendor in (AmdDevices, IntelDevices):
        devices: SysfsDevices = vendor(root)
        if devices.read():
            return devices
    shared = [note for vendor in (AmdDevices, IntelDevices) for note in vendor(root).notes()]
    return NoDevices("; ".join(shared) or "no GPU of AMD or Intel: their drivers show none in /sys")


class SysfsDevices(ABC):
    """By the index at which each was first seen: one that falls off the bus leaves a gap, and the others keep theirs."""

    virtual = False
    vendor = ""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: list[Found] = []

    @abstractmethod
    def look(self) -> Iterator[Found]:
        """All of the vendor's devices now, those without memory of their own among them."""

    def read(self) -> tuple[Device, ...]:
        """The devices now."""
        now = {each.key: each for each in self.look() if each.memory_mib >= LEAST}
        known = {each.key for each in self._known}
        self._known += [each for key, each in now.items() if key not in known]
        return tuple(
            Device(index, each.model, each.memory_mib, healthy=each.key in now)
            for index, each in enumerate(self._known)
        )

    def visible(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """The environment that shows a process these devices. KeyError for one that isn't there."""
        self.read()
        now = {each.key: each for each in self.look()}
        for index in indexes:
            if not 0 <= index < len(self._known):
                raise KeyError(index)
        known = [self._known[index] for index in indexes]
        return self._shown([now.get(each.key, each) for each in known])

    @abstractmethod
    def _shown(self, chosen: list[Found]) -> dict[str, str]:
        """The environment in which a process sees these alone."""

    def notes(self) -> tuple[str, ...]:
        """Which devices fail, and which aren't given out, and why."""
        failing = [str(device.index) for device in self.read() if not device.healthy]
        small = [each.key for each in self.look() if each.memory_mib < LEAST]
        said = []
        if failing:
            said.append(f"devices that are gone: {', '.join(failing)}")
        if small:
            said.append(f"not given out, for want of memory of their own: {self.vendor} {', '.join(small)}")
        return tuple(said)

    def uuids(self) -> dict[int, str]:
        """None: nothing of gpumax shares out parts of these devices yet."""
        return {}


class AmdDevices(SysfsDevices):
    """What the kernel's KFD, on which ROCm stands, has: a partition of a device is a device there."""

    vendor = "AMD"

    def look(self) -> Iterator[Found]:
        """The nodes of its topology that compute."""
        nodes = self._root / "class/kfd/kfd/topology/nodes"
        number = 0
        for node in sorted(nodes.glob("[0-9]*"), key=lambda path: int(path.name)):
            said = _properties(node / "properties")
            if not said.get("simd_count", 0) or said.get("vendor_id") != AMD:
                continue
            minor = said.get("drm_render_minor", 0)
            product = _text(self._root / f"class/drm/renderD{minor}/device/product_name")
            unique = said.get("unique_id", 0)
            yield Found(
                f"{said.get('domain', 0):04x}:{said.get('location_id', 0):04x}/{minor}",
                number,
                short_amd(product) or _target(said.get("gfx_target_version", 0)),
                sum(_local(bank) for bank in node.glob("mem_banks/*/properties")) // MIB,
                f"GPU-{unique:016x}" if unique else "",
            )
            number += 1

    def _shown(self, chosen: list[Found]) -> dict[str, str]:
        """By UUID, as numbers change when a device goes; by number where it has none, or partitions have the same."""
        uuids = [each.uuid for each in self.look()]
        names = [
            each.uuid if each.uuid and uuids.count(each.uuid) == 1 else str(each.number) for each in chosen
        ]
        return {"ROCR_VISIBLE_DEVICES": ",".join(names) if names else "-1"}


class IntelDevices(SysfsDevices):
    """Cards of the drivers i915 and xe, in the order of their bus: that is how Level Zero counts when it's told to."""

    vendor = "Intel"

    def look(self) -> Iterator[Found]:
        """Those that say how much memory they have: xe does, i915 with Intel's own packages only."""
        cards: dict[str, Path] = {}
        for card in (self._root / "class/drm").glob("card[0-9]*"):
            device = card / "device"
            ours = card.name[4:].isdigit() and _number(device / "vendor") == INTEL
            if ours and (device / "driver").resolve().name in ("i915", "xe"):
                cards[device.resolve().name] = card
        for number, address in enumerate(sorted(cards)):
            card = cards[address]
            kind = _number(card / "device/device")
            yield Found(address, number, f"Intel-{kind:04x}", _own_memory(card) // MIB)

    def _shown(self, chosen: list[Found]) -> dict[str, str]:
        """A card is one device, whatever tiles it has. No device at all: SYCL can be told so, Level Zero itself can't."""
        if not chosen:
            return {"ONEAPI_DEVICE_SELECTOR": "*:cpu"}
        return {
            "ZE_AFFINITY_MASK": ",".join(str(each.number) for each in chosen),
            "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1",
            "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE",
        }


def short_amd(product: str) -> str:
    """What people call a device: "AMD Instinct MI300X OAM" -> "MI300X"; empty for no name."""
    words = [
        word
        for word in product.replace("/", " ").split()
        if word not in ("AMD", "Instinct", "Radeon", "Pro", "PRO")
    ]
    return words[0] if words else ""


def _target(version: int) -> str:
    """90402 -> "gfx942": two digits each for what is counted in hexadecimal."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else "GPU"


def _local(bank: Path) -> int:
    said = _properties(bank)
    return said.get("size_in_bytes", 0) if str(said.get("heap_type")) in _LOCAL else 0


def _own_memory(card: Path) -> int:
    tiles = [_number(path) for path in (card / "device").glob("tile*/physical_vram_size_bytes")]
    return sum(tiles) or _number(card / "lmem_total_bytes") or _number(card / "device/lmem_total_bytes")


def _properties(path: Path) -> dict[str, int]:
    """Lines of a name and a number; whatever else stands there is left out."""
    said = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isascii() and value.strip().isdigit():
            said[name] = int(value)
    return said


def _number(path: Path) -> int:
    """0 where there is none."""
    try:
        return int(_text(path), 0)
    except ValueError:
        return 0


def _text(path: Path) -> str:
    """Empty where it can't be read: files come and go with their device."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
