"""The layer under CUDA, laid onto the node, from where containers get it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gpumax.apps.agent.container import LAYER
from gpumax.errors import NotFound
from gpumax.native import library


def lay(folder: Path) -> str:
    """Put the layer's files there, where they aren't as ours are. Why not, in words; empty: they are there.

    Files are replaced, never changed: containers that run have the old ones, and keep them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in zip(LAYER, (library("cuda"), library("ml")), strict=True):
            target = folder / name
            if target.is_file() and target.read_bytes() == source.read_bytes():
                continue
            fresh = folder / f".{name}.new"
            shutil.copyfile(source, fresh)
            fresh.chmod(0o755)
            os.replace(fresh, target)
    except NotFound as error:
        return str(error)
    except OSError as error:
        return f"the layer under CUDA can't be laid into {folder}: {error.strerror or error}"
    return ""
