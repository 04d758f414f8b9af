"""A file that is applied again: what is there already just as it says stays as it is, and what is there otherwise is a conflict. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpumax.errors import Conflict
from gpumax.formats.workload import dump_spec
from gpumax.model.records import WorkloadRecord
from gpumax.model.spec import WorkloadSpec


def again(
    specs: Sequence[WorkloadSpec],
    find: Callable[[str], WorkloadRecord | None],
    more: Callable[[WorkloadSpec], Sequence[str]] = lambda _spec: (),
) -> frozenset[str]:
    """Names of workloads that are there already just as they are wanted. Conflict for all others whose names are taken.

    more: what of a workload that is there differs beside what its file says.
    """
    same, lines = [], []
    for spec in specs:
        record = find(spec.name)
        if record is None:
            continue
        fields = [*_changed(record.spec, spec), *more(spec)]
        if record.wish == "delete":
            lines.append(f"{spec.name}: is being deleted; apply it again when it is gone")
        elif fields:
            lines.append(
                f"{spec.name}: a workload of this name exists ({record.state}), and {', '.join(fields)} of it can't change; "
                "delete it, or choose another name"
            )
        else:
            same.append(spec.name)
    if lines:
        raise Conflict("\n".join(lines))
    return frozenset(same)


def _changed(was: WorkloadSpec, now: WorkloadSpec) -> list[str]:
    """Fields that are others than those of the workload that is there."""
    before, after = dump_spec(was), dump_spec(now)
    return [key for key in {**after, **before} if before.get(key) != after.get(key)]
