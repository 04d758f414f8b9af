"""board."""

from __future__ import annotations

import click

from gpumax.apps.cli.client import Item
from gpumax.apps.cli.commands.gpu_list import unfenced
from gpumax.apps.cli.look_again import present
from gpumax.apps.cli.options import Where, output_option, server_options, watch_option
from gpumax.apps.cli.output import document, terminal_width, use_color


@click.command()
@watch_option
@output_option
@server_options
@click.pass_obj
def board(where: Where, watch: bool, output: str) -> None:
    """The cluster as a picture: who holds which GPU, what queues hold of their share, who waits and why."""
    from gpumax.formats.board import draw_board
    from gpumax.formats.decision import load_decision
    from gpumax.formats.snapshot import load_snapshot

    api = where.api()

    def fetch() -> Item:
        return api.get("/board")

    def draw(answer: Item) -> str:
        if output in ("json", "yaml"):
            return document(answer, output)
        snapshot, decision = load_snapshot(answer["snapshot"]), load_decision(answer["decision"])
        drawn = draw_board(snapshot, decision, width=terminal_width(), color=use_color())
        return "\n".join([drawn, *map(unfenced, answer.get("unfenced") or ())])

    present(fetch, draw, watch=api if watch else None)
