"""The client against a real API server: what the stub of the everyday tests says is what Kubernetes says."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from controlplane.plane import Cluster, ControlPlane
from engines.kubernetes.stub import story
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.incluster import from_pod
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.informers import Informers
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.kubeconfig import access_from, files_of
from gpumax.engines.kubernetes.client.lists import listed
from gpumax.engines.kubernetes.client.views import Thing
from gpumax.engines.kubernetes.kinds import NODES, PODS, SPACES
from gpumax.engines.kubernetes.views import Pod

BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", Thing)
ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", Thing)
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap", Thing)


def client(cluster: Cluster) -> Api:
    """A client, as the cluster's kubeconfig says."""
    return Api(access_from(files_of({"KUBECONFIG": cluster.kubeconfig})))


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod that no scheduler looks after but the one under test."""
    container = {"name": "main", "image": "nothing.invalid/none"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "test"}},
        "spec": {"schedulerName": "gpumax-test", "containers": [container], **spec},
    }


def config_map(name: str, size: int = 0) -> dict[str, Any]:
    """An object that nobody does anything with."""
    return {"metadata": {"name": name}, "data": {"text": "x" * size}}


@pytest.fixture
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace of a test's own, gone with all that is in it afterwards."""
    name = f"gpumax-test-{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        async with client(cluster) as api:
            await api.create(SPACES, {"metadata": {"name": name}})
            # Pods are refused until the namespace has its service account, which the controller manager makes.
            accounts = Informer(api, ACCOUNTS, name)
            async with running(accounts):
                while not accounts.cache.objects:
                    await accounts.changed()

    async def remove() -> None:
        async with client(cluster) as api:
            for one in (await api.list(PODS, name)).items:
                with suppress(ApiRefused):
                    await api.delete(PODS, one.metadata.name, name, grace_s=0)
            await api.delete(SPACES, name)

    asyncio.run(make())
    yield name
    asyncio.run(remove())


@asynccontextmanager
async def running(informer: Informer[Any] | Informers) -> AsyncIterator[None]:
    """Follow while the test goes on."""
    task = asyncio.create_task(informer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@story
async def test_objects_are_created_read_changed_and_deleted(cluster: Cluster, space: str) -> None:
    """Each answer is the object; what is there already, or no longer, is refused with the reason that we go by."""
    async with client(cluster) as api:
        assert (await api.version())["gitVersion"].startswith("v")
        made = await api.create(PODS, pod("a"), space)
        assert (made.metadata.name, made.spec.scheduler_name, made.status.phase) == (
            "a",
            "gpumax-test",
            "Pending",
        )
        assert await api.get(PODS, "a", space) == made
        with pytest.raises(ApiRefused) as refused:
            await api.create(PODS, pod("a"), space)
        assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")
        changed = await api.patch(PODS, "a", {"metadata": {"annotations": {"gpumax.dev/min": "2"}}}, space)
        assert changed.metadata.annotations is not None
        assert changed.metadata.annotations["gpumax.dev/min"] == "2"
        with pytest.raises(ApiRefused) as refused:
            await api.patch(
                PODS,
                "a",
                {"metadata": {"resourceVersion": made.metadata.resource_version, "labels": {"x": "y"}}},
                space,
            )
        assert (refused.value.code, refused.value.reason) == (409, "Conflict")
        with pytest.raises(ApiRefused) as refused:
            await api.delete(PODS, "a", space, uid="another")
        assert refused.value.code == 409
        await api.delete(PODS, "a", space, uid=made.metadata.uid, grace_s=0)
        with pytest.raises(ApiRefused) as refused:
            await api.get(PODS, "a", space)
        assert (refused.value.code, refused.value.reason) == (404, "NotFound")


@story
async def test_a_condition_of_a_pod_is_ours_alone(cluster: Cluster, space: str) -> None:
    """Applied to its status, with a manager's name: others keep what is theirs."""
    async with client(cluster) as api:
        await api.create(PODS, pod("a"), space)
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "quota"}
        seen = await api.apply(
            PODS,
            "a",
            {"metadata": {"name": "a"}, "status": {"conditions": [said]}},
            space,
            manager="gpumax",
            part="status",
        )
        assert [(one.type, one.message) for one in seen.status.conditions or ()] == [
            ("PodScheduled", "quota")
        ]


@story
async def test_a_pod_is_bound_once(cluster: Cluster, space: str) -> None:
    """A second bind, and one of another pod of that name, are conflicts; what the watch says next is the node."""
    async with client(cluster) as api:
        made = await api.create(PODS, pod("a"), space)
        with pytest.raises(ApiRefused) as refused:
            await api.bind(space, "a", "another", "nowhere")
        assert refused.value.code == 409
        informers = Informer(api, PODS, space)
        async with running(informers):
            await api.bind(space, "a", made.metadata.uid, "nowhere")
            bound = await api.get(PODS, "a", space)
            await informers.reached(bound.metadata.resource_version)
            (seen,) = informers.cache.all()
            assert seen.spec.node_name == "nowhere"
        with pytest.raises(ApiRefused) as refused:
            await api.bind(space, "a", made.metadata.uid, "elsewhere")
        assert refused.value.code == 409


@story
async def test_what_a_budget_forbids_is_told_apart_from_load(cluster: Cluster, space: str) -> None:
    """An eviction that a disruption budget forbids now comes back at once, as that."""
    async with client(cluster) as api:
        made = await api.create(PODS, pod("a"), space)
        # A budget counts pods that run; one that waits may always go. So this one is made to look as if it ran.
        await api.bind(space, "a", made.metadata.uid, "nowhere")
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await api.patch(PODS, "a", {"status": ready}, space, part="status")
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "all"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "test"}}},
        }
        await api.create(BUDGETS, budget, space)
        with pytest.raises(ApiRefused) as refused:
            await api.evict(space, "a", made.metadata.uid)
        assert refused.value.code == 429
        assert refused.value.by_budget
        await api.delete(BUDGETS, "all", space)
        await api.evict(space, "a", made.metadata.uid, grace_s=0)


@pytest.mark.parametrize("streamed", [True, False])
def test_changes_come_in_their_order(cluster: Cluster, space: str, streamed: bool) -> None:
    """All that was there, then each change, whether the list was streamed or came in pages; the snapshot holds what we wrote."""

    @story
    async def told() -> None:
        changes: list[str] = []

        def heard(change: Change[Pod]) -> None:
            changes.append(
                f"{'-' if change.new is None else '+' if change.old is None else '~'}{change.key[1]}"
            )

        async with client(cluster) as api:
            await api.create(PODS, pod("a"), space)
            await api.create(PODS, pod("b"), space)
            informer = Informer(api, PODS, space)
            informer._streams = streamed
            informer.cache.on_change(heard)
            async with running(informer):
                await informer.reached("0")
                assert sorted(changes) == ["+a", "+b"]
                await api.patch(PODS, "a", {"metadata": {"labels": {"x": "y"}}}, space)
                await api.delete(PODS, "b", space, grace_s=0)
                last = await api.create(PODS, pod("c"), space)
                await informer.reached(last.metadata.resource_version)
                assert [change for change in changes[2:] if change != "~b"] == ["~a", "-b", "+c"]
                assert informer.lists == 1

    told()


@story
async def test_a_long_list_comes_in_pages_of_one_moment(cluster: Cluster, space: str) -> None:
    """None is missing and none comes twice, though there are more than a page."""
    async with client(cluster) as api:
        for number in range(25):
            await api.create(CONFIG_MAPS, config_map(f"c{number:02}"), space)
        whole = await listed(api.read, CONFIG_MAPS, space, {}, page=10)
        names = [one.metadata.name for one in whole.items if one.metadata.name.startswith("c")]
        assert names == [f"c{number:02}" for number in range(25)]
        assert whole.version


@story
async def test_without_rights_there_is_a_reason(cluster: Cluster) -> None:
    """403, with a sentence that says who may not do what."""
    if cluster.own is None:
        pytest.skip("needs an identity of its own")
    async with Api(access_from((cluster.own.kubeconfig("alice", "team-a"),))) as api:
        with pytest.raises(ApiRefused, match='User "alice" cannot list resource "pods"') as refused:
            await api.list(PODS, "default")
        assert refused.value.reason == "Forbidden"


def test_a_service_accounts_token_is_enough(plane: ControlPlane, tmp_path: Path) -> None:
    """As in a pod: a token in a file, and the authority."""
    account = plane.api.post(
        "/api/v1/namespaces/default/serviceaccounts/default/token",
        json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    ).json()

    @story
    async def told() -> None:
        (tmp_path / "token").write_text(account["status"]["token"])
        (tmp_path / "ca.crt").write_bytes(plane.authority.certificate.read_bytes())
        host, port = plane.url.removeprefix("https://").split(":")
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        async with Api(from_pod(environment, tmp_path)) as api:
            with pytest.raises(ApiRefused, match="system:serviceaccount:default:default"):
                await api.list(PODS, "default")
        (tmp_path / "token").write_text("nonsense")
        async with Api(from_pod(environment, tmp_path)) as api:
            with pytest.raises(ApiRefused, match="401 Unauthorized"):
                await api.list(PODS, "default")

    told()


def test_a_killed_api_server_is_found_again(plane: ControlPlane) -> None:
    """kill -9 under a watch: what is known stays, and goes on where it was once the server is back; nothing is told twice."""

    @story
    async def told() -> None:
        changes: list[str] = []
        async with Api(access_from((plane.kubeconfig(),))) as api:
            informers = Informers(api, CONFIG_MAPS, NODES)
            informers.of(CONFIG_MAPS).cache.on_change(lambda change: changes.append(change.key[1]))
            async with running(informers):
                await informers.synced()
                await api.create(CONFIG_MAPS, config_map("before"), "default")
                plane.apiserver.kill()
                plane.apiserver.start()
                await asyncio.to_thread(plane.await_ready)
                made = await api.create(CONFIG_MAPS, config_map("after"), "default")
                informers.wrote(CONFIG_MAPS, made.metadata.resource_version)
                await informers.caught_up()
                known = {one.metadata.name for one in informers.snapshot().of(CONFIG_MAPS)}
                assert {"before", "after"} <= known
                assert changes.count("before") == changes.count("after") == 1
            for name in ("before", "after"):
                await api.delete(CONFIG_MAPS, name, "default")

    told()


def test_a_compacted_history_is_listed_again(plane: ControlPlane) -> None:
    """The API server no longer knows what happened since our version: 410, and all is listed again, with who went meanwhile."""

    @story
    async def told() -> None:
        changes: list[str] = []
        async with Api(access_from((plane.kubeconfig(),))) as api:
            await api.create(CONFIG_MAPS, config_map("goes"), "default")
            informer = Informer(api, CONFIG_MAPS, "default")
            informer.cache.on_change(
                lambda change: changes.append(f"{'-' if change.new is None else '+'}{change.key[1]}")
            )
            async with running(informer):
                await informer.reached("0")
            await api.delete(CONFIG_MAPS, "goes", "default")
            made = await api.create(CONFIG_MAPS, config_map("came"), "default")
            plane.apiserver.kill()
            plane.compact(int(made.metadata.resource_version))
            plane.apiserver.start()
            await asyncio.to_thread(plane.await_ready)
            async with running(informer):
                await informer.reached(made.metadata.resource_version)
            assert informer.lists == 2
            assert [change for change in changes if change[1:] in ("goes", "came")] == [
                "+goes",
                "-goes",
                "+came",
            ]
            await api.delete(CONFIG_MAPS, "came", "default")

    told()
