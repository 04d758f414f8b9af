"""One request a name."""

from __future__ import annotations

from collections.abc import Sequence

import click

from gpumax.apps.cli.client import Api, segment
from gpumax.apps.cli.output import say
from gpumax.errors import Refused


def each(api: Api, names: Sequence[str], method: str, path: str, done: str, quiet: bool) -> None:
    """Send it for every name, which takes the place of `{}` in the path, and tell what was done.

    A refusal doesn't keep the others back; the last one is raised when all are through.
    """
    last: Refused | None = None
    for name in dict.fromkeys(names):
        try:
            api.send(method, path.format(segment(name)))
        except Refused as error:
            if last is not None:
                say(f"gpumax: {last}")
            last = error
            continue
        if quiet:
            click.echo(name)
        else:
            say(f"{name}: {done}")
    if last is not None:
        raise last
