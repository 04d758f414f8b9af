"""The scenario document: a study over time. Its tables are read elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from gpumax.formats.options import POLICY
from gpumax.formats.scalars import Choice, Decimal, Duration, Text, Whole
from gpumax.formats.scenario_shapes import NODES, QUEUES, SIZES, WORK, unknown
from gpumax.formats.shape import Bad, Field, Object, Rows, Then, Wrong, show
from gpumax.formats.snapshot import VERSION
from gpumax.model.study import Failures, Saving
from gpumax.units import MILLI

POLICIES: Final[dict[str, tuple[str, ...]]] = {
    "replay": (
        "static-fifo", "static-backfill", "hard-quota", "kubernetes-default", "gpumax", "gpumax-fractions",
    ),
    "inflate": ("fgd", "bestfit", "dotprod", "packing", "clustering", "random", "bestfit-whole", "gpumax", "gpumax-pack"),
}  # fmt: skip
"""The policies of each protocol, in the order of reports."""

_ALL: Final = tuple(dict.fromkeys(name for names in POLICIES.values() for name in names))

OPENB_SIZES: Final = {
    50: 7, 110: 24, 140: 1, 160: 74, 220: 62, 230: 140, 270: 4, 290: 1, 320: 328, 330: 7, 350: 6, 370: 47, 440: 2, 460: 128,
    470: 750, 480: 19, 550: 72, 590: 75, 650: 253, 810: 1078, 1000: 3911,
}  # fmt: skip
"""What workloads of one GPU really ask for: thousandths of a device by how many of the 6,989 one-GPU pods of openb's default list."""

MOST_SEEDS: Final = 1000
MOST_ARRIVED: Final = 10 * MILLI
"""Of what comes to a cluster that is full long since, nothing is learned."""
_SEED: Final = Whole(0, (1 << 32) - 1)


def _distinct(words: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [index for index, word in enumerate(words) if word in words[:index]]
    if twice:
        raise Bad([Wrong((index,), f"{show(words[index])} twice", "each once") for index in twice])
    return words


def _clash(fields: Mapping[str, Any], unread: Collection[str]) -> Iterable[Wrong]:
    protocol = fields.get("protocol", "replay")
    known, which = (_ALL, "") if "protocol" in unread else (POLICIES[protocol], f" (those of {protocol})")
    found = [
        wrong._replace(path=("policies", *wrong.path), wanted=wrong.wanted + which)
        for wrong in unknown(fields.get("policies", ()), known)
    ]
    if protocol == "inflate":
        timely = (("queues", "queues"), ("failures", "failures"), ("window", "window_ms"))
        unused = [name for name, key in timely if key in fields]
        found += [
            Wrong((name,), f"{name} for inflate", "nothing: inflate knows no tenants and no time")
            for name in unused
        ]
    return found


def _checked(**fields: Any) -> dict[str, Any]:
    if wrongs := list(_clash(fields, ())):
        raise Bad(wrongs, sound=fields)
    return fields


_LENGTH: Final = Duration(least_ms=1)


class _Policy(Choice):
    """The name of a policy; whether there is one is seen beside the protocol."""

    def read(self, value: object) -> str:
        """The name."""
        return value if isinstance(value, str) else super().read(value)


_FAILURES: Final = Object(
    "Failures",
    {
        "node_mtbf": Field(_LENGTH, "From the beginning of a node's service to its failure, on average.", to="node_mtbf_ms", required=True),
        "node_mttr": Field(_LENGTH, "From its failure to the end of its repair, on average.", to="node_mttr_ms", required=True),
    },
    Failures,
    about="Nodes that fail and come back; times are exponential and follow from the seed.",
)  # fmt: skip
_CHECKPOINT: Final = Object(
    "StudyCheckpoint",
    {
        "every": Field(_LENGTH, "Work since the last checkpoint is lost with an eviction; unset: 30m.", to="every_ms"),
        "restart": Field(Duration(), "What coming back costs, on the GPUs; unset: 60s.", to="restart_ms"),
    },
    Saving,
    about="What an eviction costs.",
)  # fmt: skip

SCENARIO: Final[Object[dict[str, Any]]] = Object(
    "Scenario",
    {
        "version": Field(Choice((VERSION,)), "The version of the format.", keep=False),
        "name": Field(Text(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", "a name of letters, digits, spaces, `.`, `_` and `-`", most=100), "Of the study; unset: that of the file."),
        "protocol": Field(
            Choice(tuple(POLICIES)), "replay (unset): work comes and goes in its time; inflate: it comes, one attempt each, and nobody leaves."
        ),
        "nodes": Field(NODES, "The cluster: a list, or a table.", required=True),
        "queues": Field(QUEUES, "The tenants: a list as in a snapshot, or a table. Unset: those of the trace, with equal parts of all GPUs."),
        "arrivals": Field(WORK, "The work.", required=True),
        "failures": Field(_FAILURES, "Unset: nodes never fail."),
        "policies": Field(Then(Rows(_Policy(_ALL), least=1), _distinct), "What is compared; unset: all that the protocol knows."),
        "checkpoint": Field(_CHECKPOINT, "What an eviction costs."),
        "window": Field(_LENGTH, "Over which use is measured, from the first arrival; unset: to the last arrival.", to="window_ms"),
        "seeds": Field(Then(Rows(_SEED, least=1, most=MOST_SEEDS), _distinct), "One run each; unset: 42."),
        "arrived": Field(Decimal(MILLI, least=1, most=MOST_ARRIVED), "inflate: until so much of the GPU capacity was asked for; unset: 1.3."),
        "start": Field(Duration(), "Between the placing of a task and the beginning of its work; unset: 0s.", to="start_ms"),
        "grace": Field(Duration(), "Between an eviction and the moment at which the room is free; unset: 0s.", to="grace_ms"),
        "fractions": Field(
            SIZES,
            'For gpumax-fractions: what workloads of one GPU really need, as parts of a device by how often, like {"0.5": 3, "1": 1}. '
            "Unset: as in the default list of Alibaba's openb trace, where 44 in 100 ask for a part.",
            to="sizes",
        ),
        "policy": Field(POLICY, "Options of gpumax's own policy, as in a snapshot."),
    },
    _checked,
    about="A study over time.",
    clash=_clash,
)  # fmt: skip
