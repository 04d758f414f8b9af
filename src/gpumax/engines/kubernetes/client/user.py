"""A kubeconfig's `user`: who we are, and how that is proven."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gpumax.engines.kubernetes.client.access import Pem
from gpumax.engines.kubernetes.client.credentials import Anonymous, Credential, GivenToken, TokenFile
from gpumax.engines.kubernetes.client.entry import Entry
from gpumax.engines.kubernetes.client.plugin import VERSIONS, ExecPlugin, Program
from gpumax.engines.kubernetes.client.secret import Secret
from gpumax.engines.kubernetes.client.where import Where, pem
from gpumax.errors import Fault

_GONE: Final = {
    "username": "a token, a certificate or a plugin: Kubernetes has no passwords since 1.19",
    "auth-provider": "a plugin under `exec`: Kubernetes has no auth providers since 1.26",
}


class User:
    """The fields of a `user`; what is wrong with them is added to the faults. Nothing of a secret is shown in these."""

    def __init__(self, entry: Entry | None, where: Where, faults: list[Fault]) -> None:
        self.certificate, self.key = Pem(), Pem()
        self.credential: Credential = Anonymous()
        self.acting: tuple[tuple[str, str], ...] = ()
        if entry is None:
            return
        for key, wanted in _GONE.items():
            if entry.content.get(key):
                faults.append(Fault(f"{entry.path}.{key}", None, "what Kubernetes no longer has", wanted))
        self.certificate = pem(entry, "client-certificate", faults)
        self.key = pem(entry, "client-key", faults)
        if bool(self.certificate) != bool(self.key):
            faults.append(
                Fault(entry.path, None, "a client certificate or key without the other", "both, or neither")
            )
        self.credential = _credential(entry, where, faults)
        self.acting = _acting(entry, faults)


def _credential(entry: Entry, where: Where, faults: list[Fault]) -> Credential:
    token, file = entry.text("token", faults), entry.located("tokenFile", faults)
    if file:  # goes before a token, as for kubectl: it is the newer one
        return TokenFile(file)
    if token:
        try:
            return GivenToken(Secret(token))
        except ValueError as error:
            faults.append(Fault(f"{entry.path}.token", None, str(error), "a token"))
    plugin = entry.content.get("exec")
    if isinstance(plugin, dict) and not token:
        return _plugin(entry, plugin, where, faults)
    return Anonymous()


def _plugin(entry: Entry, plugin: Mapping[str, Any], where: Where, faults: list[Fault]) -> Credential:
    path = f"{entry.path}.exec"
    version, command = plugin.get("apiVersion"), plugin.get("command")
    if version not in VERSIONS:
        faults.append(Fault(f"{path}.apiVersion", None, repr(version), " or ".join(VERSIONS)))
    if not isinstance(command, str) or not command:
        faults.append(Fault(f"{path}.command", None, "no command", "the program that prints credentials"))
        return Anonymous()
    if plugin.get("interactiveMode") == "Always":
        faults.append(
            Fault(
                f"{path}.interactiveMode", None, "Always", "Never or IfAvailable: nobody is there to be asked"
            )
        )
    if os.sep in command:
        command = str(entry.file.parent.absolute() / Path(command).expanduser())
    args, env = plugin.get("args") or [], plugin.get("env") or []
    if not isinstance(args, list) or not all(isinstance(word, str) for word in args):
        faults.append(Fault(f"{path}.args", None, "something else", "a list of texts"))
        args = []
    pairs = _pairs(env)
    if pairs is None:
        faults.append(Fault(f"{path}.env", None, "something else", "a list of `name` and `value`"))
    hint = plugin.get("installHint")
    return ExecPlugin(
        Program(
            command, tuple(args), pairs or {}, str(version), hint if isinstance(hint, str) else "",
            _told(where) if plugin.get("provideClusterInfo") is True else None,
        )
    )  # fmt: skip


def _pairs(env: object) -> dict[str, str] | None:
    if not isinstance(env, list):
        return None
    pairs = {}
    for item in env:
        name, value = (item.get("name"), item.get("value")) if isinstance(item, dict) else (None, None)
        if (
            not isinstance(name, str)
            or not isinstance(value, str)
            or not name
            or "=" in name
            or "\0" in name + value
        ):
            return None
        pairs[name] = value
    return pairs


def _told(where: Where) -> dict[str, Any]:
    """What a plugin that asks for it is told of the cluster."""
    told: dict[str, Any] = {"server": where.server}
    data = where.entry.content.get("certificate-authority-data")
    if data:
        told["certificate-authority-data"] = data
    if where.server_name:
        told["tls-server-name"] = where.server_name
    if where.insecure:
        told["insecure-skip-tls-verify"] = True
    if where.proxy:
        told["proxy-url"] = where.proxy
    for extension in where.entry.content.get("extensions") or ():
        if isinstance(extension, dict) and extension.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = extension.get("extension")
    return told


def _acting(entry: Entry, faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    """Headers by which we act as somebody else, where the kubeconfig says so."""
    somebody = entry.text("as", faults)
    if not somebody:
        return ()
    headers = [("Impersonate-User", somebody)]
    groups = entry.content.get("as-groups") or []
    headers += [("Impersonate-Group", group) for group in groups if isinstance(group, str)]
    uid = entry.text("as-uid", faults)
    if uid:
        headers.append(("Impersonate-Uid", uid))
    extra = entry.content.get("as-user-extra") or {}
    for key, values in extra.items() if isinstance(extra, dict) else ():
        headers += [(f"Impersonate-Extra-{key}", value) for value in values if isinstance(value, str)]
    if any(not (name + value).isprintable() for name, value in headers):
        faults.append(Fault(f"{entry.path}.as", None, "characters that no name has", "a user, groups"))
    return tuple(headers)
