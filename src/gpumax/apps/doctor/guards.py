"""What the API server keeps for us: policies, and whom it asks about pods."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.hardware import ways_of_agents
from gpumax.apps.doctor.patient import MISSING, Patient, found_as
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.errors import ApiRefused, OutcomeUnknown
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.documents import at, rows
from gpumax.engines.kubernetes.guard import objects
from gpumax.engines.kubernetes.kinds import PODS, Whole
from gpumax.engines.kubernetes.views import Meta

POLICIES: Final = {
    "fence": "a replica that was replaced could still write",
    "decisions": "tenants could write what only the scheduler decides: devices and nodes",
    "only": "where only gpumax is to give out devices, pods could ask other schedulers for them",
}
"""Files of policies, and what could be without them."""
SOON_S: Final = 7 * 86400
_ADMISSION: Final = "admissionregistration.k8s.io"


class ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    """Whom the API server trusts at the webhook."""

    ca_bundle: str = ""


class Hook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook."""

    client_config: ClientConfig = ClientConfig()


class Configuration(msgspec.Struct, frozen=True):
    """All of ours."""

    metadata: Meta = Meta()
    webhooks: tuple[Hook, ...] | None = ()


CONFIGURATIONS: Final = Kind(
    _ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", Configuration, namespaced=False
)  # fmt: skip


async def policies(patient: Patient) -> AsyncIterator[Check]:
    """There, and as this version has them."""
    well = True
    for file, otherwise in POLICIES.items():
        for body in objects(file, patient.space):
            if body["apiVersion"] != f"{_ADMISSION}/v1":
                continue
            plural = (
                "validatingadmissionpolicies"
                if body["kind"].endswith("Policy")
                else "validatingadmissionpolicybindings"
            )
            state = await found_as(
                patient, Kind(_ADMISSION, "v1", plural, body["kind"], Whole, namespaced=False), body
            )
            well &= not state
            if state:
                how = "is missing" if state == MISSING else f"is of another version: it differs at {state}"
                found = f"{body['kind']} {body['metadata']['name']} {how}: {otherwise}"
                yield Check("policies", "warn", found, patient.upgrade)
    if well:
        yield Check(
            "policies", "ok", "the API server keeps decisions for the scheduler that steers, and for it alone"
        )


async def webhook(patient: Patient) -> AsyncIterator[Check]:
    """There, trusted, and it answers."""
    try:
        found = await patient.api.get(CONFIGURATIONS, "gpumax")
    except ApiRefused as error:
        if error.code != 404:
            raise
        wish = f"{patient.upgrade} with webhook.enabled=true; without it no container gets a part of a GPU"
        yield Check("webhook", "warn", "there is none", wish)
        return
    log = f"`kubectl -n {patient.space} logs deployment/gpumax-webhook` says why"
    bundles = [hook.client_config.ca_bundle for hook in found.webhooks or ()]
    if not bundles or not all(bundles):
        yield Check("webhook", "fail", "it never ran: pods that ask for a part of a GPU are refused", log)
        return
    ends_s = _ends_s(bundles[0])
    if ends_s is not None and ends_s < time.time() + SOON_S:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends_s))
        state: Any = "fail" if ends_s < time.time() else "warn"
        yield Check(
            "webhook",
            state,
            f"the authority of its certificates ends at {when}",
            f"it should have been renewed; {log}",
        )
    answers, how = await _answers(patient)
    if answers:
        yield Check("webhook", "fail", f"pods that ask for a part of a GPU are refused: {answers}", log)
        return
    yield Check("webhook", "ok", "the API server trusts it")
    ways = await ways_of_agents(patient)
    if how and ways and how not in ways:
        yield Check("webhook", "fail", *_otherwise(patient, how))


def _otherwise(patient: Patient, how: str) -> tuple[str, str]:
    """What is wrong and what to do where pods ask for parts in another way than all agents give them."""
    asks, gives, plugin = (
        ("by claims", "are device plugins", "true")
        if how == keys.DRIVER
        else (f"by {keys.PART}", "take claims", "false")
    )
    found = f"it has pods ask for parts of GPUs {asks}, and all agents {gives}: such pods wait"
    return (
        found,
        f"{patient.upgrade} with agent.plugin={plugin}, by which webhook and agents do the same; then make those pods again",
    )


def _ends_s(bundle: str) -> float | None:
    """Until when the last of the trusted authorities is valid; None where that can't be found out here."""
    if find_spec("cryptography") is None:
        return None
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(bundle))
    except ValueError:
        return 0.0
    return max(one.not_valid_after_utc.timestamp() for one in found)


async def _answers(patient: Patient) -> tuple[str, str]:
    """Why a pod with a part can't be made now, empty where it can, or where whoever asks may make no pods; and how it asks for its part, as agents are
    labelled that give it so. Nothing is made.
    """
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "gpumax-doctor-", "annotations": {"gpumax.dev/gpu-fraction": "0.5"}},
        "spec": {"schedulerName": "gpumax", "containers": [{"name": "none", "image": "none"}]},
    }
    path = PODS.path(patient.api.access.namespace)
    try:
        answer = await patient.api.write(Request("POST", path, {"dryRun": "All"}, msgspec.json.encode(body)))
        made = msgspec.json.decode(answer)
    except (ApiRefused, OutcomeUnknown) as error:
        return (str(error) if "calling webhook" in str(error) else ""), ""
    except msgspec.DecodeError:
        return "", ""
    if any(at(claim, "name") == keys.CLAIM for claim in rows(made, "spec", "resourceClaims")):
        return "", keys.DRIVER
    limited = at(made, "spec", "containers", 0, "resources", "limits", keys.PART) is not None
    return "", keys.PART if limited else ""
