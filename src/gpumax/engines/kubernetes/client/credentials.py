"""Who we are, as it is proven to the API server: by a token that is given, kept in a file, or fetched by a program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from gpumax.engines.kubernetes.client.secret import NOTHING, Secret
from gpumax.errors import Refused

REREAD_S: Final = 60.0
"""How long a token's file is believed. The kubelet renews tokens long before they expire."""


class Proof(msgspec.Struct, frozen=True):
    """What is shown to the API server: a token, a certificate with its key, or nothing."""

    token: Secret = NOTHING
    certificate: Secret = NOTHING
    key: Secret = NOTHING


class Credential(Protocol):
    """Gives the proof of who we are."""

    async def proof(self) -> Proof:
        """The proof to show now. Refused where there is none to be had."""
        ...

    def refused(self, proof: Proof) -> bool:
        """The API server doesn't accept this proof (401). Whether asking anew may give another."""
        ...


class Anonymous:
    """No proof at all, or one that lies in the client's certificate."""

    async def proof(self) -> Proof:
        """Nothing to show."""
        return Proof()

    def refused(self, proof: Proof) -> bool:
        """There is no other."""
        return False


class GivenToken:
    """A token that is what it is."""

    def __init__(self, token: Secret) -> None:
        self._proof = Proof(checked(token))

    async def proof(self) -> Proof:
        """The token."""
        return self._proof

    def refused(self, proof: Proof) -> bool:
        """There is no other."""
        return False


class TokenFile:
    """A token in a file that is renewed from time to time, as those of service accounts are."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._proof: Proof | None = None
        self._believed_until = 0.0

    async def proof(self) -> Proof:
        """The token, read again once a minute. What was read before is kept while the file can't be read."""
        if self._proof is None or self._clock() >= self._believed_until:
            try:
                self._proof = self._read()
                self._believed_until = self._clock() + REREAD_S
            except (OSError, ValueError) as error:
                if self._proof is None:
                    raise Refused(f"no token in {self.path}: {_why(error)}") from None
        return self._proof

    def refused(self, proof: Proof) -> bool:
        """Whether the file has another token by now; it is read for that."""
        try:
            self._proof = self._read()
        except (OSError, ValueError):
            return False
        return self._proof != proof

    def _read(self) -> Proof:
        with open(self.path, encoding="utf-8") as source:
            return Proof(checked(Secret(source.read())))


def checked(token: Secret) -> Secret:
    """The token without space around it. ValueError, which doesn't show it, for what can't stand in a header."""
    text = token.reveal().strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not a token: empty, or with characters that no token has")
    return Secret(text)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it can't be read"
    return "it holds something else"
