"""Workload files say near and away from whom; the loop keeps to it."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from gpumax.model.workload import Affinity
from loop.kit import Rig, machine, spec
from neighbours import apart, near, term


def rig(data: Path) -> Rig:
    """Two hosts."""
    nodes = [replace(machine(name), labels={"host": name}) for name in ("n1", "n2")]
    return Rig(data, nodes)


def nodes(rig: Rig, name: str) -> list[str | None]:
    """Where a workload's tasks are."""
    return [task.node for task in rig.tasks(name)]


def test_tasks_of_a_workload_go_where_its_file_says(tmp_path: Path) -> None:
    """Away from its own kind on every host; what comes later goes near it, by the labels of workload and group."""
    loop = rig(tmp_path)
    web = spec("web", "a", tasks=2)
    (group,) = web.groups
    alone = replace(group, affinity=apart(term(app="web")))
    loop.submit(replace(web, labels={"app": "web"}, groups=(alone,)))
    loop.settle()
    assert nodes(loop, "web") == ["n1", "n2"]
    third = spec("third", "a")
    loop.submit(replace(third, groups=(replace(third.groups[0], labels={"app": "web"}),)))
    loop.settle()
    assert loop.states("third") == ["pending"], "what runs keeps it away, though it asks for nothing"


def test_work_waits_until_whom_it_needs_is_there(tmp_path: Path) -> None:
    """Submitted first, started second, on the same host."""
    loop = rig(tmp_path)

    def submit(name: str, affinity: Affinity | None) -> None:
        work = spec(name, "a")
        loop.submit(replace(work, labels={"app": name}, groups=(replace(work.groups[0], affinity=affinity),)))

    submit("api", near(term(app="db")))
    loop.settle()
    assert loop.states("api") == ["pending"]
    submit("db", None)
    loop.settle()
    assert loop.states("api") == loop.states("db") == ["running"]
    assert nodes(loop, "api") == nodes(loop, "db")
