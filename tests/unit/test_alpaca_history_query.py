"""Requests for history as queries: times exact to the nanosecond, URLs short, refusals in words."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_stream.errors import ConfigurationError, HistoryRefusedError
from realtime_stream.ports import HistoryRequest
from realtime_stream.providers.alpaca.history_query import (
    check_timeframe,
    history_feed,
    queries_of,
    rfc3339,
)

MINUTE = 60_000_000_000
START = 1_790_000_000_123_456_789


def request(*symbols: str, **fields: Any) -> HistoryRequest:
    values: dict[str, Any] = {"channel": "bars", "start_ns": START, "end_ns": START + MINUTE}
    return HistoryRequest(symbols=symbols or ("AAPL",), **{**values, **fields})


@pytest.mark.parametrize(
    ("timestamp_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (START, "2026-09-21T14:13:20.123456789Z"),
        (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"),
        (-62_135_596_800_000_000_000, "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_a_moment_keeps_all_its_digits(timestamp_ns: int, text: str) -> None:
    assert rfc3339(timestamp_ns) == text


def test_the_end_is_not_part_of_the_stretch_but_the_servers_is() -> None:
    (query,) = queries_of(request(), "stocks")
    assert query.times() == {
        "start": "2026-09-21T14:13:20.123456789Z",
        "end": "2026-09-21T14:14:20.123456788Z",
    }


@pytest.mark.parametrize("end_ns", [START, START - 1])
def test_an_empty_stretch_needs_no_query(end_ns: int) -> None:
    assert queries_of(request(end_ns=end_ns), "stocks") == ()


def test_no_symbols_need_no_query() -> None:
    assert queries_of(HistoryRequest("bars", (), START, START + 1), "stocks") == ()


def test_many_symbols_are_split_so_that_urls_stay_short() -> None:
    symbols = [f"A{n:05d}" for n in range(1000)]
    queries = queries_of(request(*symbols, *symbols[:3]), "stocks")
    assert [symbol for query in queries for symbol in query.symbols] == symbols
    assert max(len(",".join(query.symbols)) for query in queries) < 2000
    assert len(queries) == 4


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (request("*"), "'*' is not allowed"),
        (request("aapl"), "is not valid"),
        (request("A&B"), "is not valid"),
        (request("A", "B", newest=3), "exactly one symbol"),
        (request(newest=0), "above 0"),
        (request(start_ns=-(10**20)), "years 1 to 9999"),
        (request(end_ns=10**21), "years 1 to 9999"),
    ],
)
def test_what_cannot_be_asked_is_refused(bad: HistoryRequest, said: str) -> None:
    with pytest.raises(HistoryRefusedError, match=said.replace("*", r"\*")):
        queries_of(bad, "stocks")


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d"])
def test_timeframes_that_have_a_history(timeframe: str) -> None:
    check_timeframe(timeframe)


@pytest.mark.parametrize(
    "timeframe", ["1s", "30s", "7m", "60m", "24h", "2d", "ticks:100", "", "01m"]
)
def test_other_timeframes_are_refused_with_what_is_allowed(timeframe: str) -> None:
    with pytest.raises(HistoryRefusedError, match=r"allowed are 1m, 2m, .* 12h, 1d"):
        check_timeframe(timeframe)


@pytest.mark.parametrize(
    ("market", "feed", "history"),
    [
        ("stocks", "iex", "iex"),
        ("stocks", "sip", "sip"),
        ("stocks", "delayed_sip", "sip"),
        ("stocks", "boats", "boats"),
        ("crypto", "us", "us"),
        ("crypto", "eu-1", "eu-1"),
    ],
)
def test_each_feed_has_its_history(market: str, feed: str, history: str) -> None:
    assert history_feed(market, feed) == history


@pytest.mark.parametrize(
    ("market", "feed", "said"),
    [
        ("stocks", "test", "iex, sip, delayed_sip, boats"),
        ("stocks", "overnight", "iex, sip, delayed_sip, boats"),
        ("options", "indicative", "stocks and crypto"),
        ("news", "news", "stocks and crypto"),
    ],
)
def test_what_has_no_history_says_what_has(market: str, feed: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        history_feed(market, feed)
