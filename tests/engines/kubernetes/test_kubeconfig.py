"""Kubeconfig files are read as kubectl reads them, and a fault in one is told with its place and without its secrets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.kubernetes.stub import story
from gpumax.engines.kubernetes.client.credentials import Anonymous, TokenFile
from gpumax.engines.kubernetes.client.incluster import from_pod, is_inside
from gpumax.engines.kubernetes.client.kubeconfig import access_from, contexts, files_of
from gpumax.engines.kubernetes.client.plugin import ExecPlugin
from gpumax.engines.kubernetes.client.proxies import proxy_for
from gpumax.errors import BadFile, Refused

CANARY = "canary-9876543210"


def config(
    path: Path, *, user: Any = None, cluster: Any = None, context: Any = None, name: str = "one"
) -> Path:
    """A kubeconfig of one context, on which all is well but for what is said otherwise."""
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **(context or {})}}],
        "clusters": [{"name": name, "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": name, "user": user or {}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def faults(path: Path) -> list[str]:
    """The faults of a kubeconfig. None of them shows a secret."""
    with pytest.raises(BadFile) as bad:
        access_from((path,))
    assert CANARY not in str(bad.value) + repr(bad.value)
    return [str(fault) for fault in bad.value.faults]


def test_the_current_context_counts_unless_another_is_named(tmp_path: Path) -> None:
    """As `kubectl --context`."""
    one = config(tmp_path / "one", context={"namespace": "team-a"})
    two = config(tmp_path / "two", name="two", cluster={"server": "https://10.0.0.2:6443/"})
    assert contexts((one, two)) == ("one", "two")
    first, second = access_from((one, two)), access_from((one, two), "two")
    assert (first.name, first.server, first.namespace) == ("one", "https://10.0.0.1:6443", "team-a")
    assert (second.name, second.server, second.namespace) == ("two", "https://10.0.0.2:6443", "default")


def test_of_several_files_the_first_that_has_a_name_counts(tmp_path: Path) -> None:
    """As KUBECONFIG=a:b; one that doesn't exist is passed over."""
    one = config(tmp_path / "one", cluster={"server": "https://10.0.0.8"})
    again = config(tmp_path / "two", cluster={"server": "https://10.0.0.9"})
    files = files_of({"KUBECONFIG": f"{tmp_path}/none:{one}:{again}"})
    assert access_from(files).server == "https://10.0.0.8"
    assert files_of({}) == (Path.home() / ".kube" / "config",)


def test_paths_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    """Also those of programs, if they are paths at all."""
    user = {
        "client-certificate": "my.crt",
        "client-key": "my.key",
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./get"},
    }
    access = access_from(
        (config(tmp_path / "deep" / "config", user=user, cluster={"certificate-authority": "ca.crt"}),)
    )
    folder = tmp_path / "deep"
    assert access.authority.file == str(folder / "ca.crt")
    assert (access.certificate.file, access.key.file) == (str(folder / "my.crt"), str(folder / "my.key"))
    assert isinstance(access.credential, ExecPlugin)
    assert access.credential.program.command == str(folder / "get")


def test_data_goes_before_files_and_a_tokens_file_before_a_token(tmp_path: Path) -> None:
    """As for kubectl."""
    data = base64.b64encode(b"PEM").decode()
    user = {"token": CANARY, "tokenFile": "token", "client-certificate-data": data, "client-key-data": data}
    access = access_from(
        (
            config(
                tmp_path / "c",
                user=user,
                cluster={"certificate-authority": "x", "certificate-authority-data": data},
            ),
        )
    )
    assert access.authority.read().reveal() == "PEM"
    assert access.certificate.read().reveal() == "PEM"
    assert isinstance(access.credential, TokenFile)
    assert access.credential.path == str(tmp_path / "token")


@story
async def test_secrets_are_not_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever prints the way to a cluster sees no token, no key and no argument of a plugin."""
    folder = tmp_path_factory.mktemp("secrets")
    data = base64.b64encode(CANARY.encode()).decode()
    token = access_from(
        (
            config(
                folder / "a", user={"token": CANARY, "client-certificate-data": data, "client-key-data": data}
            ),
        )
    )
    assert (await token.credential.proof()).token.reveal() == CANARY
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "get",
        "args": [CANARY],
        "env": [{"name": "K", "value": CANARY}],
    }
    program = access_from((config(folder / "b", user={"exec": plugin}),)).credential
    assert isinstance(program, ExecPlugin)
    shown = f"{token!r} {await token.credential.proof()!r} {vars(token.credential)} {program.program!r} {vars(program)}"
    assert CANARY not in shown
    assert data not in shown


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Each with its place, and with what would be right."""
    told = faults(
        config(
            tmp_path / "c",
            cluster={"server": "10.0.0.1", "insecure-skip-tls-verify": True, "certificate-authority": "x", "proxy-url": f"socks5://u:{CANARY}@p"},
            user={
                "username": "me", "password": CANARY, "client-certificate": "x", "client-key-data": CANARY + "%", "token": f"{CANARY}\nb",
                "auth-provider": {"name": "gcp"},
            },
        )
    )  # fmt: skip
    text = "\n".join(told)
    for part in (
        "clusters[one].cluster.server: found '10.0.0.1'; wanted a URL",
        "clusters[one].cluster.insecure-skip-tls-verify: found true, beside a certificate authority",
        "clusters[one].cluster.proxy-url: found the scheme 'socks5'",
        "users[one].user.username: found what Kubernetes no longer has",
        "users[one].user.auth-provider",
        "users[one].user.client-key-data: found something else; wanted PEM in base64",
        "users[one].user.token: found not a token",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "get"}, "exec.apiVersion: found 'client.authentication.k8s.io/v1alpha1'"),
        ({"apiVersion": "client.authentication.k8s.io/v1"}, "exec.command: found no command"),
        ({"apiVersion": "client.authentication.k8s.io/v1", "command": "get", "interactiveMode": "Always"}, "nobody is there to be asked"),
        ({"apiVersion": "client.authentication.k8s.io/v1", "command": "get", "args": CANARY}, "exec.args: found something else"),
        ({"apiVersion": "client.authentication.k8s.io/v1", "command": "get", "env": [{"name": CANARY}]}, "exec.env: found something else"),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_run_is_told(tmp_path: Path, plugin: dict[str, Any], said: str) -> None:
    """Before anybody waits for it."""
    assert said in "\n".join(faults(config(tmp_path / "c", user={"exec": plugin})))


def test_a_name_that_leads_nowhere_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    """A context without its cluster, or one that doesn't exist."""
    path = config(tmp_path / "c", context={"cluster": "other"})
    assert faults(path) == ["contexts[one].cluster: found 'other'; wanted one of one"]
    with pytest.raises(BadFile, match="found 'nope'; wanted one of one"):
        access_from((path,), "nope")


@pytest.mark.parametrize(
    "text",
    [f"token: {CANARY}\n  x: [", f"- {CANARY}", f"users: {CANARY}", f"users: [{CANARY}]", f"\x00{CANARY}"],
)
def test_a_file_that_is_no_kubeconfig_is_told_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    """It may be a file of secrets."""
    (tmp_path / "c").write_text(text)
    assert faults(tmp_path / "c")


def test_without_a_file_or_a_context_it_is_said_what_to_do(tmp_path: Path) -> None:
    """No traceback, and no guess."""
    with pytest.raises(Refused, match="does not exist"):
        access_from((tmp_path / "none",))
    path = config(tmp_path / "c")
    path.write_text(path.read_text().replace("current-context: one", "current-context: ''"))
    with pytest.raises(Refused, match="no current context; name one of one"):
        access_from((path,))


def test_who_acts_as_somebody_else_says_so_in_each_request(tmp_path: Path) -> None:
    """As `kubectl --as`."""
    user = {"as": "jane", "as-groups": ["a", "b"], "as-uid": "7", "as-user-extra": {"reason": ["ticket"]}}
    access = access_from((config(tmp_path / "c", user=user),))
    assert access.acting == (
        ("Impersonate-User", "jane"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "7"), ("Impersonate-Extra-reason", "ticket"),
    )  # fmt: skip
    assert isinstance(access.credential, Anonymous)


def test_a_pod_finds_its_own_cluster(tmp_path: Path) -> None:
    """By what the kubelet gives it; whoever isn't in a pod is told so."""
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert not is_inside(environment, tmp_path)
    with pytest.raises(Refused, match="no service account"):
        from_pod(environment, tmp_path)
    (tmp_path / "token").write_text(CANARY)
    (tmp_path / "namespace").write_text("gpumax-system")
    assert is_inside(environment, tmp_path)
    access = from_pod(environment, tmp_path)
    assert (access.server, access.namespace) == ("https://[fd00::1]:443", "gpumax-system")
    assert access.authority.file == str(tmp_path / "ca.crt")
    with pytest.raises(Refused, match="isn't a pod"):
        from_pod({}, tmp_path)


@pytest.mark.parametrize(
    ("no_proxy", "proxied"),
    [
        ("", True), ("10.0.0.0/8", False), ("10.1.0.0/16", True), ("10.0.0.1", False), ("10.0.0.1:6443", False),
        ("10.0.0.1:1", True), ("other, *", False), ("0.1", True),
    ],
)  # fmt: skip
def test_a_proxy_is_used_but_for_what_no_proxy_names(no_proxy: str, proxied: bool) -> None:
    """Networks count, too: clusters are reached by addresses."""
    environment = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy}
    assert proxy_for("https://10.0.0.1:6443", environment) == ("http://proxy:3128" if proxied else "")


@pytest.mark.parametrize(
    ("no_proxy", "proxied"),
    [("example.org", False), (".example.org", False), ("*.example.org", False), ("ple.org", True)],
)
def test_a_domain_in_no_proxy_means_all_below_it(no_proxy: str, proxied: bool) -> None:
    """With a dot before it or without."""
    environment = {"https_proxy": "http://proxy:3128", "no_proxy": no_proxy}
    assert bool(proxy_for("https://k8s.example.org", environment)) is proxied


def test_this_machine_is_never_reached_through_a_proxy() -> None:
    """As Go's programs have it."""
    environment = {"HTTPS_PROXY": "http://proxy:3128"}
    for host in ("localhost", "127.0.0.1", "[::1]"):
        assert proxy_for(f"https://{host}:6443", environment) == ""
