"""Where Alpaca's streams are and what each can carry.

Source: Alpaca's pages on real-time stock, crypto, option and news data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ALL_SYMBOLS",
    "CHANNEL_OF_TYPE",
    "ENDPOINTS",
    "MARKETS",
    "Endpoint",
    "Market",
    "endpoint_for",
]

ALL_SYMBOLS: Final = "*"

# Channel of each message type; corrections and cancelErrors come with trades.
CHANNEL_OF_TYPE: Final[dict[str, str]] = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "c": "corrections",
    "x": "cancelErrors",
    "i": "imbalances",
    "o": "orderbooks",
    "n": "news",
}

_MAX_SYMBOL_LENGTH: Final = 24
_DOTTED_OR_SLASHED: Final = re.compile(r"[A-Z0-9]+(?:[./-][A-Z0-9]+)*")
_PAIR: Final = re.compile(r"[A-Z0-9]+/[A-Z0-9]+")
_CONTRACT: Final = re.compile(r"[A-Z0-9]{1,6}[0-9]{6}[CP][0-9]{8}")


@dataclass(frozen=True, slots=True)
class Market:
    """What the feeds of one market have in common.

    Attributes:
        name: "stocks", "crypto", "options" or "news".
        channels: Channels, in the order of an acknowledgement.
        mirrored: Channels that the server subscribes and unsubscribes together with trades.
        symbol: Form of a symbol.
        default_feed: The feed that is meant when none is named.
    """

    name: str
    channels: tuple[str, ...]
    mirrored: frozenset[str]
    symbol: re.Pattern[str]
    default_feed: str

    def accepts_symbol(self, symbol: str) -> bool:
        """Whether the server takes it for a symbol; ``"*"`` means every symbol."""
        if symbol == ALL_SYMBOLS:
            return True
        return len(symbol) <= _MAX_SYMBOL_LENGTH and self.symbol.fullmatch(symbol) is not None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One feed.

    Attributes:
        market: Its market.
        feed: Its name.
        path: Path of its URL.
        listed: Channels that an acknowledgement names even when they are empty.
    """

    market: Market
    feed: str
    path: str
    listed: tuple[str, ...]


_BARS: Final = ("bars", "updatedBars", "dailyBars")

MARKETS: Final[dict[str, Market]] = {
    market.name: market
    for market in (
        Market(
            "stocks",
            (
                *("trades", "quotes", *_BARS, "statuses", "lulds"),
                *("corrections", "cancelErrors", "imbalances"),
            ),
            frozenset({"corrections", "cancelErrors"}),
            _DOTTED_OR_SLASHED,
            "iex",
        ),
        Market(
            "crypto",
            ("trades", "quotes", "orderbooks", *_BARS),
            frozenset(),
            _PAIR,
            "us",
        ),
        Market(
            "options",
            ("trades", "quotes"),
            frozenset(),
            _CONTRACT,
            "indicative",
        ),
        Market("news", ("news",), frozenset(), _DOTTED_OR_SLASHED, "news"),
    )
}

# The test stream acknowledges these three; Alpaca's page on the streams shows it.
_TEST_LISTED: Final = ("trades", "quotes", "bars")


def _listed(market: Market) -> tuple[str, ...]:
    """The documented and the recorded acknowledgements name imbalances only if there are some."""
    return tuple(channel for channel in market.channels if channel != "imbalances")


def _endpoints() -> dict[str, Endpoint]:
    paths = {
        **{("stocks", feed): f"/v2/{feed}" for feed in ("iex", "sip", "delayed_sip", "test")},
        **{("stocks", feed): f"/v1beta1/{feed}" for feed in ("boats", "overnight")},
        **{("crypto", feed): f"/v1beta3/crypto/{feed}" for feed in ("us", "us-1", "eu-1")},
        **{("options", feed): f"/v1beta1/{feed}" for feed in ("indicative", "opra")},
        ("news", "news"): "/v1beta1/news",
    }
    return {
        path: Endpoint(
            MARKETS[market],
            feed,
            path,
            _TEST_LISTED if feed == "test" else _listed(MARKETS[market]),
        )
        for (market, feed), path in paths.items()
    }


ENDPOINTS: Final[dict[str, Endpoint]] = _endpoints()


def endpoint_for(market: str, feed: str | None = None) -> Endpoint:
    """The endpoint of a feed; without one, of the market's default feed.

    Raises:
        ValueError: There is no such market or feed.
    """
    if market not in MARKETS:
        msg = f"unknown market {market!r}; allowed are {', '.join(MARKETS)}"
        raise ValueError(msg)
    wanted = feed if feed is not None else MARKETS[market].default_feed
    feeds = {each.feed: each for each in ENDPOINTS.values() if each.market.name == market}
    if wanted not in feeds:
        msg = f"{market} has no feed {wanted!r}; allowed are {', '.join(feeds)}"
        raise ValueError(msg)
    return feeds[wanted]
