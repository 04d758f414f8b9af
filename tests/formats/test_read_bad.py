"""Bad input: every fault at once, each with its path, its line, what was found and what was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats.kit import fault_of, faults_of, snapshot, submit
from gpumax.errors import BadFile
from gpumax.formats.json_text import MOST_VALUES
from gpumax.formats.snapshot import load_snapshot
from gpumax.formats.text import MOST_BYTES, MOST_YAML_BYTES, parse_text, read_file
from gpumax.formats.yaml_text import MOST_ALIASED


def _told(text: object, source: str = "") -> str:
    """The faults of a text, one a line, as a user sees them."""
    return "\n".join(str(fault) for fault in faults_of(load_snapshot, text, source=source))


def test_every_fault_is_told_at_once() -> None:
    """In the order of their lines, whatever part of the file they are in."""
    text = """\
version: gpumax/v2
nodes:
  - name: n1
    cpu: -4
    colour: red
  - name: n1
    devices: {count: eight}
queues:
  - name: a
    parent: b
  - name: b
    parent: a
    quota: {gpu: .nan}
workloads:
  - name: w
    queu: a
    tasks:
      - {name: t, state: runing}
"""
    assert _told(text).splitlines() == [
        'line 1: version: found "gpumax/v2"; wanted one of gpumax/v1 (did you mean gpumax/v1?)',
        "line 4: nodes[0].cpu: found -4; wanted 0 or more",
        "line 5: nodes[0].colour: found an unknown field; wanted one of name, pool, cpu, memory, tasks, devices, extended, labels, taints, ready, cordoned",
        'line 6: nodes[1].name: found "n1" twice, first at nodes[0]; wanted each name once',
        'line 7: nodes[1].devices.count: found "eight"; wanted a whole number, 0 to 256',
        "line 13: queues[1].quota.gpu: found nan; wanted an amount like 2, 0.5 or 500m, or unlimited",
        "line 15: workloads[0].queue: found nothing; wanted the field queue",
        "line 16: workloads[0].queu: found an unknown field; wanted one of name, queue, priority, preemptible, submitted, started, checkpointed, stale_since, max_duration, pool, labels, groups, topology, request, tasks (did you mean queue?)",
        'line 18: workloads[0].tasks[0].state: found "runing"; wanted one of pending, gated, bound, running, releasing, succeeded, failed (did you mean running?)',
    ]


def test_a_fault_of_a_workload_hides_no_node_that_is_not_there() -> None:
    """Both are told at once; where a task holds nothing, its node says nothing."""
    text = """\
nodes: [{name: n1}]
workloads:
  - name: w
    queue: q
    request: {gpu: 1.5}
    tasks:
      - {name: s, state: running, node: n1}
      - {name: t, state: running, node: n9}
      - {name: u, node: n9}
      - 7
  - [w]
"""
    assert [line.partition(";")[0] for line in _told(text).splitlines()] == [
        "line 5: workloads[0].request.gpu: found 1.5",
        'line 8: workloads[0].tasks[1].node: found "n9"',
        "line 10: workloads[0].tasks[3]: found 7",
        "line 11: workloads[1]: found a list of 1",
    ]


def test_a_file_with_a_thousand_faults_names_the_first_and_counts_the_rest() -> None:
    """Nobody reads a thousand lines."""
    faults = faults_of(snapshot, "queues: [" + "{name: 1}, " * 1000 + "]")
    assert len(faults) == 51
    assert faults[-1].found == "950 more faults"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("queues: [{name: a, parent: a}]", "queues[0].parent: found a cycle: a > a; wanted a tree"),
        ("queues: [{name: a, fresh: z}]", 'queues[0].fresh: found "z"; wanted a queue that exists'),
        (
            "queues: [{name: a, demote: [10, 1]}]",
            "queues[0].demote: found \"10, 1\"; wanted numbers above 0, each larger than the one before",
        ),
        ("queues: [{name: a, parent: z}]", 'queues[0].parent: found "z"; wanted a queue that exists'),
        ("queues: [{name: a}, {name: a}]", 'queues[1].name: found "a" twice, first at queues[0]'),
        ("workloads: [{name: a, queue: q, tasks: [{name: t}]}, {name: a, queue: q, tasks: [{name: u}]}]", 'workloads[1].name: found "a" twice'),
        ("workloads: [{name: a, queue: q, tasks: [{name: t}]}, {name: b, queue: q, tasks: [{name: t}]}]", 'workloads[1].tasks[0].name: found "t" twice, first at workloads[0].tasks[0]'),
        ("nodes: [{name: n, cpu: .nan}]", "found nan; wanted an amount"),
        ("nodes: [{name: n, memory: .inf}]", "found inf; wanted an amount"),
        ("nodes: [{name: n, memory: -.inf}]", "found -inf; wanted an amount"),
        ("nodes: [{name: n, tasks: 1.5}]", "found 1.5; wanted a whole number"),
        ("nodes: [{name: n, cpu: 1e300}]", "found 1e300; wanted at most"),
        ('nodes: [{name: n, cpu: "1e999999999"}]', "wanted an amount"),
        ("nodes: [{name: n, memory: " + "9" * 900 + "}]", "found a number of many digits; wanted at most"),
        ("nodes: [{name: n, cpu: true}]", "found true; wanted an amount"),
        ("nodes: [{name: n, ready: 1}]", "found 1; wanted true or false"),
        ("workloads: [{name: w, queue: q, preemptible: half, tasks: [{name: t}]}]", 'found "half"; wanted true, false or semi'),
        ('nodes: [{name: n, ready: "true"}]', 'found "true"; wanted true or false'),
        ('nodes: [{name: n, tasks: "4"}]', 'found "4"; wanted a whole number'),
        ("nodes: [{name: 123}]", "found 123; wanted a name: a letter or digit first, then letters, digits, `.`, `_`, `-`, `/` (numbers and booleans in quotes)"),
        ("nodes: [{name: n, labels: {a: 1}}]", "nodes[0].labels.a: found 1; wanted text on one line (numbers and booleans in quotes)"),
        ("nodes: [{name: a b}]", 'found "a b"; wanted a name'),
        (f"nodes: [{{name: {'a' * 300}}}]", "wanted at most 253 characters"),
        ("nodes: {a: b}", "nodes: found an object; wanted a list"),
        ("nodes: [[]]", "nodes[0]: found a list of 0; wanted an object with name, pool, cpu, memory"),
        ("nodes: [null]", "nodes[0]: found nothing; wanted an object"),
        ("[1, 2]", "the file: found a list of 2; wanted an object with version, now, nodes, queues"),
        ("hello", 'found "hello"; wanted an object'),
        ("5", "found 5; wanted an object"),
        ("priorities: {a: b}", 'priorities.a: found "b"; wanted a whole number'),
        ("workloads: [{name: w, queue: q, tasks: []}]", "workloads[0].tasks: found a list of 0; wanted at least one entry"),
        ("workloads: [{name: w, queue: q}]", "workloads[0].tasks: found nothing; wanted the field tasks"),
        ("workloads: [{name: w, queue: null, tasks: [{name: t}]}]", "workloads[0].queue: found nothing"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_faults(text: str, told: str) -> None:
    """Cycles, names that stand twice, numbers that are none, wrong types."""
    assert told in _told(text)


def test_a_long_chain_of_queues_is_refused() -> None:
    """It would be walked for every queue below."""
    chain = ", ".join(f"{{name: q{number}, parent: q{number + 1}}}" for number in range(100))
    assert "more than 64 queues above each other" in _told(f"queues: [{chain}, {{name: q100}}]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("2026-01-01", "2026-01-01"), ("12:30:00", "12:30:00"), ("1_000", "1_000"),
        ("0b11", "0b11"), ("=", "="), ("'007'", "007"), ("null_", "null_"),
    ],
)  # fmt: skip
def test_words_that_yaml_1_1_turned_into_other_things_are_text(text: str, value: str) -> None:
    """Booleans, dates, times and numbers of YAML 1.1 are what they look like."""
    assert snapshot(f"nodes: [{{name: n, labels: {{a: {text}}}}}]").nodes[0].labels == {"a": value}


@pytest.mark.parametrize(
    ("text", "cores"), [("0o17", 15), ("0x1F", 31), ("012", 12), ("+3", 3), ("1.50", 1.5), ("1e1", 10)]
)
def test_numbers_are_those_of_yaml_1_2(text: str, cores: float) -> None:
    """A leading zero is no octal."""
    assert snapshot(f"nodes: [{{name: n, cpu: {text}}}]").nodes[0].cpu_milli == cores * 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes:\n\t- name: a\n", "line 2: the file: found a tab; wanted spaces"),
        ("nodes:\n  - name: a\n\tcpu: 3\n", "line 3: the file: found a tab; wanted spaces"),
        ("nodes: []\nnodes: []\n", 'line 2: nodes: found key "nodes" twice, first on line 1; wanted each key once'),
        ('{"nodes": [],\n "nodes": []}', 'line 2: nodes: found key "nodes" twice, first on line 1; wanted each key once'),
        ('{"nodes": [{"name": "a",\n "name" : "b"}]}', 'line 2: nodes[0].name: found key "name" twice'),
        ('{"a": {"\\u0061": 1, "a": 2}}', 'found key "a" twice'),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", "line 3: b[\"<<\"]: found a merge key"),
        ("nodes: !!python/object/apply:os.system [ls]", 'found tag "tag:yaml.org,2002:python/object/apply:os.system"'),
        ("nodes: !!binary aGk=", "found tag"),
        ("nodes: *nowhere", "found alias *nowhere, which no anchor defines"),
        ("nodes: &a [*a]", "found alias *a inside of what it stands for"),
        ("? [a]\n: b", "found a key that is no text"),
        ("1: 2", 'found key 1, which is no text; wanted "1" in quotes'),
        ("nodes: []\n---\nnodes: []", "found 2 documents; wanted one document"),
        ("nodes: [{name: 'a", "line 1: the file: found broken YAML"),
        ("name: a: b", "found broken YAML (mapping values are not allowed in this context); wanted quotes"),
        ("a: 1\n b: 2\n", "line 2: the file: found broken YAML"),
        ('{"nodes": [],\n}}', "line 2: the file: found broken JSON"),
        ('{"nodes": [', "found broken JSON (it ends too early)"),
        ('{"now":\n "\\ud800"}', "line 2: the file: found broken JSON (half of a surrogate pair)"),
        ('now: "\\ud800"', "line 1: the file: found broken YAML"),
        ("", "found nothing in it"),
        (" \n\n", "found nothing in it"),
        ("# only a remark\n", "found nothing in it"),
        ("null", "found nothing in it"),
        (b"nodes: [{name: \xff}]", "line 1: the file: found byte 0xff at byte 15, which is not UTF-8"),
        (b"now: 1\nnodes: \0[]", "line 2: the file: found a NUL byte at byte 14; wanted text"),
        (b"nodes: \x07[]", "found character 0x07; wanted text without control characters"),
        ("nodes: []".encode("utf-16"), "the file: found"),
    ],
)  # fmt: skip
def test_text_that_is_no_document_is_a_fault(text: str | bytes, told: str) -> None:
    """Tabs, keys that stand twice, tags, broken syntax, bytes that are no text."""
    assert told in _told(text)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    """Lines are counted as an editor counts them."""
    assert load_snapshot(b"\xef\xbb\xbfnodes: [{name: a}]\r\n").nodes[0].name == "a"
    assert load_snapshot(b'\xef\xbb\xbf{"nodes": []}').nodes == ()
    assert "line 3: nodes[0].cpu" in _told("nodes:\r\n  - name: a\r\n    cpu: x\r\n")


def test_yaml_may_start_with_a_bracket() -> None:
    """What looks like JSON and is YAML is read as YAML, unless the file says that it is JSON."""
    assert load_snapshot("{nodes: [{name: a}]}").nodes[0].name == "a"
    assert "broken JSON" in _told("{nodes: [{name: a}]}", "cluster.json")
    assert "broken YAML" in _told("{nodes: [{name: a]}", "cluster.yaml")
    assert "broken JSON" in _told('{"nodes": [{"name": "a"]}')


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, '{"a":[' * 200 + "]}" * 200,
        "a: " + "[" * 5000 + "]" * 5000, "\n".join(" " * depth + "a:" for depth in range(500)), "- " * 5000 + "a",
    ],
)  # fmt: skip
def test_deep_nesting_is_a_fault_and_no_recursion(text: str) -> None:
    """In both languages, with and without an end."""
    assert "nested deeper than 100" in _told(text)


def test_aliases_that_explode_are_refused() -> None:
    """A billion laughs stand for more than may be read; sensible aliases are read."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert f"aliases that stand for more than {MOST_ALIASED:,} values" in _told("\n".join(lines))
    shared = "queues: [{name: a, quota: &q {gpu: 4}}, {name: b, quota: *q}]"
    assert [queue.quota.gpu for queue in snapshot(shared).queues] == [4000, 4000]


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    """A file of 100 MB; YAML beyond what is quick; millions of values."""
    assert "found 100 MiB; wanted at most 64 MiB" in _told(b" " * (100 << 20))
    assert "MiB of YAML; wanted at most 8 MiB; write it as JSON" in _told(
        b"a: b\n" * (MOST_YAML_BYTES // 5 + 1)
    )
    assert f"more than {MOST_VALUES:,} values" in _told(b"[" + b"1," * (MOST_VALUES + 1) + b"1]")


def test_a_yaml_file_of_a_million_values_is_refused() -> None:
    """Reading stops there."""
    assert "too many values" in _told(b"nodes: [" + b"a," * 1_000_001 + b"]")


def test_files_that_can_not_be_read_are_faults(tmp_path: Path) -> None:
    """Directories, what isn't there, and what is too large; the fault names the file."""
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for path, found in ((tmp_path, "a directory"), (tmp_path / "none", "no such file"), (large, "65 MiB"), (f"{tmp_path}/a\0b", "can't be read")):  # fmt: skip
        with pytest.raises(BadFile) as caught:
            read_file(path)
        assert found in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_path_is_read_as_a_file(tmp_path: Path) -> None:
    """Its faults name it."""
    path = tmp_path / "cluster.yaml"
    path.write_text("nodes: [{name: a, cpu: x}]")
    with pytest.raises(BadFile, match=r"cluster\.yaml: line 1: nodes\[0\]\.cpu"):
        load_snapshot(path)
    path.write_text("now: 5")
    assert load_snapshot(path).now_ms == 5000


def test_an_endless_file_is_read_no_further_than_the_limit() -> None:
    """A device has no size to look at."""
    with pytest.raises(BadFile, match="65 MiB"):
        read_file("/dev/zero")


def test_what_a_terminal_would_act_on_is_written_out() -> None:
    """In values and in keys; long values are cut."""
    told = _told('nodes: [{name: "\\e[31mred\\a\\u202e"}]\n"\\e[2J": 1\n')
    assert "\x1b" not in told
    assert '"\\u001b[31mred\\u0007\\u202e"' in told
    assert '["\\u001b[2J"]: found an unknown field' in told
    assert len(_told(f"nodes: [{{name: '{'a!' * 5000}'}}]")) < 300
    assert len(_told({"a" * 5000: 1})) < 300


@pytest.mark.parametrize("indent", [None, 2])
def test_lines_of_json_are_those_of_the_text(indent: int | None) -> None:
    """Also where keys and values need escapes, and text looks like brackets."""
    import json

    document = {
        "nodes": [
            {"name": "a", "labels": {'x"]}[{': "b", "é\n": 'c":'}, "cpu": "bad"},
            {"name": "b", "cpu": 4},
        ],
        "queues": [{"name": "q", "quota": {"gpu": -1}}],
    }
    text = json.dumps(document, indent=indent)
    faults = {fault.path: fault.line for fault in faults_of(load_snapshot, text)}
    for path, sign in (
        ("nodes[0].cpu", '"bad"'),
        ("queues[0].quota.gpu", "-1"),
        ('nodes[0].labels["x\\"]}[{"]', "]}[{"),
    ):
        line = next(number for number, part in enumerate(text.split("\n"), 1) if sign in part)
        assert faults[path] == line


def test_documents_without_text_have_no_lines() -> None:
    """Programs pass plain dicts."""
    fault = fault_of(load_snapshot, {"nodes": [{"name": "a", "cpu": object()}]})
    assert (fault.path, fault.line, fault.found) == ("nodes[0].cpu", None, "a Python object")


def test_parsed_text_keeps_every_document() -> None:
    """In their order; empty ones are passed over."""
    parsed = parse_text(b"---\na: 1\n---\n---\nb: 2\n...\n", "f")
    assert [one.document for one in parsed] == [{"a": 1}, {"b": 2}]
    assert [one.line_of("b") for one in parsed] == [2, 5]


def test_an_unknown_project_is_a_fault_of_a_workload_file() -> None:
    """In a snapshot it would be a hold."""
    assert fault_of(submit, "{run: x, project: defualt}").wanted.endswith("(did you mean default?)")
