"""A cluster drawn as text:

n1  aaaabb..     eight GPUs: four held by workload a, two by b, two free
n2  [a5b3.2]x    one shared GPU: a holds five tenths, b three, two are free; and an unhealthy one
n3  ~~!!....     two that are about to be free, two whose workload is evicted by the decision at hand
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import Final

from gpumax.formats import board_nodes
from gpumax.formats.board_nodes import MOST_LINES, Row, View, milli_of
from gpumax.formats.board_paint import Paint
from gpumax.model.decision import Decision, Share
from gpumax.model.names import natural
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Workload
from gpumax.units import MILLI, UNLIMITED, format_count, format_duration, format_wait
from gpumax.words import plural

MOST_WAITING: Final = 15
"""Reasons to wait, and pairs of who makes way for whom, before the rest is counted."""

MOST_LEGEND: Final = 20
"""Lines of the legend."""

MOST_QUEUES: Final = 30
"""Queues before the rest is counted."""

BAR: Final = 20
"""Characters of a queue's bar."""


def draw_board(
    snapshot: Snapshot, decision: Decision | None = None, *, width: int = 100, color: bool = False
) -> str:
    """The cluster as a picture: nodes, who holds what, queues, and who waits why. Lines are at most `width` wide.

    Plain ASCII unless color. With a decision, what it places is drawn where there is room for it now, what it evicts is marked.
    """
    seen = board_nodes.look(snapshot, decision)
    drawn = seen.rows if len(seen.rows) <= MOST_LINES else seen.rows[: MOST_LINES - 1]
    letters = board_nodes.codes(held.workload for row in drawn for cell in row.cells for held in cell or ())
    paint = Paint(letters, color)
    folded = [*board_nodes.summarize(seen.rows[len(drawn) :]), *_without(snapshot, seen)]
    moves = _moves(snapshot, decision) if decision is not None else ()
    sections = (
        [paint.bold(_title(snapshot, seen)[:width])],
        [*_nodes(drawn, seen, paint, width), *(line[:width] for line in folded)],
        [*_legend(snapshot, drawn, paint, width), *(line[:width] for line in moves)],
        list(_queues(snapshot, decision, width)),
        list(_waiting(snapshot, decision, width)),
    )
    return "\n\n".join("\n".join(section) for section in sections if section)


def _title(snapshot: Snapshot, seen: View) -> str:
    devices = broken = held = starting = 0
    for row in seen.rows:
        nodes = len(row.nodes)
        devices += nodes * len(row.cells)
        broken += nodes * row.cells.count(None)
        held += row.held
        for part in (part for cell in row.cells for part in cell or ()):
            starting += nodes * part.milli if part.mark == "+" else 0
    nodes = len(snapshot.nodes)
    title = f"{nodes:,} node{_s(nodes)}, {_round(held)} of {devices:,} GPU{_s(devices)} held"
    title += f", {_round(starting)} about to be" if starting else ""
    return f"{title}, {broken:,} unhealthy" if broken else title


def _nodes(rows: Sequence[Row], seen: View, paint: Paint, width: int) -> Iterator[str]:
    names = [board_nodes.label(row, max(12, width // 3)) for row in rows]
    pictures = [board_nodes.picture(row.cells, paint.letters, paint.wide) for row in rows]
    first = max(map(len, names), default=0)
    room = max(0, width - first - 2)
    sizes = [min(sum(len(text) for text, _ in pieces), room) for pieces in pictures]
    second = min(max(sizes, default=0), 48)
    for row, name, pieces, size in zip(rows, names, pictures, sizes, strict=True):
        line = f"{name:{first}}  {paint.picture(pieces, room)}"
        note = board_nodes.remark(row, seen.used, room - max(size, second) - 2)
        yield f"{line}{' ' * (second - size)}  {note}" if note else line


def _without(snapshot: Snapshot, seen: View) -> Iterator[str]:
    """One line for all nodes that have no devices."""
    nodes = [node for node in snapshot.nodes if not node.devices]
    if nodes:
        cores = sum(node.cpu_milli for node in nodes)
        used = sum(seen.used[node.name].cpu_milli for node in nodes if node.name in seen.used)
        word = "without GPUs" if seen.rows else "and no GPU"
        yield f"{plural(len(nodes), 'node')} {word}: {_round(used)} of {_round(cores)} cores held"


def _legend(snapshot: Snapshot, rows: Sequence[Row], paint: Paint, width: int) -> Iterator[str]:
    """Which letter is whom, in columns where there are many."""
    marks: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for cell in row.cells:
            for part in cell or ():
                marks[part.workload].add(part.mark)
    words = {"+": "starts", "~": "leaves", "!": "is evicted"}
    entries = []
    for workload in sorted(snapshot.workloads, key=lambda workload: natural(workload.name)):
        code = paint.letters.get(workload.name)
        if code is not None:
            seen = marks[workload.name]
            # Whoever goes and starts in one decision does so elsewhere.
            notes = ["moves"] if {"+", "!"} <= seen else [words[mark] for mark in words if mark in seen]
            milli = held_milli(workload)
            if milli:
                notes.insert(0, f"{format_count(milli)} GPU{'' if milli == MILLI else 's'}")
            entries.append((code, workload.name, ", ".join([workload.queue, *notes])))
    yield from _columns(entries, paint, width)


def _columns(entries: Sequence[tuple[str, str, str]], paint: Paint, width: int) -> Iterator[str]:
    shown = entries
    texts = [f"{code:{paint.wide}} {name} ({about})" for code, name, about in entries]
    size = max(map(len, texts), default=0) + 2
    across = max(1, (width + 2) // size) if len(entries) > 8 else 1
    if len(entries) > MOST_LEGEND * across:
        shown = entries[: MOST_LEGEND * across]
    for start in range(0, len(shown), across):
        part = range(start, min(start + across, len(shown)))
        yield "".join(
            paint.workload(texts[at][:width], shown[at][1])
            + " " * (size - len(texts[at]) if at != part[-1] else 0)
            for at in part
        )
    if len(shown) < len(entries):
        yield f"and {plural(len(entries) - len(shown), 'more workload')}"


def _moves(snapshot: Snapshot, decision: Decision) -> Iterator[str]:
    """Who makes way for whom, a line a pair."""
    owner = {task.name: workload.name for workload in snapshot.workloads for task in workload.tasks}
    pairs: dict[tuple[str, str, str, bool], int] = defaultdict(int)
    for eviction in decision.evictions:
        moved = eviction.restarts_on is not None
        pairs[owner.get(eviction.task, eviction.task), eviction.beneficiary, eviction.cause, moved] += 1
    for number, ((loser, winner, cause, moved), count) in enumerate(pairs.items()):
        if number == MOST_WAITING:
            yield f"and {plural(len(pairs) - number, 'more eviction')}"
            return
        tasks = f"{count} task{_s(count)}"
        whom = f" for {winner}" if winner else ""
        yield f"! {loser}: {tasks} {'moved' if moved else 'evicted'}{whom} ({cause})"


def held_milli(workload: Workload) -> int:
    """What the workload holds of devices and counts for its queue, in milli-devices."""
    return sum(milli_of(share) for task in workload.tasks if task.state in ACTIVE for share in task.devices)


def _queues(snapshot: Snapshot, decision: Decision | None, width: int) -> Iterator[str]:
    shares = {share.queue: share for share in decision.shares if share.resource == "gpu"} if decision else {}
    rows = [
        (depth, queue, shares.get(queue.name) or _bare(queue, snapshot))
        for depth, queue in _tree(snapshot.queues)
    ]
    shown = _largest(rows)
    scale = max((max(share.allocated, share.share, _finite(share.quota)) for *_, share in shown), default=0)
    names = ["  " * depth + queue.name for depth, queue, _ in shown]
    first = min(max(map(len, names), default=0), max(12, width // 3))
    told = [_told(share, queue.name in shares) for _, queue, share in shown]
    # The numbers say more than the bar, where there is no room for both.
    barred = first + BAR + 6 + max((len(parts[0]) for parts in told), default=0) <= width
    for name, (*_, share), parts in zip(names, shown, told, strict=True):
        head = f"{_short(name, first):{first}}  " + (f"[{_bar(share, scale)}] " if barred else "")
        yield head + fitting(parts, width - len(head))
    if len(shown) < len(rows):
        yield f"and {plural(len(rows) - len(shown), 'more queue')}"


def _told(share: Share, decided: bool) -> list[str]:
    """What a queue holds, may hold and wants, the most important first."""
    quota = "unlimited" if share.quota >= UNLIMITED else format_count(share.quota)
    return [
        f"holds {format_count(share.allocated)}",
        f" of quota {quota}",
        *([f", share {format_count(share.share)}"] if decided else []),
        *([f", wants {format_count(share.demand)}"] if share.demand > share.allocated else []),
    ]


def fitting(parts: Iterable[str], room: int) -> str:
    """As many of the parts as there is room for: a number that is cut would be another number."""
    text = ""
    for part in parts:
        if len(text) + len(part) > room:
            break
        text += part
    return text


def _largest(rows: Sequence[tuple[int, Queue, Share]]) -> list[tuple[int, Queue, Share]]:
    """The rows that hold, want or may have most, where they stand."""
    if len(rows) <= MOST_QUEUES:
        return list(rows)
    size = [max(share.allocated, share.demand, share.share, _finite(share.quota)) for *_, share in rows]
    largest = sorted(range(len(rows)), key=lambda at: (-size[at], at))[: MOST_QUEUES - 1]
    return [rows[at] for at in sorted(largest)]


def _short(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 3]}..."


def _bare(queue: Queue, snapshot: Snapshot) -> Share:
    held = sum(held_milli(workload) for workload in snapshot.workloads if workload.queue == queue.name)
    return Share(queue.name, "gpu", queue.quota.gpu, 0, held, 0)


def _tree(queues: Iterable[Queue]) -> Iterator[tuple[int, Queue]]:
    """Queues with their depth, children below their parents, by name."""
    children: dict[str | None, list[Queue]] = defaultdict(list)
    known = {queue.name for queue in queues}
    for queue in sorted(queues, key=lambda queue: natural(queue.name)):
        children[queue.parent if queue.parent in known else None].append(queue)
    left = [(0, queue) for queue in reversed(children[None])]
    while left:
        depth, queue = left.pop()
        yield depth, queue
        left += [(depth + 1, child) for child in reversed(children[queue.name])]


def _bar(share: Share, scale: int) -> str:
    """`#` held within quota, `+` held beyond it, `.` quota that is not in use."""
    if scale <= 0:
        return " " * BAR
    held = min(BAR, -(-share.allocated * BAR // scale))
    quota = min(BAR, -(-_finite(share.quota) * BAR // scale)) if share.quota < UNLIMITED else held
    return ("#" * min(held, quota) + "+" * (held - quota) + "." * (quota - held)).ljust(BAR)


def _finite(quota: int) -> int:
    return quota if quota < UNLIMITED else 0


def _waiting(snapshot: Snapshot, decision: Decision | None, width: int) -> Iterator[str]:
    """Who waits, and why; workloads that wait for the same thing are told together."""
    if decision is None or not decision.holds:
        return
    workloads = {workload.name: workload for workload in snapshot.workloads}
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    first: dict[tuple[str, str], int] = {}  # when the first of them starts, as far as it is known
    for hold in decision.holds:
        key = (hold.code, hold.message)
        alike[key].append(hold.workload)
        if hold.forecast_ms is not None:
            first[key] = min(hold.forecast_ms, first.get(key, hold.forecast_ms))
    count = len(decision.holds)
    yield f"{count:,} workload{_s(count)} wait{'s' if count == 1 else ''}:"
    for (code, message), names in list(alike.items())[:MOST_WAITING]:
        workload = workloads.get(names[0])
        told = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"
        if workload is not None and len(names) == 1:
            told += f" ({', '.join([workload.queue, *_waited(snapshot.now_ms, workload.submitted_ms)])})"
        if (moment := first.get((code, message))) is not None:
            starts = "starts" if len(names) == 1 else "the first starts"
            told += f", {starts} {format_wait(moment - snapshot.now_ms)}"
        yield from wrap(
            f"  {told}: {code}: {message}",
            width,
            subsequent_indent="    ",
            max_lines=3,
            placeholder=" ...",
            break_on_hyphens=False,
        )
    if rest := sum(len(names) for names in list(alike.values())[MOST_WAITING:]):
        yield f"  and {rest:,} more"


def _waited(now_ms: int, submitted_ms: int) -> Iterator[str]:
    """For how long, in whole seconds; a snapshot need not say since when."""
    if submitted_ms:
        yield format_duration(max(0, now_ms - submitted_ms) // 1000 * 1000)


def _round(milli: int) -> str:
    return format_count(milli) if milli < 10 * MILLI else f"{round(milli / MILLI):,}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
