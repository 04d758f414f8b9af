"""Where the certificates lie, and who trusts them: a Secret, and the configuration of the webhook. Replicas agree by the versions of both."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gpumax.apps.webhook.certificates import Kept, Unreadable, advance
from gpumax.engines.kubernetes.client.api import STRATEGIC_PATCH, Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import Meta
from gpumax.errors import Refused, Stale

TRIES: Final = 5
_FIELDS: Final = {
    "authorities": "ca.crt",
    "authority_key": "ca.key",
    "certificate": "tls.crt",
    "key": "tls.key",
}
_log: Final = logging.getLogger("gpumax.webhook")


class SecretView(msgspec.Struct, frozen=True):
    """A Secret. data: in base64."""

    metadata: Meta = Meta()
    data: dict[str, str] | None = None

    def __repr__(self) -> str:
        """What is in it is never shown."""
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    """How the API server reaches a webhook. ca_bundle: whom it trusts there, in base64."""

    ca_bundle: str = ""


class Hook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook of a configuration."""

    name: str = ""
    client_config: ClientConfig = ClientConfig()


class Configuration(msgspec.Struct, frozen=True):
    """What the API server is told of webhooks."""

    metadata: Meta = Meta()
    webhooks: tuple[Hook, ...] | None = ()


SECRETS: Final = Kind("", "v1", "secrets", "Secret", SecretView)
CONFIGURATIONS: Final = Kind(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", Configuration,
    namespaced=False,
)  # fmt: skip


class Keeper:
    """Sees to it that there is a certificate that the API server trusts. Any replica does so, whoever comes first."""

    def __init__(
        self, api: Api, namespace: str, secret: str, configuration: str, names: Sequence[str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        """secret: its name; names: under which the API server calls us."""
        self._api = api
        self._namespace, self._secret = namespace, secret
        self._configuration = configuration
        self._names = tuple(names)
        self._now = now

    async def step(self) -> Kept:
        """What is kept now, after whatever was due; the API server has been told whom to trust. Stale where others are always faster."""
        for _ in range(TRIES):
            try:
                return await self._step()
            except ApiRefused as error:
                if error.code != 409:
                    raise
                # Another replica was faster: what it wrote is as good as what we would have written.
        raise Stale(f"secret {self._namespace}/{self._secret} changes all the time")

    async def _step(self) -> Kept:
        hooks = await self._api.get(CONFIGURATIONS, self._configuration)
        secret = await self._read()
        kept = _kept(secret.data)
        try:
            fresh = advance(kept, _trusted(hooks), self._names, self._now())
        except Unreadable as error:
            _log.warning(
                "secret %s/%s holds no certificates of ours (%s); it gets new ones",
                self._namespace, self._secret, error,
            )  # fmt: skip
            fresh = advance(None, b"", self._names, self._now())
        if fresh != kept:
            await self._write(secret, fresh)
            _log.info(
                "certificates of the webhook were renewed in secret %s/%s", self._namespace, self._secret
            )
        await self._tell(hooks, fresh.authorities)
        return fresh

    async def _read(self) -> SecretView:
        """It is there from the beginning, empty: whoever may make secrets may read those of every service account beside it."""
        try:
            return await self._api.get(SECRETS, self._secret, self._namespace)
        except ApiRefused as error:
            if error.code != 404:
                raise
            make = f"kubectl -n {self._namespace} create secret generic {self._secret}"
            raise Refused(
                f"there is no secret {self._namespace}/{self._secret}; `{make}` makes one to be filled"
            ) from None

    async def _write(self, secret: SecretView, kept: Kept) -> None:
        data = {field: base64.b64encode(getattr(kept, name)).decode() for name, field in _FIELDS.items()}
        patch = {"metadata": {"resourceVersion": secret.metadata.resource_version}, "data": data}
        await self._api.patch(SECRETS, self._secret, patch, self._namespace)

    async def _tell(self, hooks: Configuration, authorities: bytes) -> None:
        """Have the API server trust these authorities, if it doesn't yet."""
        bundle = base64.b64encode(authorities).decode()
        behind = [hook.name for hook in hooks.webhooks or () if hook.client_config.ca_bundle != bundle]
        if behind:
            patch: Mapping[str, Any] = {
                "metadata": {"resourceVersion": hooks.metadata.resource_version},
                "webhooks": [{"name": name, "clientConfig": {"caBundle": bundle}} for name in behind],
            }
            await self._api.patch(CONFIGURATIONS, self._configuration, patch, how=STRATEGIC_PATCH)


def _kept(data: Mapping[str, str] | None) -> Kept | None:
    """What a Secret holds; None where it is empty, as a chart may make it."""
    if not data:
        return None
    try:
        return Kept(**{name: base64.b64decode(data.get(field, "")) for name, field in _FIELDS.items()})
    except binascii.Error:
        return Kept(b"", b"", b"", b"")


def _trusted(hooks: Configuration) -> bytes:
    """Whom the API server trusts whichever of the webhooks it calls."""
    bundles = {hook.client_config.ca_bundle for hook in hooks.webhooks or ()}
    return base64.b64decode(bundles.pop()) if len(bundles) == 1 else b""
