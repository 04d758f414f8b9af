"""Encryption: the certificate of the API server is checked, ours is shown, and what is wrong is told in words."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.certificates import Authority
from engines.kubernetes.stub import Rests, Stub, Talk, pod, says, story, stub
from gpumax.engines.kubernetes.client.access import Access, Pem
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.credentials import Proof
from gpumax.engines.kubernetes.client.errors import NoAnswer
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.client.secret import Secret
from gpumax.engines.kubernetes.client.tls import Tls
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.errors import Refused

POD = "/api/v1/namespaces/ns/pods/a"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates."""
    return Authority(tmp_path_factory.mktemp("ca"))


def serving(authority: Authority, *addresses: str) -> ssl.SSLContext:
    """A server's side, which wants to see a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(*authority.server("-".join(addresses), *addresses))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def read(access: Access) -> str:
    """The version of a pod, read once."""
    async with Api(access, pauses=Rests().pauses(), tries=1) as api:
        return (await api.get(PODS, "a", "ns")).metadata.resource_version


def way(there: Stub, **fields: Any) -> Access:
    """The way to a server."""
    there.plays(POD, says(200, pod("a", 7)))
    return Access(name="test", server=there.url, **fields)


def packed(path: Path) -> str:
    """A file as kubeconfigs have it."""
    return base64.b64encode(path.read_bytes()).decode()


def test_a_server_that_the_authority_signed_is_believed_and_no_other(authority: Authority) -> None:
    """Without its authority, or under another name, there is no answer but a reason; insecure is the way round."""

    @story
    async def told() -> None:
        async with stub(serving(authority, "127.0.0.1")) as there:
            known = Pem(file=str(authority.certificate))
            assert await read(way(there, authority=known)) == "7"
            with pytest.raises(
                NoAnswer, match=r"certificate isn't valid for us: (self-signed|unable to get)"
            ):
                await read(way(there))
            assert await read(way(there, insecure=True)) == "7"
        async with stub(serving(authority, "kube.example")) as there:
            with pytest.raises(NoAnswer, match="IP address mismatch"):
                await read(way(there, authority=known))
            assert await read(way(there, authority=known, server_name="kube.example")) == "7"

    told()


def test_a_kubeconfigs_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    """Data in the file, nothing on the disk afterwards."""
    certificate, key = authority.client("alice", "team-a")
    shown: list[Any] = []

    @story
    async def told() -> None:
        async with stub(serving(authority, "127.0.0.1")) as there:

            async def look(talk: Talk) -> None:
                shown.append(talk.certificate())
                await talk.say(200, pod("a", 7))

            there.plays(POD, look)
            document = {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {
                            "server": there.url,
                            "certificate-authority-data": packed(authority.certificate),
                        },
                    }
                ],
                "users": [
                    {
                        "name": "u",
                        "user": {
                            "client-certificate-data": packed(certificate),
                            "client-key-data": packed(key),
                        },
                    }
                ],
            }
            (tmp_path / "config").write_text(yaml.safe_dump(document))
            await read(access_from((tmp_path / "config",)))

    told()
    assert (("commonName", "alice"),) in shown[0]["subject"]


def test_renewed_certificates_are_taken_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    """The same context for as long as nothing changes, another when files do, or the credential."""
    now = [0.0]
    pair = authority.client("first")
    files = [tmp_path / "crt", tmp_path / "key"]
    for path, made in zip(files, pair, strict=True):
        path.write_bytes(made.read_bytes())
    access = Access("test", "https://x", certificate=Pem(file=str(files[0])), key=Pem(file=str(files[1])))
    tls = Tls(access, lambda: now[0])
    first = tls.context(Proof())
    now[0] = 61
    assert tls.context(Proof()) is first
    for path, made in zip(files, authority.client("second"), strict=True):
        path.write_bytes(made.read_bytes())
    now[0] = 122
    second = tls.context(Proof())
    assert second is not first
    texts = [Secret(path.read_text()) for path in pair]
    assert tls.context(Proof(certificate=texts[0], key=texts[1])) is not second


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"authority": Pem(text=Secret("no PEM"))}, "the certificate authority is no certificate in PEM"),
        ({"certificate": Pem(text=Secret("no PEM")), "key": Pem(text=Secret("no PEM"))}, "client certificate and key aren't PEM"),
        ({"authority": Pem(file="/no/such/file")}, "a certificate can't be read: /no/such/file: No such file"),
    ],
)  # fmt: skip
def test_what_is_no_certificate_is_told(fields: dict[str, Pem], why: str) -> None:
    """Before anything is sent."""
    with pytest.raises(Refused, match=why):
        Tls(Access("test", "https://x", **fields)).context(Proof())  # type: ignore[arg-type]
