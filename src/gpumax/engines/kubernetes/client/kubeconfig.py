"""Kubeconfig files, read as kubectl reads them: several are merged, and for each name the first file that has it counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.entry import Entry
from gpumax.engines.kubernetes.client.user import User
from gpumax.engines.kubernetes.client.where import Where
from gpumax.errors import BadFile, Fault, Refused

DEFAULT: Final = "~/.kube/config"

_LISTS: Final = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))


def files_of(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The files that KUBECONFIG names, or the usual one."""
    named = [word for word in environment.get("KUBECONFIG", "").split(os.pathsep) if word]
    return tuple(Path(word).expanduser() for word in named or [DEFAULT])


def contexts(files: tuple[Path, ...]) -> tuple[str, ...]:
    """The names of all contexts, sorted."""
    return tuple(sorted(_Merged(files).entries["contexts"]))


def current(files: tuple[Path, ...]) -> str:
    """The name of the current context; empty where there is none."""
    return _Merged(files).current


def access_from(files: tuple[Path, ...], context: str = "") -> Access:
    """The way to the cluster of a context, of the current one if none is named. BadFile tells all faults on this way at once."""
    merged = _Merged(files)
    name = context or merged.current
    if not name:
        raise Refused(f"{merged.source}: there is no current context; name one of {merged.names('contexts')}")
    entry = merged.entry("contexts", name, "")
    cluster = merged.entry("clusters", _word(entry.content, "cluster"), f"contexts[{name}].cluster")
    faults: list[Fault] = []
    where = Where(cluster, faults)
    user_name = _word(entry.content, "user")
    user = User(
        merged.entry("users", user_name, f"contexts[{name}].user") if user_name else None, where, faults
    )
    if faults:
        raise BadFile(faults, merged.source)
    return Access(
        name=name,
        server=where.server,
        namespace=_word(entry.content, "namespace") or "default",
        authority=where.authority,
        insecure=where.insecure,
        server_name=where.server_name,
        proxy=where.proxy,
        certificate=user.certificate,
        key=user.key,
        credential=user.credential,
        acting=user.acting,
    )


class _Merged:
    """All files as one."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.source = os.pathsep.join(map(str, files))
        self.current = ""
        self.entries: dict[str, dict[str, Entry]] = {name: {} for name, _ in _LISTS}
        there = [file for file in files if file.exists()]
        if not there:
            raise Refused(
                f"no kubeconfig: {self.source} does not exist (KUBECONFIG names files, separated by {os.pathsep})"
            )
        for file in there:
            self._add(file)

    def _add(self, file: Path) -> None:
        document = _document(file)
        current = document.get("current-context")
        if isinstance(current, str):
            self.current = self.current or current
        for name, inner in _LISTS:
            for item in document.get(name) or ():
                if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                    raise BadFile(
                        [Fault(name, None, "an entry without a name", "entries with `name`")], str(file)
                    )
                content = item.get(inner)
                path = f"{name}[{item['name']}].{inner}"
                entry = Entry(path, content if isinstance(content, dict) else {}, file)
                self.entries[name].setdefault(item["name"], entry)

    def entry(self, kind: str, name: str, asked_by: str) -> Entry:
        """The entry of this name; BadFile, with the names that there are, where it's missing."""
        found = self.entries[kind].get(name)
        if found is None:
            raise BadFile(
                [Fault(asked_by or kind, None, repr(name), f"one of {self.names(kind)}")], self.source
            )
        return found

    def names(self, kind: str) -> str:
        """Which names there are."""
        return ", ".join(sorted(self.entries[kind])) or f"{kind}, of which there are none"


def _document(file: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)  # its text would show the line, which may be a secret
        line = mark.line + 1 if mark is not None else None
        raise BadFile([Fault("", line, "no YAML", "a kubeconfig")], str(file)) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadFile([Fault("", None, f"a {type(document).__name__}", "a kubeconfig")], str(file))
    for name, _ in _LISTS:
        if not isinstance(document.get(name) or [], list):
            raise BadFile([Fault(name, None, "no list", "a list of entries with `name`")], str(file))
    return document


def _word(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) else ""
