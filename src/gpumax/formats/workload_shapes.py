"""The fields of a workload file; what they refer to is checked in workload.py."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gpumax.formats.affinity import AFFINITY
from gpumax.formats.nodes import LABELS
from gpumax.formats.not_yet import NotYet
from gpumax.formats.parsed import Written
from gpumax.formats.queues import QUEUE_FIELDS, make_queue
from gpumax.formats.requests import LIMIT, REQUEST_FIELDS, SLICES, clashes, make_request
from gpumax.formats.scalars import LABEL_NAME, NAME, Amount, Choice, Duration, Flag, Text, Whole
from gpumax.formats.shape import (
    Bad,
    ByType,
    Field,
    Map,
    Object,
    Rows,
    Schema,
    Shape,
    Then,
    Wrong,
    show,
    wrong,
)
from gpumax.formats.snapshot_shapes import MOST_TASKS, PREEMPTIBLE, WORKLOAD_PRIORITY, Row
from gpumax.formats.topology import TOPOLOGY
from gpumax.model.spec import Checkpoint
from gpumax.model.workload import Request

KINDS: Final = ("training", "sweep", "workspace", "inference")
RUNS: Final = ("training",)
"""The kinds that this version runs."""

MOST_ARGUMENT_BYTES: Final = (128 << 10) - 1
"""Linux takes no longer argument or environment variable."""


class _Word:
    """Text that becomes an argument or a variable; a number stands for its digits as they were written."""

    def read(self, value: object) -> str:
        """The text."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value.text if isinstance(value, Written) else repr(value)
        if not isinstance(value, str):
            quoted = f'"{show(value)}"' if isinstance(value, bool) else '""'
            raise wrong(value, f"text; write {quoted}, with quotes, if that is meant")
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > MOST_ARGUMENT_BYTES:
            raise Bad(
                [Wrong((), f"{size:,} bytes", f"at most {MOST_ARGUMENT_BYTES:,}, which is what Linux takes")]
            )
        if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
            raise wrong(value, "text without NUL characters and lone surrogates")
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """Text or a number."""
        return {"anyOf": [{"type": "string", "maxLength": MOST_ARGUMENT_BYTES}, {"type": "number"}]}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise wrong(text, "a command")
    return text


_VARIABLE: Final = Text(
    r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable: letters, digits and `_`, no digit first"
)
OURS: Final = frozenset((
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK",
    "CUDA_VISIBLE_DEVICES", "GPUMAX_WORKLOAD", "GPUMAX_TASK", "GPUMAX_RUN", "GPUMAX_RESTARTS",
    "GPUMAX_CHECKPOINT_DIR", "GPUMAX_GANG_FILE",
))  # fmt: skip
"""Variables that gpumax gives every task; one that a person writes would be lost."""


def _not_ours(name: str) -> str:
    if name in OURS:
        raise wrong(name, "another name: every task gets this one from gpumax")
    return name


_OWN_VARIABLE: Final = Then(_VARIABLE, _not_ours)
ENV: Final = Map(_OWN_VARIABLE, _Word())


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Bad([Wrong((), f"{twice} twice", "each name once")])
    return names


def _argv(words: tuple[str, ...]) -> tuple[str, ...]:
    _not_blank(words[0])
    return words


_RUN: Final = ByType[str | tuple[str, ...]](
    "a shell line, or a list of words",
    text=Then(_Word(), _not_blank),
    list=Then(Rows(_Word(), least=1, most=10_000), _argv),
)


def _range(min: int, max: int) -> tuple[int, int]:
    if min > max:
        raise wrong(f"min {min}, max {max}", "a min that is not above max")
    return (min, max)


def _exactly(count: int) -> tuple[int, int]:
    return (count, count)


_COUNT: Final = Whole(1, MOST_TASKS)
_TASKS: Final[Shape[tuple[int, int]]] = ByType(
    "a number of tasks, or {min: 2, max: 8}",
    number=Then(_COUNT, _exactly),
    object=Object(
        "ElasticTasks",
        {
            "min": Field(_COUNT, "How many start together.", required=True),
            "max": Field(_COUNT, "How many there are at most.", required=True),
        },
        _range,
    ),
)


class Resources(NamedTuple):
    """What a group's tasks ask for, and what only real work has."""

    request: Request
    shm_mib: int = 0
    swap: bool = False
    strict: bool = False


def _resources(shm_mib: int = 0, swap: bool = False, mode: str = "fair", **fields: Any) -> Resources:
    request = make_request(**fields)
    if mode != "fair" and not request.gpu:
        raise Bad([Wrong(("mode",), mode, "gpu or gpu_memory beside it")])
    if swap and not request.gpu:
        raise Bad([Wrong(("swap",), "true", "gpu or gpu_memory beside it")])
    if request.limit is not None and not swap:
        wanted = "`swap: true` beside it: only memory that can be moved away may be borrowed"
        raise Bad([Wrong(("limit",), "a limit above what is asked for", wanted)])
    return Resources(request, shm_mib, swap, mode == "strict")


_RESOURCES: Final = Object(
    "Resources",
    {
        **REQUEST_FIELDS,
        "limit": Field(LIMIT, "With swap: up to what its memory may grow, where others leave it."),
        "swap": Field(
            Flag(),
            "Its memory may be moved to host memory while others have their turn.",
        ),
        "mode": Field(
            Choice(("fair", "strict")),
            "Of a part's time. fair: what others leave idle is its, too; strict: exactly its share. Unset: fair.",
        ),
        "slices": Field(NotYet("slices", SLICES), "Hardware slices by profile.", keep=False),
        "shm": Field(
            Amount("memory", "up"),
            "Shared memory (/dev/shm) on Kubernetes; on one machine tasks share the machine's own.",
            to="shm_mib",
        ),
    },
    _resources,
    "What one task asks for.",
    clashes,
)


def _checkpoint(path: str = "", every_ms: int | None = None) -> Checkpoint:
    return Checkpoint(path, every_ms)


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise wrong(path, "a path without `..`")
    return path


_PATH: Final = Text(r"[^\x00-\x1f\x7f\ud800-\udfff]+", "a path", most=4096)
_CHECKPOINT: Final = Object(
    "Checkpoint",
    {
        "path": Field(Then(_PATH, _inside), "Where the program keeps what it needs to go on."),
        "every": Field(
            Duration(least_ms=1),
            "How often it writes that, for people to know: what an eviction costs is counted from the last write that is seen.",
            to="every_ms",
        ),
    },
    _checkpoint,
)


def _home(path: str) -> str:
    if path.startswith("~"):
        raise wrong(path, "a path that is written out; ~ means something to a shell only")
    return path


def _retries(max: int = 0) -> int:
    return max


_SHARED: Final[dict[str, Field]] = {
    "tasks": Field(_TASKS, "How many; {min, max}: elastic, told to the program when it changes; unset: 1."),
    "resources": Field(_RESOURCES, "What one task asks for."),
    "run": Field(_RUN, "A shell line, or a list (exec form, no shell)."),
    "env": Field(ENV, "Environment variables."),
    "labels": Field(LABELS, "What affinity between tasks selects."),
    "affinity": Field(AFFINITY, "Which nodes, and near or away from which tasks."),
}
_GROUP: Final[Object[Row]] = Object(
    "TaskGroup",
    {
        "name": Field(LABEL_NAME, "Unique in the workload.", required=True),
        **_SHARED,
        "topology": Field(NotYet("topology", TOPOLOGY), "Where its tasks stand together.", keep=False),
    },
    dict,
    about="Tasks that are alike. What it leaves unset is the workload's.",
)

FILE_WORKLOAD: Final[Object[Row]] = Object(
    "WorkloadFile",
    {
        "version": Field(Choice(("gpumax/v1",)), "The version of the format.", keep=False),
        "name": Field(LABEL_NAME, "Unset: made from the file's or command's name."),
        "kind": Field(Choice(KINDS), "training (unset), sweep, workspace or inference.", keep=False),
        "project": Field(NAME, "The leaf queue that it counts against; unset: the caller's default."),
        "priority": Field(WORKLOAD_PRIORITY, "A class name or a number; unset: normal (50)."),
        "preemptible": PREEMPTIBLE,
        **_SHARED,
        "workdir": Field(Then(_PATH, _home), "Where it runs; unset: where it was submitted."),
        "image": Field(
            Text(r"[!-~]+", "the name of an image", most=512), "Container image; Kubernetes only."
        ),
        "secrets": Field(
            Then(Rows(_OWN_VARIABLE, most=100), _different), "Names of secrets; they become variables."
        ),
        "setup": Field(_Word(), "A shell line before `run`, in every task."),
        "max_duration": Field(
            Duration(least_ms=1),
            "After which a run ends for good; every run after an eviction or a failure has all of it again.",
            to="max_duration_ms",
        ),
        "grace": Field(Duration(), "Between SIGTERM and SIGKILL; unset: 30s.", to="grace_ms"),
        "retries": Field(
            Object("Retries", {"max": Field(Whole(0, 1000), "How many times.", required=True)}, _retries),
            "After a failure of its own, with a pause that doubles from 1s to 60s; evictions never count.",
        ),
        "checkpoint": Field(_CHECKPOINT, "What survives an eviction."),
        "topology": Field(NotYet("topology", TOPOLOGY), "Where the whole gang stands together.", keep=False),
        "groups": Field(Rows(_GROUP, least=1, most=1000), "Where not all tasks are alike."),
    },
    dict,
    about="What a person submits.",
)


FILE_QUEUE: Final = Object(
    "QueueFile",
    {
        "version": Field(Choice(("gpumax/v1",)), "The version of the format.", keep=False),
        "kind": Field(Choice(("queue",)), "queue.", keep=False),
        **QUEUE_FIELDS,
        "name": Field(LABEL_NAME, "Unique among queues.", required=True),
    },
    make_queue,
    about="A node of the quota tree. Work goes to leaves only.",
)
