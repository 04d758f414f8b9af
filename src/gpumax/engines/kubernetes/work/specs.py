"""What was submitted, as a Job tells it: in the file that stands on it, or, of Jobs of others, in its template."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at, number, rows
from gpumax.engines.kubernetes.requests import read_request
from gpumax.engines.kubernetes.settings import DEFAULT_QUEUE
from gpumax.engines.kubernetes.views import Pod
from gpumax.engines.kubernetes.work.views import Job
from gpumax.errors import BadFile
from gpumax.formats.snapshot_shapes import CLASSES
from gpumax.formats.text import one_document
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.workload import NON_PREEMPTIBLE_FROM


def read_spec(jobs: Sequence[Job]) -> WorkloadSpec:
    """Of the Jobs of one workload, in the order of their ranks. What tenants wrote on them is believed as far as it can be read."""
    first = jobs[0]
    written = (first.metadata.annotations or {}).get(keys.FILE)
    if written is not None:
        try:
            return _written(written)
        except BadFile:
            pass
    return _of_template(first)


def _written(text: str) -> WorkloadSpec:
    parsed = one_document(text.encode(errors="replace"))
    project = parsed.document.get("project") if isinstance(parsed.document, dict) else None
    queues = [Queue(project)] if isinstance(project, str) else []
    _, specs = load_workloads([parsed], base="/", queues=queues, default_project=DEFAULT_QUEUE)
    if len(specs) != 1:
        raise BadFile([])
    return specs[0]


def _of_template(job: Job) -> WorkloadSpec:
    meta = at(job.spec, "template", "metadata") or {}
    spec = at(job.spec, "template", "spec") or {}
    pod = msgspec.json.decode(msgspec.json.encode({"metadata": meta, "spec": spec}), type=Pod)
    places = (pod.metadata.labels or {}, pod.metadata.annotations or {}, job.metadata.labels or {})
    queue, priority = keys.said(keys.QUEUE, *places), keys.said(keys.PRIORITY, *places)
    number_of = CLASSES.get(priority[1] if priority else pod.spec.priority_class_name, CLASSES["train"])
    preemptible = keys.said(keys.PREEMPTIBLE, *places)
    size = max(number(job.spec, "completions", unset=0), number(job.spec, "parallelism", unset=0), 1)
    main = at(spec, "containers", 0)
    words = [str(word) for field in ("command", "args") for word in rows(main, field)]
    asked = read_request(pod, [])
    group = GroupSpec("", size, size, asked.request, tuple(words), swap=asked.swap, strict=asked.strict)
    return WorkloadSpec(
        name=job.metadata.name,
        project=queue[1] if queue else DEFAULT_QUEUE,
        groups=(group,),
        priority=number_of,
        preemptible=preemptible[1] in ("true", "preemptible")
        if preemptible
        else number_of < NON_PREEMPTIBLE_FROM,
        image=str(at(main, "image") or ""),
        retries=number(job.spec, "backoffLimit", unset=6),
    )
