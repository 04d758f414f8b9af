"""The report: one file that needs nothing else, says what was found, and can't be turned against its reader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from formats.test_result import RESULTS
from gpumax.errors import Refused
from gpumax.model.study import Arrived, Effort, Failed, Result, Run
from gpumax.study.merge import merged
from gpumax.study.report import page, plots
from gpumax.study.report.figures import tables
from gpumax.study.report.groups import groups, mean, pair
from gpumax.study.report.headline import headline
from gpumax.study.report.sizes import equal
from study.results import ALONE, EMPTY, HOSTILE, HOSTILE_NAME, INFLATED, REPLAYED, SIZES, replayed

ALL = {
    "replayed": REPLAYED,
    "sizes": SIZES,
    "inflated": INFLATED,
    "hostile": HOSTILE,
    "empty": EMPTY,
    "alone": ALONE,
}
_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "figure", "figcaption", "h1", "h2", "h3", "p",
    "strong", "span", "i", "ul", "li", "code", "pre", "details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td",
    "svg", "desc", "text", "line", "polyline", "polygon", "rect", "circle",
}  # fmt: skip
_EMPTY_TAGS = {"meta", "line", "polyline", "polygon"}


class Read(HTMLParser):
    """A page as a browser takes it apart: tags, attributes, words; every tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.titles: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _EMPTY_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)
        if self._open and self._open[-1] in ("h1", "h2", "span"):
            self.titles.append(data)


def text_of(result: Result) -> str:
    """All words of its report, blanks of any kind as one."""
    return re.sub(r"\s+", " ", " ".join(Read(page(result)).words))


def plain(text: str) -> str:
    """With ordinary blanks."""
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize("result", ALL.values(), ids=ALL)
def test_it_needs_nothing_else(result: Result) -> None:
    """No script, no link, no picture or font of elsewhere, and a browser is told so."""
    text = page(result)
    read = Read(text)
    assert set(read.tags) <= _TAGS
    assert {name for _, name, _ in read.attributes} & {
        "src",
        "href",
        "srcset",
        "xlink:href",
        "data",
        "action",
    } == set()
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in read.attributes


@pytest.mark.parametrize("result", ALL.values(), ids=ALL)
def test_who_does_not_see_it_is_told_the_same(result: Result) -> None:
    """Every picture has a title and a description, every table heads, names are unlike each other, titles skip no level."""
    read = Read(page(result))
    names = [value for _, name, value in read.attributes if name == "id"]
    assert len(names) == len(set(names))
    for _, name, value in read.attributes:
        if name == "aria-labelledby":
            assert set(value.split()) <= set(names)
    assert read.tags["svg"] == sum(name == "aria-labelledby" for _, name, _ in read.attributes)
    assert read.tags["th"] == sum(tag == "th" and name == "scope" for tag, name, _ in read.attributes)
    assert ("html", "lang", "en") in read.attributes
    assert read.tags["h1"] == 1


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(RESULTS)
def test_any_result_can_be_drawn(result: Result) -> None:
    """Whatever figures and names it has: the page is whole, and the pictures are XML."""
    read = Read(page(result))
    assert set(read.tags) <= _TAGS
    for _, drawing in plots(result):
        ElementTree.fromstring(drawing)


def test_names_of_a_trace_are_words_and_nothing_else() -> None:
    """They are shown as they are, but for what would change the words after them."""
    read = Read(page(HOSTILE))
    shown = "".join(read.words)
    assert "<script>alert('x')</script>&\"}]]></style><img src=http://evil.example/x>" in shown
    assert not set(shown) & set("\x00\x1b\u202e")
    for _, drawing in plots(HOSTILE):
        assert "script" not in {
            element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()
        }
        assert HOSTILE_NAME not in drawing


@pytest.mark.parametrize("result", ALL.values(), ids=ALL)
def test_equal_results_give_equal_reports(result: Result) -> None:
    """To the last byte: nothing of the day or the machine is in them."""
    again = msgspec.convert(msgspec.to_builtins(result), Result)
    assert page(result) == page(again)
    assert dict(plots(result)) == dict(plots(again))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            REPLAYED,
            "On the same 704 GPUs, 99 % of workloads wait at most 2.1 h under gpumax, 12.8 days under static-backfill",
        ),
        (
            SIZES,
            "gpumax needs 984 GPUs where static-backfill needs 2,816, for 99 % of the same work to wait at most 4.8 min",
        ),
        (INFLATED, "gpumax fills 95.71 % of 6,212 GPUs; the best other rule, fgd, 95.36 %"),
        (ALONE, "On 704 GPUs, 99 % of workloads wait at most 2.1 h under gpumax"),
        (EMPTY, "No run was played to its end"),
    ],
)
def test_the_title_is_what_was_found(result: Result, words: str) -> None:
    """With both sides of the comparison."""
    assert plain(headline(result, groups(result))) == words
    assert words in text_of(result).replace(" ,", ",").replace("  ", " ")


def test_a_title_hides_no_defeat() -> None:
    """Where the other policy does better, the same words say so."""
    worse = Result(
        "w", (replayed("gpumax", 0.5, 1, 2, 7_200, 9_000), replayed("static-fifo", 0.6, 1, 2, 3_600, 5_000))
    )
    title = plain(headline(worse, groups(worse)))
    assert (
        title
        == "On the same 704 GPUs, 99 % of workloads wait at most 2 h under gpumax, 1 h under static-fifo"
    )


@pytest.mark.parametrize(
    "result", [REPLAYED, SIZES, INFLATED, ALONE], ids=["replayed", "sizes", "inflated", "alone"]
)
def test_every_figure_stands_in_a_table(result: Result) -> None:
    """Of each run, none behind a switch that a reader must move."""
    cells = Counter(re.findall(r"<td[^>]*>(.*?)(?:<span|</td>)", page(result)))
    wanted = Counter(
        column.value(run) for table in tables(result) for column in table.columns for run in result.runs
    )
    assert not wanted - cells


def _figures(found: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Where the figures of a run stand; curves and queues have pictures and tables of their own."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _figures(value, *path, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, name)


_RUN = msgspec.to_builtins(msgspec.structs.replace(REPLAYED.runs[4], allocation={}, fragments={}))


@pytest.mark.parametrize(
    "path", [path for path in _figures(_RUN) if path[-1] not in ("placed", "seed")], ids=".".join
)
def test_no_figure_of_a_run_is_kept_back(path: tuple[str, ...]) -> None:
    """Another figure makes another page."""
    other = msgspec.json.decode(msgspec.json.encode(_RUN))
    part = other
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = type(part[path[-1]])(part[path[-1]] * 2 + 3)
    one, two = (Result("r", (msgspec.convert(run, Run),)) for run in (_RUN, other))
    assert page(one) != page(two)


def test_what_is_missing_is_said_first() -> None:
    """Runs that broke and runs that were stopped."""
    text = text_of(EMPTY)
    assert (
        "Not all of it was made gpumax, seed 42 broke: broken The study was stopped: 2 runs are missing"
        in text
    )


def test_what_would_mislead_is_said_before_the_figures() -> None:
    """Work that is too large for a policy's cluster has no waits; work that never ended has none either; faults of ours are named."""
    run = replayed("gpumax", 0.5, 0, 1, 100, 1_000)
    text = text_of(Result("x", (msgspec.structs.replace(run, stuck=3, rule_breaks=1),)))
    assert "Under gpumax 2 workloads never had a cluster large enough; no wait of theirs is counted." in text
    assert "Under gpumax 3 workloads had not ended when nothing could happen any more." in text
    assert "1 decision of gpumax broke a rule of the policy" in text
    assert text.index("Read with care") < text.index("At a glance")
    sound = msgspec.structs.replace(run, arrived=Arrived(10, 1.0))
    assert "Read with care" not in text_of(Result("x", (sound,)))


def test_work_that_was_done_again_is_no_use_unsaid() -> None:
    """GPUs that do lost work again are at work, too: the table, and the picture of use, say so. Where nothing was lost, nothing is said."""
    text = text_of(REPLAYED)
    assert "at work counts work that was done again and restarts, too: 0.07 % under gpumax" in text.lower()
    assert "what was asked for and ran, work that was done again included" in text
    assert "done again and restarts" not in text_of(Result("x", REPLAYED.runs[:2]))


def test_rows_that_were_left_out_are_counted_and_shown() -> None:
    """The first of them, with what was found and wanted."""
    text = text_of(REPLAYED)
    assert "Rows that were left out, the first 2 of 31" in text
    assert "row 17, column duration : found '-4'; wanted a duration, not negative" in text


def test_the_command_that_made_it_stands_in_it() -> None:
    """With the version and the seeds."""
    text = text_of(REPLAYED)
    assert "With gpumax 0.1.0. Seeds: 42." in text
    assert "gpumax simulate philly.yaml" in text


def test_seeds_are_drawn_as_their_mean() -> None:
    """One line a policy; counts are rounded."""
    one, two = (
        replayed("gpumax", use, 0, 1, 100, 1_000, evicted=evicted) for use, evicted in ((0.5, 30), (0.7, 33))
    )
    both = mean([one, two])
    assert both.use.requested == pytest.approx(0.6)
    assert both.evictions.reclaim == 32
    assert [group.label for group in groups(INFLATED)].count("gpumax") == 1


def test_runs_that_were_stopped_are_not_averaged() -> None:
    """Half a run would move the mean."""
    whole = replayed("gpumax", 0.5, 0, 1, 100, 1_000)
    half = msgspec.structs.replace(replayed("gpumax", 0.1, 0, 1, 100, 1_000, seed=43), finished=False)
    (group,) = groups(Result("x", (whole, half)))
    assert group.mean == whole


def test_policies_are_compared_on_a_cluster_that_both_were_played_on() -> None:
    """Where there is one."""
    subject, other = pair(groups(SIZES))
    assert subject is not None
    assert other is not None
    assert (subject.mean.gpus, other.mean.gpus) == (704, 704)


def test_pictures_of_one_cluster_of_several_say_which() -> None:
    """The smallest that both were played on."""
    text = text_of(SIZES)
    assert text.count("On 704 GPUs, the smallest cluster that both were played on.") == 4
    assert "smallest cluster" not in text_of(REPLAYED)


def test_equal_wait_is_the_shortest_that_both_reach() -> None:
    """So that nobody can choose the wait that flatters."""
    found = equal(groups(SIZES))
    assert found is not None
    assert (found.wait_s, found.subject.mean.gpus, found.other.mean.gpus) == (288, 984, 2_816)


_LESS = (
    {"arrived": Arrived(68_503, 690_860.0, 5)},
    {"arrived": Arrived(68_503, 650_000.0, 2)},
    {"arrived": Arrived(40_000, 690_860.0, 2)},
    {"stuck": 1},
)


@pytest.mark.parametrize("less", _LESS, ids=["never", "hours", "workloads", "stuck"])
def test_a_cluster_on_which_less_work_runs_meets_no_wait(less: dict[str, Any]) -> None:
    """However short the waits of what did run there: the next larger one counts."""
    small = msgspec.structs.replace(SIZES.runs[3], gpus=200, wait_s=SIZES.runs[0].wait_s, **less)
    found = equal(groups(Result("x", (*SIZES.runs, small))))
    assert found is not None
    assert (found.subject.mean.gpus, found.other.mean.gpus) == (984, 2_816)


def test_policies_that_did_not_do_the_same_work_need_no_sizes() -> None:
    """Nowhere is one said to need fewer GPUs for less work; the picture says what its waits leave out."""
    less = tuple(
        msgspec.structs.replace(run, arrived=Arrived(68_503, 690_000.0, 9))
        if run.policy == "static-backfill"
        else run
        for run in SIZES.runs
    )
    result = Result("x", less)
    assert equal(groups(result)) is None
    text = text_of(result)
    assert "of the same work to wait at most" not in text
    assert "gpumax needs" not in text
    assert "A cluster on which less work ran than on others meets no wait" in text
    assert "4.8 min on 2,816 GPUs (9 workloads can never run there)" in text
    assert "meets no wait" not in text_of(SIZES)
    stopped = tuple(msgspec.structs.replace(run, finished=False) for run in SIZES.runs)
    assert equal(groups(Result("x", stopped))) is None


def test_fractions_of_the_same_work_are_compared_by_size() -> None:
    """Who asks for less of its GPU does the same work with fewer GPU hours; a size on which less came is still none to compare."""
    fewer = Arrived(68_503, 600_000.0, 2)
    halves = tuple(
        msgspec.structs.replace(run, policy="gpumax-fractions", arrived=fewer)
        for run in SIZES.runs
        if run.policy == "gpumax"
    )
    statics = tuple(run for run in SIZES.runs if run.policy != "gpumax")
    both = equal(groups(Result("x", (*statics, *halves))))
    assert both is not None
    assert both.subject.policy == "gpumax-fractions"
    text = text_of(Result("x", (*SIZES.runs, *halves)))
    assert "meets no wait" not in text
    less = msgspec.structs.replace(halves[0], arrived=Arrived(68_503, 500_000.0, 2))
    assert "meets no wait" in text_of(Result("x", (*SIZES.runs, *halves[1:], less)))


def test_results_go_into_one_report() -> None:
    """As if they had been one study."""
    small = Result("a", SIZES.runs[:4], gpumax="0.1.0", command="gpumax simulate a.yaml")
    large = Result("b", SIZES.runs[4:], gpumax="0.1.0", command="gpumax simulate b.yaml", unfinished=1)
    both = merged((small, large))
    assert both.runs == SIZES.runs
    assert (both.scenario, both.unfinished) == ("a + b", 1)
    assert both.command.splitlines() == ["gpumax simulate a.yaml", "gpumax simulate b.yaml"]


def test_a_run_that_stands_in_several_results_counts_once() -> None:
    """However long deciding took: so do the rows that were left out, and runs that broke or are missing."""
    again = Result("a", SIZES.runs[4:], bad_rows=3, failed=(Failed("fgd", 1, "no nodes"),), unfinished=1)
    slower = tuple(msgspec.structs.replace(run, scheduler=Effort(1, 9.0, 9.0)) for run in again.runs)
    both = merged((again, msgspec.structs.replace(again, runs=slower)))
    assert (both.runs, both.bad_rows, both.failed, both.unfinished) == (again.runs, 3, again.failed, 1)
    more = merged((again, Result("a", SIZES.runs, bad_rows=3)))
    assert more.runs == (*SIZES.runs[4:], *SIZES.runs[:4])
    assert more.bad_rows == 3


def test_runs_that_differ_and_should_not_are_no_one_study() -> None:
    """One policy, one seed, equally many GPUs and other figures: their mean would be a figure of nothing."""
    (run,) = SIZES.runs[:1]
    other = msgspec.structs.replace(run, makespan_s=1.0)
    with pytest.raises(
        Refused, match="static-backfill, seed 42, on 2,816 GPUs stands in these results twice"
    ):
        merged((Result("a", (run,)), Result("b", (other,))))
    stopped = msgspec.structs.replace(other, finished=False)
    assert merged((Result("a", (run,)), Result("b", (stopped,)))).runs == (run, stopped)


@pytest.mark.parametrize("result", [REPLAYED, SIZES, INFLATED], ids=["replayed", "sizes", "inflated"])
def test_a_picture_that_stands_alone_has_room_around_it(result: Result) -> None:
    """Its card reaches beyond what is drawn on every side: on the page of another colour no letter touches the edge."""
    for _, text in plots(result):
        root = ElementTree.fromstring(text)
        left, top, width, height = map(float, root.attrib["viewBox"].split())
        assert (width, height) == (float(root.attrib["width"]), float(root.attrib["height"]))
        assert left < 0
        assert top < 0
        card = next(part for part in root if part.tag.endswith("rect"))
        assert (float(card.attrib["x"]), float(card.attrib["y"])) == (left, top)
        for part in root.iter():
            assert left < float(part.attrib.get("x", 0)) < left + width or part is card
