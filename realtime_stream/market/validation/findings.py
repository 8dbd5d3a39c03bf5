"""Everything that is wrong with one event, looked at by itself: the slow and thorough way."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from realtime_stream.market.validation.grid import interval_ns, is_aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.market.models import Bar, MarketEvent, Quote, Trade

__all__ = [
    "LEAST",
    "MAX_DIGITS",
    "PRICE_END",
    "SIZE_END",
    "Finding",
    "bar_findings",
    "has_good_symbol",
    "is_zero_volume_legitimate",
    "quote_findings",
    "trade_findings",
]

LEAST: Final = Decimal("1e-18")  # of what is not 0; coins are divided into as many parts
PRICE_END: Final = Decimal("1e16")
SIZE_END: Final = Decimal("1e19")  # what NUMERIC(28,9) can hold
MAX_DIGITS: Final = 28  # what Decimal arithmetic keeps by default

_SHOWN: Final = 40  # characters of a value in a message
_NS: Final = 1_000_000_000
_SYMBOL: Final = re.compile(r"[A-Za-z0-9._/:-]{1,32}")


class Finding(NamedTuple):
    """One fault: the rule, the field, its value, and a sentence."""

    rule: str
    field: str
    value: object
    message: str


def has_good_symbol(event: MarketEvent) -> bool:
    """Whether a symbol is harmless in logs, file names and queries of any kind."""
    return _SYMBOL.fullmatch(event.symbol) is not None


def is_zero_volume_legitimate(bar: Bar, market: str) -> bool:
    """Whether a bar may have a volume of 0: marked as filled, or of quotes (crypto)."""
    return bar.is_filled or (market == "crypto" and not bar.trade_count)


def quote_findings(quote: Quote, tolerance_ns: int) -> Iterator[Finding]:
    """What is wrong with a quote."""
    yield from _about_the_event(quote, quote.timestamp_ns, tolerance_ns)
    for side in ("bid", "ask"):
        yield from _price(f"{side}_price", getattr(quote, f"{side}_price"))
        yield from _size(f"{side}_size", getattr(quote, f"{side}_size"))
    bid, ask = quote.bid_price, quote.ask_price
    if not (_is_number(bid) and _is_number(ask)):
        return
    for side, price in (("bid", bid), ("ask", ask)):
        if price == 0:
            yield Finding("one_sided", f"{side}_price", price, f"there is no {side}")
    if bid > 0 and 0 < ask < bid:
        text = f"Crossed market: ask {_shown(ask)} < bid {_shown(bid)}"
        yield Finding("crossed", "ask_price", ask, text)
    elif bid == ask > 0:
        yield Finding("locked", "ask_price", ask, f"bid and ask are both {_shown(ask)}")


def trade_findings(trade: Trade, tolerance_ns: int) -> Iterator[Finding]:
    """What is wrong with a trade."""
    yield from _about_the_event(trade, trade.timestamp_ns, tolerance_ns)
    yield from _price("price", trade.price, is_traded=True)
    yield from _size("size", trade.size)
    if _is_number(trade.size) and trade.size == 0:
        yield Finding("zero_size", "size", trade.size, "nothing was traded")


def bar_findings(bar: Bar, market: str, tolerance_ns: int) -> Iterator[Finding]:
    """What is wrong with a bar."""
    length = interval_ns(bar.timeframe)
    told_ns = bar.timestamp_ns + (length if bar.bar_kind != "daily" else 0)
    yield from _about_the_event(bar, told_ns, tolerance_ns)
    if not is_aligned(bar.timestamp_ns, bar.timeframe, market):
        text = f"no bar of {bar.timeframe} starts at {bar.timestamp_ns} ns"
        yield Finding("misaligned", "timestamp_ns", bar.timestamp_ns, text)
    for name in ("open", "high", "low", "close"):
        yield from _price(name, getattr(bar, name), is_traded=True)
    yield from _size("volume", bar.volume)
    if bar.trade_count is not None and bar.trade_count < 0:
        text = f"trade_count is {bar.trade_count}"
        yield Finding("negative_size", "trade_count", bar.trade_count, text)
    yield from _relations(bar)
    if _is_number(bar.volume) and bar.volume == 0 and not is_zero_volume_legitimate(bar, market):
        yield Finding("zero_volume", "volume", bar.volume, "nothing was traded")
    if bar.vwap is not None:
        yield from _price("vwap", bar.vwap)


def _relations(bar: Bar) -> Iterator[Finding]:
    low, high = bar.low, bar.high
    if not (_is_number(low) and _is_number(high)):
        return
    if high < low:
        text = f"high {_shown(high)} < low {_shown(low)}"
        yield Finding("inconsistent", "high", high, text)
        return
    for name, price in (("open", bar.open), ("close", bar.close)):
        if _is_number(price) and not low <= price <= high:
            text = f"{name} {_shown(price)} is not within {_shown(low)} and {_shown(high)}"
            yield Finding("inconsistent", name, price, text)


def _about_the_event(event: MarketEvent, told_ns: int, tolerance_ns: int) -> Iterator[Finding]:
    if not has_good_symbol(event):
        text = f"{ascii(event.symbol)[:_SHOWN]} is no symbol"
        yield Finding("bad_symbol", "symbol", event.symbol, text)
    ahead_ns = told_ns - event.received_ns
    if event.received_ns and ahead_ns > tolerance_ns:
        text = f"{ahead_ns / _NS:.3f} s later than it was received; is this clock right?"
        yield Finding("from_the_future", "timestamp_ns", event.timestamp_ns, text)


def _price(name: str, price: object, *, is_traded: bool = False) -> Iterator[Finding]:
    """What is wrong with a price; 0 is allowed where it means that there is none."""
    if not isinstance(price, Decimal) or not price.is_finite():
        yield _no_number(name, price)
        return
    if is_traded and price <= 0:
        yield _said("not_positive", name, price)
    elif price < 0:
        yield _said("negative_price", name, price)
    if price and not LEAST <= price.copy_abs() < PRICE_END:
        yield _said("implausible", name, price)
    elif len(price.as_tuple().digits) > MAX_DIGITS:
        yield Finding("implausible", name, price, f"{name} has more than {MAX_DIGITS} digits")


def _size(name: str, size: object) -> Iterator[Finding]:
    if not isinstance(size, Decimal) or not size.is_finite():
        yield _no_number(name, size)
        return
    if size < 0:
        yield _said("negative_size", name, size)
    if size and not LEAST <= size.copy_abs() < SIZE_END:
        yield _said("implausible", name, size)


def _said(rule: str, name: str, value: Decimal) -> Finding:
    return Finding(rule, name, value, f"{name} is {_shown(value)}")


def _no_number(name: str, value: object) -> Finding:
    if isinstance(value, Decimal):
        return Finding("not_finite", name, value, f"{name} is {_shown(value)}")
    what = "missing" if value is None else f"of type {type(value).__name__}"
    return Finding("incomplete", name, value, f"{name} is {what}")


def _is_number(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite()


def _shown(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
