"""The bars that are built here: which, of what, and when each is due."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from realtime_stream.market.calendar import AlwaysOpen, RegularHours
from realtime_stream.market.models import TradeCancel, TradeCorrection
from realtime_stream.ports import BarsInfo
from realtime_stream.runtime.series import NEVER_NS, BuilderFactory, SeriesBoard
from realtime_stream.runtime.series_spec import SeriesSpec
from tests.unit.test_history_desk import MINUTE, SECOND, START, minute, trade

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.market.models import Bar, Trade

ONE = SeriesSpec("1m", "trades")
TEN_SECONDS = SeriesSpec("10s", "trades")
FIVE = SeriesSpec("5m", "bars")
FIFTEEN = SeriesSpec("15m", "bars")
DAY = SeriesSpec("1d", "daily_bars")
TICKS = SeriesSpec("ticks:2", "trades")


class Wants:
    """Who gets the bars of a series: those of these symbols, or of all."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols

    def wants(self, symbol: str) -> bool:
        return not self.symbols or symbol in self.symbols


class Board(SeriesBoard):
    """A board that a test feeds as dispatch does."""

    def __init__(self) -> None:
        super().__init__(
            BuilderFactory(calendar=AlwaysOpen(), alignment="utc", grace_ns=2 * SECOND)
        )
        self.time_ns = START

    def wish(self, *specs: SeriesSpec, symbols: Iterable[str] = ("AAPL",)) -> None:
        self.want({spec: Wants(*symbols) for spec in specs})

    def trade(self, *trades: Trade) -> None:
        for each in trades:
            takers = self.feeds["trades"].get(each.symbol)
            for take in self.takers(each) if takers is None else takers:
                take(each)

    def bar(self, *bars: Bar) -> None:
        for each in bars:
            self.on_bar(each)

    def at(self, seconds: float) -> list[tuple[str, Bar]]:
        """What is due so many seconds after the start."""
        now_ns = START + int(seconds * SECOND)
        return [(spec.timeframe, bar) for spec, bar in self.advance(now_ns)]


@pytest.fixture
def board() -> Board:
    return Board()


def test_nothing_is_due_before_anything_came(board: Board) -> None:
    assert board.due_ns == NEVER_NS
    assert board.feeds == {}
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    assert board.due_ns == NEVER_NS
    assert board.at(1e6) == []
    assert board.info() == BarsInfo()


def test_a_bar_is_due_after_its_end_and_the_grace(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(5))
    assert board.due_ns == START + MINUTE + 2 * SECOND
    assert board.at(61.9) == []
    ((timeframe, bar),) = board.at(62)
    assert (timeframe, bar.timestamp_ns, bar.is_partial) == ("1m", START, False)
    assert board.due_ns == NEVER_NS
    assert board.info() == BarsInfo(built=1)


def test_several_series_of_a_symbol_are_built_side_by_side(board: Board) -> None:
    board.wish(ONE, TEN_SECONDS, TICKS)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(1, 1))
    assert board.due_ns == START + 12 * SECOND
    board.trade(trade(2, 2))
    assert board.due_ns == 0
    assert [timeframe for timeframe, _ in board.at(3)] == ["ticks:2"]
    assert [timeframe for timeframe, _ in board.at(100)] == ["10s", "1m"]


def test_what_is_due_first_comes_first(board: Board) -> None:
    board.wish(TEN_SECONDS, symbols=())
    board.watch([("trades", "*")], START)
    board.trade(trade(11, 1, symbol="MSFT"), trade(1, 1))
    found = [(bar.symbol, bar.timestamp_ns) for _, bar in board.at(60)]
    assert found == [("AAPL", START), ("MSFT", START + 10 * SECOND)]


def test_a_bar_that_stays_open_for_longer_stands_in_the_queue_once_more(board: Board) -> None:
    board.wish(FIVE, FIFTEEN)
    board.watch([("bars", "AAPL")], START)
    board.bar(minute(0))
    assert board.due_ns == START + 5 * MINUTE + 2 * SECOND
    board.bar(minute(4))
    assert board.due_ns == 0
    assert [timeframe for timeframe, _ in board.at(301)] == ["5m"]
    assert board.due_ns == START + 15 * MINUTE + 2 * SECOND
    board.bar(minute(0, "11", bar_kind="updated"))
    ((_, bar),) = board.at(302)
    assert (bar.bar_kind, bar.open) == ("updated", Decimal(11))


def test_corrections_and_cancels_reach_the_builders(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    one = Decimal(1)
    correction = TradeCorrection(
        symbol="AAPL",
        timestamp_ns=START,
        exchange="V",
        original_id=1,
        original_price=one,
        original_size=one,
        corrected_id=3,
        corrected_price=Decimal(20),
        corrected_size=one,
    )
    cancel = TradeCancel(
        symbol="AAPL",
        timestamp_ns=START,
        exchange="V",
        trade_id=2,
        price=one,
        size=one,
        action="C",
    )
    board.trade(trade(1, 1), trade(2, 2))
    for event in (correction, cancel, cancel):
        for take in board.takers(event):
            take(event)
    ((_, bar),) = board.at(100)
    assert (bar.open, bar.volume, bar.trade_count) == (Decimal(20), one, 1)
    assert board.info() == BarsInfo(built=1, corrected=2, unmatched=1)
    assert "AAPL" in board.feeds["corrections"]
    assert "AAPL" in board.feeds["cancels"]


def test_a_correction_that_cannot_be_true_itself_changes_nothing(board: Board) -> None:
    board.wish(ONE)
    board.trade(trade(1, 1))
    one = Decimal(1)
    wrong = TradeCorrection(
        symbol="AAPL",
        timestamp_ns=START,
        exchange="V",
        original_id=1,
        original_price=one,
        original_size=one,
        corrected_id=3,
        corrected_price=Decimal("NaN"),
        corrected_size=one,
    )
    for take in board.takers(wrong):
        take(wrong)
    ((_, bar),) = board.at(100)
    assert bar.open == 10
    assert board.info().unmatched == 1


def test_a_clock_that_jumps_ahead_fills_nothing_that_events_do_not_confirm(board: Board) -> None:
    board.wish(SeriesSpec("1m", "trades", fill=True))
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(5, 1))
    board.newest_ns = START + 5 * SECOND
    assert len(board.at(3600)) < 15
    assert START + 3600 * SECOND < board.due_ns < NEVER_NS
    board.newest_ns = START + 3600 * SECOND
    assert [bar.is_filled for _, bar in board.at(3700)][-1]
    assert board.info().built >= 60


def test_daily_bars_of_the_feed_make_days(board: Board) -> None:
    board.wish(DAY)
    board.watch([("daily_bars", "AAPL")], START)
    running = minute(
        0, bar_kind="daily", timeframe="1d", timestamp_ns=START - START % (1440 * MINUTE)
    )
    board.bar(running, minute(1))
    ((timeframe, bar),) = board.at(86_400)
    assert (timeframe, bar.trade_count) == ("1d", running.trade_count)


def test_bars_that_nobody_builds_of_are_not_kept(board: Board) -> None:
    board.wish(DAY)
    board.bar(minute(0))
    board.wish(DAY, FIVE)
    assert board.at(86_400) == []


def test_only_the_symbols_that_are_wanted_are_built(board: Board) -> None:
    board.wish(FIVE, symbols=("AAPL",))
    board.bar(minute(0), minute(0, symbol="MSFT"))
    assert [bar.symbol for _, bar in board.at(400)] == ["AAPL"]


# --- what is wanted changes ---


def test_what_nobody_wants_any_more_is_not_built_on_and_its_accounts_stay(board: Board) -> None:
    board.wish(ONE, TEN_SECONDS)
    board.trade(trade(1, 1), trade(11, 2))
    assert len(board.at(13)) == 1
    board.wish(ONE)
    assert [timeframe for timeframe, _ in board.at(100)] == ["1m"]
    assert board.info() == BarsInfo(built=2)
    board.wish()
    assert board.feeds == {}
    assert board.info() == BarsInfo(built=2)
    assert board.due_ns == NEVER_NS


def test_what_is_not_wanted_any_more_is_not_due(board: Board) -> None:
    board.wish(ONE, TEN_SECONDS)
    board.trade(trade(1, 1))
    board.wish(ONE)
    assert board.at(0) == []
    assert board.due_ns == START + 62 * SECOND


def test_what_goes_on_being_wanted_goes_on_being_built(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(1, 1))
    board.wish(ONE, TEN_SECONDS)
    board.watch([("trades", "AAPL")], START + 2 * SECOND)
    board.trade(trade(3, 2))
    found = {timeframe: bar for timeframe, bar in board.at(100)}
    assert (found["1m"].trade_count, found["1m"].is_partial) == (2, False)


def test_a_series_that_is_asked_for_later_begins_with_a_partial_bar(board: Board) -> None:
    """Its symbol was watched before, but nothing of it was kept for this series."""
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(1, 1))
    board.wish(ONE, TEN_SECONDS)
    board.watch([("trades", "AAPL")], START + 2 * SECOND)
    board.trade(trade(3, 2), trade(13, 3))
    tens = [bar for timeframe, bar in board.at(100) if timeframe == "10s"]
    assert [(bar.trade_count, bar.is_partial) for bar in tens] == [(1, True), (1, False)]


def test_a_larger_bar_that_is_asked_for_later_begins_with_a_partial_bar(board: Board) -> None:
    board.wish(FIFTEEN)
    board.watch([("bars", "AAPL")], START)
    board.bar(minute(0), minute(1))
    board.wish(FIFTEEN, FIVE)
    board.watch([("bars", "AAPL")], START + 121 * SECOND)
    board.bar(*(minute(n) for n in range(2, 10)))
    fives = [bar for timeframe, bar in board.at(700) if timeframe == "5m"]
    assert [(bar.trade_count, bar.is_partial) for bar in fives] == [(15, True), (25, False)]


def test_a_series_that_was_removed_begins_anew(board: Board) -> None:
    board.wish(FIVE)
    board.watch([("bars", "AAPL")], START)
    board.look_back_until("bars", "AAPL", "5m", START, START)
    board.bar(minute(0))
    board.wish()
    board.watch([], START + 61 * SECOND)
    board.wish(FIVE)
    board.watch([("bars", "AAPL")], START + 420 * SECOND)  # in the second interval
    board.bar(*(minute(n) for n in range(7, 10)))
    ((_, bar),) = board.at(700)
    assert (bar.trade_count, bar.is_partial) == (15, True)


# --- since when something is watched ---


def test_what_began_before_it_was_watched_is_partial(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START + 3 * SECOND)
    board.trade(trade(5, 1), trade(65, 2))
    assert [bar.is_partial for _, bar in board.at(200)] == [True, False]


def test_the_first_trade_of_a_symbol_that_was_watched_makes_a_whole_bar(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(90, 1))
    assert [bar.is_partial for _, bar in board.at(200)] == [False]


@pytest.mark.parametrize("spec", [FIVE, SeriesSpec("5m", "trades")])
def test_every_symbol_is_watched_from_the_beginning(board: Board, spec: SeriesSpec) -> None:
    board.wish(spec, symbols=())
    board.watch([(spec.channel, "*")], START)
    if spec is FIVE:
        board.bar(minute(2), minute(6))
    else:
        board.trade(trade(130, 1), trade(400, 2))
    assert [bar.is_partial for _, bar in board.at(700)] == [False, False]


def test_a_symbol_that_nobody_said_is_watched_begins_with_its_first_event(board: Board) -> None:
    board.wish(ONE)
    board.trade(trade(5, 1), trade(65, 2))
    assert [bar.is_partial for _, bar in board.at(200)] == [True, False]


def test_a_clock_that_is_ahead_makes_nothing_whole_that_is_not(board: Board) -> None:
    """Watched since 14:15:18 by our clock, which is 5 s ahead: 14:15:13 by the exchange's."""
    board.lead_ns = lambda: 5 * SECOND
    board.wish(TEN_SECONDS)
    board.watch([("trades", "AAPL")], START + 18 * SECOND)
    board.trade(trade(14, 1), trade(21, 2))
    assert [bar.is_partial for _, bar in board.at(200)] == [True, False]


def test_what_began_before_and_is_not_whole_either_is_left_out(board: Board) -> None:
    """A late trade of an interval that was over when watching began says nothing about it."""
    board.wish(TEN_SECONDS)
    board.watch([("trades", "AAPL")], START + 13 * SECOND)
    board.trade(trade(9, 1), trade(14, 2), trade(21, 3))
    assert [bar.timestamp_ns - START for _, bar in board.at(200)] == [10 * SECOND, 20 * SECOND]


def test_history_makes_the_first_bar_whole(board: Board) -> None:
    board.wish(FIVE, FIFTEEN)
    board.watch([("bars", "AAPL")], START + 121 * SECOND)
    board.look_back_until("bars", "AAPL", "5m", START, START)
    board.bar(*(minute(n) for n in range(5)))
    board.look_back_until("bars", "AAPL", "15m", START, START)
    assert [bar.is_partial for _, bar in board.at(1000)] == [False, False]


# --- gaps ---


def test_a_gap_holds_what_it_touches_until_it_is_filled(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL"), ("trades", "MSFT")], START)
    board.trade(trade(1, 1))
    board.open_gap("trades", "AAPL", START + 30 * SECOND)
    board.open_gap("trades", "AAPL", START + 40 * SECOND)
    assert board.open_gaps() == {("trades", "AAPL"): START + 30 * SECOND}
    assert board.due_ns == START + 62 * SECOND
    assert board.at(100) == []
    board.trade(trade(50, 2))
    board.close_gap("trades", "AAPL", START + 70 * SECOND, filled=True)
    assert [(bar.trade_count, bar.is_partial) for _, bar in board.at(101)] == [(2, False)]
    assert board.open_gaps() == {}


def test_a_gap_that_is_given_up_leaves_partial_bars_that_may_become_whole(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.trade(trade(1, 1))
    board.open_gap("trades", "AAPL", START + 30 * SECOND)
    board.close_gap("trades", "AAPL", START + 70 * SECOND, filled=False)
    assert [bar.is_partial for _, bar in board.at(101)] == [True]
    board.gap_filled("trades", "AAPL", START + 30 * SECOND, START + 70 * SECOND)
    ((_, bar),) = board.at(102)
    assert (bar.bar_kind, bar.is_partial) == ("updated", False)
    board.gap_filled("trades", "MSFT", START, START + 1)


def test_a_gap_that_is_not_open_cannot_be_closed(board: Board) -> None:
    board.close_gap("trades", "AAPL", START, filled=False)
    assert board.open_gaps() == {}


def test_a_symbol_that_is_first_seen_within_a_gap_is_held_too(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.open_gap("trades", "AAPL", START + 30 * SECOND)
    board.trade(trade(50, 1))
    assert board.at(100) == []
    board.close_gap("trades", "AAPL", START + 55 * SECOND, filled=True)
    assert [bar.is_partial for _, bar in board.at(101)] == [False]


def test_a_symbol_that_is_first_seen_after_a_gap_lacks_what_was_in_it(board: Board) -> None:
    board.wish(ONE)
    board.watch([("trades", "AAPL")], START)
    board.open_gap("trades", "AAPL", START + 10 * SECOND)
    board.close_gap("trades", "AAPL", START + 50 * SECOND, filled=False)
    board.trade(trade(55, 1), trade(65, 2))
    assert [bar.is_partial for _, bar in board.at(200)] == [True, False]


# --- other threads ---


def test_accounts_can_be_read_while_series_come_and_go(board: Board) -> None:
    stop, problems = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                board.info()
        except RuntimeError as exc:
            problems.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(300):
            board.wish(ONE, TEN_SECONDS, symbols=()) if n % 2 else board.wish(ONE, symbols=())
            board.trade(trade(n, n, symbol=f"S{n}"))
            board.at(n)
    finally:
        stop.set()
        reader.join(10)
    assert problems == []


# --- the factory ---


def test_intervals_may_be_counted_from_the_session() -> None:
    opening_ns = START - 45 * MINUTE  # 13:30 UTC, 09:30 in New York
    factory = BuilderFactory(calendar=RegularHours(), alignment="session", grace_ns=0)
    builder = factory(SeriesSpec("1h", "bars"), "AAPL", opening_ns)
    builder.add(minute(-40))
    (bar,) = builder.advance(START + 100 * MINUTE)
    assert bar.timestamp_ns == opening_ns
    assert bar.timeframe == "1h"


def test_empty_intervals_may_be_filled() -> None:
    factory = BuilderFactory(calendar=AlwaysOpen(), alignment="utc", grace_ns=0)
    builder = factory(SeriesSpec("1m", "trades", fill=True), "AAPL", START)
    builder.add(trade(5))
    bars = builder.advance(START + 3 * MINUTE)
    assert [bar.is_filled for bar in bars] == [False, True, True]
