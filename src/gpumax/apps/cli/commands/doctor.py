"""doctor."""

from __future__ import annotations

from typing import Final

import click

from gpumax.apps.cli.checks import checks
from gpumax.apps.cli.checks_data import Check
from gpumax.apps.cli.options import Where, output_option, server_options
from gpumax.apps.cli.output import clean, emit_document, paint, use_color
from gpumax.errors import GpumaxError

_HUES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


class Ill(GpumaxError):
    """Something has to be mended first."""


@click.command()
@click.option(
    "--lease", metavar="NAMESPACE/NAME", default="gpumax-system/gpumax", show_default=True,
    help="Of a cluster: the lease by which its schedulers agree who steers, in the namespace that gpumax is installed in.",
)  # fmt: skip
@output_option
@server_options
@click.pass_obj
def doctor(where: Where, output: str, lease: str) -> None:
    """Check this machine, or a cluster, and say what to mend. Changes nothing; needs no server. Exit code 1 if something fails.

    \b
      gpumax doctor                        this machine
      gpumax doctor --engine kubernetes    the cluster of your current context, with your rights
    """
    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if output in ("table", "wide"):
            click.echo(_told(check))

    if where.context is None:
        for check in checks(where):
            tell(check)
    else:
        from gpumax.apps.doctor.visit import examine

        examine(where.context, lease, tell, where.namespace)
    if output in ("json", "yaml"):
        emit_document({"items": [_row(check) for check in found]}, output)
    failed = [check.name for check in found if check.state == "fail"]
    if failed:
        raise Ill(f"to be mended first: {', '.join(dict.fromkeys(failed))}")


def _row(check: Check) -> dict[str, str]:
    return {"check": check.name, "state": check.state, "found": check.found, "wish": check.wish}


def _told(check: Check) -> str:
    state = paint(f"{check.state:4}", _HUES[check.state]) if use_color() else f"{check.state:4}"
    line = f"{state}  {check.name:10}  {clean(check.found)}"
    return f"{line}\n{'':18}-> {clean(check.wish)}" if check.wish else line
