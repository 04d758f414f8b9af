"""Where the adapters meet: one process that steers a cluster of Kubernetes, from inside it or from anywhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Final

from gpumax.apps.scheduler.install import check, install
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


def access(context: str = "") -> Access:
    """The cluster of a context; of the pod that we are in where none is named; else of the current context."""
    if not context and is_inside():
        return from_pod()
    return access_from(files_of(), context)


def steer(
    data: Path,
    *,
    context: str = "",
    scheduler: str = SCHEDULER,
    lease: str = "",
    dry: bool = False,
    add: bool = False,
) -> None:
    """Steer until SIGTERM or SIGINT; pods run on.

    lease: NAMESPACE/NAME of the lease by which replicas agree who steers; empty: we steer alone. dry: decide, and write nothing to the cluster. add: our
    kinds of objects first.
    """
    _log_to_stderr()
    found = access(context)
    space, _, name = lease.partition("/")
    if lease and not (space and name):
        raise Refused(f"found lease {lease!r}; wanted NAMESPACE/NAME")
    for line in asyncio.run(install(found)) if add else ():
        _log.info("%s", line)
    asyncio.run(check(found))
    fence = Fence() if lease else Always()
    over = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with ExitStack() as stack:
        loops: list[Steering] = []
        cluster = KubernetesCluster(
            found, lambda: [loop.wake() for loop in loops], scheduler=scheduler, fence=fence
        )
        stack.callback(cluster.close)
        for note in cluster.notes():
            _log.warning("%s", note)
        _log.info("cluster %s (%s): looking at what is there", found.name, found.server)
        cluster.start()
        journal = FileJournal(data / "clusters" / found.name.replace("/", "_") / "journal")
        stack.callback(journal.close)
        steering = Steering(cluster, journal, SystemClock(), dry=dry)
        loops.append(steering)
        if lease:
            identity = f"{socket.gethostname()[:63]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            cluster.stand(space, name, Candidate(identity))
        thread = Thread(target=steering.run, name="gpumax-loop", daemon=True)
        thread.start()
        stack.callback(thread.join, END_S)
        stack.callback(steering.stop)
        how = "decides, and writes nothing" if dry else "steers"
        _log.info("gpumax %s pods whose schedulerName is %s; Ctrl-C ends it, pods run on", how, scheduler)
        _follow(steering, over)


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


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("gpumax: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gpumax").setLevel(logging.INFO)
