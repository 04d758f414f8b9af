"""One entry of a kubeconfig, read field by field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpumax.errors import Fault


class Entry:
    """One named entry: what it says, and the file that says it, for paths are relative to that."""

    def __init__(self, path: str, content: Mapping[str, Any], file: Path) -> None:
        self.path = path
        self.content = content
        self.file = file

    def text(self, key: str, faults: list[Fault]) -> str:
        """A text, empty where there is none."""
        value = self.content.get(key)
        if value is not None and not isinstance(value, str):
            # What stands there may be a secret that is no text, as a token of digits; it isn't shown.
            faults.append(Fault(f"{self.path}.{key}", None, "something else", "a text"))
            return ""
        return value or ""

    def located(self, key: str, faults: list[Fault]) -> str:
        """A file's path, absolute; empty where there is none."""
        value = self.text(key, faults)
        return str(self.file.parent.absolute() / Path(value).expanduser()) if value else ""
