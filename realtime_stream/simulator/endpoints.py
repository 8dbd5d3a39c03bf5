"""Which streams there are, where, and with which channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CHANNEL_OF_TYPE", "ENDPOINTS", "Endpoint", "path_of"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One stream: its market, feed and channels."""

    market: str
    feed: str
    channels: tuple[str, ...]


_BARS: Final = ("bars", "updatedBars", "dailyBars")
_STOCKS: Final = (
    "trades", "quotes", *_BARS, "statuses", "lulds", "imbalances", "corrections", "cancelErrors"
)  # fmt: skip
_CRYPTO: Final = ("trades", "quotes", "orderbooks", *_BARS)
_OPTIONS: Final = ("trades", "quotes")

ENDPOINTS: Final[dict[str, Endpoint]] = {
    **{f"/v2/{f}": Endpoint("stocks", f, _STOCKS) for f in ("iex", "sip", "delayed_sip", "test")},
    **{f"/v1beta1/{f}": Endpoint("stocks", f, _STOCKS) for f in ("boats", "overnight")},
    **{f"/v1beta3/crypto/{f}": Endpoint("crypto", f, _CRYPTO) for f in ("us", "us-1", "eu-1")},
    **{f"/v1beta1/{f}": Endpoint("options", f, _OPTIONS) for f in ("indicative", "opra")},
    "/v1beta1/news": Endpoint("news", "news", ("news",)),
}

CHANNEL_OF_TYPE: Final[dict[str, str]] = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "i": "imbalances",
    "o": "orderbooks",
    "c": "corrections",
    "x": "cancelErrors",
    "n": "news",
}


def path_of(market: str, feed: str) -> str:
    """The URL path of a stream.

    Raises:
        ValueError: There is no such stream.
    """
    for path, endpoint in ENDPOINTS.items():
        if (endpoint.market, endpoint.feed) == (market, feed):
            return path
    msg = f"no stream for market {market!r} and feed {feed!r}"
    raise ValueError(msg)
