"""Messages that no server should send: one bad message costs one message, and is counted."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from realtime_stream import Quote, Trade
from tests.abuse.wire import packed, streaming, survives, wire_quote
from tests.integration import conftest as integration
from tests.support import START_NS, Recorder, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager


# --- messages that cannot be taken, among others that can ---


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in wire_quote().items() if name != key}


UNTAKABLE: dict[str, Any] = {
    "unknown-type": wire_quote(T="zz"),
    "no-type": without("T"),
    "type-is-a-number": wire_quote(T=7),
    "no-symbol": without("S"),
    "no-price": without("bp"),
    "no-size": without("as"),
    "no-time": without("t"),
    "symbol-is-a-number": wire_quote(S=7),
    "symbol-is-null": wire_quote(S=None),
    "price-is-a-word": wire_quote(bp="high"),
    "price-is-a-list": wire_quote(ap=[1]),
    "price-is-a-map": wire_quote(bp={"p": 1}),
    "price-is-true": wire_quote(bp=True),
    "size-is-null": wire_quote(bs=None),
    "time-is-a-number": wire_quote(t=5.5),
    "time-is-another-extension": wire_quote(t=msgspec.msgpack.Ext(5, b"12345678")),
    "time-is-beyond-all-years": wire_quote(t=msgspec.msgpack.Ext(-1, b"\0" * 4 + b"\x7f" * 8)),
    "conditions-are-numbers": wire_quote(c=[1, 2]),
    "not-a-number": wire_quote(bp=math.nan),
    "infinite": wire_quote(ap=math.inf),
    "minus-infinite": wire_quote(bs=-math.inf),
    "not-a-number-as-text": wire_quote(bp="NaN"),
    "infinite-as-text": wire_quote(bp="Infinity"),
    "null": None,
    "number": 3,
    "text": "q",
    "list": [wire_quote()],
}


@pytest.mark.parametrize("bad", UNTAKABLE.values(), ids=list(UNTAKABLE))
def test_a_message_that_cannot_be_taken_costs_itself_alone(
    simulator: AlpacaSimulator, new_manager: NewManager, bad: Any
) -> None:
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(packed(wire_quote(bp=1), bad, wire_quote(bp=2)))
    survives(simulator, manager, quotes, rejected=1, delivered=2)
    assert [event.bid_price for event in quotes.items] == [1, 2, 77]


@pytest.mark.parametrize(
    "symbol", [b"\xa4AA\xff\xfe", b"\xa1\xc3", b"\xa3\xed\xa0\x80"], ids=["ff", "half", "surrogate"]
)
def test_text_that_is_not_utf8_costs_its_message_alone(
    simulator: AlpacaSimulator, new_manager: NewManager, symbol: bytes
) -> None:
    bad = wire_quote(S=msgspec.Raw(symbol))
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(packed(wire_quote(), bad))
    survives(simulator, manager, quotes, rejected=1, delivered=1)


def test_nesting_deeper_than_the_stack_costs_its_message_alone(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    deep = wire_quote(deep=msgspec.Raw(b"\x91" * 200_000 + b"\xc0"))
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(packed(deep))
    survives(simulator, manager, quotes, rejected=1)


def test_only_the_newest_rejects_are_kept_and_all_are_counted(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(rejects=10)
    quotes = streaming(manager)
    for number in range(500):
        simulator.publish_raw(packed({"T": "q", "S": f"N{number}"}))
    simulator.publish(quote())
    quotes.wait_for()
    assert manager.status().rejected == 500
    assert len(manager.rejects()) == 10
    assert b"N499" in manager.rejects()[-1].raw


# --- odd, but what the server said: kept as it is, and delivered unless it cannot be true ---


@pytest.mark.parametrize(
    ("price", "expected", "rule"),
    [
        (-1.5, "-1.5", "negative_price"),
        (0, "0", ""),
        (-0.0, "-0.0", ""),
        (1e300, "1E+300", "implausible"),
        (5e-324, "5E-324", "implausible"),
        (2**63, "9223372036854775808", "implausible"),
        ("123456789.123456789123456789", "123456789.123456789123456789", "crossed"),
    ],
)
def test_absurd_prices_are_kept_as_they_are(
    simulator: AlpacaSimulator, new_manager: NewManager, price: Any, expected: str, rule: str
) -> None:
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(packed(wire_quote(bp=price)))
    simulator.publish(quote())
    events = quotes.wait_for(1 if rule else 2)
    kept = manager.rejected_events()
    assert [found.rule for found in kept] == ([rule] if rule else [])
    odd = kept[0].event if rule else events[0]
    assert isinstance(odd, Quote)
    assert odd.bid_price == Decimal(expected)
    status = manager.status()
    assert (status.received, status.invalid) == (2, len(kept))


def test_unknown_keys_and_empty_arrays_cost_nothing(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes = streaming(manager)
    for _ in range(50):
        simulator.publish_raw(b"\x90")
    simulator.publish(quote(NewField={"a": [1]}, r=START_NS))
    quotes.wait_for()
    survives(simulator, manager, quotes, rejected=0, delivered=1)


def test_disorder_is_delivered_in_the_order_it_came_and_each_trade_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    trades = Recorder[Trade]()
    manager.on_trade(trades, "AAPL")
    quotes = streaming(manager)
    order = [3, 1, 1, 2, 0, 3]
    simulator.publish(*(trade(n=n) for n in order[:3]))
    for n in order[3:]:
        simulator.publish(trade(n=n))
    assert [event.trade_id for event in trades.wait_for(4)] == [4, 2, 3, 1]
    latest = manager.latest_trade("AAPL")
    assert latest is trades.items[-1]
    simulator.publish(quote())
    quotes.wait_for()
    status = manager.status()
    assert (status.received, status.invalid) == (7, 2)
    assert status.findings == {("duplicate", "AAPL"): 2}


def test_control_messages_out_of_place_change_nothing(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """A second greeting, an answer nobody asked for, controls among the data of a frame."""
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(packed({"T": "success", "msg": "connected"}))
    simulator.publish_raw(packed({"T": "success", "msg": "authenticated"}, wire_quote()))
    simulator.publish_raw(packed({"T": "subscription", "quotes": ["AAPL"]}, wire_quote()))
    simulator.publish_raw(packed(wire_quote(), {"T": "error", "code": 403, "msg": "again"}))
    simulator.publish_raw(packed({"T": "error", "code": "many", "msg": 7}))
    survives(simulator, manager, quotes, rejected=1, delivered=3)
    assert manager.is_connected()
