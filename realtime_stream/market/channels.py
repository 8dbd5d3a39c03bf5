"""The channels of market data, and what a symbol must look like in each market."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from realtime_stream.errors import ConfigurationError, InvalidSymbolError

__all__ = [
    "ALL_SYMBOLS",
    "CHANNELS",
    "MARKETS",
    "MARKET_CHANNELS",
    "Channel",
    "Market",
    "Subscription",
    "validate_channel",
    "validate_symbol",
]

Market: TypeAlias = Literal["stocks", "crypto", "options", "news"]
Channel: TypeAlias = Literal[
    "trades",
    "quotes",
    "bars",
    "updated_bars",
    "daily_bars",
    "statuses",
    "lulds",
    "corrections",
    "cancels",
    "imbalances",
    "orderbooks",
    "news",
]

MARKETS: Final[tuple[str, ...]] = get_args(Market)
CHANNELS: Final[tuple[str, ...]] = get_args(Channel)
ALL_SYMBOLS: Final = "*"

_BARS = ("bars", "updated_bars", "daily_bars")
MARKET_CHANNELS: Final[dict[str, frozenset[str]]] = {
    "stocks": frozenset(CHANNELS) - {"orderbooks", "news"},
    "crypto": frozenset({"trades", "quotes", "orderbooks", *_BARS}),
    "options": frozenset({"trades", "quotes"}),
    "news": frozenset({"news"}),
}

_MAX_SYMBOL_LENGTH = 24
# Upper-case roots with dotted or slashed suffixes: AAPL, BRK.B, BTC/USD, AAPL240315C00172500.
_FORMS: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "stocks": (re.compile(r"[A-Z][A-Z0-9]*(?:[./-][A-Z0-9]+)*"), "like AAPL or BRK.B"),
    "crypto": (re.compile(r"[A-Z0-9]+/[A-Z0-9]+"), "like BTC/USD"),
    "options": (re.compile(r"[A-Z][A-Z0-9]{0,5}\d{6}[CP]\d{8}"), "like AAPL240315C00172500"),
    "news": (re.compile(r"[A-Z][A-Z0-9]*(?:[./-][A-Z0-9]+)*"), "like AAPL or BTC/USD"),
}


class Subscription(NamedTuple):
    """One thing that is wanted, acknowledged or refused: a channel of one symbol (or of ``*``)."""

    channel: str
    symbol: str


def validate_symbol(symbol: object, market: str) -> str:
    """Return ``symbol`` if it has the form its market uses, or is ``*``.

    Raises:
        InvalidSymbolError: It has not; the message says what is allowed.
    """
    pattern, example = _FORMS[market]
    if isinstance(symbol, str):
        if symbol == ALL_SYMBOLS:
            return symbol
        if len(symbol) <= _MAX_SYMBOL_LENGTH and pattern.fullmatch(symbol):
            return symbol
    shown = ascii(symbol)[:40]
    msg = (
        f"symbol {shown} is not valid for market {market!r}: allowed are upper-case symbols "
        f"{example}, at most {_MAX_SYMBOL_LENGTH} characters, or '*'"
    )
    raise InvalidSymbolError(msg)


def validate_channel(channel: object) -> str:
    """Return ``channel`` if it is one of :data:`CHANNELS`.

    Raises:
        ConfigurationError: It is not.
    """
    if isinstance(channel, str) and channel in CHANNELS:
        return channel
    msg = f"channel {ascii(channel)[:40]} is unknown: allowed are {', '.join(CHANNELS)}"
    raise ConfigurationError(msg)
