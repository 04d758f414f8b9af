"""Which cluster, and who we are there."""

from __future__ import annotations

import msgspec

from gpumax.engines.kubernetes.client.credentials import Anonymous, Credential
from gpumax.engines.kubernetes.client.secret import NOTHING, Secret


class Pem(msgspec.Struct, frozen=True):
    """A certificate or a key: its text, or the file that has it. A file is read again, since certificates are renewed."""

    text: Secret = NOTHING
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.file)

    def read(self) -> Secret:
        """Its text now. OSError where the file can't be read."""
        if not self.file:
            return self.text
        with open(self.file, encoding="utf-8") as source:
            return Secret(source.read())


class Access(msgspec.Struct, frozen=True):
    """All that it takes to speak to one cluster.

    name: the context, as people know the cluster. namespace: where things go that name none. authority: who signs the server's certificate, the
    system's own authorities if empty; insecure: nobody looks at it. server_name: the name in the server's certificate where it isn't the host.
    proxy: URL, empty to go by the environment. acting: headers by which we act as somebody else.
    """

    name: str
    server: str
    namespace: str = "default"
    authority: Pem = Pem()
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""
    certificate: Pem = Pem()
    key: Pem = Pem()
    credential: Credential = Anonymous()
    acting: tuple[tuple[str, str], ...] = ()

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the way to this cluster."""
        found = []
        if self.insecure:
            found.append(
                f"context {self.name}: the certificate of {self.server} is NOT checked (insecure-skip-tls-verify): "
                "whoever stands between can read and change everything"
            )
        if self.server.startswith("http://"):
            found.append(f"context {self.name}: {self.server} is spoken to WITHOUT encryption")
        return tuple(found)
