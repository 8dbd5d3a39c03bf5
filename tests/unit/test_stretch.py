"""Stretches of time that history is to fill."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from realtime_stream.runtime.stretch import Missing, Stretch, minute_of
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
        ("trades", False, LOST - 6 * SECOND),  # clocks differ
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


def bars_until(whole_ns: int, start_ns: int = START) -> Stretch:
    stretch = Stretch("bars", "AAPL", LOST, start_ns)
    stretch.whole(whole_ns)
    return stretch


def test_the_last_bar_shows_that_history_has_everything() -> None:
    needed_ns = START + 4 * MINUTE
    missing = bars_until(needed_ns + 2 * SECOND).missing(None)
    assert missing == Missing(START + 3 * MINUTE, needed_ns + 2 * SECOND)
    lag_ns = 30 * SECOND
    assert not missing.is_there(START + 2 * MINUTE, needed_ns + 31 * SECOND, lag_ns)
    assert missing.is_there(START + 2 * MINUTE, needed_ns + 32 * SECOND, lag_ns)
    assert missing.is_there(START + 3 * MINUTE, needed_ns, lag_ns)


def test_what_is_newer_than_a_live_bar_that_waits_comes_live() -> None:
    stretch = bars_until(START + 4 * MINUTE - 3 * SECOND)
    assert stretch.missing(START + 4 * MINUTE).last_ns == START + 3 * MINUTE
    missing = stretch.missing(START + 3 * MINUTE)
    assert missing.last_ns == START + 2 * MINUTE
    assert missing.is_updated  # half a minute before the connection was whole


def test_an_update_of_the_last_bar_may_be_missing_longer_than_the_bar() -> None:
    needed_ns = START + 4 * MINUTE
    before = bars_until(needed_ns + 25 * SECOND - 1).missing(None)
    assert (before.sent_ns, before.is_updated) == (needed_ns + 6 * SECOND, False)
    after = bars_until(needed_ns + 25 * SECOND).missing(None)
    assert (after.sent_ns, after.is_updated) == (needed_ns + 25 * SECOND, True)
    lag_ns = 30 * SECOND
    assert after.shows(START + 3 * MINUTE)
    assert not after.is_there(START + 3 * MINUTE, needed_ns + 54 * SECOND, lag_ns)
    assert after.is_there(START + 3 * MINUTE, needed_ns + 55 * SECOND, lag_ns)
    late = bars_until(needed_ns + 50 * SECOND).missing(None)
    assert late.sent_ns == needed_ns + 36 * SECOND


def test_what_began_after_the_last_minute_lacks_nothing() -> None:
    needed_ns = START + 4 * MINUTE
    stretch = bars_until(needed_ns + 40 * SECOND, start_ns=needed_ns)
    assert stretch.missing(None).is_there(stretch.newest_ns, needed_ns, 300 * SECOND)
    stretch.dropped(START, START + MINUTE, START + 2 * MINUTE)
    assert not stretch.missing(None).is_there(stretch.newest_ns, needed_ns, 300 * SECOND)


def test_when_a_stretch_of_trades_is_complete() -> None:
    stretch = Stretch("trades", "AAPL", LOST, LOST)
    stretch.whole(START + 200 * SECOND)
    missing = stretch.missing(None)
    lag_ns = 30 * SECOND
    assert not missing.is_there(START + 210 * SECOND, START + 229 * SECOND, lag_ns)
    assert missing.is_there(0, START + 230 * SECOND, lag_ns)


def test_what_was_dropped_had_been_sent_when_it_was_received() -> None:
    received_ns = START + 210 * SECOND
    trades = Stretch("trades", "AAPL", LOST, LOST, whole_ns=START + 200 * SECOND)
    trades.dropped(LOST, START + 200 * SECOND, received_ns)
    assert trades.missing(None).sent_ns == received_ns
    trades.dropped(START, START + 201 * SECOND, received_ns + SECOND)
    assert trades.missing(None).sent_ns == received_ns + SECOND
    assert trades.end_ns == START + 201 * SECOND
    assert (trades.lost_ns, trades.ask_from_ns) == (START, START)


def test_what_was_dropped_is_missing_though_the_connection_was_whole_before_it_came() -> None:
    """The inbox tells of what it dropped first: also of what came after a reconnect."""
    stretch = Stretch.lost_at("trades", "AAPL", LOST, watched=True)
    stretch.dropped(START + 100 * SECOND, START + 500 * SECOND, START + 501 * SECOND)
    stretch.whole(START + 200 * SECOND)
    assert stretch.end_ns == START + 500 * SECOND
    assert stretch.missing(None).sent_ns == START + 501 * SECOND


def test_a_loss_that_came_before_what_was_dropped_makes_the_stretch_longer() -> None:
    dropped = Stretch("bars", "AAPL", START + 11 * MINUTE, START + 11 * MINUTE)
    dropped.lost_again(Stretch.lost_at("bars", "AAPL", LOST, watched=True))
    assert (dropped.lost_ns, dropped.start_ns, dropped.ask_from_ns) == (LOST, START, START)
    assert dropped.newest_ns < START
    dropped.has_until(START + 10 * MINUTE)
    dropped.lost_again(Stretch.lost_at("bars", "AAPL", START + 3 * MINUTE, watched=True))
    assert dropped.ask_from_ns == START + 8 * MINUTE


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
    trades.dropped(START - 10 * SECOND, START, START)
    assert trades.ask_from_ns == START - 10 * SECOND
