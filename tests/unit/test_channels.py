from __future__ import annotations

import pytest

from realtime_stream.errors import ConfigurationError, InvalidSymbolError
from realtime_stream.market.channels import (
    ALL_SYMBOLS,
    CHANNELS,
    MARKET_CHANNELS,
    MARKETS,
    validate_channel,
    validate_symbol,
)

LONGEST_OPTION = "ABCDEF240315C00172500"


@pytest.mark.parametrize(
    ("market", "symbol"),
    [
        ("stocks", "A"),
        ("stocks", "AAPL"),
        ("stocks", "BRK.B"),
        ("stocks", "BF-B"),
        ("stocks", "X" * 24),
        ("crypto", "BTC/USD"),
        ("crypto", "1INCH/USDT"),
        ("options", "AAPL240315C00172500"),
        ("options", LONGEST_OPTION),
        ("news", "AAPL"),
        ("news", "BTC/USD"),
        *[(market, ALL_SYMBOLS) for market in MARKETS],
    ],
)
def test_a_symbol_of_its_markets_form_is_accepted(market: str, symbol: str) -> None:
    assert validate_symbol(symbol, market) == symbol


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(
    "symbol",
    [
        "",
        " ",
        "aapl",
        "AAPL\n",
        "\nAAPL",
        "AAPL ",
        "A;DROP",
        "A'--",
        'A"',
        "A,B",
        "A\x00",
        "**",
        "../A",
        "A..B",
        "A.",
        "{}",
        "%s",
        "X" * 25,
        "\N{CYRILLIC CAPITAL LETTER A}APL",
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}",
        None,
        7,
        b"AAPL",
        ["AAPL"],
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(market: str, symbol: object) -> None:
    with pytest.raises(InvalidSymbolError, match="allowed are upper-case symbols") as caught:
        validate_symbol(symbol, market)
    text = str(caught.value)
    assert repr(market) in text
    assert text.isprintable()
    assert text.isascii()


@pytest.mark.parametrize(
    ("market", "symbol"),
    [
        ("crypto", "BTCUSD"),
        ("crypto", "BTC/"),
        ("options", "AAPL"),
        ("options", "AAPL240315X00172500"),
        ("stocks", "1A"),
    ],
)
def test_a_symbol_of_another_markets_form_is_refused(market: str, symbol: str) -> None:
    with pytest.raises(InvalidSymbolError):
        validate_symbol(symbol, market)


def test_the_shown_symbol_is_cut() -> None:
    with pytest.raises(InvalidSymbolError) as caught:
        validate_symbol("x" * 10_000, "stocks")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_known_channel_is_accepted(channel: str) -> None:
    assert validate_channel(channel) == channel


@pytest.mark.parametrize("channel", ["", "Trades", "trade", "connect", None, 3, ("trades",)])
def test_an_unknown_channel_is_refused_with_the_known_ones(channel: object) -> None:
    with pytest.raises(ConfigurationError, match="is unknown: allowed are trades, quotes, bars"):
        validate_channel(channel)


def test_every_channel_belongs_to_a_market() -> None:
    assert frozenset().union(*MARKET_CHANNELS.values()) == frozenset(CHANNELS)
    assert set(MARKET_CHANNELS) == set(MARKETS)
