"""What the history relies on in alpaca-py, each by its name.

A failure here means that a new release changed something the history stands on.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

import pytest
from alpaca.common.enums import BaseURL, Sort
from alpaca.common.utils import get_default_user_agent
from alpaca.data.enums import Adjustment, DataFeed
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoTradesRequest,
    StockBarsRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from realtime_stream.providers.alpaca.history_query import TIMEFRAMES
from realtime_stream.providers.alpaca.rest_client import BASE_URL, PageRequest, history_client
from realtime_stream.providers.alpaca.rest_exchange import KEY_HEADER, SECRET_HEADER
from tests.rest_server import Asked, Reply, RestServer

START = datetime(2026, 9, 21, 14, 14, tzinfo=UTC)
END = START + timedelta(hours=1)
TIMES = {"start": START.isoformat(), "end": END.isoformat()}
SYMBOLS = {"stocks": ("AAPL", "BRK.B"), "crypto": ("BTC/USD", "ETH/USD")}
FEEDS = {"stocks": "sip", "crypto": "us"}
CLIENTS = [StockHistoricalDataClient, CryptoHistoricalDataClient]


def sdk_itself(market: str, channel: str, url: str) -> None:
    """The same request by the SDK alone, with its own transport."""
    common: dict[str, Any] = {
        "symbol_or_symbols": list(SYMBOLS[market]),
        "start": START,
        "end": END,
        "sort": Sort.ASC,
        "limit": 10_000,
    }
    bars: dict[str, Any] = {"timeframe": TimeFrame(5, TimeFrameUnit.Minute)}
    if market == "stocks":
        stocks = StockHistoricalDataClient("the-key", "the-secret", url_override=url, raw_data=True)
        feed: dict[str, Any] = {"feed": DataFeed.SIP}
        if channel == "bars":
            stocks.get_stock_bars(
                StockBarsRequest(**common, **bars, **feed, adjustment=Adjustment.RAW)
            )
        else:
            stocks.get_stock_trades(StockTradesRequest(**common, **feed))
        return
    crypto = CryptoHistoricalDataClient("the-key", "the-secret", url_override=url, raw_data=True)
    if channel == "bars":
        crypto.get_crypto_bars(CryptoBarsRequest(**common, **bars))
    else:
        crypto.get_crypto_trades(CryptoTradesRequest(**common))


@pytest.mark.parametrize("channel", ["bars", "trades"])
@pytest.mark.parametrize("market", ["stocks", "crypto"])
def test_our_requests_are_the_sdks_own(market: str, channel: Any) -> None:
    page = PageRequest(channel, SYMBOLS[market], 10_000, False, TIMES, "5m")
    target = history_client(market, FEEDS[market]).page(page, str.encode).decode()
    with RestServer(Reply(body={channel: {}, "next_page_token": None})) as server:
        sdk_itself(market, channel, server.url)
        with RestServer(Reply()) as ours:
            ask_plainly(ours, target)
    (theirs,), (mine,) = server.asked, ours.asked
    assert mine.path == theirs.path
    assert mine.query == {name: value for name, value in theirs.query.items() if value}
    assert theirs.headers[KEY_HEADER] == "the-key"
    assert theirs.headers[SECRET_HEADER] == "the-secret"
    assert theirs.headers["User-Agent"] == get_default_user_agent()


def ask_plainly(server: RestServer, target: str) -> Asked:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", target)
    connection.getresponse().read()
    connection.close()
    return server.asked[-1]


def test_the_base_url() -> None:
    assert BASE_URL == BaseURL.DATA.value == "https://data.alpaca.markets"


@pytest.mark.parametrize("client", CLIENTS)
def test_get_is_public_and_takes_path_and_data(client: Any) -> None:
    assert list(inspect.signature(client.get).parameters)[:3] == ["self", "path", "data"]


@pytest.mark.parametrize("base", CLIENTS)
def test_every_method_of_the_clients_sends_through_get(base: Any) -> None:
    class AskedForError(Exception):
        pass

    class Client(base):  # type: ignore[misc]  # the class is a parameter
        def get(self, path: str, data: Any = None, **_: Any) -> Any:
            raise AskedForError

    class AnyRequest:
        def to_request_fields(self) -> dict[str, Any]:
            return {}

    client = Client("key", "secret")
    methods = [name for name in dir(client) if name.startswith(("get_stock", "get_crypto"))]
    assert len(methods) >= 6
    for name in methods:
        with pytest.raises(AskedForError):
            getattr(client, name)(AnyRequest())


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_the_sdk_knows_every_timeframe(timeframe: str) -> None:
    page = PageRequest("bars", ("AAPL",), 1, False, {}, timeframe)
    amount, unit = TIMEFRAMES[timeframe]
    assert page.sdk_timeframe().value == f"{amount}{unit}"


def test_the_venue_of_crypto_is_part_of_the_path() -> None:
    page = PageRequest("bars", ("BTC/USD",), 1, True, {}, "1m")
    target = history_client("crypto", "eu-1").page(page, str.encode).decode()
    assert target.startswith("/v1beta3/crypto/eu-1/bars?")
    assert "sort=desc" in target


def test_the_sdk_itself_cuts_times() -> None:
    """Why times do not pass through its request classes; if it fails, they may."""
    start: Any = "2026-09-21T14:14:00.123456789Z"
    request = StockTradesRequest(symbol_or_symbols="AAPL", start=start)
    assert request.to_request_fields()["start"] == "2026-09-21T14:14:00.123456+00:00"
