"""Live bars that wait until history has brought what belongs before them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from realtime_stream.runtime.holding import HoldingPen
from tests.unit.test_history_desk import MINUTE, START, minute, minutes_of

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar


@dataclass(eq=False)
class Reason:
    """Why bars of a symbol wait."""

    symbol: str = "AAPL"
    held_until: float = math.inf


def new_pen(capacity: int = 100) -> tuple[HoldingPen, list[Bar]]:
    out: list[Bar] = []
    return HoldingPen(capacity, out.append), out


def test_nothing_waits_without_a_reason() -> None:
    pen, out = new_pen()
    assert not pen.takes(minute(0), 1.0)
    assert pen.waiting == 0
    assert pen.soonest == math.inf
    assert pen.oldest("AAPL", 0) is None
    pen.let_go(Reason())
    assert out == []


def test_bars_wait_and_are_given_out_in_order() -> None:
    pen, out = new_pen()
    reason = Reason()
    pen.hold(reason)
    assert pen.takes(minute(0), 1.0)
    assert pen.takes(minute(1), 1.0)
    assert not pen.takes(minute(1, symbol="MSFT"), 1.0)
    assert pen.waiting == 2
    pen.let_go(reason)
    assert minutes_of(out) == [0, 1]
    assert pen.waiting == 0
    assert not pen.takes(minute(2), 1.0)


def test_with_two_reasons_both_have_to_go() -> None:
    pen, out = new_pen()
    first, second = Reason(), Reason()
    pen.hold(first)
    pen.hold(first)
    pen.hold(second)
    pen.takes(minute(0), 1.0)
    pen.let_go(first)
    pen.let_go(first)
    assert out == []
    pen.let_go(second)
    assert minutes_of(out) == [0]


def test_a_wait_without_an_end_gets_one_with_its_first_bar() -> None:
    pen, _ = new_pen()
    endless, timed = Reason(), Reason(held_until=5.0)
    pen.hold(endless)
    pen.hold(timed)
    pen.takes(minute(0), 9.0)
    pen.takes(minute(1), 10.0)
    assert (endless.held_until, timed.held_until) == (9.0, 5.0)
    assert pen.soonest == 9.0
    assert not pen.is_overdue(timed, 4.9)
    assert pen.is_overdue(timed, 5.0)
    assert not pen.is_overdue(endless, 5.0)


def test_too_many_bars_are_overdue_at_once() -> None:
    pen, _ = new_pen(2)
    reason, other = Reason(), Reason("MSFT")
    pen.hold(reason)
    pen.hold(other)
    for n in range(2):
        pen.takes(minute(n), 9.0)
    assert not pen.is_overdue(reason, 0.0)
    pen.takes(minute(2), 9.0)
    assert pen.soonest == -math.inf
    assert pen.is_overdue(reason, 0.0)
    assert not pen.is_overdue(other, 0.0)
    pen.let_go(reason)
    assert not pen.is_overdue(reason, 0.0)


def test_the_oldest_regular_bar_that_waits() -> None:
    pen, _ = new_pen()
    pen.hold(Reason())
    pen.takes(minute(0, bar_kind="updated"), 9.0)
    assert pen.oldest("AAPL", 0) is None
    pen.takes(minute(4), 9.0)
    pen.takes(minute(3), 9.0)
    assert pen.oldest("AAPL", START) == START + 3 * MINUTE
    assert pen.oldest("AAPL", START + 5 * MINUTE) == START + 4 * MINUTE
    assert pen.oldest("MSFT", 0) is None


def test_what_is_not_given_out_still_counts_as_waiting() -> None:
    """A callback may end the run in the middle."""

    def leave(_: Bar) -> None:
        raise SystemExit

    pen = HoldingPen(10, leave)
    reason = Reason()
    pen.hold(reason)
    for n in range(3):
        pen.takes(minute(n), 9.0)
    with pytest.raises(SystemExit):
        pen.let_go(reason)
    assert pen.waiting == 2
