"""Validation finds fault with what is wrong, by the right rule, and with nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from realtime_stream.market.models import Bar, Quote, Trade
from realtime_stream.market.validation import ValidationPolicy, Validator

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.channels import Market
    from realtime_stream.market.models import MarketEvent

SECOND = 10**9
MINUTE = 60 * SECOND
START = 1_790_000_040 * SECOND
MARKETS: tuple[Market, ...] = ("stocks", "crypto")
SYMBOLS = {"stocks": ("AAPL", "BRK.B", "F"), "crypto": ("BTC/USD", "SHIB/USD")}

markets = st.sampled_from(MARKETS)
moments = st.integers(START, START + 86_400 * SECOND)
delays = st.integers(-5 * SECOND, 3600 * SECOND)  # the default tolerance is 5 s
prices = st.decimals("1e-9", "1e9", places=9)
sizes = st.decimals("1e-9", "1e12", places=9)
no_sizes = st.one_of(sizes, st.just(Decimal(0)))

# What no source should send, and some things it should.
anything = st.one_of(
    st.decimals(),
    st.builds(
        lambda digits, power: Decimal(digits).scaleb(power), st.integers(), st.integers(-60, 60)
    ),
    st.integers(10**26, 10**32).map(lambda digits: Decimal(f"{digits}e-26")),
    st.sampled_from([Decimal(text) for text in ("0", "-0", "9e999999", "1e-999999", "sNaN")]),
    st.sampled_from([None, 1.5, "1"]),
)


@st.composite
def quotes(draw: st.DrawFn, market: Market) -> Quote:
    moment = draw(moments)
    bid, ask = sorted((draw(prices), draw(prices)))
    return Quote(
        symbol=draw(st.sampled_from(SYMBOLS[market])),
        timestamp_ns=moment,
        received_ns=moment + draw(delays),
        bid_price=bid,
        bid_size=draw(no_sizes),
        ask_price=ask,
        ask_size=draw(no_sizes),
    )


@st.composite
def trades(draw: st.DrawFn, market: Market) -> Trade:
    moment = draw(moments)
    return Trade(
        symbol=draw(st.sampled_from(SYMBOLS[market])),
        timestamp_ns=moment,
        received_ns=moment + draw(delays),
        price=draw(prices),
        size=draw(sizes),
        exchange=draw(st.sampled_from([None, "V", "K"])),
        trade_id=draw(st.one_of(st.none(), st.integers(0, 5), st.just("a"))),
    )


@st.composite
def bars(draw: st.DrawFn, market: Market) -> Bar:
    length = draw(st.sampled_from([1, 5, 15, 60]))
    start = draw(moments) // (length * MINUTE) * length * MINUTE
    low, first, last, high = sorted(draw(prices) for _ in range(4))
    bar = Bar(
        symbol=draw(st.sampled_from(SYMBOLS[market])),
        timestamp_ns=start,
        received_ns=start + length * MINUTE + draw(delays),
        open=first,
        high=high,
        low=low,
        close=last,
        volume=draw(sizes),
        trade_count=draw(st.one_of(st.none(), st.integers(1, 10**6))),
        vwap=draw(st.one_of(st.none(), prices)),
        timeframe={1: "1m", 5: "5m", 15: "15m", 60: "1h"}[length],
        bar_kind=draw(st.sampled_from(["regular", "updated"])),
        source=draw(st.sampled_from(["stream", "backfill"])),
    )
    if draw(st.booleans()):
        bar = replace(bar, open=bar.close, close=bar.open)
    if market == "crypto" and draw(st.booleans()):
        bar = replace(bar, volume=Decimal(0), trade_count=0, vwap=Decimal(0))
    return bar


events = markets.flatmap(
    lambda market: st.tuples(
        st.just(market), st.one_of(quotes(market), trades(market), bars(market))
    )
)


def seasoned(market: Market, event: MarketEvent) -> Validator:
    """A validator that knows the event's symbol to be good, so that it takes the short way."""
    validator = Validator(ValidationPolicy(), market)
    validator.check(
        Trade(
            symbol=event.symbol,
            timestamp_ns=0,
            price=Decimal(1),
            size=Decimal(1),
            exchange=None,
            trade_id=None,
        )
    )
    return validator


@given(events)
def test_a_valid_event_is_never_found_fault_with(found: tuple[Market, MarketEvent]) -> None:
    market, event = found
    for validator in (Validator(ValidationPolicy(), market), seasoned(market, event)):
        assert validator.check(event) is None
    unsent = replace(event, received_ns=0)
    assert seasoned(market, event).check(unsent) is None


BAD_NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "incomplete": st.sampled_from([None, 1.5, "12"]),
    "not_finite": st.sampled_from([Decimal(text) for text in ("NaN", "sNaN", "Infinity")]),
}
TOO_LARGE = st.integers(19, 999_999).map(lambda power: Decimal(f"7e{power}"))
TOO_SMALL = st.integers(19, 999_999).map(lambda power: Decimal(f"7e-{power}"))
TOO_LONG = st.integers(10**28, 10**40).map(lambda digits: Decimal(f"{digits}e-30"))
BAD_PRICES = {
    **BAD_NUMBERS,
    "implausible": st.one_of(TOO_LARGE, TOO_SMALL, TOO_LONG),
}
BAD_SIZES = {**BAD_NUMBERS, "implausible": TOO_LARGE, "negative_size": sizes.map(lambda n: -n)}
BELOW = prices.map(lambda price: -price)
ZERO_OR_BELOW = st.one_of(st.just(Decimal(0)), BELOW)

Mutation = tuple[str, str, "st.SearchStrategy[Any]"]


def table(
    prices_of: tuple[str, ...], sizes_of: tuple[str, ...], negative: str, below: Any
) -> list[Mutation]:
    """Rule, field and values for every number of an event."""
    return [
        *[(rule, name, bad) for name in prices_of for rule, bad in BAD_PRICES.items()],
        *[(rule, name, bad) for name in sizes_of for rule, bad in BAD_SIZES.items()],
        *[(negative, name, below) for name in prices_of],
    ]


FOR_ALL: list[Mutation] = [
    ("bad_symbol", "symbol", st.sampled_from(["", "A B", "A\n", "x" * 33, "A;", "\u00c4"])),
    ("from_the_future", "received_ns", st.integers(1, START - 6 * SECOND)),
]
MUTATIONS: dict[type[MarketEvent], list[Mutation]] = {
    Quote: [
        *FOR_ALL,
        *table(("bid_price", "ask_price"), ("bid_size", "ask_size"), "negative_price", BELOW),
    ],
    Trade: [
        *FOR_ALL,
        *table(("price",), ("size",), "not_positive", ZERO_OR_BELOW),
        ("zero_size", "size", st.just(Decimal(0))),
    ],
    Bar: [
        *FOR_ALL,
        *table(("open", "high", "low", "close"), ("volume",), "not_positive", ZERO_OR_BELOW),
        ("negative_size", "trade_count", st.integers(-(10**6), -1)),
        ("negative_price", "vwap", BELOW),
        ("not_finite", "vwap", BAD_NUMBERS["not_finite"]),
        ("implausible", "vwap", BAD_PRICES["implausible"]),
        ("inconsistent", "high", st.just(Decimal("1e-10"))),
        ("inconsistent", "low", st.just(Decimal("1e10"))),
        ("inconsistent", "open", st.sampled_from([Decimal("1e-10"), Decimal("1e10")])),
        ("inconsistent", "close", st.sampled_from([Decimal("1e-10"), Decimal("1e10")])),
    ],
}


@given(events, st.data())
def test_a_mutated_one_always_is_by_the_right_rule(
    found: tuple[Market, MarketEvent], data: st.DataObject
) -> None:
    market, event = found
    rule, field, values = data.draw(st.sampled_from(MUTATIONS[event.kind]))
    bad = replace(event, **{field: data.draw(values)})
    for validator in (Validator(ValidationPolicy(), market), seasoned(market, event)):
        verdict = validator.check(bad)
        assert verdict is not None
        assert (verdict.rule, verdict.rejected) == (rule, True)
        if rule != "from_the_future":
            assert verdict.field in {field, "high"}  # a low above the high is a high below it
            assert verdict.value is getattr(bad, verdict.field)


@given(quotes("stocks"))
def test_a_quote_with_its_sides_exchanged_is_crossed(quote: Quote) -> None:
    bad = replace(quote, bid_price=quote.ask_price, ask_price=quote.bid_price)
    verdict = seasoned("stocks", quote).check(bad)
    if quote.bid_price == quote.ask_price:
        assert verdict is None
    else:
        assert verdict is not None
        assert verdict.rule == "crossed"


@given(bars("stocks"), st.integers(1, MINUTE - 1))
def test_a_bar_that_is_moved_is_misaligned(bar: Bar, by: int) -> None:
    verdict = seasoned("stocks", bar).check(replace(bar, timestamp_ns=bar.timestamp_ns - by))
    assert verdict is not None
    assert verdict.rule == "misaligned"


@given(markets.flatmap(lambda market: st.tuples(st.just(market), bars(market))))
def test_a_bar_that_traded_nothing_is_rejected_but_for_those_of_quotes(
    found: tuple[Market, Bar],
) -> None:
    market, event = found
    bad = replace(event, volume=Decimal(0), trade_count=event.trade_count or 1)
    verdict = seasoned(market, event).check(bad)
    assert verdict is not None
    assert (verdict.rule, verdict.field) == ("zero_volume", "volume")
    of_quotes = seasoned(market, event).check(replace(bad, trade_count=0))
    assert (of_quotes is None) == (market == "crypto")


def numbers(event: MarketEvent) -> list[str]:
    return [name for rule, name, _ in MUTATIONS[event.kind] if rule in {"incomplete", "not_finite"}]


@given(events, st.data())
def test_the_short_way_and_the_long_way_agree(
    found: tuple[Market, MarketEvent], data: st.DataObject
) -> None:
    market, event = found
    chosen = data.draw(st.sets(st.sampled_from(numbers(event)), min_size=1))
    odd = replace(event, **{name: data.draw(anything) for name in sorted(chosen)})
    agreed = [
        validator.check(odd)
        for validator in (Validator(ValidationPolicy(), market), seasoned(market, event))
    ]
    assert repr(agreed[0]) == repr(agreed[1])


def without_repeats(events: list[MarketEvent], key: Callable[[Any], object]) -> list[MarketEvent]:
    return list({key(event): event for event in events}.values())


@given(st.lists(trades("stocks"), max_size=30))
def test_a_stream_of_trades_is_fine_once_and_repeated_the_second_time(
    found: list[MarketEvent],
) -> None:
    stream = without_repeats(
        found, lambda t: (t.symbol, t.exchange, t.trade_id, t.trade_id is None and id(t))
    )
    validator = Validator(ValidationPolicy(), "stocks")
    assert [validator.check(trade) for trade in stream] == [None] * len(stream)
    rules = [verdict and verdict.rule for verdict in map(validator.check, stream)]
    assert rules == [
        "duplicate" if getattr(trade, "trade_id", None) is not None else None for trade in stream
    ]


@given(st.lists(bars("crypto"), max_size=30))
def test_bars_in_order_are_fine_and_backwards_they_are_not(found: list[MarketEvent]) -> None:
    regular = [replace(bar, bar_kind="regular") for bar in found]
    stream = without_repeats(regular, lambda bar: (bar.symbol, bar.timeframe, bar.timestamp_ns))
    stream.sort(key=lambda bar: bar.timestamp_ns)
    validator = Validator(ValidationPolicy(), "crypto")
    assert [validator.check(bar) for bar in stream] == [None] * len(stream)
    last = {(bar.symbol, getattr(bar, "timeframe", "")): bar for bar in stream}
    for bar in stream:
        verdict = validator.check(bar)
        assert verdict is not None
        newest = last[bar.symbol, getattr(bar, "timeframe", "")]
        assert verdict.rule == ("duplicate" if newest is bar else "out_of_order")
