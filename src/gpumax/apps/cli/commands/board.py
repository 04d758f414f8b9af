"""board."""

from __future__ import annotations

import click

from gpumax.apps.cli.client import Item
from gpumax.apps.cli.look_again import redraw
from gpumax.apps.cli.options import Where, output_option, server_options, watch_option
from gpumax.apps.cli.output import emit_document, terminal_width, use_color


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

    def draw(answer: Item) -> None:
        if output in ("json", "yaml"):
            emit_document(answer, output)
            return
        snapshot, decision = load_snapshot(answer["snapshot"]), load_decision(answer["decision"])
        click.echo(draw_board(snapshot, decision, width=terminal_width(), color=use_color()))

    if watch:
        redraw(api, fetch, draw)
    else:
        draw(fetch())
