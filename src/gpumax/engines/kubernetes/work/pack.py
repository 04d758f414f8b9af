"""The directory that a workload brings along, as one archive that fits into a Secret."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpumax.errors import BadFile, Fault

MOST_PACKED: Final = 1_000_000
"""The most bytes that go along, packed: a Secret takes 1 MiB, and etcd little more."""
MOST_BYTES: Final = 64 << 20
"""The most bytes that are looked at."""
MOST_FILES: Final = 10_000
LEFT_OUT: Final = frozenset(
    (".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache")
)
"""Directories that are never brought along: what is in them is made anew, or is history."""
KEYS: Final = frozenset(
    (
        ".ssh",
        ".gnupg",
        ".kube",
        ".aws",
        ".azure",
        ".gcloud",
        ".docker",
        ".netrc",
        ".pgpass",
        ".git-credentials",
        ".pypirc",
    )
)
"""What opens other doors stays here, for whoever submits from the home directory: all of a namespace may read what goes along."""


def pack(directory: Path) -> bytes:
    """All files below the directory as tar.gz, empty where there is none. BadFile where they are too many or too large.

    Links stay links. Equal directories give equal bytes.
    """
    raw, size, count = io.BytesIO(), 0, 0
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(directory):
            row = _row(archive, path, str(path.relative_to(directory)))
            if row is None:
                continue
            size, count = size + row.size, count + 1
            if size > MOST_BYTES or count > MOST_FILES:
                raise _too_much(directory, f"more than {MOST_BYTES >> 20} MiB or {MOST_FILES:,} files")
            if row.isreg():
                with path.open("rb") as file:
                    archive.addfile(row, file)
            else:
                archive.addfile(row)
    if not count:
        return b""
    packed = gzip.compress(raw.getvalue(), mtime=0)
    if len(packed) > MOST_PACKED:
        raise _too_much(directory, f"{len(packed):,} bytes when packed")
    return packed


def _files(directory: Path) -> Iterator[Path]:
    for root, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if name not in LEFT_OUT | KEYS)
        # Links to directories are listed among these, and not followed.
        links = [name for name in names if (Path(root) / name).is_symlink()]
        for name in sorted({*files, *links} - KEYS):
            yield Path(root) / name


def _row(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo | None:
    """The entry of a file or a link; None for sockets and the like. Whose it is here means nothing there."""
    try:
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            return None
        row = archive.gettarinfo(path, name)
    except OSError as error:
        raise BadFile(
            [
                Fault(
                    "workdir",
                    None,
                    f"{path}: {(error.strerror or str(error)).lower()}",
                    "files that can be read",
                )
            ]
        ) from None
    row.uid = row.gid = 0
    row.uname = row.gname = ""
    if row.islnk():  # a second name of a file goes as a file
        row.type, row.linkname, row.size = tarfile.REGTYPE, "", path.stat().st_size
    return row


def _too_much(directory: Path, found: str) -> BadFile:
    wanted = (
        f"at most {MOST_PACKED:,} bytes when packed: name a smaller directory as workdir (--workdir), put the rest into the "
        "image, or write `/` to bring nothing along"
    )
    return BadFile([Fault("workdir", None, f"{directory} with {found}", wanted)])
