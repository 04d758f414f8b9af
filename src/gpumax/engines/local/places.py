"""Directories that a task needs: what is made for it, and what can be known against them before it starts."""

from __future__ import annotations

import os
from pathlib import Path


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that aren't there yet, for this user only."""
    if not directory.is_dir():
        for path in (*reversed(directory.parents), directory):
            path.mkdir(mode=0o700, exist_ok=True)


def unusable(workdir: str, checkpoint_dir: str) -> str:
    """Why a task could not work here, or keep no checkpoints there; empty where nothing is known against it."""
    if not os.path.exists(workdir):
        return f"its workdir {workdir} is not there"
    if not os.path.isdir(workdir):
        return f"its workdir {workdir} is no directory"
    if not os.access(workdir, os.X_OK):
        return f"its workdir {workdir} can't be entered by this user"
    return _unmakable(Path(checkpoint_dir)) if checkpoint_dir else ""


def _unmakable(directory: Path) -> str:
    """Why a directory can't be made."""
    there = next((path for path in (directory, *directory.parents) if os.path.lexists(path)), Path("/"))
    if not there.is_dir():
        return f"its checkpoint directory {directory} can't be made: {there} is no directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"its checkpoint directory {directory} can't be {'written' if there == directory else 'made'}: {there} may not be written by this user"
    return ""
