"""What tests of sharing have in common: a rig that is taken apart afterwards, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharing.rig import Group, Rig, check_turns


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(groups: dict[str, Group], *faults: dict[str, Any], **more: Any) -> Rig:
        made.append(Rig(tmp_path, groups, **more))
        made[-1].serve(*faults)
        return made[-1]

    yield make
    for each in made:
        each.end()
        if not each.forgetful:
            check_turns(each)
