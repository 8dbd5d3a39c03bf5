"""What becomes of every bar beside its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.runtime.bar_desk import BarDesk
from realtime_stream.runtime.bar_ends import BarEnds
from realtime_stream.runtime.latency_desk import LatencyDesk
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.lookback import DELIVERED, LookBack
from realtime_stream.runtime.series import BuilderFactory, SeriesBoard
from realtime_stream.runtime.series_spec import SeriesSpec
from tests.unit.test_history_desk import MINUTE, SECOND, START, minute, minutes_of, past

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar

DAY = 24 * 60 * MINUTE
FIVE = SeriesSpec("5m", "bars")


class Store:
    """Takes bars for a sink."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []

    def offer(self, bar: Bar) -> None:
        self.bars.append(bar)


class Everybody:
    def wants(self, symbol: str) -> bool:
        return bool(symbol)


class Bench:
    def __init__(self) -> None:
        self.lookback = LookBack(100)
        self.store, self.second = Store(), Store()
        factory = BuilderFactory(calendar=AlwaysOpen(), alignment="utc", grace_ns=0)
        self.series = SeriesBoard(factory)
        self.series.want({FIVE: Everybody(), SeriesSpec("1d", "daily_bars"): Everybody()})
        self.latency = LatencyDesk(10.0, EventLog("test"), lambda _: None)
        self.desk = BarDesk(
            lookback=self.lookback,
            series=self.series,
            takers=(self.store, self.second),
            ends=BarEnds(AlwaysOpen(), "utc"),
            latency=self.latency,
        )

    def live(self, *bars: Bar) -> None:
        for bar in bars:
            self.desk.measure(bar, bar.received_ns)
            self.desk.of_the_feed(bar)

    def built_of(self) -> list[tuple[str, str]]:
        """What comes of what it was fed with, once all is due."""
        due = self.series.advance(START + 2 * DAY)
        return [(spec.channel, bar.timeframe) for spec, bar in due]

    def kept(self, timeframe: str = "1m", origin: str = "bars") -> list[int]:
        return minutes_of(self.lookback.recent("AAPL", 100, timeframe, [origin]))

    @property
    def measured(self) -> int:
        info = self.latency.info().get("bars")
        return 0 if info is None else info.count


def test_a_live_bar_is_kept_stored_measured_and_built_of() -> None:
    bench = Bench()
    bench.live(minute(0))
    assert bench.kept() == bench.kept(origin=DELIVERED) == [0]
    assert minutes_of(bench.store.bars) == minutes_of(bench.second.bars) == [0]
    assert bench.measured == 1
    assert bench.built_of() == [("bars", "5m")]


def test_an_update_is_late_by_nature_and_not_measured() -> None:
    bench = Bench()
    bench.live(minute(0), minute(0, "11", bar_kind="updated"))
    assert bench.measured == 1
    assert [bar.close for bar in bench.store.bars] == [10, 11]


def test_running_totals_of_a_day_are_only_built_of() -> None:
    bench = Bench()
    day_ns = START - START % DAY
    bench.live(minute(0, bar_kind="daily", timeframe="1d", timestamp_ns=day_ns))
    assert bench.store.bars == []
    assert bench.measured == 0
    assert bench.built_of() == [("daily_bars", "1d")]


def test_a_bar_from_history_is_all_but_measured() -> None:
    bench = Bench()
    bench.desk.of_the_feed(past(0))
    assert bench.kept() == bench.kept(origin=DELIVERED) == minutes_of(bench.store.bars) == [0]
    assert bench.built_of() == [("bars", "5m")]
    assert bench.measured == 0


def test_look_back_is_stored() -> None:
    bench = Bench()
    bench.desk.look_back(past(0, timeframe="5m"))
    assert bench.kept("5m", DELIVERED) == []
    assert minutes_of(bench.store.bars) == [0]
    assert bench.measured == 0


def test_a_bar_that_was_made_here_is_kept_stored_and_measured() -> None:
    bench = Bench()
    bar = minute(0, timeframe="5m", source="built")
    bench.desk.built(FIVE, bar, START + 5 * MINUTE + SECOND)
    bench.desk.built(FIVE, minute(0, "11", timeframe="5m", bar_kind="updated"), START)
    assert bench.kept("5m") == [0]
    assert [each.close for each in bench.store.bars] == [10, 11]
    assert bench.measured == 1


def test_of_two_series_with_one_timeframe_that_of_bars_is_stored() -> None:
    bench = Bench()
    of_trades = SeriesSpec("5m", "trades")
    bench.desk.built(of_trades, minute(0, timeframe="5m"), START)
    bench.desk.built(FIVE, minute(0, "11", timeframe="5m"), START)
    bench.desk.built(of_trades, minute(5, timeframe="5m"), START)
    assert [bar.close for bar in bench.store.bars] == [10, 11]
    assert bench.kept("5m", "trades") == [0, 5]


def test_what_is_made_up_is_kept_and_not_stored() -> None:
    bench = Bench()
    filled = SeriesSpec("5m", "bars", fill=True)
    bench.desk.built(filled, minute(0, timeframe="5m", is_filled=True), START)
    assert bench.kept("5m", "bars-filled") == [0]
    assert bench.store.bars == []


def test_a_bar_whose_trades_were_all_cancelled_is_stored() -> None:
    bench = Bench()
    emptied = minute(0, timeframe="5m", is_filled=True, bar_kind="updated")
    bench.desk.built(FIVE, emptied, START)
    assert bench.store.bars == [emptied]
