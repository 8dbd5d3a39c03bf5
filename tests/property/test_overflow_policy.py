"""What a compaction may and may not do, whatever waits."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal as Dec
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream.clock import FakeClock
from realtime_stream.market.models import Bar, Imbalance, MarketEvent, Quote, Trade, TradingStatus
from realtime_stream.runtime.inbox import EventsDropped, Inbox
from realtime_stream.runtime.overflow import Frame, compact

if TYPE_CHECKING:
    from collections.abc import Iterable

ONE = Dec(1)
BARS = {"bars", "updated_bars", "daily_bars"}
KEPT_LAST = BARS | {"statuses"}
PRICES: dict[str, Any] = {"open": ONE, "high": ONE, "low": ONE, "close": ONE, "volume": ONE}
MAKERS: dict[str, tuple[type[MarketEvent], dict[str, Any]]] = {
    "trade": (Trade, {"price": ONE, "size": ONE}),
    "quote": (Quote, {"bid_price": ONE, "bid_size": ONE, "ask_price": ONE, "ask_size": ONE}),
    "bar": (Bar, PRICES),
    "updated": (Bar, {**PRICES, "bar_kind": "updated"}),
    "status": (TradingStatus, {"status_code": "H"}),
    "imbalance": (Imbalance, {"price": ONE}),
}
Shape = list[list[tuple[str, str]]]
shapes = st.lists(
    st.lists(st.tuples(st.sampled_from(sorted(MAKERS)), st.sampled_from("AB")), max_size=8),
    max_size=12,
)


def build(shape: Shape) -> list[Frame]:
    """Frames of the shape; ``timestamp_ns`` is each event's place."""
    frames, place = [], 0
    for n, group in enumerate(shape):
        events: list[MarketEvent] = []
        for name, symbol in group:
            kind, values = MAKERS[name]
            events.append(kind(symbol=symbol, timestamp_ns=place, **values))
            place += 1
        frames.append(Frame(events, float(n), len(events)))
    return frames


def flat(frames: Iterable[Frame]) -> list[MarketEvent]:
    return [event for frame in frames for event in frame.events]


@settings(deadline=None)  # a busy machine is no failure
@given(shapes, st.integers(0, 40))
def test_order_counts_and_size_hold(shape: Shape, target: int) -> None:
    frames = build(shape)
    before = flat(frames)
    overflow = compact(frames, target)
    after = flat(frames)

    places = [event.timestamp_ns for event in after]
    assert places == sorted(set(places))  # nothing moved, nothing twice
    assert len(after) <= target
    lost = Counter(e.channel for e in before) - Counter(e.channel for e in after)
    counted: Counter[str] = Counter()
    for (channel, _), number in overflow.dropped.items():
        counted[channel] += number
    assert counted == lost
    assert len(after) + sum(overflow.dropped.values()) == len(before)


@settings(deadline=None)  # a busy machine is no failure
@given(shapes, st.integers(0, 40))
def test_only_what_is_worth_least_goes(shape: Shape, target: int) -> None:
    frames = build(shape)
    before = flat(frames)
    overflow = compact(frames, target)
    after = flat(frames)

    newest = {e.symbol: e.timestamp_ns for e in before if e.channel == "quotes"}
    quotes = [e for e in after if e.channel == "quotes"]
    assert all(newest[quote.symbol] == quote.timestamp_ns for quote in quotes)
    conflated = overflow.dropped["quotes", "conflated"]
    assert conflated == sum(e.channel == "quotes" for e in before) - len(newest)

    overflowed = {channel for (channel, cause) in overflow.dropped if cause == "overflow"}
    remaining = {event.channel for event in after}
    if overflowed:
        assert len(after) == target  # no more than needed
    if overflowed - {"trades"}:
        assert "trades" not in remaining
    if overflowed & ({"quotes"} | KEPT_LAST):
        assert "imbalances" not in remaining
    if overflowed & KEPT_LAST:
        assert not quotes
    kept = set(map(id, after))
    missed = BARS | {"trades"}
    gone = [event for event in before if event.channel in missed and id(event) not in kept]
    assert overflow.missed == sorted(gone, key=lambda event: event.channel != "trades")


@settings(deadline=None)  # a busy machine is no failure
@given(shapes, st.integers(0, 40))
def test_within_a_group_the_oldest_go(shape: Shape, target: int) -> None:
    frames = build(shape)
    before = flat(frames)
    compact(frames, target)
    kept = {event.timestamp_ns for event in flat(frames)}
    for group in ({"trades"}, {"imbalances"}, KEPT_LAST):
        fates = [event.timestamp_ns in kept for event in before if event.channel in group]
        assert fates == sorted(fates)


@settings(deadline=None)  # a busy machine is no failure
@given(shapes, st.integers(2, 20), st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_inboxs_accounts_always_add_up(shape: Shape, capacity: int, takes: list[bool]) -> None:
    inbox = Inbox(capacity, FakeClock())
    taken: list[MarketEvent] = []
    announced: list[int] = []

    def take() -> bool:
        item = inbox.get(0)
        if isinstance(item, Frame):
            taken.extend(item.events)
        elif isinstance(item, EventsDropped):
            announced.extend(lost.count for lost in item.losses.values())
        return item is not None

    for frame, also_take in zip(build(shape), takes, strict=False):
        inbox.put_frame(frame.events, frame.received)
        counts = inbox.counts()
        assert counts.waiting <= capacity
        assert counts.received == len(taken) + sum(counts.dropped.values()) + counts.waiting
        if also_take:
            take()
    while take():
        pass
    counts = inbox.counts()
    assert counts.received == len(taken) + sum(counts.dropped.values())
    missed = BARS | {"trades"}
    assert sum(announced) == sum(n for (c, _), n in counts.dropped.items() if c in missed)
    for channel in KEPT_LAST | {"trades", "quotes"}:
        for symbol in "AB":
            own = [
                e.timestamp_ns for e in taken if (e.channel, e.symbol) == (channel, symbol)
            ]  # fmt: skip
            assert own == sorted(own)
