"""gpu list: the GPUs as a table, and those that are shared as pictures of their memory."""

from __future__ import annotations

import os
import time
from typing import Final

import click

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.look_again import present
from gpumax.apps.cli.options import Where, output_option, quiet_option, server_options, watch_option
from gpumax.apps.cli.output import Column, bar, clean, listed, number, paint, say, use_color
from gpumax.units import MILLI, format_count

SIZE: Final = 48
"""Columns of a picture of memory."""
EACH_S: Final = 1.0
OF_CLUSTER_S: Final = 5.0
"""Agents say who shares their GPUs every ten seconds at most, and each look lists the whole cluster."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_EMPTY: Final = "no GPUs; `gpumax up --devices 8xH100:80Gi` makes up some"


def _state(item: Item) -> str:
    if item.get("gone"):
        return "gone"
    return "ok" if item.get("healthy", True) else "unhealthy"


def _holders(item: Item) -> str:
    return ", ".join(
        str(row.get("workload"))
        + (f" {format_count(row['milli'])}" if row.get("milli", MILLI) != MILLI else "")
        for row in item.get("holders") or ()
    )


def _use(item: Item) -> str:
    used = float(item.get("used") or 0)
    return f"{bar(used, used, 1)} {used:4.0%}"


GPUS = (
    Column("NODE", lambda item: str(item.get("node", ""))),
    Column("GPU", lambda item: number(item.get("index"))),
    Column(
        "MODEL", lambda item: str(item.get("model") or "") + (" (virtual)" if item.get("virtual") else "")
    ),
    Column("MEMORY", lambda item: number(item.get("memory"))),
    Column("STATE", _state, hue=lambda item: "green" if item.get("healthy", True) else "red"),
    Column("HELD", _use),
    Column("HOLDERS", _holders),
)


@click.command("list")
@watch_option
@output_option
@quiet_option
@server_options
@click.pass_obj
def list_(where: Where, watch: bool, output: str, quiet: bool) -> None:
    """All GPUs, how much of each is held, and by whom.

    Of those of which parts are given out: who is resident, what is swapped, who works and who waits, and processes that got around it
    (unfenced); of a cluster as its agents say it, at most 10 s old. Without a server: the GPUs of this machine, with what `gpumax gpu run` gives out.
    """
    if _has_no_server(where):
        _here(watch, output, quiet)
        return
    api: Api = where.api()
    present(
        lambda: api.get("/gpus"),
        lambda answer: drawn(answer, output, quiet),
        watch=api if watch else None,
        empty=_EMPTY,
        patience_s=EACH_S if where.context is None else OF_CLUSTER_S,
    )


def _has_no_server(where: Where) -> bool:
    """Nobody named one, and none has left its mark."""
    return where.context is None and not where.server and not (where.data / "server.json").exists()


def _here(watch: bool, output: str, quiet: bool) -> None:
    from gpumax.apps.cli.screen import Screen
    from gpumax.apps.gpu.view import here

    if not watch:
        text = drawn({"items": here(os.environ)[0]}, output, quiet)
        click.echo(text) if text else say(_nothing())
        return
    with Screen() as screen:
        last = ""
        while True:
            text = drawn({"items": here(os.environ)[0]}, output, quiet) or _nothing()
            if text != last or screen.live:
                screen.show(text)
            last = text
            time.sleep(EACH_S)


def _nothing() -> str:
    from gpumax.devices import open_devices

    return "; ".join(open_devices(None).notes()) or _EMPTY


def drawn(answer: Item, output: str, quiet: bool) -> str:
    """A table, and below it a picture of each shared GPU."""
    items = answer.get("items", [])
    if quiet:
        return "\n".join(f"{item.get('node')}/{item.get('index')}" for item in items)
    text = listed(answer, GPUS, output)
    if output in ("json", "yaml"):
        return text
    return "\n\n".join([text, *(picture(item) for item in items if item.get("shared"))])


def picture(item: Item) -> str:
    """One GPU: a bar of its memory, a line for each who has a part, and in red whoever got around it."""
    shared = item["shared"]
    residents, beyond = shared.get("residents", ()), shared.get("unfenced", ())
    beside = sum(int(each["bytes"]) for each in beyond)
    swapped = sum(int(each["swapped"]) for each in residents)
    free = max(0, int(shared["bytes"]) - int(shared["used"]) - beside)
    head = f"{item.get('node')}/{item.get('index')} {item.get('model')}  {_bar(shared)}  {_size(free)} free of {_size(shared['bytes'])}"
    if swapped:
        head += f", {_size(swapped)} swapped"
    if shared.get("serial"):
        head += "; one after another, since swapping costs too much"
    lines = [clean(head), *(_resident(_LETTERS[at % 26], each) for at, each in enumerate(residents))]
    lines += [f"  ! {unfenced(each)}" for each in beyond]
    if more := shared.get("unlisted"):
        lines.append(f"  and {more} more")
    return "\n".join(lines)


def unfenced(each: Item) -> str:
    """A process that got around its part, loudly."""
    called = f" ({each['command']})" if each.get("command") else ""
    if owner := each.get("workload"):
        called += f" in pod {owner}" if "/" in owner else f" of {owner}"
    place = f" of {each['node']}/{each['index']}" if each.get("node") else ""
    if each.get("away"):
        return clean(f"CHECKPOINTED: process {each['pid']}{called}{place}: {each['why']}")
    text = clean(f"UNFENCED: process {each['pid']}{called} uses {_size(each['bytes'])}{place}: {each['why']}")
    return paint(text, "red") if use_color() else text


def _bar(shared: Item) -> str:
    """A letter for each resident, `!` for the unfenced, `-` for what is still to come back, dots for what is free."""
    whole = max(1, int(shared["bytes"]))
    parts = [
        (_LETTERS[at % 26], int(each["resident"])) for at, each in enumerate(shared.get("residents", ()))
    ]
    resident = sum(size for _, size in parts)
    parts += [
        ("-", max(0, int(shared["used"]) - resident)),
        ("!", sum(int(each["bytes"]) for each in shared.get("unfenced", ()))),
    ]
    drawn, reached = "", 0
    for mark, size in parts:
        reached += size
        # Whatever is there is seen, however small.
        end = max(round(reached * SIZE / whole), len(drawn) + 1) if size else len(drawn)
        drawn = drawn.ljust(min(end, SIZE), mark)
    return f"[{drawn.ljust(SIZE, '.')}]"


def _resident(letter: str, each: Item) -> str:
    name = each.get("workload") or each["group"]
    limit = f", up to {_size(each['limit'])}" if each["limit"] > each["guaranteed"] else ""
    held = f"{_size(each['resident'])} here"
    if each["swapped"]:
        held += f", {_size(each['swapped'])} swapped"
    doing = "works" if each["works"] else f"waits: {each['waits']}" if each.get("waits") else "rests"
    if each.get("hangs"):
        told = doing in ("works", "rests") or each["hangs"] in doing
        doing = each["hangs"] if told else f"{each['hangs']}; {doing}"
    if each.get("checkpointed"):
        doing = (
            f"checkpointed: the driver has {', '.join(map(str, each['checkpointed']))} off the GPU; {doing}"
        )
    if not each["processes"]:
        doing = "no process yet"
    share = f"{each['share']:.0%} {each['mode']}"
    return clean(
        f"  {letter} {name:20}  {share:11}  {_size(each['guaranteed'])} guaranteed{limit}; {held}; {doing}"
    )


def _size(size: object) -> str:
    """Bytes to three digits or so."""
    amount = float(int(size))  # type: ignore[call-overload]
    for unit in ("B", "Ki", "Mi"):
        if amount < 1024:
            return f"{amount:.3g}{unit}" if amount < 1000 else f"{amount:.0f}{unit}"
        amount /= 1024
    return f"{amount:.3g}Gi" if amount < 1000 else f"{amount:.0f}Gi"
