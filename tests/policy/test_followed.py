"""One decision after the other, on rows most of which are the very objects of the snapshot before."""

from __future__ import annotations

from copy import deepcopy

import pytest

from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from story import story
from thorough import examples


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(examples(4, 12)))
def test_what_was_decided_before_changes_nothing(seed: int) -> None:
    """A decision rests on its snapshot alone: rows known from the one before count as if they were seen for the first time."""
    told = story(seed)
    followed = [decide(snapshot, effort=NONE) for snapshot in told]
    assert followed == [decide(deepcopy(snapshot), effort=NONE) for snapshot in told]
