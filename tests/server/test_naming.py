"""Names that nobody wrote."""

from __future__ import annotations

import pytest

from gpumax.apps.server.naming import name_of_command, with_names
from gpumax.formats.parsed import Parsed, no_lines
from gpumax.formats.text import parse_text


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (["python", "train.py", "--lr", "1"], "train"), (["/usr/bin/nvidia-smi"], "nvidia-smi"), (["python", "-m", "pkg.fit", "x"], "fit"),
        (["python3", "-c", "print(1)"], "python3"), (["torchrun", "--nproc-per-node", "2", "src/main.py"], "main"),
        ("python train.py > out.txt", "train"), ("A=1 B=2 ./run.sh x", "run"), ("sleep 5", "sleep"), ("echo 'unfinished", "echo"),
        ("cd x && python train.py", "train"), ([], ""), (None, ""), (5, ""), (["A=1"], ""), (["x", "-m"], "x"), ("# nothing", ""),
    ],
)  # fmt: skip
def test_a_command_names_its_work(run: object, name: str) -> None:
    """By its script, the module that it runs, or its program."""
    assert name_of_command(run) == name


def _names(*documents: object, source: str = "", taken: tuple[str, ...] = ()) -> list[object]:
    named, _ = with_names([Parsed(document, no_lines, source) for document in documents], taken.__contains__)
    return [one.document for one in named]


def test_a_made_name_is_one_that_may_be_written() -> None:
    """Lower case, no odd characters, short enough for a number behind it; never empty."""
    assert _names({"run": ["x" * 200]})[0] == {"run": ["x" * 200], "name": "x" * 57}
    for run, name in (("./Größe_2.PY", "gr-e-2"), ("☃", "workload"), ("-", "workload")):
        assert _names({"run": run})[0] == {"run": run, "name": name}


def test_a_file_names_its_work_before_its_command_does() -> None:
    """By its own name; standard input has none."""
    assert _names({"run": "x"}, source="a/b/My Sweep.yaml") == [{"run": "x", "name": "my-sweep"}]
    assert _names({"run": "x"}, source="standard input") == [{"run": "x", "name": "x"}]


def test_written_names_and_queues_are_left_alone() -> None:
    """What a person wrote is kept, a fault too; a made name evades it, and those that exist."""
    rows = [{"run": "x"}, {"name": "x", "run": "x"}, {"kind": "queue"}, {"name": 5}, "text", None]
    named, made = with_names([Parsed(rows, no_lines)], ("x-2",).__contains__)
    assert named[0].document == [{"run": "x", "name": "x-3"}, *rows[1:]]
    assert made == {"x-3"}


def test_the_thousandth_run_of_a_command_is_named_as_fast_as_the_first() -> None:
    """The next number, found in a few steps."""
    asked = []

    def taken(name: str) -> bool:
        asked.append(name)
        return name == "x" or int(name.removeprefix("x-")) <= 1000

    (named,), _ = with_names([Parsed({"run": "x"}, no_lines)], taken)
    assert named.document == {"run": "x", "name": "x-1001"}
    assert len(asked) < 30


def test_one_object_in_two_places_gets_two_names() -> None:
    """YAML's aliases are the same object twice."""
    named, _ = with_names(parse_text(b"- &a {run: x}\n- *a\n"), lambda _name: False)
    assert named[0].document == [{"run": "x", "name": "x"}, {"run": "x", "name": "x-2"}]
