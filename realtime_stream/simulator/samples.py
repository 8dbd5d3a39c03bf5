"""Plain market events for a session that is subscribed to them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.simulator.endpoints import ALL_SYMBOLS
from realtime_stream.simulator.wire import SECOND, Message, prepare

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["PRICES", "Subject", "default_subject", "event", "events", "subject_of"]

PRICES: Final = ("p", "bp", "ap", "o", "h", "l", "c", "vw")

_SYMBOLS: Final = {
    "stocks": "AAPL",
    "crypto": "BTC/USD",
    "options": "AAPL261218C00250000",
    "news": "AAPL",
}
_BAR_TYPES: Final = {"bars": "b", "updatedBars": "u", "dailyBars": "d"}
_CHANNELS: Final = ("quotes", "trades", *_BAR_TYPES, "news")
_MINUTE: Final = 60 * SECOND
_PRICE: Final = 100.01
_ARTICLE: Final = "<p>News.</p>" * 1_000

# What a market's messages have beyond those of the others.
_TRADE_EXTRAS: Final[dict[str, dict[str, Any]]] = {
    "stocks": {"x": "V", "c": ["@"], "z": "C"},
    "crypto": {"tks": "B"},
    "options": {"x": "C", "c": "I"},
}
_QUOTE_EXTRAS: Final[dict[str, dict[str, Any]]] = {
    "stocks": {"bx": "V", "ax": "V", "c": ["R"], "z": "C"},
    "crypto": {},
    "options": {"bx": "C", "ax": "C", "c": "A"},
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What events are about.

    Attributes:
        market: Market.
        channel: Channel.
        symbol: Symbol.
    """

    market: str
    channel: str
    symbol: str

    def message(self, fields: dict[str, Any]) -> Message:
        """These keys and values, ready to be encoded."""
        return prepare(fields, self.market)


def subject_of(market: str, pairs: Collection[tuple[str, str]]) -> Subject | None:
    """One of these (channel, symbol) pairs for which events can be made, if there is one."""
    for channel in _CHANNELS:
        symbols = sorted(symbol for each, symbol in pairs if each == channel)
        if symbols:
            symbol = _SYMBOLS[market] if symbols[0] == ALL_SYMBOLS else symbols[0]
            return Subject(market, channel, symbol)
    return None


def default_subject(market: str) -> Subject:
    """What a client of this market might be subscribed to."""
    return Subject(market, "news" if market == "news" else "quotes", _SYMBOLS[market])


def events(subject: Subject, t_ns: int) -> Iterator[dict[str, Any]]:
    """Events without end; their times increase."""
    return (event(subject, number, t_ns) for number in itertools.count(1))


def event(subject: Subject, number: int, t_ns: int) -> dict[str, Any]:
    """The event of this number (1, 2, 3 ...), with a time after ``t_ns``."""
    market, symbol, at = subject.market, subject.symbol, t_ns + number
    match subject.channel:
        case "quotes":
            prices = {"bp": _PRICE, "bs": 100, "ap": _PRICE + 1, "as": 200}
            return {"T": "q", "S": symbol, **prices, **_QUOTE_EXTRAS[market], "t": at}
        case "trades":
            trade = {"i": number, "p": _PRICE, "s": 100}
            return {"T": "t", "S": symbol, **trade, **_TRADE_EXTRAS[market], "t": at}
        case "news":
            return _article(symbol, number, at)
        case channel:
            start = (t_ns // _MINUTE + number) * _MINUTE
            return _bar(_BAR_TYPES[channel], symbol, start)


def _bar(kind: str, symbol: str, start: int) -> dict[str, Any]:
    prices = {"o": _PRICE, "h": _PRICE + 1, "l": _PRICE - 1, "c": _PRICE, "vw": _PRICE}
    return {"T": kind, "S": symbol, **prices, "v": 100, "n": 1, "t": start}


def _article(symbol: str, number: int, at: int) -> dict[str, Any]:
    return {
        "T": "n",
        "id": number,
        "headline": "Nothing has happened",
        "summary": "",
        "author": "simulator",
        "created_at": at,
        "updated_at": at,
        "url": "",
        "content": _ARTICLE,
        "symbols": [symbol],
        "source": "simulator",
    }
