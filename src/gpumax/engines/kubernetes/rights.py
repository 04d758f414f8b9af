"""The rights that the scheduler needs, each with what it is for: no verb that the code doesn't use. The chart's roles grant just these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gpumax.engines.kubernetes.claims import CLAIMS
from gpumax.engines.kubernetes.grouping.kinds import KINDS, PASSED
from gpumax.engines.kubernetes.kinds import ALWAYS, GANGS, OFTEN, QUEUES
from gpumax.engines.kubernetes.lease import LEASES
from gpumax.engines.kubernetes.work.views import EVENTS


class Right(NamedTuple):
    """Verbs on one resource (`pods/binding`: on a part of one), and what can't be done without them."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    purpose: str


def _watched() -> Iterator[Right]:
    for kind in ALWAYS:
        yield Right(kind.group, kind.plural, ("list", "watch"), "what there is, is not known")
    for group, plural in dict.fromkeys((kind.group, kind.plural) for kind in OFTEN):
        yield Right(
            group, plural, ("list", "watch"), "queues, gangs and topologies of this kind are not known"
        )


def _owners() -> Iterator[Right]:
    """Plurals of all kinds that we know are regular."""
    for group, kind in (*KINDS, *sorted(PASSED)):
        if (group, kind) != ("", "Pod"):
            verbs = ("get", "list", "watch")
            yield Right(group, f"{kind.lower()}s", verbs, f"pods of a {kind} start one by one, not as a gang")


WATCHED: Final = tuple(_watched())
OWNERS: Final = tuple(_owners())
WRITES: Final = (
    Right("", "pods", ("get",), "owners that are pods, and binds that nobody answered, are not understood"),
    Right("", "pods/binding", ("create",), "nothing starts"),
    Right("", "pods/eviction", ("create",), "no queue takes back what it is due"),
    Right("", "pods/status", ("patch",), "nobody is told why a pod waits"),
    Right("events.k8s.io", "events", ("create",), "nobody is told why a pod waits by an event"),
)
TELLING: Final = (
    Right(QUEUES.group, f"{QUEUES.plural}/status", ("patch",), "queues don't show what they hold"),
    Right(GANGS.group, f"{GANGS.plural}/status", ("patch",), "gangs don't show how far they are"),
)
CLAIMING: Final = (
    Right(CLAIMS.group, CLAIMS.plural, ("create", "get"), "no part of a GPU is given"),
    Right(CLAIMS.group, f"{CLAIMS.plural}/status", ("patch",), "no part of a GPU is given"),
    # No request asks for this part: newer clusters look at it when the status says what was allocated.
    Right(CLAIMS.group, f"{CLAIMS.plural}/binding", ("patch",), "no part of a GPU is given"),
)
BIND: Final = WRITES[1]
"""Who lacks this is no scheduler."""
SUBMITTING: Final = (
    Right(
        "batch",
        "jobs",
        ("create", "delete", "get", "list", "patch"),
        "`run`, `apply`, `ps`, `stop` and `delete` don't work",
    ),
    Right("", "pods", ("list",), "nothing is known of tasks"),
    Right("", "services", ("create",), "tasks don't find each other"),
)
"""What a tenant needs in a namespace to submit work and look at it. The role `edit` has it."""
COMFORTS: Final = (
    Right("", "secrets", ("create",), "no files can be brought along (`workdir`)"),
    Right(GANGS.group, GANGS.plural, ("create",), "workloads whose groups differ can't be submitted"),
    Right("", "pods/log", ("get",), "`logs` shows nothing"),
    Right("", "pods/exec", ("create",), "`exec` runs nothing"),
    Right(EVENTS.group, EVENTS.plural, ("list",), "`why` and `events` don't tell who made way"),
)
"""What some of it needs, or is better with."""
VIEW: Final = "gpumax-board-view"
"""The chart's role for people who are to see the whole cluster."""
SEEN: Final = tuple(
    Right(
        right.group,
        right.resource,
        tuple(verb for verb in right.verbs if verb != "watch"),
        "the board isn't whole",
    )
    for right in (*WATCHED, *OWNERS, WRITES[0])
)
"""What `board`, `nodes`, `gpu list` and `why` ask for, of who looks."""
FIRST_QUEUE: Final = Right(QUEUES.group, QUEUES.plural, ("create",), "a new cluster has no queue")
"""Only where it is to make the first queue."""
CALLERS: Final = (
    Right("authentication.k8s.io", "tokenreviews", ("create",), "nobody may read the metrics"),
    Right("authorization.k8s.io", "subjectaccessreviews", ("create",), "nobody may read the metrics"),
)
"""Where it listens to others than this machine: to ask who they are."""
LEASE: Final = Right(
    LEASES.group, LEASES.plural, ("create", "get", "patch"), "replicas can't agree who schedules"
)
"""In the namespace of the lease alone."""
RIGHTS: Final = (*WATCHED, *OWNERS, *WRITES, *TELLING, *CLAIMING, *CALLERS)
