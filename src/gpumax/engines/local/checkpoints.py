"""When a checkpoint directory last changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

MOST_ENTRIES: Final = 512
"""How many entries are looked at; programs that keep more than that are judged by the first ones."""

MOST_DEPTH: Final = 3


def newest_ms(directory: str) -> int | None:
    """When the newest file in it was last written, in milliseconds since 1970; None where there is none."""
    if not directory:
        return None
    newest = None
    for _, moment in zip(range(MOST_ENTRIES), _written(directory, MOST_DEPTH), strict=False):
        newest = moment if newest is None else max(newest, moment)
    return newest


def _written(directory: str, depth: int) -> Iterator[int]:
    try:
        with os.scandir(directory) as entries:
            below = []
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000
    except OSError:
        return
    if depth > 1:
        for path in below:
            yield from _written(path, depth - 1)
