"""What time it is goes by the API server's clock, and by ours where they agree."""

from __future__ import annotations

import pytest

from gpumax.engines.kubernetes.client.servertime import LOOK_S, ServerTime

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
DATE_MS = 1_700_000_000_000


class Steady:
    """A clock that is told to run on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Seconds since nobody knows when."""
        return self.now_s


@pytest.mark.parametrize("off_ms", [-300_000, -3000, 3000, 300_000])
def test_where_clocks_differ_the_servers_counts(off_ms: int) -> None:
    """And runs on between two answers, however often ours is asked."""
    steady = Steady()
    time = ServerTime(steady)
    time.heard(DATE)
    assert time.now_ms(DATE_MS + off_ms) == DATE_MS + 500
    steady.now_s += 7
    assert time.now_ms(DATE_MS + off_ms) == DATE_MS + 7500


@pytest.mark.parametrize("off_ms", [-1000, 0, 1999])
def test_where_they_agree_ours_counts(off_ms: int) -> None:
    """An answer says whole seconds, and ours is finer."""
    time = ServerTime(Steady())
    time.heard(DATE)
    assert time.now_ms(DATE_MS + 500 + off_ms) == DATE_MS + 500 + off_ms


def test_what_is_no_date_says_nothing() -> None:
    """Nor does an answer without one."""
    time = ServerTime(Steady())
    for date in (None, "", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT"):
        time.heard(date)
    assert time.now_ms(5) == 5


def test_a_clock_that_is_put_right_is_followed_and_one_that_wobbles_is_not() -> None:
    """Within two seconds it may be the way of the answer; beyond, it is the clock."""
    steady = Steady()
    time = ServerTime(steady)
    time.heard(DATE)
    steady.now_s += LOOK_S
    time.heard("Tue, 14 Nov 2023 22:13:31 GMT")
    assert time.now_ms(0) == DATE_MS + 10_500
    steady.now_s += LOOK_S
    time.heard("Tue, 14 Nov 2023 22:23:40 GMT")
    assert time.now_ms(0) == DATE_MS + 620_500
