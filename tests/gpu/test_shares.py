"""What tasks ask for of a node's devices, as groups of its broker."""

from __future__ import annotations

from gpumax.apps.gpu.shares import groups
from gpumax.broker.control import Group
from gpumax.devices.uuids import Sharable
from gpumax.model.workload import DeviceLimit, DeviceShare
from gpumax.ports.engine import Launch, Part

GIB = 1 << 30
DEVICES = {
    i: Sharable(i, f"GPU-0000000{i}-0000-0000-0000-000000000000", 10 * GIB, 10 * GIB, "A100")
    for i in range(2)
}


def task(attempt: str, *shares: tuple[int, int], workload: str = "w", part: Part | None = None) -> Launch:
    """A task; shares: of which device how many thousandths."""
    held = tuple(DeviceShare(index, milli) for index, milli in shares)
    env = {"GPUMAX_WORKLOAD": workload}
    return Launch(attempt, "t", workload, "n1", held, ("x",), "/", "/log", env, gpu=part or Part())


def made(*launches: Launch) -> list[Group]:
    return [group for group, _ in groups(launches, DEVICES)]


def test_half_a_device_is_half_of_its_time_and_memory() -> None:
    (group,) = made(task("1", (0, 500)))

    assert (group.devices, group.share, group.guaranteed, group.limit) == (
        (DEVICES[0].uuid,),
        0.5,
        5 * GIB,
        5 * GIB,
    )
    assert group.name.startswith("w-")


def test_tasks_of_one_workload_that_start_together_are_one_group() -> None:
    (both,) = made(task("1", (0, 500)), task("2", (1, 500)))
    (same,) = made(task("1", (0, 250)), task("2", (0, 250)))

    assert (both.devices, both.share, both.guaranteed) == ((DEVICES[0].uuid, DEVICES[1].uuid), 0.5, 5 * GIB)
    assert (same.devices, same.share, same.guaranteed) == ((DEVICES[0].uuid,), 0.5, 5 * GIB)


def test_tasks_that_ask_differently_of_their_devices_are_groups_of_their_own() -> None:
    found = made(task("1", (0, 500)), task("2", (1, 250)))

    assert sorted(each.share for each in found) == [0.25, 0.5]


def test_workloads_are_groups_of_their_own() -> None:
    found = made(task("1", (0, 500), workload="a"), task("2", (0, 500), workload="b"))

    assert [each.name[:2] for each in found] == ["a-", "b-"]


def test_memory_and_limit_are_as_they_were_asked_for() -> None:
    part = Part(4 * 1024, DeviceLimit(0, 8 * 1024), swap=True)
    (group,) = made(task("1", (0, 400), part=part))

    assert (group.guaranteed, group.limit, group.swap) == (4 * GIB, 8 * GIB, True)


def test_strict_shares_are_strict_and_tasks_that_arent_are_no_group_with_them() -> None:
    strict = task("1", (0, 400), part=Part(strict=True))
    found = made(strict, task("2", (1, 400)))

    assert sorted(each.mode for each in found) == ["fair", "strict"]


def test_a_limit_is_never_above_the_device() -> None:
    (group,) = made(task("1", (0, 400), part=Part(0, DeviceLimit(0, 80 * 1024), swap=True)))

    assert group.limit == 10 * GIB


def test_what_the_driver_takes_is_taken_of_all_parts_alike() -> None:
    """Two tasks of half of its memory each fit, though less of it can be given out."""
    device = Sharable(0, DEVICES[0].uuid, 8 * GIB, 10 * GIB, "A100")
    ((group, _),) = groups([task("1", (0, 500), part=Part(5 * 1024))], {0: device})

    assert group.guaranteed == 4 * GIB


def test_names_hold_nothing_that_a_file_cant_and_are_short() -> None:
    (group,) = made(task("1", (0, 500), workload=".ä/b" + "x" * 100))

    assert group.name.isascii()
    assert group.name[0].isalnum()
    assert len(group.name) <= 33
