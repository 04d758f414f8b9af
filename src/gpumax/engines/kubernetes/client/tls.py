"""Encryption: whom we trust, and the certificate that we show. Made anew when files or credentials change."""

from __future__ import annotations

import os
import ssl
import tempfile
import time
from collections.abc import Callable
from typing import Final

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Proof
from gpumax.engines.kubernetes.client.secret import NOTHING, Secret
from gpumax.errors import Refused

REREAD_S: Final = 60.0
"""How long files are believed. Authorities and certificates are renewed long before they end."""

_Material = tuple[Secret, Secret, Secret]


class Tls:
    """Gives the context for the next connection; the same object for as long as nothing has changed."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._files: _Material | None = None
        self._believed_until = 0.0
        self._made: tuple[_Material, ssl.SSLContext] | None = None

    def context(self, proof: Proof) -> ssl.SSLContext:
        """What the next connection uses. Refused, with what is wrong, where certificates can't be read."""
        authority, certificate, key = self._read()
        if proof.certificate:
            certificate, key = proof.certificate, proof.key
        wanted = (authority, certificate, key)
        if self._made is None or self._made[0] != wanted:
            self._made = (wanted, _context(self._access, *wanted))
        return self._made[1]

    def _read(self) -> _Material:
        if self._files is None or self._clock() >= self._believed_until:
            access = self._access
            try:
                self._files = (access.authority.read(), access.certificate.read(), access.key.read())
            except (OSError, UnicodeDecodeError) as error:
                if self._files is None:
                    why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else "no text"
                    raise Refused(f"context {access.name}: a certificate can't be read: {why}") from None
            self._believed_until = self._clock() + REREAD_S
        return self._files


def _context(access: Access, authority: Secret, certificate: Secret, key: Secret) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authority.reveal() or None)
    except (ssl.SSLError, ValueError):
        raise Refused(f"context {access.name}: the certificate authority is no certificate in PEM") from None
    # Clusters have authorities that lack what newer Pythons insist on, and whoever is named is trusted, whoever signed it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        _show(context, access.name, certificate, key or NOTHING)
    return context


def _show(context: ssl.SSLContext, name: str, certificate: Secret, key: Secret) -> None:
    """Have the context show a certificate. Python takes files alone, so for a moment there is one, for our eyes only."""
    with tempfile.TemporaryDirectory(prefix="gpumax-") as folder:
        path = os.path.join(folder, "pair.pem")
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as target:
            target.write(f"{certificate.reveal()}\n{key.reveal()}\n")
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, ValueError, UnicodeEncodeError):
            raise Refused(
                f"context {name}: client certificate and key aren't PEM, don't belong together, or the key has a password"
            ) from None


def _no_password() -> str:
    """Nobody is there to be asked; without this Python would ask on the terminal."""
    return ""
