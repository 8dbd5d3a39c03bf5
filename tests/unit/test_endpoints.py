from __future__ import annotations

import pytest

from realtime_stream.config import StreamConfig
from realtime_stream.market.channels import MARKET_CHANNELS, MARKETS, Subscription
from realtime_stream.providers.alpaca.endpoints import ENDPOINTS, IMPLIED, endpoint_url

HOST = "wss://stream.data.alpaca.markets"
URLS = [
    ("stocks", "iex", "/v2/iex"),
    ("stocks", "sip", "/v2/sip"),
    ("stocks", "delayed_sip", "/v2/delayed_sip"),
    ("stocks", "test", "/v2/test"),
    ("stocks", "boats", "/v1beta1/boats"),
    ("stocks", "overnight", "/v1beta1/overnight"),
    ("crypto", "us", "/v1beta3/crypto/us"),
    ("crypto", "us-1", "/v1beta3/crypto/us-1"),
    ("crypto", "eu-1", "/v1beta3/crypto/eu-1"),
    ("options", "indicative", "/v1beta1/indicative"),
    ("options", "opra", "/v1beta1/opra"),
    ("news", "news", "/v1beta1/news"),
]


@pytest.mark.parametrize(("market", "feed", "path"), URLS)
def test_every_feed_has_its_documented_url(market: str, feed: str, path: str) -> None:
    assert endpoint_url(market, feed) == HOST + path


def test_there_is_no_other_feed() -> None:
    assert {(m, f) for m, endpoint in ENDPOINTS.items() for f in endpoint.paths} == {
        (market, feed) for market, feed, _ in URLS
    }


@pytest.mark.parametrize(("market", "feed", "path"), URLS)
def test_the_configuration_accepts_every_feed_that_has_a_url(
    market: str, feed: str, path: str
) -> None:
    made = StreamConfig.model_validate({"market": market, "feed": feed, "watchlist": ()})
    assert (made.market, made.feed) == (market, feed)


@pytest.mark.parametrize("market", MARKETS)
def test_every_channel_of_a_market_has_its_name_on_the_wire(market: str) -> None:
    assert set(ENDPOINTS[market].wire_channels) == MARKET_CHANNELS[market]


@pytest.mark.parametrize(
    ("market", "channel", "on_the_wire"),
    [
        ("stocks", "trades", "trades"),
        ("stocks", "updated_bars", "updatedBars"),
        ("stocks", "daily_bars", "dailyBars"),
        ("stocks", "corrections", "trades"),
        ("stocks", "cancels", "trades"),
        ("crypto", "orderbooks", "orderbooks"),
        ("news", "news", "news"),
    ],
)
def test_a_subscription_is_translated_to_the_one_that_brings_it(
    market: str, channel: str, on_the_wire: str
) -> None:
    translated = ENDPOINTS[market].to_wire(Subscription(channel, "A"))
    assert translated == Subscription(on_the_wire, "A")


def test_what_the_server_adds_by_itself_belongs_to_a_channel_that_exists() -> None:
    channels = ENDPOINTS["stocks"].wire_channels
    assert all(added in channels and to in channels for added, to in IMPLIED.items())
