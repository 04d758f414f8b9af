"""What tenants write is bounded and safe to print wherever it goes, whatever they write."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from gpumax.engines.kubernetes.telling import LONGEST, condition, event, short, told
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide
from manifests import NOW_MS, Document, assembled, node, owned, pod, queue, several, written

TEXTS: Final = {
    "long": "x" * 200_000,
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "lines": "a\nlevel=info msg=bound\r\n\u2028b",
    "backwards": "\u202egnp.exe\u2066",
    "paths": "../../../etc/passwd",
    "wide": "\U0001f600" * 60_000,
    "broken": "\ud800\udc00".encode("utf-16", "surrogatepass").decode("utf-16") + "\x00",
    "format": "%s%n{0.__class__}$(reboot)`id`",
}
MOST_NAME: Final = 600
KEYS: Final = (
    "gpumax.dev/queue", "gpumax.dev/priority", "gpumax.dev/preemptible", "gpumax.dev/gang", "gpumax.dev/group",
    "gpumax.dev/min", "gpu-fraction", "gpu-memory", "gpumax.dev/gpu-devices", "gpumax.dev/gpu-container",
    "gpumax.dev/gpu-fraction-limit", "gpumax.dev/gpu-memory-limit", "gpumax.dev/topology", "gpumax.dev/topology-required",
    "gpumax.dev/segment-size", "gpumax.dev/segment-required", "gpumax.dev/pool", "gpumax.dev/max-duration",
    "gpumax.dev/task-priority", "gpumax.dev/gpu-swap", "gpumax.dev/gpu-mode",
)  # fmt: skip


def check(*documents: Document, namespace_queue: str | None = None) -> None:
    """All that would leave us is short, and nothing in it moves a cursor or begins a line."""
    assembly = assembled(node("n1"), queue("default"), *documents)
    assembly.see_space("ml", namespace_queue)
    snapshot = assembly.snapshot(NOW_MS, Policy())
    decision = decide(snapshot)
    names = [
        name
        for row in snapshot.workloads
        for name in (row.name, row.queue, row.pool, *(t.name for t in row.tasks))
    ]
    for name in names:
        assert len(name) <= MOST_NAME
        assert name.isprintable()
    rows = told(snapshot, decision, assembly.faults, assembly.workload)
    assert rows
    for row in rows.values():
        assert len(row.message.encode()) <= LONGEST
        assert row.message.isprintable()
        about = {"namespace": "ml", "name": "p", "uid": "u"}
        assert len(msgspec.json.encode((condition(row, ""), event(row, about, "")))) < 8 * LONGEST


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("key", KEYS)
def test_words_of_a_pod(key: str, text: str) -> None:
    """Each of them, as an annotation, where the API server bounds nothing but the whole."""
    check(pod("p", annotations={"gpumax.dev/min": "1", key: text}, gpu=99), pod("q", gpu=99))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_owners_of_a_pod(text: str) -> None:
    """Kind and name of an owner are any text; nobody checks that there is one."""
    owner: dict[str, Any] = {"apiVersion": f"{text}/v1", "kind": text, "metadata": {"name": text, "uid": "u"}}
    document = owned(pod("p", gpu=99), owner)
    assembly = assembled(document)
    assembly.see_owner("u", None)
    check(document, {**owner, "metadata": {**owner["metadata"], "labels": {"gpumax.dev/queue": text}}})


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_queue_of_a_namespace(text: str) -> None:
    """Where it is no name, its pods are told so."""
    check(pod("p", gpu=99), namespace_queue=text)


def test_gangs_of_strange_names_stay_different_gangs() -> None:
    """Of two that differ in their last letter only, each is its own."""
    long = "x" * 900
    documents = [
        one
        for name in (f"{long}a", f"{long}b", "plain")
        for one in several(2, f"p{name[-1]}", annotations={"gpumax.dev/gang": name, "gpumax.dev/min": "2"})
    ]
    found = assembled(*documents).snapshot(NOW_MS, Policy()).workloads
    assert [len(workload.tasks) for workload in found] == [2, 2, 2]
    assert "ml/gang/plain" in {workload.name for workload in found}


def test_an_owner_of_another_namespace_says_nothing() -> None:
    """Whoever knows the uid of somebody else's Job doesn't get its queue by naming it."""
    theirs = written(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: train, namespace: theirs, labels: {gpumax.dev/queue: rich}}"
    )
    (found,) = assembled(theirs, owned(pod("p"), theirs)).snapshot(NOW_MS, Policy()).workloads
    assert found.queue == "default"


def test_what_is_told_is_cut_between_characters() -> None:
    """At a thousand bytes, however wide they are."""
    assert short("ü" * 5000).endswith(" ...")
    assert short("fine") == "fine"
