"""One table for all of Alpaca's streams: where they are, and which channels they have.

Source: Alpaca's pages on real-time stock, crypto, option and news data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from realtime_stream.market.channels import Subscription

__all__ = ["ENDPOINTS", "IMPLIED", "Endpoint", "endpoint_url"]

_HOST: Final = "wss://stream.data.alpaca.markets"

# The server adds these by itself to every subscription of trades; asking for them is needless.
IMPLIED: Final[dict[str, str]] = {"corrections": "trades", "cancels": "trades"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What differs between the markets.

    Attributes:
        stream_class: Name of the SDK's class in ``alpaca.data.live``.
        paths: URL path per feed.
        wire_channels: The wire's name of each of our channels.
        primer: SDK method that makes ``run()`` connect; it spins when nothing is subscribed.
        sdk_methods: SDK method per channel, for the path without the frame tap.
    """

    stream_class: str
    paths: dict[str, str]
    wire_channels: dict[str, str]
    primer: str
    sdk_methods: dict[str, str]

    def to_wire(self, subscription: Subscription) -> Subscription:
        """The wire's subscription that brings ours."""
        channel = IMPLIED.get(subscription.channel, subscription.channel)
        return Subscription(self.wire_channels[channel], subscription.symbol)


_BARS: Final = {"bars": "bars", "updated_bars": "updatedBars", "daily_bars": "dailyBars"}
_BAR_METHODS: Final = {
    "bars": "subscribe_bars",
    "updated_bars": "subscribe_updated_bars",
    "daily_bars": "subscribe_daily_bars",
}
_TICK_METHODS: Final = {"trades": "subscribe_trades", "quotes": "subscribe_quotes"}

ENDPOINTS: Final[dict[str, Endpoint]] = {
    "stocks": Endpoint(
        "StockDataStream",
        {
            **{feed: f"/v2/{feed}" for feed in ("iex", "sip", "delayed_sip", "test")},
            **{feed: f"/v1beta1/{feed}" for feed in ("boats", "overnight")},
        },
        {
            "trades": "trades",
            "quotes": "quotes",
            **_BARS,
            "statuses": "statuses",
            "lulds": "lulds",
            "corrections": "corrections",
            "cancels": "cancelErrors",
            "imbalances": "imbalances",
        },
        "subscribe_trades",
        {
            **_TICK_METHODS,
            **_BAR_METHODS,
            "statuses": "subscribe_trading_statuses",
            "corrections": "register_trade_corrections",
            "cancels": "register_trade_cancels",
        },
    ),
    "crypto": Endpoint(
        "CryptoDataStream",
        {feed: f"/v1beta3/crypto/{feed}" for feed in ("us", "us-1", "eu-1")},
        {"trades": "trades", "quotes": "quotes", "orderbooks": "orderbooks", **_BARS},
        "subscribe_trades",
        {**_TICK_METHODS, **_BAR_METHODS, "orderbooks": "subscribe_orderbooks"},
    ),
    "options": Endpoint(
        "OptionDataStream",
        {feed: f"/v1beta1/{feed}" for feed in ("indicative", "opra")},
        {"trades": "trades", "quotes": "quotes"},
        "subscribe_trades",
        _TICK_METHODS,
    ),
    "news": Endpoint(
        "NewsDataStream",
        {"news": "/v1beta1/news"},
        {"news": "news"},
        "subscribe_news",
        {"news": "subscribe_news"},
    ),
}


def endpoint_url(market: str, feed: str) -> str:
    """The production URL of a feed."""
    return _HOST + ENDPOINTS[market].paths[feed]
