"""Build Kubernetes' control plane from Go modules: `python tests/controlplane/build.py newest` prints where it lies.

Etcd, kube-apiserver, kube-controller-manager and kube-scheduler of one version, kwok, which plays kubelets, and helm. Each go.mod in
`modules/` pins what is built, go.sum every byte of it. What was built is kept outside the repository, under a name
that changes with anything that it was built from, so that a second call costs nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MODULES: Final = Path(__file__).resolve().parent / "modules"
VERSIONS: Final = ("newest", "oldest")
KWOK: Final = "kwok"
HELM: Final = "helm"

_FLAGS: Final = ("-trimpath", "-pgo=off", "-buildvcs=false", "-mod=readonly")
_ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
_STAMPED: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_ASSUMED: Final = ("lint/rules", "chartutil")
_NAMES: Final = {"v3": "etcd"}
"""Programs whose import path doesn't end in their name."""


class NoGo(Exception):
    """There is no Go here, so nothing can be built. The text says so to a person."""


class NotBuilt(Exception):
    """A program could not be built; the text has what Go said."""


def kubernetes_version(module: str) -> str:
    """The version of Kubernetes that a module pins: `v1.37.2`."""
    return _pinned(module, "k8s.io/kubernetes")


def _pinned(module: str, path: str) -> str:
    text = (MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(path)} (v\S+)", text, re.M)
    if found is None:
        raise NotBuilt(f"modules/{module}/go.mod names no version of {path}")
    return found[1]


def built(module: str) -> Path:
    """The directory with the module's programs, built now unless that was done before. One builder at a time."""
    go = _go_version()
    home = _cache() / _key(module, go)
    if (home / "complete").exists():
        return home
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        if not (home / "complete").exists():
            _build_all(module, home)
            (home / "complete").touch()
    return home


def _build_all(module: str, home: Path) -> None:
    packages = _go(module, "list", "tool").split()
    _tell(f"{module}: building {', '.join(map(_name, packages))} into {home}; minutes, the first time")
    for package in packages:
        began = time.monotonic()
        target = home / _name(package)
        fresh = target.with_name(f".{target.name}.new")
        _go(module, "build", "-p", "2", *_FLAGS, "-ldflags", _stamp(module), "-o", str(fresh), package)
        fresh.rename(target)
        size = target.stat().st_size >> 20
        _tell(f"{module}: {target.name} built in {time.monotonic() - began:.0f} s, {size} MB")
    if module == KWOK:
        source = Path(_go(module, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok").strip())
        shutil.copytree(source / "kustomize" / "stage", home / "stage", dirs_exist_ok=True)
        for path in (home / "stage", *(home / "stage").rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # modules are kept read-only


def _stamp(module: str) -> str:
    """Linker flags: programs without symbols, which know their version as released ones do."""
    words = ["-s", "-w"]
    if module == HELM:
        # Else it takes every cluster that it can't ask for one of 1.20.
        minor = _pinned(module, "k8s.io/client-go").split(".")[1]
        words += [f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={minor}" for package in _ASSUMED]
    if module in VERSIONS:
        version = kubernetes_version(module)
        major, minor, _ = version.removeprefix("v").split(".", 2)
        told = {
            "gitMajor": major, "gitMinor": minor, "gitVersion": version,
            "gitCommit": "0" * 40, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        }  # fmt: skip
        words += [f"-X {package}.{name}={value}" for package in _STAMPED for name, value in told.items()]
    return " ".join(words)


def _key(module: str, go: str) -> str:
    digest = hashlib.sha256(f"{go}\n{' '.join(_FLAGS)}\n".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULES / module / name).read_bytes())
    digest.update(_stamp(module).encode())
    return f"{module}-{digest.hexdigest()[:16]}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpumax" / "controlplane"


def _go_version() -> str:
    if shutil.which("go") is None:
        raise NoGo("no control plane: Go isn't installed, and Kubernetes' own programs are built with it")
    return _run(["go", "env", "GOVERSION", "GOOS", "GOARCH"], MODULES).replace("\n", " ").strip()


def _go(module: str, *words: str) -> str:
    # The tests' machine is shared with whatever else somebody does on it.
    polite = ["nice"] if shutil.which("nice") else []
    return _run([*polite, "go", *words], MODULES / module)


def _run(argv: list[str], where: Path) -> str:
    done = subprocess.run(
        argv, cwd=where, env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise NotBuilt(f"{' '.join(argv)} in {where}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def _name(package: str) -> str:
    last = package.rsplit("/", 1)[-1]
    return _NAMES.get(last, last)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tell(text: str) -> None:
    print(f"controlplane: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main(modules: list[str]) -> int:
    """Build what is named, all that one version needs if nothing is; 2 where that can't be."""
    try:
        for module in modules or (VERSIONS[0], KWOK, HELM):
            print(built(module))  # noqa: T201
    except (NoGo, NotBuilt) as error:
        _tell(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
