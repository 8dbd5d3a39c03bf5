"""Which series of bars a registration asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.channels import MARKET_CHANNELS
from realtime_stream.runtime.series_spec import (
    SeriesSpec,
    checked_look_back,
    origin_of,
    series_spec,
)

STOCKS, OPTIONS, NEWS = (MARKET_CHANNELS[each] for each in ("stocks", "options", "news"))


def spec(
    timeframe: Any,
    built_from: Any = None,
    *,
    fill: bool = False,
    channels: frozenset[str] = STOCKS,
) -> SeriesSpec | None:
    return series_spec(timeframe, built_from, fill=fill, channels=channels)


@pytest.mark.parametrize("timeframe", ["1m", "60s"])
@pytest.mark.parametrize("built_from", [None, "bars"])
def test_the_feed_has_minutes(timeframe: str, built_from: str | None) -> None:
    assert spec(timeframe, built_from) is None


@pytest.mark.parametrize(
    ("timeframe", "built_from", "expected"),
    [
        ("5m", None, SeriesSpec("5m", "bars")),
        ("300s", "bars", SeriesSpec("5m", "bars")),
        ("120m", None, SeriesSpec("2h", "bars")),
        ("24h", None, SeriesSpec("1d", "daily_bars")),
        ("1d", "bars", SeriesSpec("1d", "daily_bars")),
        ("1d", "trades", SeriesSpec("1d", "trades")),
        ("1m", "trades", SeriesSpec("1m", "trades")),
        ("5m", "trades", SeriesSpec("5m", "trades")),
        ("10s", None, SeriesSpec("10s", "trades")),
        ("90s", None, SeriesSpec("90s", "trades")),
        ("ticks:5", None, SeriesSpec("ticks:5", "trades")),
        ("volume:1000.50", "trades", SeriesSpec("volume:1000.5", "trades")),
        ("dollars:1000000", None, SeriesSpec("dollars:1000000", "trades")),
    ],
)
def test_what_is_built_of_what(timeframe: str, built_from: str, expected: SeriesSpec) -> None:
    assert spec(timeframe, built_from) == expected


def test_filled_minutes_are_built() -> None:
    assert spec("1m", fill=True) == SeriesSpec("1m", "bars", fill=True)
    assert spec("10s", fill=True) == SeriesSpec("10s", "trades", fill=True)


def test_where_there_are_no_bars_everything_is_built_of_trades() -> None:
    for timeframe in ("1m", "5m", "1d", "ticks:5"):
        assert spec(timeframe, channels=OPTIONS) == SeriesSpec(timeframe, "trades")


@pytest.mark.parametrize(
    ("timeframe", "arguments", "named"),
    [
        ("7m", {}, "timeframe"),
        ("", {}, "timeframe"),
        ("1w", {}, "timeframe"),
        ("ticks:0", {}, "timeframe"),
        ("5m", {"built_from": "quotes"}, "built_from"),
        ("10s", {"built_from": "bars"}, "built_from"),
        ("ticks:5", {"built_from": "bars"}, "built_from"),
        ("ticks:5", {"fill": True}, "fill"),
        ("5m", {"built_from": "bars", "channels": OPTIONS}, "built_from"),
        ("1m", {"channels": NEWS}, "timeframe"),
        ("1m", {"built_from": "trades", "channels": NEWS}, "trades"),
    ],
)
def test_what_cannot_be_built_is_refused_and_named(
    timeframe: str, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        spec(timeframe, **arguments)


@pytest.mark.parametrize("timeframe", [None, 5, timedelta(minutes=5), ["5m"], b"5m"])
def test_a_timeframe_that_is_no_text_is_refused(timeframe: object) -> None:
    with pytest.raises(ConfigurationError, match="timeframe"):
        spec(timeframe)


@pytest.mark.parametrize("built_from", [[], {}, 3, ""])
def test_a_source_of_another_type_is_refused(built_from: object) -> None:
    with pytest.raises(ConfigurationError, match="built_from"):
        spec("5m", built_from)


@pytest.mark.parametrize("fill", ["yes", 1, None])
def test_fill_is_a_yes_or_a_no(fill: Any) -> None:
    with pytest.raises(ConfigurationError, match="fill"):
        spec("5m", fill=fill)


def test_what_has_to_be_subscribed_to() -> None:
    assert SeriesSpec("5m", "bars").channels == ("bars", "updated_bars")
    assert SeriesSpec("5m", "trades").channels == ("trades",)
    assert SeriesSpec("1d", "daily_bars").channels == ("daily_bars",)


def test_series_of_one_timeframe_have_different_origins() -> None:
    origins = {
        SeriesSpec("5m", channel, fill).origin
        for channel in ("bars", "trades")
        for fill in (False, True)
    }
    assert origins == {"bars", "bars-filled", "trades", "trades-filled"}
    assert SeriesSpec("1d", "daily_bars").origin == origin_of("bars", fill=False)


@pytest.mark.parametrize("history", [1, 100_000, timedelta(microseconds=1), None])
def test_look_back_is_a_number_or_a_time(history: int | timedelta | None) -> None:
    assert checked_look_back(history, "5m") == history


@pytest.mark.parametrize(
    "history", [0, -1, 100_001, True, 2.5, "5", timedelta(), timedelta(seconds=-1)]
)
def test_other_look_back_is_refused(history: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^history"):
        checked_look_back(history, "5m")


@pytest.mark.parametrize("timeframe", ["10s", "90s", "ticks:5", "volume:5", "dollars:5"])
def test_there_is_no_history_of_what_only_trades_make(timeframe: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^history"):
        checked_look_back(5, timeframe)
    assert checked_look_back(None, timeframe) is None
