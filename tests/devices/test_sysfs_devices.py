"""Devices of AMD and Intel, in made-up trees of /sys; no test here has seen a real one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpumax.devices.sysfs import open_sysfs, short_amd
from gpumax.model.node import Device

GIB = 1 << 30


class Tree:
    """What the kernel shows of a machine. `add` puts a device in, and gives its name; `remove` takes it away."""

    vendor = ""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def add(self, number: int, gib: int) -> None:
        raise NotImplementedError

    def remove(self, number: int) -> None:
        raise NotImplementedError

    def shown(self, *numbers: int) -> str:
        """The variable that names these devices, as it should be."""
        raise NotImplementedError


class Amd(Tree):
    """Nodes of KFD; node 0 is the processor."""

    vendor = "AMD"
    variable = "ROCR_VISIBLE_DEVICES"
    model = "MI300X"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        node = "class/kfd/kfd/topology/nodes/0"
        self.write(
            f"{node}/properties", "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\nvendor_id 0"
        )
        self.write(f"{node}/mem_banks/0/properties", f"heap_type 0\nsize_in_bytes {512 * GIB}")

    def add(
        self, number: int, gib: int, unique: int | None = None, product: str = "AMD Instinct MI300X OAM"
    ) -> None:
        node, minor = f"class/kfd/kfd/topology/nodes/{number + 1}", 128 + number
        unique = 0xAB00 + number if unique is None else unique
        lines = (
            "cpu_cores_count 0", "simd_count 1216", "gfx_target_version 90402", "vendor_id 4098", "device_id 29857",
            f"location_id {(number + 1) * 256}", "domain 0", f"drm_render_minor {minor}", f"unique_id {unique}",
        )  # fmt: skip
        self.write(f"{node}/properties", "\n".join(lines))
        self.write(
            f"{node}/mem_banks/0/properties", f"heap_type 1\nsize_in_bytes {gib * GIB}\nflags 0\nwidth 8192"
        )
        if product:
            self.write(f"class/drm/renderD{minor}/device/product_name", product)

    def remove(self, number: int) -> None:
        shutil.rmtree(self.root / f"class/kfd/kfd/topology/nodes/{number + 1}")

    def shown(self, *numbers: int) -> str:
        return ",".join(f"GPU-{0xAB00 + number:016x}" for number in numbers)


class Intel(Tree):
    """Cards of the driver xe, with two tiles each."""

    vendor = "Intel"
    variable = "ZE_AFFINITY_MASK"
    model = "Intel-0bd5"

    def add(self, number: int, gib: int, driver: str = "xe", vendor: str = "0x8086") -> None:
        address = f"0000:{0x4D + number:02x}:00.0"
        device = self.root / "devices" / address
        for name, text in (("vendor", vendor), ("device", "0x0bd5")):
            self.write(f"devices/{address}/{name}", text)
        for tile in range(2 if driver == "xe" else 0):
            self.write(f"devices/{address}/tile{tile}/physical_vram_size_bytes", str(gib * GIB // 2))
        (self.root / "bus" / driver).mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(self.root / "bus" / driver)
        card = self.root / f"class/drm/card{number}"
        card.mkdir(parents=True)
        (card / "device").symlink_to(device)
        self.write(f"class/drm/card{number}-DP-1/status", "disconnected")

    def remove(self, number: int) -> None:
        shutil.rmtree(self.root / f"class/drm/card{number}")

    def shown(self, *numbers: int) -> str:
        """Level Zero counts those that are there, in the order of the bus."""
        there = sorted(int(each.name[4:]) for each in (self.root / "class/drm").glob("card[0-9]"))
        return ",".join(str(there.index(number)) for number in numbers)


@pytest.fixture(params=[Amd, Intel])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Amd | Intel:
    made: Amd | Intel = request.param(tmp_path)
    return made


def test_devices_have_a_model_and_their_own_memory_and_a_process_is_shown_those_it_gets(
    tree: Amd | Intel,
) -> None:
    for number in range(3):
        tree.add(number, 64)
    devices = open_sysfs(tree.root)
    assert not devices.virtual
    assert devices.read() == tuple(Device(n, tree.model, 64 * 1024) for n in range(3))
    assert devices.visible((2, 0))[tree.variable] == tree.shown(2, 0)
    assert devices.notes() == ()
    with pytest.raises(KeyError):
        devices.visible((3,))


def test_one_that_falls_off_the_bus_stays_where_it_was_and_the_others_keep_their_index(
    tree: Amd | Intel,
) -> None:
    for number in range(3):
        tree.add(number, 64)
    devices = open_sysfs(tree.root)
    devices.read()
    tree.remove(0)
    tree.add(3, 64)
    assert [(d.index, d.healthy) for d in devices.read()] == [(0, False), (1, True), (2, True), (3, True)]
    assert devices.visible((1, 3))[tree.variable] == tree.shown(1, 3)
    assert devices.notes() == ("devices that are gone: 0",)


def test_what_shares_the_hosts_memory_isnt_given_out_and_that_is_told(tree: Amd | Intel) -> None:
    tree.add(0, 0)
    tree.add(1, 16)
    devices = open_sysfs(tree.root)
    assert [device.memory_mib for device in devices.read()] == [16 * 1024]
    (note,) = devices.notes()
    assert note.startswith(f"not given out, for want of memory of their own: {tree.vendor} ")
    tree.remove(1)
    (alone,) = open_sysfs(tree.root).notes()
    assert open_sysfs(tree.root).read() == ()
    assert alone == note


def test_nobody_shares_out_parts_of_them(tree: Amd | Intel) -> None:
    tree.add(0, 64)
    assert open_sysfs(tree.root).uuids() == {}


def test_a_program_without_devices_sees_none(tmp_path: Path) -> None:
    Amd(tmp_path / "amd").add(0, 64)
    Intel(tmp_path / "intel").add(0, 64)
    assert open_sysfs(tmp_path / "amd").visible(()) == {"ROCR_VISIBLE_DEVICES": "-1"}
    assert open_sysfs(tmp_path / "intel").visible(()) == {"ONEAPI_DEVICE_SELECTOR": "*:cpu"}


def test_partitions_of_a_device_are_devices_and_go_by_number_as_they_have_one_uuid(tmp_path: Path) -> None:
    tree = Amd(tmp_path)
    for number in range(4):
        tree.add(number, 48, unique=7)
    tree.add(4, 48, unique=0, product="")
    devices = open_sysfs(tmp_path)
    assert [device.model for device in devices.read()] == ["MI300X"] * 4 + ["gfx942"]
    assert devices.visible((1, 4)) == {"ROCR_VISIBLE_DEVICES": "1,4"}


def test_cards_of_intels_older_driver_say_their_memory_elsewhere_or_not_at_all(tmp_path: Path) -> None:
    tree = Intel(tmp_path)
    tree.add(0, 16, driver="i915")
    tree.write("class/drm/card0/lmem_total_bytes", str(16 * GIB))
    tree.add(1, 16, driver="i915")
    tree.add(2, 16, driver="vfio-pci")
    tree.add(3, 16, vendor="0x10de")
    devices = open_sysfs(tmp_path)
    assert [device.memory_mib for device in devices.read()] == [16 * 1024]
    (note,) = devices.notes()
    assert note.endswith("Intel 0000:4e:00.0")


@pytest.mark.parametrize(
    "text", ["", "simd_count", "simd_count many\nvendor_id 4098", "\0\xff", "simd_count 4\nvendor_id 4098"]
)
def test_nonsense_in_the_tree_is_no_device(text: str, tmp_path: Path) -> None:
    Tree(tmp_path).write("class/kfd/kfd/topology/nodes/1/properties", text)
    (tmp_path / "class/kfd/kfd/topology/nodes/1/mem_banks/0").mkdir(parents=True)
    assert open_sysfs(tmp_path).read() == ()


def test_a_machine_without_any() -> None:
    devices = open_sysfs(Path("/nowhere"))
    assert devices.read() == ()
    assert devices.notes() == ("no GPU of AMD or Intel: their drivers show none in /sys",)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("AMD Radeon PRO W7900", "W7900"),
        ("MI210", "MI210"),
        ("", ""),
        ("AMD", ""),
    ],
)
def test_short_models(name: str, model: str) -> None:
    assert short_amd(name) == model
