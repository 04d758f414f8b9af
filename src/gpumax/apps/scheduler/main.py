"""Where the adapters meet: one process that steers a cluster of Kubernetes, from inside it or from anywhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Final, NamedTuple

from gpumax.apps.scheduler.health import Health
from gpumax.apps.scheduler.install import check, first_queue, install
from gpumax.apps.scheduler.logs import Format, log_to_stderr
from gpumax.apps.server.doors import read_address
from gpumax.engines.kubernetes.assembly import SCHEDULER
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.incluster import from_pod, is_inside
from gpumax.engines.kubernetes.client.kubeconfig import access_from, files_of
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.lease import Always, Candidate, Fence
from gpumax.errors import Refused
from gpumax.loop.journal import FileJournal
from gpumax.loop.steer import Steering
from gpumax.ports.clock import SystemClock

LOOK_S: Final = 1.0
END_S: Final = 10.0
_log: Final = logging.getLogger("gpumax.scheduler")


class Wishes(NamedTuple):
    """How to steer.

    context: the cluster; see `access`. scheduler: of which pods. lease: NAMESPACE/NAME of the lease by which replicas agree who steers;
    empty: we steer alone. dry: decide, and write nothing to the cluster. add: our kinds of objects first. queue: a first queue, where
    there is none. require_use: pods go only to queues that their service account may use. listen: HOST:PORT, where we say how we are;
    empty: nowhere. log_format: text or json.
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


def access(context: str = "") -> Access:
    """The cluster of a context; of the pod that we are in where none is named; else of the current context."""
    if not context and is_inside():
        return from_pod()
    return access_from(files_of(), context)


def steer(data: Path, wishes: Wishes) -> None:
    """Steer until SIGTERM or SIGINT; pods run on."""
    log_to_stderr(wishes.log_format)
    found = access(wishes.context)
    space, _, name = wishes.lease.partition("/")
    if wishes.lease and not (space and name):
        raise Refused(f"found lease {wishes.lease!r}; wanted NAMESPACE/NAME")
    if wishes.listen:
        read_address(wishes.listen)
    for line in asyncio.run(install(found, require_use=wishes.require_use)) if wishes.add else ():
        _log.info("%s", line)
    asyncio.run(check(found))
    for line in asyncio.run(first_queue(found)) if wishes.queue else ():
        _log.info("%s", line)
    over = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with ExitStack() as stack:
        cluster, steering, thread = _parts(stack, data, found, wishes)
        for note in cluster.notes():
            _log.warning("%s", note)
        _log.info("cluster %s (%s): looking at what is there", found.name, found.server)
        cluster.start()
        if wishes.lease and not wishes.dry:
            identity = f"{socket.gethostname()[:63]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            cluster.stand(space, name, Candidate(identity))
        thread.start()
        stack.callback(thread.join, END_S)
        stack.callback(steering.stop)
        how = "decides, and writes nothing" if wishes.dry else "steers"
        _log.info(
            "gpumax %s pods whose schedulerName is %s; Ctrl-C ends it, pods run on", how, wishes.scheduler
        )
        _follow(steering, over)


def _parts(
    stack: ExitStack, data: Path, found: Access, wishes: Wishes
) -> tuple[KubernetesCluster, Steering, Thread]:
    """The cluster, its loop and the loop's thread, none of which has begun; and who answers for them, from now on."""
    metrics = None
    if wishes.listen:
        from gpumax.apps.scheduler.metrics import Metrics

        metrics = Metrics()
    loops: list[Steering] = []
    cluster = KubernetesCluster(
        found,
        lambda: [loop.wake() for loop in loops],
        scheduler=wishes.scheduler,
        fence=Fence() if wishes.lease and not wishes.dry else Always(),
        timed=metrics.asked if metrics else None,
        require_use=wishes.require_use,
    )
    stack.callback(cluster.close)
    journal = FileJournal(data / "clusters" / found.name.replace("/", "_") / "journal")
    stack.callback(journal.close)
    steering = Steering(
        cluster, journal, SystemClock(), dry=wishes.dry, heard=metrics.cycle if metrics else None
    )
    loops.append(steering)
    thread = Thread(target=steering.run, name="gpumax-loop", daemon=True)
    if metrics is not None:
        from gpumax.apps.scheduler.listen import Site, listening

        metrics.watch(cluster, steering)
        health = Health(cluster, steering, thread)
        site = Site(health.live, health.ready, metrics.text, found)
        stack.enter_context(listening(wishes.listen, site))
    return cluster, steering, thread


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
