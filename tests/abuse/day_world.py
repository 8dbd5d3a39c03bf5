"""One simulated day: a simulator, a bot that keeps what it is called with, and a data clock."""

from __future__ import annotations

import importlib
import random
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from realtime_stream import (
    BreakerPolicy,
    RealTimeStreamManager,
    ReconnectPolicy,
    ScaledClock,
    SystemClock,
)
from realtime_stream.providers.alpaca.history import AlpacaHistory
from realtime_stream.providers.alpaca.rest_exchange import RestPolicy
from realtime_stream.simulator import AlpacaSimulator, SyntheticSession
from tests.abuse.day_faults import HISTORY_LAG, SYMBOLS
from tests.abuse.day_oracle import (
    SERIES,
    Series,
    Tape,
    expected,
    wrong_accounts,
    wrong_bars,
    wrong_trades,
)
from tests.support import config

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream import Bar, Clock, HistoryProvider, Status, StreamConfig, Trade
    from realtime_stream.ports import BackfillEvent
    from tests.abuse.day_faults import Day
    from tests.abuse.day_oracle import Expected

__all__ = ["OPENING", "live_through"]

OPENING: Final = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)  # 09:30 in New York
_SHOWN: Final = 40  # problems
_PATIENCE: Final = 60.0  # seconds, from the end of the day until history has answered everything
_LATEST: Final = 3.0  # seconds until what it brought is in the bars: that waits for the grace

# Seconds of real time; the settings want them in data time. On a busy machine a frame is a tenth of
# a second on its way, playback included, and a thread may have to wait as long for its turn: at the
# speed of a day that is a minute. Settings that are fair at the speed of life would call most
# trades late, and history silent when it only was slow.
_GRACE: Final = 0.4


class DayClock:
    """Data time that stands still until the market opens, and then goes with the playback.

    Starting the bot takes a fraction of a second: minutes of a day. A clock that went on meanwhile
    would be ahead of the exchange by so much.
    """

    def __init__(self, start: datetime, speed: float) -> None:
        self._start, self._speed = start, speed
        self._clock: ScaledClock | None = None
        self._start_ns = int(start.timestamp()) * 10**9

    def begin(self) -> None:
        self._clock = ScaledClock(self._start, self._speed)

    def monotonic(self) -> float:
        return 0.0 if self._clock is None else self._clock.monotonic()

    def utc_now_ns(self) -> int:
        return self._start_ns if self._clock is None else self._clock.utc_now_ns()

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        return event.wait(None if timeout is None else self.real_seconds(timeout))

    def real_seconds(self, seconds: float) -> float:
        return seconds / self._speed


class Bot:
    """Keeps what it is called with, in that order."""

    def __init__(self, manager: RealTimeStreamManager) -> None:
        self._changed = threading.Condition()  # guards what follows, but for trades
        self._manager = manager
        self._bars: dict[Series, list[Bar]] = {series: [] for series in SERIES}
        self._trades: list[Trade] = []
        self._backfills: list[BackfillEvent] = []
        self._newest: dict[tuple[Series, str], int] = defaultdict(int)
        for series in SERIES:
            take = self._taker(series)
            manager.on_bar(take, *SYMBOLS, **_asked(series))
            manager.on_updated_bar(take, *SYMBOLS, **_asked(series))
        manager.on_trade(self._trades.append, *SYMBOLS)
        manager.on_backfill(self._take_backfill)

    @property
    def tape(self) -> Tape:
        """What it saw; to be read when nothing comes any more."""
        return Tape(self._bars, self._trades, self._backfills)

    def wait_until_filled(self, wanted: Expected, timeout: float) -> bool:
        """Wait for the last bar of each series and symbol, and for what is still being filled."""
        last = {
            (series, symbol): max(starts, default=0)
            for series, by_symbol in wanted.items()
            for symbol, starts in by_symbol.items()
        }

        def there() -> bool:
            return (
                all(self._newest[key] >= start for key, start in last.items())
                and not self._manager.status().backfill.pending
            )

        with self._changed:
            return self._changed.wait_for(there, timeout)

    def wait_until(self, holds: Callable[[Tape], bool], timeout: float) -> bool:
        """Wait until something holds of what it saw."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self.tape), timeout)

    def _taker(self, series: Series) -> Callable[[Bar], None]:
        def take(bar: Bar) -> None:
            with self._changed:
                self._bars[series].append(bar)
                key = series, bar.symbol
                self._newest[key] = max(self._newest[key], bar.timestamp_ns)
                self._changed.notify_all()

        return take

    def _take_backfill(self, event: BackfillEvent) -> None:
        with self._changed:
            self._backfills.append(event)
            self._changed.notify_all()


def _asked(series: Series) -> dict[str, Any]:
    if series.built_from is None:
        return {}
    return {"timeframe": series.timeframe, "built_from": series.built_from}


def live_through(day: Day) -> Status:
    """Have a bot live through a day, and compare what it saw with the simulator's history.

    Returns:
        The status at the end.

    Raises:
        AssertionError: They differ; the message says where, and has the day's script.
    """
    # Loaded here: the first start() would spend minutes of the day on it.
    importlib.import_module("realtime_stream.providers.alpaca.adapter")
    importlib.import_module("realtime_stream.providers.alpaca.history")
    market = list(
        SyntheticSession(
            day.seed,
            SYMBOLS,
            start=OPENING,
            minutes=day.minutes,
            quotes_per_minute=10,  # nobody asks for them: they only move the prices
            trades_per_minute=day.trades,
            late_trades_per_minute=day.late_trades,
            quiet_share=day.quiet_share,
        )
    )
    first_bars = {(m["S"], m["t"]) for _, m in market if m["T"] == "b"}
    clock = DayClock(OPENING, day.speed)
    with AlpacaSimulator() as simulator:
        settings = _settings(simulator, day)
        manager = RealTimeStreamManager(
            settings, data_clock=clock, history=lambda: _history(settings, clock)
        )
        bot = Bot(manager)
        try:
            manager.start()

            def began(change: Literal["started", "finished"]) -> None:
                if change == "started":
                    clock.begin()

            playback = simulator.play(market, speed=day.speed, on_change=began)
            simulator.play_faults(day.faults)
            problems = []
            if not playback.wait(day.seconds * 2 + 10):
                problems.append("the playback does not end")
            simulator.faults.clear()
            wanted = expected(simulator.history)
            if not bot.wait_until_filled(wanted, _PATIENCE):
                problems.append(f"not everything came: {manager.status()}")
            bot.wait_until(lambda tape: not any(wrong_bars(tape, wanted, first_bars)), _LATEST)
        finally:
            manager.stop()
        problems += wrong_bars(bot.tape, wanted, first_bars)
        problems += wrong_trades(bot.tape.trades, simulator.history)
        problems += wrong_accounts(manager.status())
    assert not problems, _report(day, problems)
    return manager.status()


def _settings(simulator: AlpacaSimulator, day: Day) -> Any:
    return config(
        simulator,
        watchlist_channels=(),
        history_url=simulator.rest_url,
        backfill=("bars", "trades"),
        backfill_hold=day.hold,
        bar_grace=_GRACE * day.speed,
        history_lag=HISTORY_LAG * day.speed,
        reconnect=ReconnectPolicy(initial=0.02, maximum=0.1),
        breaker=BreakerPolicy(failure_threshold=100_000),  # what it does is tested elsewhere
        connect_timeout=1.0,
        handshake_timeout=1.0,
        acknowledge_timeout=0.3,
        stale_after=0,
        symbol_stale_after=0,
        latency_alarm=1e9,
    )


def _history(settings: StreamConfig, clock: Clock) -> HistoryProvider:
    """Alpaca's, with waits that fit the speed, as those for a connection do."""
    policy = RestPolicy(backoff=ReconnectPolicy(initial=0.02, maximum=0.1), longest_wait=0.2)
    url = settings.history_url
    rng = random.Random(1)  # noqa: S311  # jitter, not cryptography
    return AlpacaHistory(settings, SystemClock(), clock, rng, url=url, policy=policy)


def _report(day: Day, problems: list[str]) -> str:
    more = len(problems) - _SHOWN
    return "\n".join((
        f"{len(problems)} problems, of {day}",
        *problems[:_SHOWN],
        *([f"... and {more} more"] if more > 0 else []),
        f"again: live_through(draw_day({day.seed}, minutes={day.minutes}, speed={day.speed:g}))",
    ))
