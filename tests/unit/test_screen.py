from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from realtime_stream.clock import FakeClock
from realtime_stream.market.models import Quote
from realtime_stream.market.validation import ValidationPolicy, Validator
from realtime_stream.ports import RejectedEvent
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.screen import Screen

if TYPE_CHECKING:
    import pytest


def quote(bid: int | str = 1, ask: int | str = 2, symbol: str = "AAPL") -> Quote:
    return Quote(
        symbol=symbol,
        timestamp_ns=1_790_000_000_000_000_000,
        bid_price=Decimal(bid),
        bid_size=Decimal(1),
        ask_price=Decimal(ask),
        ask_size=Decimal(1),
    )


class Setup:
    """A screen with a clock that stands still, and what it told."""

    def __init__(self, *, keep: int = 3, **policy: Any) -> None:
        self.clock = FakeClock()
        self.told: list[RejectedEvent] = []
        self.screen = Screen(
            validator=Validator(ValidationPolicy(**policy), "stocks"),
            log=EventLog("test"),
            clock=self.clock,
            keep=keep,
            tell=self.told.append,
            log_interval=60.0,
        )

    def admit(self, event: Quote) -> bool:
        """What the dispatcher does with an event; whether it is delivered."""
        verdict = self.screen.checks["quotes"](event)
        return verdict is None or self.screen.judge(event, verdict)


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records]


def test_what_is_as_it_should_be_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    assert setup.admit(quote())
    screen = setup.screen
    assert (list(screen.kept), screen.findings, setup.told) == ([], {}, [])
    assert not caplog.records


def test_a_rejected_event_is_counted_kept_told_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    event = quote(3, 2)
    assert not setup.admit(event)
    found = RejectedEvent(
        event, "crossed", "ask_price", Decimal(2), True, "Crossed market: ask 2 < bid 3"
    )
    assert setup.told == [found]
    assert list(setup.screen.kept) == [found]
    assert setup.screen.findings == {("crossed", "AAPL"): 1}
    (record,) = records(caplog)
    assert (record["msg"], record["levelno"]) == ("realtime_event_rejected", logging.WARNING)
    assert (record["channel"], record["rule"], record["field"], record["suppressed"]) == (
        "quotes",
        "crossed",
        "ask_price",
        0,
    )


def test_a_flagged_event_is_counted_told_and_delivered(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(locked="flag")
    event = quote(2, 2)
    assert setup.admit(event)
    (found,) = setup.told
    assert (found.event, found.rule, found.field) == (event, "locked", "ask_price")
    assert (found.value, found.rejected, bool(found.message)) == (Decimal(2), False, True)
    assert list(setup.screen.kept) == []
    assert setup.screen.findings == {("locked", "AAPL"): 1}
    assert [record["msg"] for record in records(caplog)] == ["realtime_event_flagged"]


def test_only_the_last_rejected_events_are_kept() -> None:
    setup = Setup(keep=2)
    events = [quote(9, ask) for ask in (1, 2, 3)]
    assert not any(map(setup.admit, events))
    assert [found.event for found in setup.screen.kept] == events[1:]


def test_each_rule_is_logged_once_per_interval(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    for _ in range(3):
        setup.admit(quote(3, 2))
    setup.admit(quote(-1, 2))
    setup.clock.advance(61)
    setup.admit(quote(3, 2))
    logged = [(record["rule"], record["suppressed"]) for record in records(caplog)]
    assert logged == [("crossed", 0), ("negative_price", 0), ("crossed", 2)]


def test_symbols_and_values_are_logged_for_debugging_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    setup.admit(quote(3, 2))
    with caplog.at_level(logging.DEBUG, "realtime_stream"):
        setup.admit(quote("-1", 2))
    discreet, open_ = records(caplog)
    assert not {"symbol", "value", "reason", "timestamp_ns"} & set(discreet)
    assert (open_["symbol"], open_["value"]) == ("AAPL", "-1")
    assert open_["timestamp_ns"] == 1_790_000_000_000_000_000
    assert open_["reason"] == "bid_price is -1"


def test_what_is_logged_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    with caplog.at_level(logging.DEBUG, "realtime_stream"):
        setup.admit(quote(symbol="AAPL\nroot: all is well" + "x" * 500))
    (record,) = records(caplog)
    for name in ("symbol", "value", "reason"):
        assert record[name].isprintable()
        assert len(record[name]) <= 200


def test_findings_are_bounded_in_the_number_of_symbols() -> None:
    setup = Setup()
    for n in range(10_005):
        setup.admit(quote(3, 2, f"S{n}"))
    setup.admit(quote(3, 2, "S0"))
    findings = setup.screen.findings
    assert len(findings) == 10_001
    assert (findings["crossed", "S0"], findings["crossed", "*"]) == (2, 5)
    assert sum(findings.values()) == 10_006
