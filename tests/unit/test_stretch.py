"""Stretches of time that history is to fill."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from realtime_stream.runtime.stretch import Stretch, minute_of
from tests.unit.test_history_desk import MINUTE, SECOND, START

LOST = START + 150 * SECOND


def test_the_minute_of_a_moment() -> None:
    assert minute_of(START) == minute_of(START + MINUTE - 1) == START
    assert minute_of(START - 1) == START - MINUTE


def test_a_stretch_is_endless_until_the_connection_is_whole() -> None:
    stretch = Stretch.lost_at("bars", "AAPL", LOST, watched=True)
    assert (stretch.lost_ns, stretch.start_ns) == (LOST, START)
    assert (stretch.held_until, stretch.give_up_at) == (math.inf, math.inf)
    assert stretch.needed_until_ns == START + 2 * MINUTE


@pytest.mark.parametrize(
    ("channel", "watched", "start_ns"),
    [
        ("bars", True, START),
        ("bars", False, START + 2 * MINUTE),
        ("trades", True, LOST - 15 * SECOND),
        ("trades", False, LOST),
    ],
)
def test_where_history_begins(
    channel: Literal["bars", "trades"], *, watched: bool, start_ns: int
) -> None:
    assert Stretch.lost_at(channel, "AAPL", LOST, watched=watched).start_ns == start_ns


def test_bars_are_needed_up_to_the_minute_that_runs_and_trades_up_to_the_connection() -> None:
    whole_ns = START + 176 * SECOND
    assert Stretch("bars", "AAPL", LOST, LOST, whole_ns).needed_until_ns == START + 3 * MINUTE
    earlier_ns = START + 174 * SECOND
    assert Stretch("bars", "AAPL", LOST, LOST, earlier_ns).needed_until_ns == START + 2 * MINUTE
    assert Stretch("trades", "AAPL", LOST, LOST, whole_ns).needed_until_ns == whole_ns


def test_when_a_stretch_of_bars_is_complete() -> None:
    needed_ns = START + 4 * MINUTE
    stretch = Stretch("bars", "AAPL", LOST, START, needed_ns + 10 * SECOND)
    lag_ns = 30 * SECOND
    assert not stretch.is_complete(needed_ns, lag_ns, None)
    assert stretch.is_complete(needed_ns + lag_ns, lag_ns, None)
    stretch.newest_ns = START + 2 * MINUTE
    assert not stretch.is_complete(needed_ns, lag_ns, None)
    assert not stretch.is_complete(needed_ns, lag_ns, START + 4 * MINUTE)
    assert stretch.is_complete(needed_ns, lag_ns, START + 3 * MINUTE)
    stretch.newest_ns = START + 3 * MINUTE
    assert stretch.is_complete(needed_ns, lag_ns, None)


def test_when_a_stretch_of_trades_is_complete() -> None:
    stretch = Stretch("trades", "AAPL", LOST, LOST, START + 200 * SECOND)
    lag_ns = 30 * SECOND
    assert not stretch.is_complete(START + 229 * SECOND, lag_ns, None)
    assert stretch.is_complete(START + 230 * SECOND, lag_ns, None)
    stretch.newest_ns = START + 200 * SECOND  # clocks differ
    assert not stretch.is_complete(START + 201 * SECOND, lag_ns, None)


def test_when_a_stretch_of_bars_is_complete_whose_last_update_was_lost() -> None:
    needed_ns = START + 4 * MINUTE
    stretch = Stretch("bars", "AAPL", LOST, START, needed_ns + 25 * SECOND)
    stretch.newest_ns = START + 4 * MINUTE
    lag_ns = 30 * SECOND
    assert not stretch.is_complete(needed_ns + 54 * SECOND, lag_ns, START + 4 * MINUTE)
    assert stretch.is_complete(needed_ns + 55 * SECOND, lag_ns, None)


def test_what_an_answer_has_brought_is_not_asked_for_again() -> None:
    bars = Stretch("bars", "AAPL", LOST, START, START + 200 * SECOND)
    assert bars.ask_from_ns == START
    bars.has_until(START + 10 * MINUTE)
    assert bars.ask_from_ns == START + 8 * MINUTE
    bars.has_until(START + 5 * MINUTE)
    assert bars.ask_from_ns == START + 8 * MINUTE
    trades = Stretch("trades", "AAPL", LOST, START, START + 200 * SECOND)
    trades.has_until(START + 60 * SECOND)
    assert (trades.ask_from_ns, trades.start_ns) == (START + 45 * SECOND, START)
    trades.widen(START - 10 * SECOND, START)
    assert trades.ask_from_ns == START - 10 * SECOND
