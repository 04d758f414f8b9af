"""Credentials that a program fetches, as clouds have it: the `exec` of a kubeconfig."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes.client.credentials import Proof, checked
from gpumax.engines.kubernetes.client.secret import NOTHING, Secret
from gpumax.errors import Refused

VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
PATIENCE_S: Final = 60.0
EARLY_S: Final = 30.0
"""How long before its end a credential is fetched anew, so that none runs out on its way."""
_MOST_SAID: Final = 300


class Program(msgspec.Struct, frozen=True):
    """The program to run. env comes on top of our own; hint: what the kubeconfig says about installing it; cluster: told to it where it asks."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    version: str = VERSIONS[0]
    hint: str = ""
    cluster: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Program({self.command!r})"  # arguments and environment may hold secrets


class _Answer(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Answer | None = None


class ExecPlugin:
    """Runs the program when there is no credential, or none that holds for long enough; one at a time."""

    def __init__(
        self,
        program: Program,
        *,
        clock: Callable[[], float] = time.time,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.program = program
        self._clock = clock
        self._patience_s = patience_s
        self._proof: Proof | None = None
        self._ends_s: float | None = None
        self._turn = asyncio.Lock()

    async def proof(self) -> Proof:
        """The credential, fetched if need be. Refused where the program gives none; one that still holds is used on."""
        async with self._turn:
            if self._proof is None or not self._holds(EARLY_S):
                try:
                    self._proof, self._ends_s = await self._fetch()
                except Refused:
                    if self._proof is None or not self._holds(0):
                        raise
            return self._proof

    def refused(self, proof: Proof) -> bool:
        """The program may give another; unless it already has, what it gave is forgotten."""
        if self._proof == proof:
            self._proof = None
        return True

    def _holds(self, more_s: float) -> bool:
        return self._ends_s is None or self._clock() + more_s < self._ends_s

    async def _fetch(self) -> tuple[Proof, float | None]:
        said = await self._run()
        try:
            answer = msgspec.json.decode(said, type=_ExecCredential)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._failed(
                "it printed something else than an ExecCredential"
            ) from None  # which may be a secret
        if answer.api_version != self.program.version or answer.kind != "ExecCredential":
            raise self._failed(f"it did not print an ExecCredential of {self.program.version}")
        status = answer.status or _Answer()
        try:
            token = checked(Secret(status.token)) if status.token else NOTHING
        except ValueError as error:
            raise self._failed(str(error)) from None
        pair = Secret(status.client_certificate_data or ""), Secret(status.client_key_data or "")
        if bool(pair[0]) != bool(pair[1]) or not (token or pair[0]):
            raise self._failed("it gave neither a token nor a certificate with its key")
        return Proof(token, *pair), self._end(status.expiration_timestamp)

    def _end(self, text: str | None) -> float | None:
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._failed("its expirationTimestamp is no time") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    async def _run(self) -> bytes:
        try:
            running = await asyncio.create_subprocess_exec(
                self.program.command, *self.program.args, env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            hint = f"; {self.program.hint}" if self.program.hint else ""
            raise self._failed(f"{error.strerror or 'it cannot be started'}{hint}") from None
        try:
            said, complaint = await asyncio.wait_for(running.communicate(), self._patience_s)
        except TimeoutError:
            raise self._failed(f"no answer within {self._patience_s:.0f} s") from None
        finally:
            if running.returncode is None:
                with suppress(ProcessLookupError):
                    running.kill()
                await running.wait()
        if running.returncode != 0:
            words = complaint.decode(errors="replace").strip().splitlines()[-1:]
            raise self._failed(f"exit code {running.returncode}: {''.join(words)[:_MOST_SAID]}")
        return said

    def _environment(self) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": False}
        if self.program.cluster is not None:
            spec["cluster"] = dict(self.program.cluster)
        info = {"apiVersion": self.program.version, "kind": "ExecCredential", "spec": spec}
        return {**os.environ, **self.program.env, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _failed(self, why: str) -> Refused:
        return Refused(f"the credential plugin {self.program.command} gave no credential: {why}")
