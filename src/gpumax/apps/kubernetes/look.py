"""What there is: workloads, why they wait, nodes, GPUs, the board."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from gpumax.apps.kubernetes.request import Item, Request, out
from gpumax.apps.kubernetes.residents import shared, unfenced, waits
from gpumax.apps.kubernetes.site import Seen, Site
from gpumax.apps.server import cluster, shapes
from gpumax.apps.server.views import detail, hold, workload
from gpumax.apps.server.why import ago, alone, past
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at, rows
from gpumax.engines.kubernetes.work.container import ROOT
from gpumax.engines.kubernetes.work.records import Work, name_of, read
from gpumax.errors import Denied
from gpumax.formats.decision import dump_decision
from gpumax.formats.explanation import dump_facts
from gpumax.formats.scalars import write_amount
from gpumax.formats.snapshot import dump_snapshot
from gpumax.model.records import FINISHED, Pair
from gpumax.model.workload import HOLDING

SILENT_MS: Final = 10_000
"""So long after it was submitted a scheduler would have bound what has room."""
SILENT: Final = "That is how this command sees it; no scheduler has done so yet: `gpumax doctor` tells whether one is there."


async def list_workloads(site: Site, request: Request) -> Item:
    """Workloads of the namespace, newest first. `after` is how many came before."""
    states = [word for word in request.text("state").split(",") if word]
    project = request.text("project")
    pairs = [read(work) for work in await site.works()]
    if not pairs:
        await site.need_namespace()
    found = [
        (record, tasks)
        for record, tasks in pairs
        if (not states or record.state in states) and project in ("", record.spec.project)
    ]
    skip, limit = request.number("after", 0), request.number("limit", 100)
    nodes = ()
    now_ms = site.now_ms()
    items = [workload(record, tasks, nodes, now_ms) for record, tasks in found[skip : skip + limit]]
    more = str(skip + limit) if len(found) > skip + limit else None
    return out(shapes.Workloads(items=items, next=more))


async def get_workload(site: Site, request: Request) -> Item:
    """All about one workload."""
    return show(site, await site.work(request.words[0]))


def show(site: Site, work: Work) -> Item:
    """A workload as the API shows it."""
    record, tasks = read(work)
    shown = detail(record, tasks, (), site.now_ms(), ROOT)
    return out(shown.model_copy(update={"checkpoint_dir": _checkpoint_dir(work)}))


def _checkpoint_dir(work: Work) -> str:
    """As its tasks find it; empty where they have none."""
    env = rows(at(work.jobs[0].spec, "template", "spec", "containers", 0), "env")
    found = (at(row, "value") for row in env if at(row, "name") == "GPUMAX_CHECKPOINT_DIR")
    return str(next(found, ""))


async def get_why(site: Site, request: Request) -> Item:
    """What the scheduler wrote on it, and how that came about, as far as the cluster may be seen."""
    work = await site.work(request.words[0])
    record, tasks = pair = read(work)
    told = (
        *past(replace(record, objection=""), tasks, _evicted(work, site.now_ms())),
        *_stuck(pair),
    )
    if record.state in FINISHED or record.state == "suspended":
        return out(alone(record, told))
    told += tuple(f"On its GPU it waits now: {text}." for text in await _on_gpus(site, work))
    try:
        seen = await site.seen()
    except Denied as error:
        blind = f"How that came about can't be seen from here: {error}."
        return out(alone(record, [*_said(pair), *told, blind]).model_copy(update={"hold": hold(record.hold)}))
    answer = _explained(pair, told, seen, snapshot_name(site, work))
    waits_ms = site.now_ms() - record.submitted_ms
    if (record.state, answer.state) == ("pending", "placed") and waits_ms > SILENT_MS:
        answer = answer.model_copy(update={"sentences": [*answer.sentences, SILENT]})
    return out(answer)


async def _on_gpus(site: Site, work: Work) -> list[str]:
    """What work with parts of GPUs waits for on them, as its nodes' agents say it, where that may be seen."""
    parts = {pod.metadata.name for pod in work.pods if keys.GIVEN in (pod.metadata.annotations or {})}
    return waits(await shared(site.api), {f"{site.namespace}/{name}" for name in parts}) if parts else []


def snapshot_name(site: Site, work: Work) -> str:
    """What a snapshot calls the workload."""
    kind = "gang" if work.kind == "Job" and len(work.jobs) > 1 else work.kind.lower()
    name = work.jobs[0].metadata.name if kind == "job" else name_of(work.jobs[0])
    return f"{site.namespace}/{kind}/{name}"


def _said(pair: Pair) -> Iterator[str]:
    record, tasks = pair
    if record.hold is not None:
        yield f"It waits ({record.hold.code}): {record.hold.message}."
    elif record.state == "running":
        running = sum(task.state == "running" for task in tasks)
        yield f"It runs: {running} of {len(tasks)} task{'s' if len(tasks) > 1 else ''}."


def _stuck(pair: Pair) -> Iterator[str]:
    """Of work that lacks pods, or has its places, and GPUs, and doesn't begin for another reason."""
    record, _ = pair
    if record.state == "pending" and record.objection:
        yield f"It can't start: {record.objection}. Its Job tries again, after ever longer pauses."
    if record.state == "running" and record.objection:
        yield f"It has its place, and doesn't begin: {record.objection}."


def _evicted(work: Work, now_ms: int) -> str:
    """When and why, the last time."""
    told = work.evicted.removeprefix("evicted ")
    return f"{ago(work.evicted_ms, now_ms)}{' ' if told.startswith('(') else ': '}{told}" if told else ""


def _explained(pair: Pair, told: tuple[str, ...], seen: Seen, name: str) -> shapes.Why:
    from gpumax.policy.explain import explain

    record, _ = pair
    found = explain(seen.snapshot, seen.decision, name)
    if found is None:
        nobody = (
            ("The scheduler hasn't seen it yet.",)
            if record.state == "pending" and not record.objection
            else ()
        )
        return alone(record, [*_said(pair), *told, *nobody])
    decided = found.state in ("placed", "held", "evicted")
    said = [] if record.hold is None or _same(record.hold.message, found.sentences) else [*_said(pair)]
    return shapes.Why(
        workload=record.name,
        state=found.state if decided else record.state,
        sentences=[*said, *found.sentences, *told],
        hold=hold(record.hold or found.hold),
        queue=[cluster.share(row) for row in found.queue],
        ahead=list(found.ahead),
        **dump_facts(found, write_amount),
    )


def _same(message: str, sentences: tuple[str, ...]) -> bool:
    """Whether the scheduler's words are said already."""
    return any(message.partition(";")[0] in sentence for sentence in sentences)


async def list_nodes(site: Site, _: Request) -> Item:
    """All nodes, with what is free of what the pods of other schedulers leave."""
    seen = await site.seen()
    return out(shapes.Nodes(items=cluster.nodes(seen.snapshot.nodes, holding(seen))))


async def list_gpus(site: Site, _: Request) -> Item:
    """All GPUs, with who holds how much of each; where parts are given out, what is resident, swapped and unfenced, as agents say it."""
    seen, parts = await asyncio.gather(site.seen(), shared(site.api))
    items = cluster.gpus(seen.snapshot.nodes, holding(seen), virtual=False)
    for item in items:
        item.shared = parts.get((item.node, item.index))
    return out(shapes.Gpus(items=items))


async def get_board(site: Site, _: Request) -> Item:
    """A snapshot and what would be decided on it now."""
    seen, parts = await asyncio.gather(site.seen(), shared(site.api))
    return {
        "snapshot": dump_snapshot(seen.snapshot),
        "decision": dump_decision(seen.decision),
        "unfenced": unfenced(parts),
    }


def holding(seen: Seen) -> Iterator[cluster.Holding]:
    """Tasks that hold room."""
    for row in seen.snapshot.workloads:
        for task in row.tasks:
            if task.state in HOLDING:
                yield row.name, task, task.request
