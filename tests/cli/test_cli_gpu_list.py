"""gpumax gpu list: what it says of who has a part and neither works nor rests."""

from __future__ import annotations

import pytest

from cli.conftest import Cli
from cli.fake_api import FakeApi, page
from cli.test_cli_look import GPU, SHARED


@pytest.mark.parametrize(
    ("works", "waits", "shown"),
    [
        (True, None, "process 8 doesn't answer"),
        (False, None, "process 8 doesn't answer"),
        (False, "process 8 doesn't answer", "process 8 doesn't answer"),
        (
            False,
            "2 MiB on d: others have the room",
            "process 8 doesn't answer; waits: 2 MiB on d: others have the room",
        ),
    ],
)
def test_who_neither_works_nor_rests_is_told_of(
    works: bool, waits: str | None, shown: str, cli: Cli, api: FakeApi
) -> None:
    row = SHARED["residents"][1] | {"works": works, "waits": waits, "hangs": "process 8 doesn't answer"}
    api.on("GET /gpus", page({**GPU, "shared": {**SHARED, "residents": [row]}}))
    assert cli("gpu", "list").out.splitlines()[4].endswith(f"1.5Gi swapped; {shown}")
