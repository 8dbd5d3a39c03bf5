"""Bars to rows: checked, exact, one per key."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

from realtime_stream.clock import datetime_from_ns
from realtime_stream.errors import SinkRejectedError
from realtime_stream.sinks.sql.tables import (
    PRICE_PLACES,
    SIGNIFICANT,
    SYMBOL_LENGTH,
    TIMEFRAME_LENGTH,
    VOLUME_PLACES,
    WIDE,
    exact_text,
    rounded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from realtime_stream.market.models import Bar

__all__ = [
    "CELLS",
    "Candidate",
    "Cell",
    "Entry",
    "Precedence",
    "Series",
    "candidates",
    "precedence",
    "rejected",
]

Cell: TypeAlias = str | int | None
Series: TypeAlias = tuple[str, str]
Precedence: TypeAlias = tuple[bool, bool, bool, int]

_ZERO: Final = Decimal(0)
_NS: Final = 1000  # nanoseconds of a microsecond
_LARGEST: Final = 2**63 - 1  # BIGINT
_NUMBERS: Final = (
    ("open", PRICE_PLACES),
    ("high", PRICE_PLACES),
    ("low", PRICE_PLACES),
    ("close", PRICE_PLACES),
    ("volume", VOLUME_PLACES),
)


CELLS: Final = (
    "symbol",
    "timeframe",
    "timestamp",
    "nanosecond",
    "open",
    "high",
    "low",
    "close",
    "spread",
    "volume",
    "vwap",
    "trade_count",
    "source",
    "is_update",
    "is_partial",
    "is_filled",
    "received_ns",
)
"""The columns of :attr:`Candidate.cells`."""


class Entry(Struct, frozen=True, gc=False):
    """What of a bar those after it are compared with, and what decides against a rival.

    Attributes:
        timestamp_ns: The bar's start.
        spread: ``high - low``.
        volume: Its volume.
        rank: See :func:`precedence`.
    """

    timestamp_ns: int
    spread: Decimal
    volume: Decimal
    rank: Precedence


class Candidate(Struct, frozen=True, gc=False):
    """What of a batch may be written for one key.

    Attributes:
        position: Of its bar, in the batch.
        entry: What it is compared by.
        cells: Its values for :data:`CELLS`, as both databases read them.
    """

    position: int
    entry: Entry
    cells: tuple[Cell, ...]


def precedence(bar: Bar) -> Precedence:
    """What decides between bars of one key: the greater wins, of equals the one written last.

    A whole bar beats a partial one, one with trades beats one that was only filled in, an updated
    one beats a regular one, and what was received later beats what was received earlier.
    """
    return (not bar.is_partial, not bar.is_filled, bar.bar_kind == "updated", bar.received_ns)


def candidates(bars: Sequence[Bar]) -> dict[Series, dict[int, Candidate]]:
    """The rows of a batch: the best bar of each key, by series and start.

    Raises:
        SinkRejectedError: Some bars can never be stored.
    """
    found: dict[Series, dict[int, Candidate]] = {}
    faults: dict[int, str] = {}
    for position, bar in enumerate(bars):
        key = (bar.symbol, bar.timeframe)
        try:
            series = found.get(key)
            if series is None:
                _check_names(*key)
                series = found[key] = {}
            row = _candidate(position, bar)
        except (ValueError, ArithmeticError, TypeError, AttributeError) as exc:
            faults[position] = _reason(bar, exc)
            continue
        rival = series.setdefault(bar.timestamp_ns, row)
        if row.entry.rank >= rival.entry.rank:
            series[bar.timestamp_ns] = row
    if faults:
        raise rejected(faults)
    return found


def rejected(faults: dict[int, str]) -> SinkRejectedError:
    """The error that names what is wrong with which bars."""
    position, reason = next(iter(faults.items()))
    msg = f"{len(faults)} of the bars cannot be stored; at position {position}: {reason}"
    return SinkRejectedError(msg, rejected=faults)


def _candidate(position: int, bar: Bar) -> Candidate:
    high, low, volume = bar.high, bar.low, bar.volume
    if not (_ZERO < low <= bar.open <= high and low <= bar.close <= high and volume >= _ZERO):
        msg = "prices must be above 0, open and close between low and high, volume not below 0"
        raise ValueError(msg)
    _check_numbers(bar)
    spread = WIDE.subtract(high, low)
    timestamp, nanosecond = _moment(bar.timestamp_ns)
    cells = (
        bar.symbol,
        bar.timeframe,
        timestamp,
        nanosecond,
        *_prices(bar.open, high, low, bar.close, spread),
        _text(volume, VOLUME_PLACES),
        _vwap(bar.vwap),
        bar.trade_count,
        bar.source,
        int(bar.bar_kind == "updated"),
        int(bar.is_partial),
        int(bar.is_filled),
        bar.received_ns,
    )
    return Candidate(position, Entry(bar.timestamp_ns, spread, volume, precedence(bar)), cells)


def _check_names(symbol: str, timeframe: str) -> None:
    """Lengths, and characters; printable leaves out NUL and surrogates, which databases refuse.

    Raises:
        ValueError: A column cannot hold it.
    """
    for name, length, what in (
        (symbol, SYMBOL_LENGTH, "symbol"),
        (timeframe, TIMEFRAME_LENGTH, "timeframe"),
    ):
        if not (name and name.isprintable() and len(name) <= length):
            msg = f"{what} must have 1 to {length} printable characters"
            raise ValueError(msg)


def _check_numbers(bar: Bar) -> None:
    """The whole numbers.

    Raises:
        ValueError: A column cannot hold one.
    """
    if not (0 <= (bar.trade_count or 0) <= _LARGEST and -_LARGEST <= bar.received_ns <= _LARGEST):
        msg = "trade_count or received_ns is out of range"
        raise ValueError(msg)


@lru_cache(maxsize=4096)  # the bars of a minute share it
def _moment(timestamp_ns: int) -> tuple[str, int]:
    """The text of ``timestamp``, which both databases read, and ``nanosecond``."""
    moment = datetime_from_ns(timestamp_ns)
    return moment.isoformat(" ", "microseconds"), timestamp_ns % _NS


def _prices(*values: Decimal) -> Iterable[str]:
    texts = [*map(str, values)]
    # Short ones of nothing but digits and a point fit. Most are, and to look costs less all at once
    # than one by one.
    if max(map(len, texts)) <= PRICE_PLACES and "".join(texts).replace(".", "").isdigit():
        return texts
    return [_text(value, PRICE_PLACES) for value in values]


def _text(value: Decimal, places: int) -> str:
    text = str(value)
    if len(text) <= places and text.replace(".", "").isdigit():  # as above
        return text
    return exact_text(value, SIGNIFICANT, places)


def _vwap(value: Decimal | None) -> str | None:
    """A quotient, which may have any number of digits: rounded to the column's places.

    Raises:
        ValueError: It is not a number from 0 up, or too large.
    """
    if value is None:
        return None
    text = str(value)
    if len(text) <= PRICE_PLACES and text.replace(".", "").isdigit():  # as above
        return text
    if not (value.is_finite() and value >= _ZERO and value.adjusted() < SIGNIFICANT):
        msg = "vwap must be a number from 0 up that its column can hold"
        raise ValueError(msg)
    return exact_text(rounded(value, PRICE_PLACES), SIGNIFICANT, PRICE_PLACES)


def _reason(bar: Bar, fault: Exception) -> str:
    """Which value, where :func:`exact_text` only says what is wrong."""
    for name, places in _NUMBERS:
        try:
            exact_text(getattr(bar, name), SIGNIFICANT, places)
        except ValueError as exc:
            return f"{name} {exc}"
        except (TypeError, AttributeError):
            return f"{name} must be a Decimal, not {type(getattr(bar, name)).__name__}"
    return str(fault) if isinstance(fault, ValueError) else f"{type(fault).__name__}: {fault}"
