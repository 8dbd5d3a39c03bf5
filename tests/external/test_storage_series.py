"""Which version of a bar is stored, and as what: updates, backfilled bars, bars built here."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from realtime_stream.sinks.sql import OHLCVRepository, SqlSink
from tests.abuse.day_world import DayClock
from tests.external.bars import rows
from tests.external.storage_world import (
    OPENING,
    SYMBOLS,
    Seen,
    bars_of,
    differences,
    hasten,
    locked,
    market,
    running_bot,
    settled,
)

if TYPE_CHECKING:
    from pathlib import Path

    from realtime_stream.ports import SinkInfo
    from realtime_stream.simulator import AlpacaSimulator

_SPEED: Final = 1000  # times as fast as life: an hour takes 3.6 seconds
_SLOWER: Final = 240
_FACTS: Final = ("open", "high", "low", "close", "volume", "trade_count")


def _updates(url: str) -> dict[bool, int]:
    return dict(
        (bool(is_update), count)
        for is_update, count in rows(
            url, "SELECT is_update, count(*) FROM ohlcv_bars GROUP BY is_update"
        )
    )


@pytest.mark.parametrize("seed", range(41, 44))
def test_an_updated_bar_wins_over_the_first_one_that_waits_on_disk(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """While the database is locked the oldest go to disk; what is in memory is stored first."""
    hasten(monkeypatch, spool_above=120)
    morning = bars_of(seed, 60)
    with (
        market() as simulator,
        contextlib.closing(SqlSink(url, timeout=0.3)) as sink,
        running_bot(simulator, sink, tmp_path / "spool") as bot,
    ):
        playback = simulator.play(morning, speed=_SPEED)
        bot.accounts.wait_until(lambda info: info.stored >= 20)
        with locked(url):
            bot.accounts.wait_until(lambda info: info.spooled >= 200)
        assert playback.wait(30)
        bot.seen.wait_for(len(morning))
        bot.accounts.wait_until(settled(len(morning)))
    assert differences(url, bot.seen) == []
    assert _updates(url) == Counter(bar.bar_kind == "updated" for bar in bot.seen.newest.values())


def test_a_spool_that_is_replayed_after_the_updates_were_stored_changes_nothing(
    url: str, tmp_path: Path
) -> None:
    """A bot is stopped with the first bars on disk; another one stores the updated bars."""
    morning = bars_of(45, 20)
    first = [each for each in morning if each[1]["T"] == "b"]
    updates = [each for each in morning if each[1]["T"] == "u"]
    seen = Seen()
    with market() as simulator, contextlib.closing(SqlSink(url, timeout=0.3)) as sink:
        sink.prepare()
        with (
            running_bot(simulator, sink, tmp_path / "spool", name="early", seen=seen) as bot,
            locked(url),
        ):
            simulator.play(first, speed=_SPEED)
            seen.wait_for(len(first))
            bot.manager.stop()
        assert rows(url, "SELECT count(*) FROM ohlcv_bars") == [(0,)]
        with running_bot(simulator, sink, tmp_path / "spool", name="late", seen=seen) as bot:
            simulator.play(updates, speed=_SPEED)
            bot.accounts.wait_until(settled(len(updates)))
        with running_bot(simulator, sink, tmp_path / "spool", name="early") as bot:
            bot.accounts.wait_until(settled(len(first)))
    assert differences(url, seen) == []
    assert _updates(url) == {True: len(updates), False: len(first) - len(updates)}


def _history(simulator: AlpacaSimulator, timeframe: str) -> dict[tuple[str, int], tuple[Any, ...]]:
    """The exchange's own bars."""
    return {
        (symbol, bar["t"]): tuple(float(bar[name]) for name in ("o", "h", "l", "c", "v", "n"))
        for symbol in SYMBOLS
        for bar in simulator.history.final_bars(symbol, timeframe)
    }


def _stored(url: str, timeframe: str) -> dict[tuple[str, int], tuple[Any, ...]]:
    with OHLCVRepository(url) as repository:
        return {
            (symbol, bar.timestamp_ns): tuple(float(getattr(bar, name)) for name in _FACTS)
            for symbol in SYMBOLS
            for bar in repository.latest(symbol, timeframe, 1000)
        }


def _has_stored(count: int, info: SinkInfo) -> bool:
    return info.stored >= count


def test_every_series_is_stored_as_what_it_is(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of the stream and of history, and five minutes built here, over two lost sessions."""
    hasten(monkeypatch)
    minutes = 40
    morning = bars_of(46, minutes)
    clock = DayClock(OPENING + timedelta(minutes=1), _SLOWER)  # when the first bars come

    def began(change: Literal["started", "finished"]) -> None:
        if change == "started":
            clock.begin()

    with (
        market() as simulator,
        contextlib.closing(SqlSink(url, timeout=2)) as sink,
        running_bot(
            simulator,
            sink,
            tmp_path / "spool",
            timeframes=("1m", "5m"),
            clock=clock,
            backfill=("bars",),
            history_url=simulator.rest_url,
            bar_grace=0.4 * _SLOWER,
            history_lag=0.4 * _SLOWER,
            latency_alarm=1e9,
        ) as bot,
    ):
        playback = simulator.play(morning, speed=_SLOWER, on_change=began)
        for count in (60, 200):
            bot.accounts.wait_until(functools.partial(_has_stored, count))
            simulator.faults.refuse_http(503, times=8)
            simulator.drop(1006)
        assert playback.wait(40)
        last = OPENING.timestamp() * 1e9 + (minutes - 5) * 60e9

        def whole(_: object) -> bool:
            starts = {key: bar for key, bar in bot.seen.newest.items() if key[1] == "5m"}
            return not bot.manager.status().backfill.pending and sum(
                start == last for _, _, start in starts
            ) == len(SYMBOLS)

        bot.accounts.wait_until(whole)
        info = bot.accounts.wait_until(lambda info: info.stored == info.offered)
        assert info.offered == bot.seen.count
        assert bot.manager.status().backfill.failed == 0
    assert differences(url, bot.seen) == []
    assert _stored(url, "1m") == _history(simulator, "1m")
    assert _stored(url, "5m") == _history(simulator, "5m")
    kinds = {
        (timeframe, source)
        for timeframe, source in rows(url, "SELECT DISTINCT timeframe, source FROM ohlcv_bars")
    }
    assert kinds == {("1m", "stream"), ("1m", "backfill"), ("5m", "built")}
