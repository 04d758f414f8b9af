"""A kubeconfig's `cluster`: where the API server is, and how to know that it is the one."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import urlsplit

from gpumax.engines.kubernetes.client.access import Pem
from gpumax.engines.kubernetes.client.entry import Entry
from gpumax.engines.kubernetes.client.secret import Secret
from gpumax.errors import Fault

_PROXIES: Final = ("http", "https")


class Where:
    """The fields of a `cluster`; what is wrong with them is added to the faults."""

    def __init__(self, entry: Entry, faults: list[Fault]) -> None:
        self.entry = entry
        self.server = entry.text("server", faults).rstrip("/")
        self.server_name = entry.text("tls-server-name", faults)
        self.insecure = entry.content.get("insecure-skip-tls-verify") is True
        self.authority = pem(entry, "certificate-authority", faults)
        self.proxy = entry.text("proxy-url", faults)
        self._check(faults)

    def _check(self, faults: list[Fault]) -> None:
        path = self.entry.path
        if not _is_url(self.server, ("http", "https")):
            faults.append(
                Fault(f"{path}.server", None, repr(self.server), "a URL like https://10.0.0.1:6443")
            )
        if self.insecure and self.authority:
            faults.append(
                Fault(
                    f"{path}.insecure-skip-tls-verify", None, "true, beside a certificate authority",
                    "one of the two: an authority that is named is checked",
                )
            )  # fmt: skip
        if self.proxy and not _is_url(self.proxy, _PROXIES):
            # A proxy's URL may hold a password, so only its scheme is shown.
            found = f"the scheme {urlsplit(self.proxy).scheme or 'none'!r}"
            faults.append(
                Fault(f"{path}.proxy-url", None, found, "an http or https proxy; SOCKS isn't supported")
            )


def pem(entry: Entry, key: str, faults: list[Fault]) -> Pem:
    """A certificate or key, given as `KEY-data` in base64, which goes before, or as the file that KEY names."""
    data = entry.text(f"{key}-data", faults)
    if not data:
        return Pem(file=entry.located(key, faults))
    try:
        return Pem(text=Secret(base64.b64decode(data, validate=False).decode("ascii")))
    except (binascii.Error, UnicodeDecodeError):
        faults.append(Fault(f"{entry.path}.{key}-data", None, "something else", "PEM in base64"))
        return Pem()


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
