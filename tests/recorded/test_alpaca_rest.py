"""REST bodies nobody here wrote: bars and trades arrive digit for digit."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from realtime_stream import Bar, Trade
from realtime_stream.errors import HistoryError
from realtime_stream.providers.alpaca.history_query import Query
from realtime_stream.providers.alpaca.history_rows import RowDecoder

BODIES = (
    Path(__file__).resolve().parents[3]
    / "shared"
    / "data"
    / "alpaca"
    / "rest_bodies_from_go_sdk_tests.jsonl"
)

pytestmark = pytest.mark.skipif(
    not BODIES.is_file(), reason="the recorded data is not part of the project"
)

# Attribute of each wire key, written down apart from the code under test.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "bars": {
        "o": "open",
        "h": "high",
        "l": "low",
        "c": "close",
        "v": "volume",
        "n": "trade_count",
        "vw": "vwap",
    },
    "trades": {
        "p": "price",
        "s": "size",
        "x": "exchange",
        "i": "trade_id",
        "z": "tape",
        "tks": "taker_side",
    },
}
TAKEN_BACK = {"canceled", "incorrect"}


class _Line(msgspec.Struct):
    test: str
    line: int
    body: msgspec.Raw


def exact(raw: bytes) -> Any:
    return json.loads(raw, parse_float=Decimal)


def recorded() -> list[tuple[str, bytes]]:
    lines = BODIES.read_bytes().splitlines() if BODIES.is_file() else ()
    found = [msgspec.json.decode(line, type=_Line) for line in lines]
    return [(f"{line.test}-{line.line}", bytes(line.body)) for line in found]


def channel_of(body: Any) -> Any:
    """``bars`` or ``trades``, where that is a page of history: lists, not the latest ones."""
    for channel in ("bars", "trades"):
        part = body.get(channel)
        if isinstance(part, dict) and all(isinstance(rows, list) for rows in part.values()):
            return channel
    return None


ALL = recorded()
PAGES = [(name, raw) for name, raw in ALL if channel_of(exact(raw))]
OTHERS = [(name, raw) for name, raw in ALL if not channel_of(exact(raw))]


def exact_ns(text: str) -> int:
    head, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0") or 0)


def check(event: Bar | Trade, symbol: str, row: dict[str, Any]) -> None:
    assert event.symbol == symbol
    assert event.timestamp_ns == exact_ns(row["t"])
    assert event.source == "backfill"
    for key, attribute in ATTRIBUTES["bars" if isinstance(event, Bar) else "trades"].items():
        value, expected = getattr(event, attribute), row.get(key)
        assert value == expected, (attribute, value, expected)
        if isinstance(value, Decimal):
            assert str(value) == str(expected)
    if isinstance(event, Trade):
        assert event.conditions == tuple(row.get("c", ()))


def test_there_are_pages_of_both_channels_and_markets() -> None:
    assert len(PAGES) >= 15
    names = " ".join(name for name, _ in PAGES)
    for name in ("TestGetTrades", "TestGetBars", "TestGetCryptoBars", "TestGetCryptoTrades"):
        assert name in names


@pytest.mark.parametrize(("name", "raw"), PAGES, ids=[name for name, _ in PAGES])
def test_a_page_arrives_digit_for_digit(name: str, raw: bytes) -> None:
    body = exact(raw)
    channel = channel_of(body)
    query = Query(tuple(body[channel]), 0, 4 * 10**18)
    rows = RowDecoder(channel, "1m").decode(raw, query, 1)
    standing = [
        (symbol, row)
        for symbol, part in body[channel].items()
        for row in part
        if row.get("u") not in TAKEN_BACK
    ]
    assert (rows.malformed, rows.next_token) == (0, body.get("next_page_token") or "")
    for event, (symbol, row) in zip(rows.events, standing, strict=True):
        check(event, symbol, row)


@pytest.mark.parametrize(("name", "raw"), OTHERS, ids=[name for name, _ in OTHERS])
@pytest.mark.parametrize("channel", ["bars", "trades"])
def test_a_body_of_another_kind_is_no_page(name: str, raw: bytes, channel: Any) -> None:
    with pytest.raises(HistoryError, match="no page of"):
        RowDecoder(channel, "1m").decode(raw, Query(("AAPL",), 0, 4 * 10**18), 1)
