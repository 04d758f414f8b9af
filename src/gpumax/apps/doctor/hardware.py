"""GPUs: who has them, who gives them out, and who else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import Patient
from gpumax.apps.kubernetes.residents import shared, unfenced
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.agents import Agents
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.errors import ApiRefused, OutcomeUnknown
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.kinds import NODES, SLICES
from gpumax.engines.kubernetes.nodes import read_node
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device, Node
from gpumax.words import plural

LABELLED: Final = (
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "amd.com/gpu.product-name",
)
"""Labels by which those who look at hardware say that a node has GPUs."""
NEIGHBOURS: Final = {
    "scheduling.run.ai": (
        "KAI-Scheduler or Run:ai",
        "keep its nodes and ours apart by labels, since parts of GPUs that it gives out can't be seen; `gpumax import kai-queues` moves its queues over",
    ),
    "scheduling.volcano.sh": (
        "Volcano",
        "keep its nodes and ours apart by labels, since parts of GPUs that it gives out can't be seen",
    ),
    "kueue.x-k8s.io": (
        "Kueue",
        "leave the label kueue.x-k8s.io/queue-name off work for gpumax; what has it waits for both",
    ),
}
MOST: Final = 5


async def gpus(patient: Patient) -> AsyncIterator[Check]:
    """How many there are, by whom they are given out, and which can't be used."""
    nodes, labelled, odd = await _nodes(patient)
    having = [node for node in nodes if node.devices]
    by_giver = Counter(map(_giver, having))
    if not having:
        wish = "install the vendor's device plugin, or the chart's agents (agent.enabled=true); gpumax places pods without GPUs, too"
        yield Check("gpus", "warn", f"none on {len(nodes)} nodes", wish)
    for giver, number in sorted(by_giver.items()):
        count = sum(len(node.devices) for node in having if _giver(node) == giver)
        yield Check("gpus", "ok", f"{count} on {number} nodes, given out by {giver}")
    for words, names, wish in (
        ("have GPUs that nobody gives out", [node.name for node in nodes if node.name in labelled and not node.devices],
         "see whether the vendor's device plugin or the agent runs there"),
        ("are not ready", [node.name for node in having if not node.ready], "`kubectl describe node` says why; nothing is placed there"),
        ("are cordoned", [node.name for node in having if node.cordoned], "`kubectl uncordon` opens them; nothing is placed there"),
        ("have broken GPUs", [node.name for node in having if any(not one.healthy for one in node.devices)],
         "their vendor's device plugin says why in its log; nothing is placed on them"),
    ):  # fmt: skip
        if names:
            yield Check("gpus", "warn", f"{len(names)} nodes {words}: {_some(names)}", wish)
    for sentence in odd[:MOST]:
        yield Check("gpus", "warn", sentence, "correct the node's labels, or who gives out its GPUs")


async def shares(patient: Patient) -> AsyncIterator[Check]:
    """Processes that use GPUs of which parts are given out and haven't said so, as agents tell them."""
    parts = await shared(patient.api)
    beyond = unfenced(parts)
    if beyond:
        where = _some(
            [
                f"{row['pid']} on {row['node']}" + (f" in pod {row['workload']}" if row["workload"] else "")
                for row in beyond
            ]
        )
        wish = "`gpumax gpu list` shows them; end them, or give them a part; agent.evictUnfenced=true deletes such pods"
        yield Check(
            "shares",
            "warn",
            f"unfenced: {len(beyond)} {'process' if len(beyond) == 1 else 'processes'}, which no part holds: {where}",
            wish,
        )
    else:
        residents = sum(len(part.residents) + part.unlisted for part in parts.values())
        yield Check("shares", "ok", f"{plural(residents, 'part')} of {plural(len(parts), 'GPU')}")


def _giver(node: Node) -> str:
    if keys.AGENT in node.labels:
        return "gpumax's agents"
    return node.labels.get(keys.VENDOR, "nobody who is known")


async def ways_of_agents(patient: Patient) -> frozenset[str]:
    """How agents give parts of GPUs out, as nodes are labelled in a snapshot."""
    nodes, _, _ = await _nodes(patient)
    return frozenset(node.labels[keys.AGENT] for node in nodes if keys.AGENT in node.labels)


async def _nodes(patient: Patient) -> tuple[list[Node], set[str], list[str]]:
    """All nodes with what their agents give out, who is said to have GPUs, and what is odd."""
    agents = Agents()
    if await Discovery(patient.api).serves(SLICES):
        for one in (await patient.api.list(SLICES, fields=f"spec.driver={keys.DRIVER}")).items:
            agents.see_slice(one.metadata.name, one)
    found, labelled, odd = [], set(), []
    for view in (await patient.api.list(NODES)).items:
        agents.see_node(view.metadata.name, view)
        read = read_node(view)
        found.append(agents.applied(read.node))
        odd += [*read.oddities, *filter(None, [agents.oddity(read.node)])]
        if any((view.metadata.labels or {}).get(name) for name in LABELLED):
            labelled.add(view.metadata.name)
    return found, labelled, odd


async def claims(patient: Patient) -> AsyncIterator[Check]:
    """Whether the cluster has what parts of GPUs are given out by."""
    if not await Discovery(patient.api).serves(SLICES):
        wish = "set agent.plugin=true where you want parts of GPUs; or upgrade the cluster to 1.34 or newer"
        yield Check(
            "claims", "warn", f"{SLICES.api_version} is not served: agents can only be device plugins", wish
        )
        return
    shown = {
        True: ", and show how much they hold",
        False: "; how much they hold stands in their parameters alone",
        None: "",
    }
    words = f"{SLICES.api_version} is served: parts of GPUs are given out by claims{shown[await _shares(patient)]}"
    yield Check("claims", "ok", words)


async def _shares(patient: Patient) -> bool | None:
    """Whether the cluster knows devices that several claims share (consumable capacity); None where we may not ask. Nothing is made."""
    body = slice_of("gpumax-doctor", "", (Device(0, "none", 1024),), {0: "none"})
    body["metadata"].pop("ownerReferences")
    body = {"apiVersion": SLICES.api_version, "kind": SLICES.name, **body}
    try:
        answer = await patient.api.write(
            Request("POST", SLICES.path(), {"dryRun": "All"}, msgspec.json.encode(body))
        )
    except (ApiRefused, OutcomeUnknown):
        return None
    return b'"allowMultipleAllocations":true' in answer


async def neighbours(patient: Patient) -> AsyncIterator[Check]:
    """Other schedulers of GPUs that were installed here."""
    for group, (name, wish) in NEIGHBOURS.items():
        if group in patient.groups:
            yield Check("neighbours", "warn", f"{name} is installed here, too ({group})", wish)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
