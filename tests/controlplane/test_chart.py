"""The chart as Helm renders it: with what values it works, which it refuses, and which rights it grants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.build import NoGo
from controlplane.helm import CHART, Document, Helm, only
from gpumax import __version__
from gpumax.apps.scheduler.install import kinds
from gpumax.engines.kubernetes.rights import FIRST_QUEUE, LEASE, RIGHTS, SEEN, VIEW, Right

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
VALUES: dict[str, Any] = {
    "defaults": {},
    "air-gapped": {
        "image": {
            "registry": "registry.internal:5000/mirror/", "repository": "ml/gpumax", "tag": "9", "digest": DIGEST,
            "pullPolicy": "Never", "pullSecrets": [{"name": "mirror"}],
        },
    },
    "single": {"user": None, "replicas": 1, "crds": {"install": False}, "defaultQueue": {"create": False}},
    "plugin": {"agent": {"enabled": True, "plugin": True, "kubeletDir": "/var/lib/k0s/kubelet", "runtimeClassName": "nvidia"}},
    "least": {
        "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}, "metrics": {"role": False},
        "test": {"enabled": False}, "webhook": {"enabled": False}, "policies": {"enabled": False}, "rbac": {"aggregate": False},
    },
    "all": {
        "metrics": {"serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}}},
        "rbac": {"owners": [{"apiGroups": ["example.com"], "resources": ["trainings"]}]},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
        "priorityClassName": "system-cluster-critical", "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
             "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "gpumax"}}}],
        "podLabels": {"team": "platform"}, "podAnnotations": {"note": "yes"}, "logFormat": "text",
        "serviceAccount": {"annotations": {"who": "gpumax"}}, "queues": {"requireUse": True},
        "agent": {"enabled": True, "devices": "8xH100:80Gi", "nodeSelector": {"gpu": "yes"}, "swapMemory": "64Gi", "evictUnfenced": True, "metrics": False},
    },
}  # fmt: skip
"""Values by name: `helm template` renders each, and a real API server takes what comes of it."""


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    try:
        return Helm(tmp_path_factory.mktemp("helm"))
    except NoGo as error:
        pytest.skip(str(error))


def values_file(name: str, folder: Path) -> str:
    """One of the values, as a file."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(VALUES[name]))
    return str(path)


def granted(role: Document) -> set[tuple[str, str, str]]:
    """What a role lets do: group, resource and verb."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(*rights: Right) -> set[tuple[str, str, str]]:
    """The same of rights."""
    return {(right.group, right.resource, verb) for right in rights for verb in right.verbs}


@pytest.mark.parametrize("name", VALUES)
def test_every_set_of_values_passes_helms_own_checks(helm: Helm, name: str, tmp_path: Path) -> None:
    """`helm lint --strict`, and no two objects have one name."""
    file = values_file(name, tmp_path)
    helm.run("lint", "--strict", str(CHART), "-f", file)
    names = [(one["kind"], one["metadata"]["name"]) for one in helm.objects("-f", file)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("replica=3", "replica"),
        ("image.digets=sha256:1", "digets"),
        ("image.digest=latest", "image.digest"),
        ("image.repository=UPPER", "image.repository"),
        ("replicas=two", "replicas"),
        ("networkPolicy.apiServerPorts={https}", "apiServerPorts"),
        ("resources.requests.cpu=lots", "cpu"),
        ("webhook.replicas=0", "replicas"),
        ("user=0", "user"),
        ("image.registry=https://registry.example.com", "registry"),
        ("agent.devices=lots", "devices"),
        ("agent.swapMemory=lots", "swapMemory"),
        ("agent.kubeletDir=/var/../etc", "kubeletDir"),
        ("agent.enabled=true,webhook.enabled=false", "webhook.enabled"),
        ("agent.enabled=true,agent.evictUnfenced=yes", "evictUnfenced"),
        ("agent.stuck=kill", "stuck"),
        (
            "agent.enabled=true,agent.evictUnfenced=true,policies.enabled=false",
            "agent.evictUnfenced needs policies.enabled",
        ),
        (r"podLabels.app\.kubernetes\.io/component=mine", "podLabels: found app.kubernetes.io/component"),
        (r"podLabels.helm\.sh/chart=mine", "podLabels: found helm.sh/chart"),
        (
            r"metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.app\.kubernetes\.io/name=mine",
            "serviceMonitor.labels: found app.kubernetes.io/name",
        ),
    ],
)
def test_bad_values_are_refused_at_their_place(helm: Helm, setting: str, place: str) -> None:
    """Before anything is installed; names that are unknown are told, too."""
    told = helm.refuses("template", "gpumax", str(CHART), "--set", setting)
    assert (place if " " in place else place.rsplit(".", 1)[-1]) in told, told


def test_the_roles_grant_what_the_code_needs_and_nothing_else(helm: Helm) -> None:
    """The table of rights and the chart's roles say the same, verb by verb."""
    objects = helm.objects()
    assert granted(only(objects, "ClusterRole", "gpumax")) == needed(*RIGHTS, FIRST_QUEUE)
    assert granted(only(objects, "ClusterRole", VIEW)) == needed(*SEEN)
    role = only(objects, "Role")
    assert granted(role) == needed(LEASE)
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["gpumax"]]


@pytest.mark.parametrize("metrics", [True, False])
def test_agents_ask_who_reads_their_metrics_where_they_have_any_alone(helm: Helm, *, metrics: bool) -> None:
    """Rights, the door and who is let in by it go together."""
    objects = helm.objects("--set", f"agent.enabled=true,agent.metrics={str(metrics).lower()}")
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert {
        (kind, name) in names
        for kind, name in (("ClusterRole", "gpumax-agent-metrics"), ("Service", "gpumax-agent"))
    } == {metrics}
    (container,) = only(objects, "DaemonSet", "gpumax-agent")["spec"]["template"]["spec"]["containers"]
    assert ("--listen" in container["args"], "ports" in container) == (metrics, metrics)
    assert ("ingress" in only(objects, "NetworkPolicy", "gpumax-agent")["spec"]) == metrics


@pytest.mark.parametrize("evict", [True, False])
def test_agents_may_delete_pods_where_they_are_to_do_so_alone(helm: Helm, *, evict: bool) -> None:
    """With the policy that bounds it; the option is the agent's, too."""
    objects = helm.objects("--set", f"agent.enabled=true,agent.evictUnfenced={str(evict).lower()}")
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert (("ClusterRole", "gpumax-agent-evict") in names) == evict
    assert (("ValidatingAdmissionPolicyBinding", "gpumax-agent-evict") in names) == evict
    (container,) = only(objects, "DaemonSet", "gpumax-agent")["spec"]["template"]["spec"]["containers"]
    assert ("--evict-unfenced" in container["args"]) == evict
    deletes = [rule for one in objects if one["kind"] == "ClusterRole" and one["metadata"]["name"].startswith("gpumax-agent")
               for rule in one["rules"] if "delete" in rule["verbs"]]  # fmt: skip
    assert bool(deletes) == evict


@pytest.mark.parametrize("stuck", ["wait", "end"])
def test_agents_may_end_processes_where_they_are_to_do_so_alone(helm: Helm, stuck: str) -> None:
    objects = helm.objects("--set", f"agent.enabled=true,agent.stuck={stuck}")
    (container,) = only(objects, "DaemonSet", "gpumax-agent")["spec"]["template"]["spec"]["containers"]
    assert ("--stuck" in container["args"]) == (stuck == "end")
    allowed = {"drop": ["ALL"]} | ({"add": ["KILL"]} if stuck == "end" else {})
    assert container["securityContext"]["capabilities"] == allowed


@pytest.mark.parametrize("plugin", [True, False])
def test_the_webhook_has_pods_ask_as_agents_give(helm: Helm, *, plugin: bool) -> None:
    """By tickets where these are device plugins, whatever else the cluster serves."""
    objects = helm.objects("--set", f"agent.enabled=true,agent.plugin={str(plugin).lower()}")
    for kind, name in (("DaemonSet", "gpumax-agent"), ("Deployment", "gpumax-webhook")):
        (container,) = only(objects, kind, name)["spec"]["template"]["spec"]["containers"]
        assert ("--plugin" in container["args"]) == plugin


def test_without_a_first_queue_nothing_may_be_created_of_ours(helm: Helm) -> None:
    """The right goes with the option."""
    role = only(helm.objects("--set", "defaultQueue.create=false"), "ClusterRole")
    assert granted(role) == needed(*RIGHTS)


def test_the_chart_has_our_kinds_as_the_program_has_them(helm: Helm) -> None:
    """Kept when the chart goes."""
    drawn = {
        one["metadata"]["name"]: one for one in helm.objects() if one["kind"] == "CustomResourceDefinition"
    }
    assert {name: one["spec"] for name, one in drawn.items()} == {
        one["metadata"]["name"]: one["spec"] for one in kinds()
    }
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in drawn.values()} == {"keep"}


def test_images_come_from_where_the_values_say(helm: Helm, tmp_path: Path) -> None:
    """For clusters without a way out: registry and digest count for each container."""
    objects = helm.objects("-f", values_file("air-gapped", tmp_path))
    for pod in pods(objects):
        assert [one["image"] for one in pod["containers"]] == [
            f"registry.internal:5000/mirror/ml/gpumax@{DIGEST}"
        ]
        assert pod["imagePullSecrets"] == [{"name": "mirror"}]
    (image,) = {one["image"] for pod in pods(helm.objects()) for one in pod["containers"]}
    assert image == f"gpumax:{__version__}"


def test_another_namespace_takes_the_place_of_the_usual_one(helm: Helm) -> None:
    """In policies and the webhook's way, too."""
    assert "gpumax-system" not in str(helm.objects(name="prod", namespace="gpus"))


def test_the_schema_knows_every_value(helm: Helm) -> None:
    """What stands in values.yaml is described, and what is described stands there."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert paths(values, schema) == []


def paths(values: Document, schema: Document, at: str = "") -> list[str]:
    """Where values and schema differ."""
    described = schema.get("properties")
    if described is None:
        return []
    here = [f"{at}{name}" for name in set(values) ^ (set(described) - {"global"})]
    deeper = [
        path
        for name, value in values.items()
        if isinstance(value, dict) and name in described
        for path in paths(value, described[name], f"{at}{name}.")
    ]
    return here + deeper


def pods(objects: list[Document]) -> list[Document]:
    """The specs of all pods that come to be."""
    found = []
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "Pod":
            found.append(spec)
        elif "template" in spec:
            found.append(spec["template"]["spec"])
    return found
