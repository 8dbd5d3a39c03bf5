"""Alpaca's history over real sockets, against a server whose every answer is scripted."""

from __future__ import annotations

import logging
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import StreamConfig
from realtime_stream.clock import FakeClock, SystemClock, datetime_from_ns
from realtime_stream.config import Credentials
from realtime_stream.errors import (
    ConfigurationError,
    HistoryError,
    HistoryRefusedError,
    HistoryUnavailableError,
)
from realtime_stream.ports import HistoryRequest
from realtime_stream.providers.alpaca.history import AlpacaHistory
from realtime_stream.providers.alpaca.history_query import rfc3339
from tests.rest_server import Asked, Reply, RestServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.clock import Clock

MINUTE = 60_000_000_000
START = 1_790_000_040_000_000_000
DAY = 1440 * MINUTE
KEY, SECRET = "PKTESTKEY", "the-secret-of-the-test"
KEYS = Credentials(key=KEY, secret=SECRET)
RNG = random.Random(1)  # noqa: S311  # a test that can be repeated
BAR = {"o": 1.5, "h": 2.25, "l": 1.25, "c": 2.0, "v": 300, "n": 3, "vw": 1.875}
EMPTY: dict[str, Any] = {"bars": {}, "next_page_token": None}


def bars(count: int, first: int = 0, *, symbol: str = "AAPL", more: str | None = None) -> Reply:
    """A page of minute bars, numbered from ``first``."""
    rows = [{"t": rfc3339(START + n * MINUTE), **BAR} for n in range(first, first + count)]
    return Reply(body={"bars": {symbol: rows}, "next_page_token": more})


def request(*symbols: str, **fields: Any) -> HistoryRequest:
    values: dict[str, Any] = {"channel": "bars", "start_ns": START, "end_ns": START + 100 * DAY}
    return HistoryRequest(symbols=symbols or ("AAPL",), **{**values, **fields})


def history(
    server: RestServer,
    clock: Clock | None = None,
    **settings: Any,
) -> AlpacaHistory:
    config = StreamConfig(**{
        "market": "stocks",
        "api_key": "not",
        "secret_key": "these",
        **settings,
    })
    clock = clock or FakeClock()
    return AlpacaHistory(config, clock, FakeClock(), RNG, url=server.url)


def fetch(provider: AlpacaHistory, asked: HistoryRequest | None = None) -> list[Any]:
    pages = list(provider.fetch(asked or request(), KEYS))
    provider.close()
    return [event for page in pages for event in (*page.bars, *page.trades)]


def test_pages_follow_each_other_over_one_connection() -> None:
    with RestServer(bars(3, more="b"), bars(2, 3, more="c"), bars(1, 5)) as server:
        found = fetch(history(server, feed="sip"), request(timeframe="5m"))
    assert [bar.timestamp_ns for bar in found] == [START + n * MINUTE for n in range(6)]
    assert {(bar.symbol, bar.timeframe, bar.source) for bar in found} == {
        ("AAPL", "5m", "backfill")
    }
    assert found[0].vwap == Decimal("1.875")
    first, *others = server.asked
    assert first.path == "/v2/stocks/bars"
    assert first.query == {
        "symbols": "AAPL",
        "timeframe": "5Min",
        "start": rfc3339(START),
        "end": rfc3339(START + 100 * DAY - 1),
        "limit": "10000",
        "sort": "asc",
        "feed": "sip",
        "adjustment": "raw",
    }
    assert [asked.query for asked in others] == [
        {**first.query, "page_token": token} for token in ("b", "c")
    ]
    assert len({asked.client for asked in server.asked}) == 1
    assert first.headers["APCA-API-KEY-ID"] == KEY
    assert first.headers["APCA-API-SECRET-KEY"] == SECRET
    assert first.headers["User-Agent"].startswith("APCA-PY/")


def test_pages_are_fetched_only_when_they_are_wanted() -> None:
    with RestServer(bars(1, more="b"), bars(1, 1)) as server:
        provider = history(server)
        pages = provider.fetch(request(), KEYS)
        next(pages)
        assert len(server.asked) == 1
        provider.close()


@pytest.mark.parametrize(
    ("settings", "path", "query"),
    [
        ({}, "/v2/stocks/trades", {"symbols": "AAPL", "feed": "iex"}),
        ({"feed": "delayed_sip"}, "/v2/stocks/trades", {"symbols": "AAPL", "feed": "sip"}),
        ({"market": "crypto"}, "/v1beta3/crypto/us/trades", {"symbols": "BTC/USD"}),
        (
            {"market": "crypto", "feed": "eu-1"},
            "/v1beta3/crypto/eu-1/trades",
            {"symbols": "BTC/USD"},
        ),
    ],
)
def test_trades_of_both_markets(settings: dict[str, Any], path: str, query: dict[str, str]) -> None:
    symbol = query["symbols"]
    rows = [
        {"t": "2026-09-21T14:14:00.000000001Z", "p": 1.10, "s": 0.5, "i": 1},
        {"t": "2026-09-21T14:14:00.000000002Z", "p": 1.10, "s": 0.5, "i": 2, "u": "canceled"},
    ]
    reply = Reply(body={"trades": {symbol: rows}, "next_page_token": None})
    with RestServer(reply) as server:
        (trade,) = fetch(history(server, **settings), request(symbol, channel="trades"))
    assert (trade.symbol, trade.timestamp_ns, trade.trade_id) == (symbol, START + 1, 1)
    (asked,) = server.asked
    assert asked.path == path
    times = {"start": rfc3339(START), "end": rfc3339(START + 100 * DAY - 1)}
    assert asked.query == {**query, **times, "limit": "10000", "sort": "asc"}


@pytest.mark.parametrize("market", ["options", "news"])
def test_markets_without_a_history_say_so(market: str) -> None:
    config = StreamConfig(market=market, api_key="a", secret_key="b")
    with pytest.raises(ConfigurationError, match="no history for market"):
        AlpacaHistory(config, FakeClock(), FakeClock(), RNG)


@pytest.mark.parametrize(
    "url",
    ["ws://h", "http://", "h:80", "http://k:s@h", "http://h?a=b", "http://h:99999", "http://h:0"],
)
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    config = StreamConfig(api_key="a", secret_key="b")
    with pytest.raises(ConfigurationError, match="must start with http") as caught:
        AlpacaHistory(config, FakeClock(), FakeClock(), RNG, url=url)
    assert "k:s" not in str(caught.value)


def test_a_base_url_may_have_a_path() -> None:
    with RestServer(bars(1)) as server:
        server.url += "/proxy/"
        fetch(history(server))
    assert server.asked[0].path == "/proxy/v2/stocks/bars"


def test_six_hundred_symbols_in_short_urls() -> None:
    symbols = [f"SYM{n}" for n in range(600)]

    def answer(asked: Asked) -> Reply:
        wanted = asked.query["symbols"].split(",")
        rows = {symbol: [{"t": rfc3339(START), **BAR}] for symbol in wanted}
        return Reply(body={"bars": rows, "next_page_token": None})

    with RestServer(answer) as server:
        found = fetch(history(server), request(*symbols))
    assert [bar.symbol for bar in found] == symbols
    assert len(server.asked) > 1
    assert max(len(asked.target) for asked in server.asked) < 2100


def test_the_newest_come_in_the_order_of_their_times() -> None:
    def answer(asked: Asked) -> Reply:
        assert (asked.query["sort"], asked.query["limit"]) == ("desc", "3")
        rows = [{"t": rfc3339(START + n * MINUTE), **BAR} for n in (9, 8, 7)]
        return Reply(body={"bars": {"AAPL": rows}, "next_page_token": "more"})

    with RestServer(answer) as server:
        found = fetch(history(server), request(newest=3))
    assert [bar.timestamp_ns for bar in found] == [START + n * MINUTE for n in (7, 8, 9)]
    assert len(server.asked) == 1


def test_more_of_the_newest_than_a_page_holds() -> None:
    with RestServer(
        Reply(body={**page_of(range(30_000, 20_000, -1)), "next_page_token": "b"}),
        Reply(body={**page_of(range(20_000, 10_000, -1)), "next_page_token": "c"}),
    ) as server:
        provider = history(server)
        pages = list(provider.fetch(request(newest=12_000), KEYS))
        provider.close()
    assert [len(page.bars) for page in pages] == [10_000, 2_000]
    found = [bar.timestamp_ns for page in pages for bar in page.bars]
    assert found == [START + n * MINUTE for n in range(18_001, 30_001)]


def page_of(numbers: range) -> dict[str, Any]:
    return {"bars": {"AAPL": [{"t": rfc3339(START + n * MINUTE), **BAR} for n in numbers]}}


def test_a_server_that_ignores_the_limit_still_gives_pages_as_promised() -> None:
    with RestServer(bars(25_000)) as server:
        provider = history(server)
        pages = list(provider.fetch(request(), KEYS))
        provider.close()
    assert [len(page.bars) for page in pages] == [10_000, 10_000, 5_000]


@pytest.mark.parametrize("how", ["whole", "chunked"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("then_close", [False, True])
def test_every_way_to_send_a_body(how: Any, zipped: bool, then_close: bool) -> None:
    body = {**page_of(range(2)), "next_page_token": "b"}
    first = Reply(body=body, how=how, zipped=zipped, then_close=then_close)
    with RestServer(first, bars(1, 2)) as server:
        assert len(fetch(history(server))) == 3
    assert len({asked.client for asked in server.asked}) == 1 + then_close
    assert server.asked[0].headers["Accept-Encoding"] == "gzip"


def test_a_server_may_close_a_kept_connection_at_any_time() -> None:
    clock = FakeClock()
    with RestServer(bars(1, more="b"), Reply(how="gone"), bars(1, 1)) as server:
        assert len(fetch(history(server, clock))) == 2
    assert len(server.asked) == 3
    assert clock.waits() == ()


# --- what is tried again, and how long ---


@pytest.mark.parametrize(
    "fault",
    [
        Reply(500),
        Reply(503, "<html>sorry</html>"),
        Reply(504),
        Reply(408),
        Reply(429, {"message": "too many requests."}),
        Reply(how="gone"),
        Reply(body=EMPTY, how="cut"),
        Reply(body=EMPTY, how="cut", zipped=True),
        Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    ],
)
def test_what_may_pass_is_tried_again(fault: Reply) -> None:
    clock = FakeClock()
    with RestServer(fault, fault, bars(1)) as server:
        assert len(fetch(history(server, clock))) == 1
    assert len(server.asked) == 3
    assert len(clock.waits()) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Reply(500), "in 4 attempts: the server refused .* HTTP 500"),
        (Reply(429, {"message": "slow down"}), "HTTP 429: slow down"),
        (Reply(how="gone"), "connection was reset|connection failed|closed"),
        (Reply(body=EMPTY, how="cut"), "cut short"),
        (Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"}), "cannot be unpacked"),
        (Reply(body=b" " * (65 * 2**20), zipped=True), "too large"),
    ],
    ids=["500", "429", "gone", "cut", "no gzip", "too large"],
)
def test_what_does_not_pass_is_given_up_after_four_attempts(fault: Reply, said: str) -> None:
    clock = FakeClock()
    with RestServer(fault) as server:
        provider = history(server, clock)
        with pytest.raises(HistoryError, match=said) as caught:
            fetch(provider)
        provider.close()
    assert type(caught.value) is HistoryError
    assert len(server.asked) == 4
    waits = [wait for wait in clock.waits() if wait is not None]
    assert all(wait <= ceiling for wait, ceiling in zip(waits, (0.5, 1.0, 2.0), strict=True))


def test_nobody_there() -> None:
    with RestServer(Reply()) as server:
        pass
    provider = history(server)
    with pytest.raises(HistoryError, match="connection was refused") as caught:
        fetch(provider)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    provider.close()


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7.0, 7.0),
        ({"Retry-After": "86400"}, 60.0, 60.0),
        ({"X-RateLimit-Reset": str(START // 10**9 + 12)}, 12.0, 12.0),
        ({}, 0.0, 0.5),
    ],
)
def test_a_rate_limit_is_waited_for(headers: dict[str, str], least: float, most: float) -> None:
    clock = FakeClock(datetime_from_ns(START))
    with RestServer(Reply(429, headers=headers), bars(1)) as server:
        assert len(fetch(history(server, clock))) == 1
    (wait,) = clock.waits()
    assert wait is not None
    assert least <= wait <= most


# --- what is not ---


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 414, 422])
def test_a_refusal_is_for_good(status: int) -> None:
    with RestServer(Reply(status, {"message": "no: that is wrong"})) as server:
        provider = history(server)
        with pytest.raises(HistoryRefusedError, match=f"HTTP {status}: no: that is wrong"):
            fetch(provider)
        provider.close()
    assert len(server.asked) == 1


def test_recent_data_that_the_plan_lacks_is_there_a_quarter_of_an_hour_later() -> None:
    text = "subscription does not permit querying recent SIP data"
    with RestServer(Reply(403, {"message": text})) as server:
        provider = history(server)
        with pytest.raises(HistoryUnavailableError, match=text) as caught:
            fetch(provider, request(end_ns=START + MINUTE))
        provider.close()
    assert caught.value.available_ns == START + 16 * MINUTE


@pytest.mark.parametrize("body", ["", "<html>", '{"message":"fine"}', "[1,2]", b"\xff\xfe"])
def test_a_page_that_is_none(body: str | bytes) -> None:
    with RestServer(Reply(body=body)) as server:
        provider = history(server)
        with pytest.raises(HistoryError, match="no page of bars"):
            fetch(provider)
        provider.close()


def test_a_malformed_row_costs_a_row(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "realtime_stream")
    page = page_of(range(3))
    page["bars"]["AAPL"][1]["o"] = None
    with RestServer(Reply(body=page)) as server:
        provider = history(server)
        assert len(fetch(provider)) == 2
    [record] = [r for r in caplog.records if r.getMessage() == "realtime_history_rows_malformed"]
    assert vars(record)["count"] == 1


def test_a_page_that_leads_to_itself_does_not_go_on_for_ever() -> None:
    with RestServer(bars(1, more="b")) as server:
        provider = history(server)
        with pytest.raises(HistoryError, match="same page again"):
            fetch(provider)
        provider.close()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "bad",
    [request(timeframe="30s"), request("*"), request(channel="quotes"), request(newest=-1)],
)
def test_a_request_that_cannot_be_served_never_leaves(bad: HistoryRequest) -> None:
    with RestServer(bars(1)) as server:
        provider = history(server)
        with pytest.raises(HistoryRefusedError):
            provider.fetch(bad, KEYS)
        provider.close()
    assert server.asked == []


# --- secrets ---


def quotes_the_request(asked: Asked) -> Reply:
    return Reply(400, {"message": str(asked.headers)})


def quotes_and_fails(asked: Asked) -> Reply:
    return Reply(500, {"message": "".join(asked.headers.values())})


@pytest.mark.parametrize("answer", [quotes_the_request, quotes_and_fails])
def test_a_server_that_quotes_the_keys(
    answer: Callable[[Asked], Reply], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with RestServer(answer) as server:
        provider = history(server)
        with pytest.raises(HistoryError) as caught:
            fetch(provider)
        provider.close()
    shown = [str(caught.value), repr(caught.value), repr(vars(caught.value)), repr(provider)]
    shown += [repr(vars(record)) for record in caplog.records]
    assert not any(secret in text for text in shown for secret in (KEY, SECRET))


def test_no_error_has_frames_in_which_the_keys_stand() -> None:
    with RestServer(Reply(how="gone")) as server:
        provider = history(server)
        with pytest.raises(HistoryError) as caught:
            fetch(provider)
        provider.close()
    error: BaseException | None = caught.value
    texts = []
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename != __file__:
                texts.append(repr(frame.tb_frame.f_locals))
            frame = frame.tb_next
        error = error.__cause__ or error.__context__
    assert texts
    assert not any(SECRET in text for text in texts)


def test_the_system_clock_serves_too() -> None:
    with RestServer(Reply(500), bars(1)) as server:
        config = StreamConfig(api_key="a", secret_key="b")
        provider = AlpacaHistory(config, SystemClock(), SystemClock(), RNG, url=server.url)
        (bar,) = fetch(provider)
    assert bar.received_ns > START - 10 * 365 * DAY
