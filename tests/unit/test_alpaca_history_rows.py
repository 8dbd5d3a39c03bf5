"""Pages of history to events: digit for digit, and what is broken costs no more than itself."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_stream import Bar, Trade
from realtime_stream.errors import HistoryError
from realtime_stream.providers.alpaca.history_query import Query
from realtime_stream.providers.alpaca.history_rows import RowDecoder, Rows

ALWAYS = Query(("AAPL", "SPY"), 0, 4 * 10**18)
BAR = (
    '{"t":"2021-10-15T16:00:00Z","o":3378.14,"h":3380.815,"l":3376.3001,"c":3379.72,"v":211689,'
    '"n":5435,"vw":3379.0417550000000001}'
)
TRADE = (
    '{"t":"2021-10-13T08:00:00.08960768Z","x":"P","p":140.20,"s":595,"c":["@","T"],"i":1,"z":"C"%s}'
)
BAR_NS = 1_634_313_600_000_000_000


def decode(
    channel: Literal["bars", "trades"], body: str, query: Query = ALWAYS, timeframe: str = "1m"
) -> Rows:
    return RowDecoder(channel, timeframe).decode(body.encode(), query, 7)


def page(channel: str, *rows: str, symbol: str = "AAPL", more: str = "null") -> str:
    return f'{{"{channel}":{{"{symbol}":[{",".join(rows)}]}},"next_page_token":{more}}}'


def test_a_bar_arrives_digit_for_digit() -> None:
    rows = decode("bars", page("bars", BAR, more='"QUFQTA=="'), timeframe="15m")
    (bar,) = rows.events
    assert bar == Bar(
        symbol="AAPL",
        timestamp_ns=BAR_NS,
        open=Decimal("3378.14"),
        high=Decimal("3380.815"),
        low=Decimal("3376.3001"),
        close=Decimal("3379.72"),
        volume=Decimal(211689),
        trade_count=5435,
        vwap=Decimal("3379.0417550000000001"),
        timeframe="15m",
    )
    assert (bar.source, bar.bar_kind, bar.received_ns) == ("backfill", "regular", 7)
    assert str(bar.vwap) == "3379.0417550000000001"
    assert rows.next_token == "QUFQTA=="


def test_a_trade_arrives_digit_for_digit() -> None:
    (trade,) = decode("trades", page("trades", TRADE % "")).events
    assert trade == Trade(
        symbol="AAPL",
        timestamp_ns=1_634_112_000_089_607_680,
        price=Decimal("140.20"),
        size=Decimal(595),
        exchange="P",
        trade_id=1,
        conditions=("@", "T"),
        tape="C",
    )
    assert (trade.source, trade.received_ns, str(trade.price)) == ("backfill", 7, "140.20")


@pytest.mark.parametrize(
    ("row", "attribute", "expected"),
    [
        ('{"t":"2021-09-08T05:04:03.269Z","p":1,"s":0.035083,"tks":"S","i":2}', "taker_side", "S"),
        ('{"t":"2021-09-08T05:04:03.269Z","p":1,"s":1,"c":null}', "conditions", ()),
        ('{"t":"2021-09-08T05:04:03.269Z","p":1,"s":1,"c":""}', "conditions", ()),
        ('{"t":"2021-09-08T05:04:03.269Z","p":1,"s":1,"c":"Q"}', "conditions", ("Q",)),
        ('{"t":"2021-09-08T05:04:03.269Z","p":1,"s":1,"new":[{}]}', "trade_id", None),
    ],
)
def test_fields_that_not_every_market_has(row: str, attribute: str, expected: object) -> None:
    (trade,) = decode("trades", page("trades", row)).events
    assert getattr(trade, attribute) == expected


@pytest.mark.parametrize(
    ("update", "stands"), [("canceled", 0), ("incorrect", 0), ("corrected", 1), ("new", 1)]
)
def test_trades_that_were_taken_back_are_left_out(update: str, stands: int) -> None:
    rows = decode("trades", page("trades", TRADE % f',"u":"{update}"'))
    assert (len(rows.events), rows.malformed) == (stands, 0)


@pytest.mark.parametrize(
    "row",
    [
        "{}",
        "null",
        "[]",
        BAR.replace("3378.14", "null"),
        BAR.replace("3378.14", '"NaN"'),
        BAR.replace("3378.14", '"dear"'),
        BAR.replace("3378.14", "true"),
        BAR.replace("2021-10-15T16:00:00Z", "yesterday"),
        BAR.replace("2021-10-15T16:00:00Z", "2021-10-15T16:00:00"),
        BAR.replace("211689", '"Infinity"'),
        BAR.replace("5435", "1.5"),
    ],
)
def test_a_malformed_row_costs_a_row(row: str) -> None:
    rows = decode("bars", page("bars", BAR, row, BAR, more='"more"'))
    assert len(rows.events) == 2
    assert rows.malformed == 1
    assert rows.reason
    assert rows.next_token == "more"


def test_rows_that_were_not_asked_for_are_left_out() -> None:
    edges = Query(("AAPL",), BAR_NS, BAR_NS + 2)
    early, late = (
        BAR.replace("16:00:00Z", text) for text in ("15:59:59.999999999Z", "16:00:00.000000002Z")
    )
    last = BAR.replace("16:00:00Z", "16:00:00.000000001Z")
    rows = decode("bars", page("bars", early, BAR, last, late), edges)
    assert [bar.timestamp_ns for bar in rows.events] == [BAR_NS, BAR_NS + 1]
    assert rows.malformed == 2
    assert decode("bars", page("bars", BAR, symbol="TSLA")).malformed == 1


@pytest.mark.parametrize(
    "body", ['{"bars":{}}', '{"bars":null}', '{"bars":{"AAPL":null},"next_page_token":null}']
)
def test_an_empty_page(body: str) -> None:
    assert decode("bars", body) == Rows()


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", "{}", '{"trades":{}}', '{"bars":[]}', '{"bars":{"AAPL":{}}}',
     '{"message":"all is well"}', '{"bars":{},"next_page_token":5}', "<html>", "[" * 10_000],
)  # fmt: skip
def test_a_malformed_body_costs_the_page(body: str) -> None:
    with pytest.raises(HistoryError, match="no page of bars"):
        decode("bars", body)


numbers = st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("tohlcvps"), inner),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4), st.sampled_from(["bars", "trades"]))
def test_no_row_costs_another(values: list[Any], channel: Literal["bars", "trades"]) -> None:
    good = BAR if channel == "bars" else TRADE % ""
    rows = decode(channel, page(channel, good, *(json.dumps(v) for v in values), good))
    assert len(rows.events) == 2 or any(isinstance(v, dict) for v in values)
    assert rows.events
    assert len(rows.events) + rows.malformed == len(values) + 2


@given(st.binary(max_size=60))
def test_no_bytes_are_too_strange(body: bytes) -> None:
    try:
        rows = RowDecoder("bars", "1m").decode(body, ALWAYS, 0)
    except HistoryError:
        return
    assert rows.events == []
