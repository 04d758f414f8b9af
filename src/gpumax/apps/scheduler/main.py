"""Where the adapters meet: one process that steers a cluster of Kubernetes, from inside it or from anywhere else."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, NamedTuple

from gpumax.apps.kubernetes.refusals import plainly
from gpumax.apps.scheduler.health import Health
from gpumax.apps.scheduler.install import check, first_queue, install
from gpumax.apps.scheduler.logs import Format, JsonLines, log_to_stderr
from gpumax.apps.scheduler.trial import Output, Supposed, Trial, suppose
from gpumax.apps.server.doors import read_address
from gpumax.engines.kubernetes.assembly import SCHEDULER
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.choose import access
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.lease import Always, Candidate, Fence
from gpumax.engines.kubernetes.trial import TrialCluster
from gpumax.errors import Refused
from gpumax.loop.beside import Beside
from gpumax.loop.journal import FileJournal
from gpumax.loop.steer import Steering
from gpumax.policy.decide import decide
from gpumax.ports.clock import SystemClock

if TYPE_CHECKING:
    from gpumax.apps.scheduler.metrics import Metrics

LOOK_S: Final = 1.0
END_S: Final = 10.0
TURN_S: Final = 0.001
"""How long a thread works at most while another wants to."""
GARBAGE: Final = (50_000, 20, 50)
"""After so many new objects garbage is looked for; what is made here refers to itself hardly ever, and there is much of it."""
_log: Final = logging.getLogger("gpumax.scheduler")


class Wishes(NamedTuple):
    """How to steer.

    context: the cluster; see `access`. scheduler: of which pods. lease: NAMESPACE/NAME of the lease by which replicas agree who steers;
    empty: we steer alone. dry: decide, write nothing to the cluster, and say what differs from what is done there. add: our kinds of objects
    first. queue: a first queue, where there is none. require_use: pods go only to queues that their service account may use. listen:
    HOST:PORT, where we say how we are; empty: nowhere. log_format: text or json. output: how a dry run says what differs. suppose: a file
    with the policy and the queues of a dry run.
    """

    context: str = ""
    scheduler: str = SCHEDULER
    lease: str = ""
    dry: bool = False
    add: bool = False
    queue: bool = False
    require_use: bool = False
    listen: str = ""
    log_format: Format = "text"
    output: Output = "text"
    suppose: Path | None = None


def steer(data: Path, wishes: Wishes) -> None:
    """Steer until SIGTERM or SIGINT; pods run on."""
    lines = log_to_stderr(wishes.log_format)
    found = access(wishes.context)
    space, _, name = wishes.lease.partition("/")
    if wishes.lease and not (space and name):
        raise Refused(f"found lease {wishes.lease!r}; wanted NAMESPACE/NAME")
    if wishes.listen:
        read_address(wishes.listen)
    supposed = suppose(wishes.suppose) if wishes.suppose is not None else Supposed()
    with plainly(f"cluster {found.name}"):
        _ready(found, wishes)
    over, looked = Event(), False

    def end(*_: object) -> None:
        over.set()
        if not looked:
            raise KeyboardInterrupt  # nothing has begun; what can't be listed may be waited for for minutes

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        cluster, steering, thread = _parts(stack, data, found, wishes, supposed)
        if isinstance(lines, JsonLines):
            lines.cycle = lambda: steering.status["cycles"]
        for note in cluster.notes():
            _log.warning("%s", note)
        _log.info("cluster %s (%s): looking at what is there", found.name, found.server)
        cluster.start()
        _calm()
        looked = True
        if wishes.lease and not wishes.dry:
            identity = f"{socket.gethostname()[:63]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            cluster.stand(space, name, Candidate(identity))
        elif not wishes.dry:
            cluster.look_out()
        thread.start()
        stack.callback(thread.join, END_S)
        stack.callback(steering.stop)
        how, but = ("decides about", ", and writes nothing") if wishes.dry else ("steers", "")
        if wishes.lease and not wishes.dry:
            but = f" while it holds the lease {wishes.lease}"
        _log.info(
            "gpumax %s pods whose schedulerName is %s%s; Ctrl-C ends it, pods run on",
            how,
            wishes.scheduler,
            but,
        )
        _follow(steering, over)


def _ready(found: Access, wishes: Wishes) -> None:
    """What has to be there, added where that is wished."""
    for line in asyncio.run(install(found, require_use=wishes.require_use)) if wishes.add else ():
        _log.info("%s", line)
    asyncio.run(check(found))
    for line in asyncio.run(first_queue(found)) if wishes.queue else ():
        _log.info("%s", line)


def _calm() -> None:
    """Neither of the two threads holds the other up: what is there at the start is not searched for garbage again, and turns are short."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(TURN_S)


def _parts(
    stack: ExitStack, data: Path, found: Access, wishes: Wishes, supposed: Supposed
) -> tuple[KubernetesCluster, Steering, Thread]:
    """The cluster, its loop and the loop's thread, none of which has begun; and who hears of them, and answers for them, from now on."""
    metrics = _metrics() if wishes.listen else None
    loops: list[Steering] = []
    make = TrialCluster if wishes.dry else KubernetesCluster
    cluster = make(
        found,
        lambda: [loop.wake() for loop in loops],
        scheduler=wishes.scheduler,
        fence=Fence() if wishes.lease and not wishes.dry else Always(),
        timed=metrics.asked if metrics else None,
        require_use=wishes.require_use,
    )
    stack.callback(cluster.close)
    journal = FileJournal(
        data / "clusters" / found.name.replace("/", "_") / ("trial" if wishes.dry else "journal")
    )
    stack.callback(journal.close)
    hearers = [metrics.cycle] if metrics else []
    if isinstance(cluster, TrialCluster):
        cluster.queues = supposed.queues
        trial = Trial(Beside(decide, cluster.told_to_go), wishes.output)
        stack.callback(trial.end)
        hearers.append(trial.hear)
    steering = Steering(cluster, journal, SystemClock(), supposed.policy, dry=wishes.dry, hearers=hearers)
    loops.append(steering)
    thread = Thread(target=steering.run, name="gpumax-loop", daemon=True)
    if metrics is not None:
        metrics.watch(cluster, steering)
        health = Health(cluster, steering, thread)
        _listen(stack, wishes.listen, health, metrics, found)
    return cluster, steering, thread


def _metrics() -> Metrics:
    # Late: who doesn't listen needs no Prometheus.
    from gpumax.apps.scheduler.metrics import Metrics

    return Metrics()


def _listen(stack: ExitStack, address: str, health: Health, metrics: Metrics, found: Access) -> None:
    from gpumax.apps.scheduler.listen import Site, listening

    stack.enter_context(listening(address, Site(health.live, health.ready, metrics.text, found)))


def _follow(steering: Steering, over: Event) -> None:
    """Say in a line what each decision came to, where that is something else than before."""
    last = ""
    while not over.wait(LOOK_S):
        seen = steering.last
        if seen is None:
            continue
        decision = seen.decision
        now = sum(not place.after for place in decision.places)
        words = f"{now} placed, {len(decision.evictions)} evicted, {len(decision.holds)} waiting"
        if words != last:
            _log.info("%s", words)
        last = words
