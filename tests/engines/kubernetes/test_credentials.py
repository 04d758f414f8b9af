"""Credentials are fetched when they are needed, used for as long as they hold, and never shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.kubernetes.stub import story
from gpumax.engines.kubernetes.client.credentials import TokenFile
from gpumax.engines.kubernetes.client.plugin import ExecPlugin, Program
from gpumax.errors import Refused

V1 = "client.authentication.k8s.io/v1"
CANARY = "canary-5556667778"


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Plugin:
    """A program that prints what a test wants, and notes each of its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = Time()

    def prints(self, text: str, code: int = 0, complaint: str = "") -> None:
        """What it does from now on."""
        (self.folder / "said").write_text(text)
        (self.folder / "plugin.py").write_text(
            "import os, sys, pathlib\n"
            "here = pathlib.Path(__file__).parent\n"
            "with open(here / 'runs', 'a') as runs: print(os.environ['KUBERNETES_EXEC_INFO'], file=runs)\n"
            f"sys.stderr.write({complaint!r}); sys.stdout.write((here / 'said').read_text()); sys.exit({code})\n"
        )

    def gives(self, **status: Any) -> None:
        """A credential."""
        self.prints(json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status}))

    def runs(self) -> list[dict[str, Any]]:
        """What it was told, each time."""
        notes = self.folder / "runs"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    def credential(self, **more: Any) -> ExecPlugin:
        """The credential that it fetches."""
        program = Program(sys.executable, (str(self.folder / "plugin.py"),), **more)
        return ExecPlugin(program, clock=self.time)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """A plugin of a test's own."""
    return Plugin(tmp_path)


@story
async def test_a_tokens_file_is_read_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Once a minute; what was read holds while the file is away, as it is for a moment when it is renewed."""
    file, time = tmp_path_factory.mktemp("account") / "token", Time()
    file.write_text("first\n")
    credential = TokenFile(str(file), time)
    seen = [(await credential.proof()).token.reveal()]
    file.write_text("second\n")
    for moment in (59, 61):
        time.now = moment
        seen.append((await credential.proof()).token.reveal())
    file.unlink()
    time.now = 200
    seen.append((await credential.proof()).token.reveal())
    assert seen == ["first", "first", "second", "second"]


@story
async def test_a_file_without_a_token_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With its path, and never with what is in it."""
    file = tmp_path_factory.mktemp("account") / "token"
    with pytest.raises(Refused, match=r"no token in .*/token: No such file"):
        await TokenFile(str(file)).proof()
    file.write_text(f"{CANARY} {CANARY}")
    with pytest.raises(Refused, match=r"it holds something else") as bad:
        await TokenFile(str(file)).proof()
    assert CANARY not in repr(bad.value)


@story
async def test_a_plugin_runs_when_its_credential_runs_out(plugin: Plugin) -> None:
    """Half a minute before, so that none runs out on its way."""
    plugin.gives(token="first", expirationTimestamp="1970-01-01T00:10:00Z")
    credential = plugin.credential()
    seen = [(await credential.proof()).token.reveal() for _ in range(3)]
    plugin.gives(token="second", expirationTimestamp="1970-01-01T01:00:00Z")
    for moment in (569, 571):
        plugin.time.now = moment
        seen.append((await credential.proof()).token.reveal())
    assert seen == ["first"] * 4 + ["second"]
    assert len(plugin.runs()) == 2


@story
async def test_a_credential_that_is_refused_is_fetched_anew(plugin: Plugin) -> None:
    """A 401 says that it no longer holds, whatever its date says."""
    plugin.gives(token="first")
    credential = plugin.credential()
    proof = await credential.proof()
    plugin.gives(token="second")
    assert credential.refused(proof)
    assert (await credential.proof()).token.reveal() == "second"


@story
async def test_a_certificate_is_a_credential_too(plugin: Plugin) -> None:
    """With its key, and both hidden."""
    plugin.gives(clientCertificateData="CERT", clientKeyData=CANARY)
    proof = await plugin.credential().proof()
    assert (proof.certificate.reveal(), proof.key.reveal(), bool(proof.token)) == ("CERT", CANARY, False)
    assert CANARY not in repr(proof)


@story
async def test_a_plugin_is_told_what_it_asks_for(plugin: Plugin) -> None:
    """That nobody is there to be asked, and of the cluster, if it wants to know."""
    plugin.gives(token="t")
    await plugin.credential().proof()
    await plugin.credential(cluster={"server": "https://10.0.0.1"}).proof()
    plain, told = plugin.runs()
    assert plain == {"apiVersion": V1, "kind": "ExecCredential", "spec": {"interactive": False}}
    assert told["spec"]["cluster"] == {"server": "https://10.0.0.1"}


@story
async def test_a_plugin_that_fails_is_told_by_its_last_words(plugin: Plugin) -> None:
    """What it printed may be a credential and isn't shown."""
    plugin.prints(CANARY, code=3, complaint="trying\nlog in first\n")
    with pytest.raises(Refused, match=r"exit code 3: log in first$") as bad:
        await plugin.credential().proof()
    assert CANARY not in str(bad.value)
    missing = ExecPlugin(Program("/no/such/program", hint="install it by hand"))
    with pytest.raises(
        Refused, match="/no/such/program gave no credential: No such file or directory; install it by hand"
    ):
        await missing.proof()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (CANARY, "something else than an ExecCredential"),
        (json.dumps({"apiVersion": "v1", "kind": "Secret", "status": {"token": CANARY}}), f"not print an ExecCredential of {V1}"),
        (json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {}}), "neither a token nor a certificate"),
        (json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"clientKeyData": CANARY}}), "neither a token nor"),
        (json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": f"{CANARY}\r\nX: y"}}), "not a token"),
        (json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": CANARY, "expirationTimestamp": "soon"}}), "is no time"),
    ],
)  # fmt: skip
def test_what_is_no_credential_is_told_and_not_shown(plugin: Plugin, said: str, why: str) -> None:
    """Nothing of it gets into a header or a message."""

    @story
    async def told() -> None:
        plugin.prints(said)
        with pytest.raises(Refused, match=why) as bad:
            await plugin.credential().proof()
        assert CANARY not in repr(bad.value)

    told()


@story
async def test_a_plugin_that_fails_once_does_not_end_a_credential_that_holds(plugin: Plugin) -> None:
    """It is asked early, so there is time; when that is over, the failure is told."""
    plugin.gives(token="first", expirationTimestamp="1970-01-01T00:10:00Z")
    credential = plugin.credential()
    await credential.proof()
    plugin.prints("", code=1, complaint="down")
    plugin.time.now = 580
    assert (await credential.proof()).token.reveal() == "first"
    plugin.time.now = 601
    with pytest.raises(Refused, match="down"):
        await credential.proof()


@story
async def test_a_plugin_that_hangs_is_ended(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing waits for it for ever, and it doesn't stay behind."""
    folder = tmp_path_factory.mktemp("plugin")
    hang = Program("sh", ("-c", f"echo $$ > {folder}/pid; exec sleep 600"))
    with pytest.raises(Refused, match="no answer within"):
        await ExecPlugin(hang, patience_s=0.5).proof()
    if (folder / "pid").exists():
        assert not Path("/proc", (folder / "pid").read_text().strip()).exists()
