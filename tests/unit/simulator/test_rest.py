"""History over REST: paths, parameters, pages and refusals, and the real client."""

from __future__ import annotations

import base64
import itertools
import ssl
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from alpaca.common.enums import Sort
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoTradesRequest,
    StockBarsRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from realtime_stream.simulator import (
    SIMULATOR_KEY,
    SIMULATOR_SECRET,
    AlpacaSimulator,
    SyntheticSession,
)
from realtime_stream.simulator.wire import format_time
from tests.unit.simulator.client import TIMEOUT
from tests.unit.simulator.rest_client import (
    BARS,
    CRYPTO_BARS,
    CRYPTO_TRADES,
    KEYS,
    TRADES,
    ask,
    pages,
    rows,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.simulator.conftest import Connect

START = datetime(2026, 3, 6, 14, 30, tzinfo=UTC)
DAY = "2026-03-06"


def session(*symbols: str, market: str = "stocks") -> SyntheticSession:
    return SyntheticSession(
        3,
        symbols,
        start=START,
        minutes=40,
        quotes_per_minute=1,
        trades_per_minute=5,
        market=market,
    )


STOCKS = session("AAPL", "MSFT", "SPY")
COINS = session("BTC/USD", "ETH/USD", market="crypto")
ROW = {"T": "t", "S": "AAPL", "x": "V", "p": 1.0, "s": 1, "c": ["@"], "z": "C"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[AlpacaSimulator]:
    """With a past, which the tests of this file leave as it is."""
    with AlpacaSimulator() as running:
        running.history.add(STOCKS)
        running.history.add(COINS, market="crypto")
        yield running


def known(
    simulator: AlpacaSimulator, path: str, *symbols: str, timeframe: str = "1m"
) -> dict[str, Any]:
    """What history knows, in the form of an answer."""
    history, market = simulator.history, "stocks" if "stocks" in path else "crypto"

    def of(symbol: str) -> list[dict[str, Any]]:
        if path.endswith("trades"):
            found = history.final_trades(symbol, market=market)
        else:
            found = history.final_bars(symbol, timeframe, market=market)
        return [{**each, "t": format_time(each["t"])} for each in found]

    return {symbol: of(symbol) for symbol in symbols}


def test_bars(simulator: AlpacaSimulator) -> None:
    answer = ask(simulator, BARS, symbols="MSFT,AAPL,MSFT", timeframe="1Min", start=DAY)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Connection"] == "close"
    body = answer.json()
    assert list(body) == ["bars", "next_page_token"]
    assert list(body["bars"]) == ["AAPL", "MSFT"]
    assert list(body["bars"]["AAPL"][0]) == ["t", "o", "h", "l", "c", "v", "n", "vw"]
    assert body["bars"]["AAPL"][0]["t"] == "2026-03-06T14:30:00Z"
    assert body["bars"] == known(simulator, BARS, "AAPL", "MSFT")
    assert body["next_page_token"] is None


def test_trades(simulator: AlpacaSimulator) -> None:
    answer = ask(simulator, TRADES, symbols="AAPL", start=DAY, limit=10_000).json()
    assert answer == {"trades": known(simulator, TRADES, "AAPL"), "next_page_token": None}
    assert set(answer["trades"]["AAPL"][0]) == {"t", "x", "p", "s", "c", "i", "z"}


@pytest.mark.parametrize("place", ["us", "us-1", "eu-1"])
def test_crypto(simulator: AlpacaSimulator, place: str) -> None:
    base = f"/v1beta3/crypto/{place}/"
    bars = ask(simulator, base + "bars", symbols="BTC/USD", timeframe="1T", start=DAY).json()
    assert bars["bars"] == known(simulator, CRYPTO_BARS, "BTC/USD")
    trades = ask(simulator, base + "trades", symbols="ETH/USD", start=DAY).json()
    assert trades["trades"] == known(simulator, CRYPTO_TRADES, "ETH/USD")
    assert set(trades["trades"]["ETH/USD"][0]) == {"t", "p", "s", "i", "tks"}


def test_no_data(simulator: AlpacaSimulator) -> None:
    empty: dict[str, Any] = {"bars": {}, "next_page_token": None}
    assert ask(simulator, BARS, symbols="NONE", timeframe="1Min").json() == empty
    later = {"start": "2026-03-07", "end": "2026-03-08T00:00:00Z"}
    assert ask(simulator, BARS, symbols="AAPL", timeframe="1Min", **later).json() == empty
    with AlpacaSimulator() as new:
        assert ask(new, TRADES, symbols="AAPL").json() == {"trades": {}, "next_page_token": None}


@pytest.mark.parametrize(
    ("ours", "theirs"), [("5m", "5Min"), ("5m", "5T"), ("7m", "7Min"), ("1h", "1H"), ("1d", "1Day")]
)
def test_timeframes(simulator: AlpacaSimulator, ours: str, theirs: str) -> None:
    found = rows(simulator, BARS, symbols="AAPL,SPY", timeframe=theirs, start=DAY)
    expected = known(simulator, BARS, "AAPL", "SPY", timeframe=ours)
    if ours == "1d":  # also the day that has not ended
        assert found == expected
        assert found["AAPL"][0]["t"] == "2026-03-06T05:00:00Z"
        return
    length = timedelta(minutes={"m": 1, "h": 60}[ours[-1]] * int(ours[:-1]))
    ended = START + timedelta(minutes=40) - length
    for symbol, some in expected.items():
        starts = [each["t"] for each in some if datetime.fromisoformat(each["t"]) <= ended]
        assert found.get(symbol, []) == some[: len(starts)]


def test_both_ends_are_included(simulator: AlpacaSimulator) -> None:
    span = {"start": "2026-03-06T14:35:00Z", "end": "2026-03-06T09:37:00-05:00"}
    bars = ask(simulator, BARS, symbols="AAPL", timeframe="1Min", **span).json()["bars"]["AAPL"]
    assert [each["t"][14:16] for each in bars] == ["35", "36", "37"]
    first, second, third, *_ = known(simulator, TRADES, "AAPL")["AAPL"]
    span = {"start": first["t"], "end": third["t"]}
    found = ask(simulator, TRADES, symbols="AAPL", **span).json()["trades"]["AAPL"]
    assert found == [first, second, third]
    exact = {"start": second["t"], "end": second["t"]}
    assert ask(simulator, TRADES, symbols="AAPL", **exact).json()["trades"]["AAPL"] == [second]


def test_the_day_of_the_data_is_the_default(simulator: AlpacaSimulator) -> None:
    found = rows(simulator, BARS, symbols="AAPL", timeframe="1Min")
    assert found == known(simulator, BARS, "AAPL")
    earlier = {"end": "2026-03-05T23:00:00Z"}
    refused = ask(simulator, BARS, symbols="AAPL", timeframe="1Min", **earlier)
    assert refused.error == (400, "end should not be before start")


def test_the_default_limit(simulator: AlpacaSimulator) -> None:
    with AlpacaSimulator() as long:
        long.history.add({**ROW, "i": n, "t": 1_000 + n} for n in range(1_001))
        first, second = pages(long, TRADES, symbols="AAPL", start="1970-01-01T00:00:00Z")
        assert [len(each["trades"]["AAPL"]) for each in (first, second)] == [1_000, 1]
        whole = ask(long, TRADES, symbols="AAPL", start="1970-01-01T00:00:00Z", limit=1_001)
        assert whole.json()["next_page_token"] is None


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 40, 41, 80, 120])
@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (BARS, {"timeframe": "1Min"}),
        (BARS, {"timeframe": "5Min"}),
        (BARS, {"timeframe": "1Day"}),
        (TRADES, {"end": "2026-03-06T14:36:00Z"}),
    ],
)
def test_pages(
    simulator: AlpacaSimulator, path: str, parameters: dict[str, str], limit: int, sort: str
) -> None:
    symbols = {"symbols": "AAPL,MSFT,NONE,SPY", "start": DAY, **parameters}
    whole = ask(simulator, path, **symbols, limit=10_000).json()[path.rpartition("/")[2]]
    if sort == "desc":
        whole = {symbol: some[::-1] for symbol, some in whole.items()}
    found = pages(simulator, path, **symbols, limit=limit, sort=sort)
    kind = path.rpartition("/")[2]
    sizes = [sum(len(some) for some in each[kind].values()) for each in found]
    assert set(sizes[:-1]) <= {limit}
    assert 0 < sizes[-1] <= limit
    joined = [
        (symbol, row) for each in found for symbol, some in each[kind].items() for row in some
    ]
    assert joined == [(symbol, row) for symbol, some in whole.items() for row in some]


def test_page_tokens_look_as_alpacas_do(simulator: AlpacaSimulator) -> None:
    def token(path: str, **parameters: object) -> str:
        found = ask(simulator, path, symbols="AAPL", start=DAY, limit=2, **parameters).json()
        return base64.b64decode(found["next_page_token"]).decode()

    assert token(BARS, timeframe="1Min") == "AAPL|M|2026-03-06T14:31:00.000000000Z"
    symbol, time, exchange, number = token(TRADES).split("|")
    second = known(simulator, TRADES, "AAPL")["AAPL"][1]
    assert (symbol, time.rstrip("0Z")) == ("AAPL", second["t"].rstrip("0Z"))
    assert (exchange, int(number)) == (second["x"], second["i"] + (1 << 63))
    assert len(number) == 20


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_no_trade_is_lost_between_pages_where_times_are_the_same(sort: str) -> None:
    trades = [
        {**ROW, "i": number, "x": exchange, "t": 5}
        for number, exchange in itertools.product((-1, 2, 3), "ABC")
    ]
    del trades[0]["i"], trades[1]["i"]
    unnumbered = [trades[0]] * 3
    about = {"S": "AAPL", "x": "A", "z": "C", "t": 9}
    wrong = {"oi": 2, "op": 1.0, "os": 1, "oc": ["@"]}
    right = {"T": "c", **about, **wrong, "ci": 2, "cp": 2.0, "cs": 1, "cc": ["@"]}
    coins = [{"T": "t", "S": "BTC/USD", "i": n, "p": 1.0, "s": 1.0, "t": 5} for n in (-2, 0, 2)]
    with AlpacaSimulator() as crowded:
        crowded.history.add(coins, market="crypto")
        asked = {"symbols": "BTC/USD", "start": "1970-01-01", "sort": sort}
        assert len(rows(crowded, CRYPTO_TRADES, **asked, limit=1)["BTC/USD"]) == 3
        crowded.history.add([*trades, *unnumbered, right])
        for limit in range(1, 14):
            asked = {"symbols": "AAPL", "start": "1970-01-01T00:00:00Z", "sort": sort}
            found = rows(crowded, TRADES, **asked, limit=limit)["AAPL"]
            assert len(found) == len(trades) + 3 + 1
            marks = [each.get("u") for each in found if each.get("u")]
            expected = ["incorrect", "corrected"]
            assert marks == (expected if sort == "asc" else expected[::-1])


def test_cancelled_trades_are_marked() -> None:
    with AlpacaSimulator() as one:
        cancel = {"T": "x", "S": "AAPL", "i": 1, "x": "V", "p": 1.0, "s": 1, "a": "C", "t": 9}
        one.publish({**ROW, "i": 1, "t": 5}, cancel)
        (row,) = rows(one, TRADES, symbols="AAPL", start="1970-01-01T00:00:00Z")["AAPL"]
        assert row["u"] == "canceled"


# --- refusals ---


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        (BARS, {"symbols": ""}, "symbols is required"),
        (BARS, {"symbols": "aapl"}, "invalid symbol: aapl"),
        (BARS, {"symbols": "AAPL,*"}, "invalid symbol: *"),
        (CRYPTO_BARS, {"symbols": "AAPL"}, "invalid symbol: AAPL"),
        (BARS, {"timeframe": "7Weeks"}, "invalid timeframe: 7Weeks"),
        (BARS, {"timeframe": "60Min"}, "invalid timeframe: 60Min"),
        (BARS, {"timeframe": "1m"}, "invalid timeframe: 1m"),
        (TRADES, {"timeframe": "1Min"}, "unexpected query parameter(s): timeframe"),
        (CRYPTO_BARS, {"feed": "sip"}, "unexpected query parameter(s): feed"),
        (BARS, {"feed": "opra"}, "invalid feed: opra"),
        (BARS, {"limit": 0}, "invalid limit: 0"),
        (BARS, {"limit": 10_001}, "invalid limit: 10001"),
        (BARS, {"limit": "many"}, "invalid limit: many"),
        (BARS, {"sort": "up"}, "invalid sort: up"),
        (BARS, {"start": "yesterday"}, "invalid start: yesterday"),
        (BARS, {"start": "2026-02-30"}, "invalid start: 2026-02-30"),
        (BARS, {"end": "2026-03-06T10:00:00"}, "invalid end: 2026-03-06T10:00:00"),
        (BARS, {"start": DAY, "end": "2026-03-05"}, "end should not be before start"),
        (BARS, {"page_token": "me"}, "invalid page_token: me"),
        (BARS, {"page_token": "QXxCCg=="}, "invalid page_token: QXxCCg=="),
        (
            TRADES,
            {"page_token": base64.b64encode(b"A|M|2026-03-06T14:31:00Z").decode()},
            "invalid page_token: QXxNfDIwMjYtMDMtMDZUMTQ6MzE6MDBa",
        ),
    ],
)
def test_bad_parameters(
    simulator: AlpacaSimulator, path: str, changes: dict[str, object], said: str
) -> None:
    right = {"symbols": "BTC/USD" if "crypto" in path else "AAPL", "start": DAY}
    if path.endswith("bars"):
        right["timeframe"] = "1Min"
    assert ask(simulator, path, **right).status == 200
    answer = ask(simulator, path, **{**right, **changes})
    assert answer.error == (400, said)
    assert "X-RateLimit-Remaining" in answer.headers


def test_a_timeframe_is_needed(simulator: AlpacaSimulator) -> None:
    assert ask(simulator, BARS, symbols="AAPL").error == (400, "timeframe is required")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"APCA-API-KEY-ID": SIMULATOR_KEY},
        {**KEYS, "APCA-API-SECRET-KEY": "wrong"},
        {**KEYS, "APCA-API-KEY-ID": "unknown"},
        {"APCA-API-KEY-ID": "unknown", "APCA-API-SECRET-KEY": ""},
        {"Authorization": "Basic nonsense"},
    ],
)
def test_wrong_keys(simulator: AlpacaSimulator, keys: dict[str, str]) -> None:
    answer = send(simulator, f"{TRADES}?symbols=AAPL", headers=keys)
    assert answer.error == (401, "unauthorized.")


def test_basic_authorization(simulator: AlpacaSimulator) -> None:
    pair = base64.b64encode(f"{SIMULATOR_KEY}:{SIMULATOR_SECRET}".encode()).decode()
    keys = {"Authorization": f"Basic {pair}"}
    assert send(simulator, f"{TRADES}?symbols=AAPL", headers=keys).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/v2/stocks/quotes", "/v2/stocks", "/v1beta3/crypto/mars/bars"]
)
def test_unknown_paths(simulator: AlpacaSimulator, path: str) -> None:
    assert ask(simulator, path).error == (404, "endpoint not found.")


def test_other_methods(simulator: AlpacaSimulator) -> None:
    assert send(simulator, TRADES, method="DELETE").error == (405, "method not allowed")


@pytest.mark.parametrize("count", [1_300, 1_600, 2_000, 20_000])
def test_too_long_addresses(simulator: AlpacaSimulator, count: int) -> None:
    symbols = ",".join(["AAPL"] * count)
    target = f"{TRADES}?symbols={symbols}"
    answer = ask(simulator, target)
    assert answer.status == (200 if len(target) < 8_000 else 414)


def test_a_feed_that_is_not_in_the_plan() -> None:
    with AlpacaSimulator(refused_feeds=["sip"]) as basic:
        assert ask(basic, TRADES, symbols="AAPL", feed="iex").status == 200
        refused = ask(basic, TRADES, symbols="AAPL", feed="sip")
        assert refused.error == (403, "subscription does not permit querying this feed")


# --- beside the streams ---


def test_what_was_asked_is_shown_without_keys() -> None:
    with AlpacaSimulator() as one:
        ask(one, TRADES, symbols="AAPL")
        ask(one, "/nowhere")
        assert one.rest_requests == [f"{TRADES}?symbols=AAPL", "/nowhere"]
        assert one.rest_answers == {200: 1, 404: 1}
        assert (one.attempts, one.handshakes) == (2, 0)
        assert one.wait_for(lambda each: len(each.rest_requests) == 2)


def test_streams_on_the_same_port(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    assert ask(simulator, TRADES, symbols="AAPL").status == 200
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    plain = ask(simulator, "/v2/iex")
    assert plain.status == 426  # as ever: a stream's path wants an upgrade


def test_over_tls() -> None:
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    with AlpacaSimulator(ssl_context=server_tls) as secure:
        secure.history.add(STOCKS)
        assert secure.rest_url == f"https://127.0.0.1:{secure.port}"
        request = urllib.request.Request(  # noqa: S310  # https, see above
            f"{secure.rest_url}{TRADES}?symbols=AAPL,MSFT,SPY&limit=10000", headers=KEYS
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=client_tls) as answer:  # noqa: S310
            assert answer.status == 200
            assert len(answer.read()) == int(answer.headers["Content-Length"]) > 50_000


def test_the_address_of_a_server_on_any_host() -> None:
    with AlpacaSimulator(host="0.0.0.0") as wide:  # noqa: S104  # for a moment
        assert wide.rest_url == f"http://127.0.0.1:{wide.port}"
        assert ask(wide, TRADES, symbols="AAPL").status == 200


# --- the real client ---


def exactly(known_rows: list[dict[str, Any]]) -> list[datetime]:
    """Times as the client gives them: cut to microseconds."""
    return [datetime.fromisoformat(each["t"][:26].rstrip("Z") + "+00:00") for each in known_rows]


@pytest.fixture
def stocks(simulator: AlpacaSimulator) -> StockHistoricalDataClient:
    return StockHistoricalDataClient(
        SIMULATOR_KEY, SIMULATOR_SECRET, url_override=simulator.rest_url
    )


def test_alpacas_client_for_bars(
    simulator: AlpacaSimulator, stocks: StockHistoricalDataClient
) -> None:
    request = StockBarsRequest(
        symbol_or_symbols=["AAPL", "MSFT"],
        timeframe=TimeFrame(5, TimeFrameUnit.Minute),
        start=START,
        end=START + timedelta(minutes=20),
        feed=DataFeed.IEX,
    )
    found = stocks.get_stock_bars(request)
    expected = known(simulator, BARS, "AAPL", "MSFT", timeframe="5m")
    for symbol in ("AAPL", "MSFT"):
        bars = found[symbol]
        assert [each.timestamp for each in bars] == exactly(expected[symbol][:5])
        assert [each.vwap for each in bars] == [each["vw"] for each in expected[symbol][:5]]
    assert "symbols=AAPL%2CMSFT" in simulator.rest_requests[-1]
    assert "start=2026-03-06T14%3A30%3A00%2B00%3A00" in simulator.rest_requests[-1]


def test_alpacas_client_for_trades(
    simulator: AlpacaSimulator, stocks: StockHistoricalDataClient
) -> None:
    request = StockTradesRequest(
        symbol_or_symbols="AAPL", start=START, limit=30, sort=Sort.DESC, feed=DataFeed.SIP
    )
    found = stocks.get_stock_trades(request)["AAPL"]
    expected = known(simulator, TRADES, "AAPL")["AAPL"][:-31:-1]
    assert [each.timestamp for each in found] == exactly(expected)
    assert [each.id for each in found] == [each["i"] for each in expected]


def test_alpacas_client_for_coins(simulator: AlpacaSimulator) -> None:
    client = CryptoHistoricalDataClient(
        url_override=simulator.rest_url, api_key=SIMULATOR_KEY, secret_key=SIMULATOR_SECRET
    )
    bars = client.get_crypto_bars(
        CryptoBarsRequest(symbol_or_symbols=["BTC/USD"], timeframe=TimeFrame.Minute, start=START)
    )
    expected = known(simulator, CRYPTO_BARS, "BTC/USD")["BTC/USD"]
    assert [each.volume for each in bars["BTC/USD"]] == [each["v"] for each in expected]
    trades = client.get_crypto_trades(
        CryptoTradesRequest(symbol_or_symbols=["ETH/USD"], start=START)
    )
    assert len(trades["ETH/USD"]) == len(known(simulator, CRYPTO_TRADES, "ETH/USD")["ETH/USD"])


def test_alpacas_client_and_a_refusal(simulator: AlpacaSimulator) -> None:
    wrong = StockHistoricalDataClient("unknown", "wrong", url_override=simulator.rest_url)
    with pytest.raises(APIError) as raised:
        wrong.get_stock_trades(StockTradesRequest(symbol_or_symbols="AAPL", start=START))
    assert raised.value.status_code == 401
    assert raised.value.message == "unauthorized."
    with pytest.raises(KeyError):
        _ = raised.value.code  # as with the real server, whose errors have none
