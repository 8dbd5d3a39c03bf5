"""A stored bar: its relations hold, and it comes from and goes back to a market event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from realtime_stream import Bar, ConfigurationError
from realtime_stream.sinks.sql import OHLCVBar

_START = datetime(2026, 9, 21, 14, 14, tzinfo=UTC)


def _values(**fields: Any) -> dict[str, Any]:
    return {
        "symbol": "AAPL",
        "timeframe": "1m",
        "timestamp": _START,
        "open": "187.25",
        "high": "187.50",
        "low": "187.10",
        "close": "187.30",
        "volume": 1200,
    } | fields


def test_what_is_not_given_is_worked_out_or_unknown() -> None:
    row = OHLCVBar(**_values())

    assert row.spread == Decimal("0.40")
    assert (row.id, row.created_at, row.spread_ratio, row.volume_ratio) == (None,) * 4
    assert row.timestamp_ns == 1_790_000_040_000_000_000


def test_json_has_decimals_as_strings_and_times_in_iso() -> None:
    row = OHLCVBar(**_values(vwap="187.281234", created_at=_START, volume="0.000000001"))

    document = json.loads(row.model_dump_json())

    assert document["open"] == "187.25"
    assert document["spread"] == "0.40"
    assert document["volume"] in {"1E-9", "0.000000001"}
    assert document["timestamp"] == "2026-09-21T14:14:00Z"
    assert OHLCVBar.model_validate_json(row.model_dump_json()) == row


def test_times_become_utc() -> None:
    eastern = timezone(timedelta(hours=-4))

    assert OHLCVBar(**_values(timestamp=_START.replace(tzinfo=None))).timestamp == _START
    converted = OHLCVBar(**_values(timestamp=_START.astimezone(eastern))).timestamp
    assert converted == _START
    assert converted.tzinfo is UTC


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"open": "187.51"}, "open is not between"),
        ({"close": "187.09"}, "close is not between"),
        ({"low": "0"}, "greater than 0"),
        ({"high": "187.00"}, "open is not between"),
        ({"volume": "-1"}, "greater than or equal to 0"),
        ({"open": 187.25}, "must not be a float"),
        ({"open": "187.2500000000001"}, "decimal places"),
        ({"high": "1" * 17}, "digits"),
        ({"open": "NaN"}, "finite"),
        ({"spread": "0.5"}, "spread is not high - low"),
        ({"spread": 0.4}, "must not be a float"),
        ({"spread": "wide"}, "spread is not high - low"),
        ({"symbol": "X" * 33}, "32"),
        ({"nanosecond": 1000}, "1000"),
        ({"trade_count": -1}, "greater than or equal"),
        ({"source": "hearsay"}, "stream"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_what_does_not_hold_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OHLCVBar(**_values(**fields))


def _bar(**fields: Any) -> Bar:
    values: dict[str, Any] = {
        "symbol": "BTC/USD",
        "timestamp_ns": 1_790_000_040_123_456_789,
        "received_ns": 5,
        "open": Decimal(2),
        "high": Decimal(3),
        "low": Decimal(1),
        "close": Decimal(2),
        "volume": Decimal("0.5"),
        "trade_count": 3,
        "vwap": Decimal("1.5"),
        "timeframe": "ticks:3",
        "source": "built",
    }
    return Bar(**(values | fields))


@pytest.mark.parametrize("kind", ["regular", "updated"])
def test_there_and_back(kind: str) -> None:
    bar = _bar(bar_kind=kind, is_partial=True, is_filled=True)

    back = OHLCVBar.from_bar(bar).to_bar()

    assert back == bar
    assert (back.source, back.received_ns) == ("built", 5)


def test_running_totals_of_a_day_come_back_as_its_bar() -> None:
    assert OHLCVBar.from_bar(_bar(bar_kind="daily")).to_bar() == _bar(bar_kind="regular")


def test_a_quotient_is_rounded_and_nothing_else() -> None:
    assert OHLCVBar.from_bar(_bar(vwap=Decimal(5) / 3)).vwap == Decimal("1.666666666667")
    for fields in (
        {"open": Decimal(5) / 3},
        {"low": Decimal(0)},
        {"vwap": Decimal("NaN")},
        {"timestamp_ns": 10**30},
    ):
        with pytest.raises(ConfigurationError, match="BTC/USD"):
            OHLCVBar.from_bar(_bar(**fields))
