from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal as Dec
from typing import TYPE_CHECKING

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.errors import RateLimitError, ServerError, SubscriptionRefusedError
from realtime_stream.market.channels import Subscription
from realtime_stream.market.models import Bar, Trade
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Connected,
    ConnectionEvent,
    ConnectionState,
    ErrorEvent,
    Refused,
    RejectedMessage,
    ServerReport,
    Settled,
)
from realtime_stream.resilience.circuit_breaker import (
    BreakerPolicy,
    BreakerState,
    ConnectionCircuitBreaker,
)
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.notices import SessionSettled
from realtime_stream.runtime.overflow import Frame
from realtime_stream.runtime.session import SessionRecorder, SessionView
from realtime_stream.runtime.states import StateBoard

if TYPE_CHECKING:
    from realtime_stream.market.models import BarKind, MarketEvent

START = datetime(2024, 3, 4, 14, 31, 0, 250_000, tzinfo=UTC)
MINUTE_NS = 1_709_562_600_000_000_000
TRADES, QUOTES = Subscription("trades", "A"), Subscription("quotes", "A")


class Setup:
    """A recorder with its surroundings, on a clock that stands still."""

    def __init__(self, *, stable_after: float = 30.0) -> None:
        self.clock = FakeClock()
        self.data_clock = FakeClock(START)
        self.inbox = Inbox(1000, self.clock)
        self.board = StateBoard()
        self.breaker = ConnectionCircuitBreaker(
            BreakerPolicy(failure_threshold=2, reset_timeout=10), clock=self.clock
        )
        self.log = EventLog("test")
        self.board.begin(lambda _: None, self.log)
        self.recorder = SessionRecorder(
            inbox=self.inbox,
            board=self.board,
            breaker=self.breaker,
            clock=self.clock,
            data_clock=self.data_clock,
            log=self.log,
            stable_after=stable_after,
            rejects=2,
            log_interval=0,
        )

    def begin(self) -> None:
        self.log.next_connection()
        self.recorder.begin()
        self.board.move_connection("connect", self.log)

    def settle(self) -> None:
        self.begin()
        for control in (Connected(), Authenticated(), Acknowledged(frozenset({TRADES})), Settled()):
            self.recorder.on_control(control)

    def notices(self) -> list[object]:
        found = []
        while (item := self.inbox.get(0)) is not None:
            found.append(item)
        return found


def trade() -> Trade:
    return Trade(symbol="A", timestamp_ns=1, price=Dec(1), size=Dec(1))


def test_a_new_attempt_forgets_the_last_sessions_subscriptions() -> None:
    setup = Setup()
    setup.settle()
    setup.recorder.update(refused={QUOTES: "405"}, next_attempt_at=5.0)
    setup.recorder.end()
    setup.recorder.begin()
    view = setup.recorder.view
    assert (view.attempts, view.sessions) == (2, 1)
    assert (view.acknowledged, view.refused, view.next_attempt_at) == (frozenset(), {}, None)
    assert setup.recorder.last_received_ns == setup.data_clock.utc_now_ns()


def test_connected_means_settled() -> None:
    setup = Setup()
    setup.begin()
    for control in (Connected(), Authenticated(), Acknowledged(frozenset({TRADES}))):
        setup.recorder.on_control(control)
        assert setup.board.connection is ConnectionState.CONNECTING
    setup.recorder.on_control(Settled())
    assert setup.board.connection is ConnectionState.CONNECTED
    assert setup.recorder.view == SessionView(
        attempts=1, sessions=1, connected_since=0.0, acknowledged=frozenset({TRADES})
    )


def test_a_settled_session_is_announced_once() -> None:
    setup = Setup()
    setup.settle()
    setup.recorder.on_control(Settled())
    (notice,) = setup.notices()
    event = ConnectionEvent(setup.log.connection_id, 1, reconnect=False)
    expected = SessionSettled(setup.data_clock.utc_now_ns(), frozenset({TRADES}), event)
    assert notice == expected


def test_later_sessions_are_reconnects() -> None:
    setup = Setup()
    for _ in range(2):
        setup.settle()
        setup.recorder.end()
        setup.board.move_connection("lost", setup.log)
    events = [n.event for n in setup.notices() if isinstance(n, SessionSettled)]
    assert [(event.session, event.reconnect) for event in events] == [(1, False), (2, True)]
    assert events[0].connection_id != events[1].connection_id


@pytest.mark.parametrize(
    ("seconds", "stable"), [(0.0, False), (29.9, False), (30.0, True), (300.0, True)]
)
def test_a_session_is_stable_after_its_time(seconds: float, stable: bool) -> None:
    setup = Setup()
    setup.settle()
    setup.clock.advance(seconds)
    assert setup.recorder.end() == (True, stable)
    assert setup.recorder.view.connected_since is None


def test_a_session_that_never_settled_is_neither_connected_nor_stable() -> None:
    setup = Setup()
    setup.begin()
    setup.clock.advance(300)
    assert setup.recorder.end() == (False, False)


def test_with_no_time_asked_for_a_session_is_stable_at_once() -> None:
    setup = Setup(stable_after=0)
    setup.settle()
    assert setup.recorder.end() == (True, True)


@pytest.mark.parametrize("how", ["frame", "look", "end"])
def test_stability_is_noted_whoever_looks_first(how: str) -> None:
    setup = Setup()
    setup.breaker.record_failure()
    setup.recorder.update(consecutive=3)
    setup.settle()
    setup.clock.advance(29)
    setup.recorder.on_frame([trade()], 5)
    setup.recorder.note_stability()
    assert (setup.breaker.info().failures, setup.recorder.view.consecutive) == (1, 3)
    setup.clock.advance(1)
    if how == "frame":
        setup.recorder.on_frame([trade()], 6)
    elif how == "look":
        setup.recorder.note_stability()
    else:
        assert setup.recorder.end() == (True, True)
    assert (setup.breaker.info().failures, setup.recorder.view.consecutive) == (0, 0)


def test_success_is_recorded_once_a_session() -> None:
    setup = Setup()
    setup.breaker.record_failure()
    setup.breaker.record_failure()
    setup.clock.advance(10)
    assert setup.breaker.can_attempt_connection()
    setup.settle()
    setup.clock.advance(30)
    setup.recorder.note_stability()
    assert setup.breaker.info().state is BreakerState.CLOSED
    setup.breaker.record_failure()
    setup.recorder.note_stability()
    setup.recorder.on_frame([trade()], 6)
    assert setup.recorder.end() == (True, True)
    assert setup.breaker.info().failures == 1


def test_a_frame_goes_into_the_inbox_with_its_receive_time() -> None:
    setup = Setup()
    setup.begin()
    setup.clock.advance(2.5)
    events: list[MarketEvent] = [trade()]
    setup.recorder.on_frame(events, 77)
    (frame,) = setup.notices()
    assert isinstance(frame, Frame)
    assert (frame.events, frame.received) == (events, 2.5)
    assert setup.recorder.last_received_ns == 77


def test_refusals_are_shown_told_and_added_up() -> None:
    setup = Setup()
    setup.begin()
    setup.recorder.on_control(Refused(frozenset({TRADES}), 405, "symbol limit exceeded"))
    setup.recorder.on_control(Refused(frozenset({QUOTES}), 410, "invalid action"))
    assert setup.recorder.view.refused == {
        TRADES: "405: symbol limit exceeded",
        QUOTES: "410: invalid action",
    }
    told = setup.notices()
    assert all(isinstance(n, ErrorEvent) and n.source == "subscription" for n in told)
    first = told[0]
    assert isinstance(first, ErrorEvent)
    assert isinstance(first.error, SubscriptionRefusedError)
    assert first.error.code == 405
    assert "trades A" in str(first.error)


def test_a_servers_words_about_a_refusal_are_harmless_in_a_log_line() -> None:
    setup = Setup()
    setup.begin()
    setup.recorder.on_control(Refused(frozenset({TRADES}), 405, "no\nERROR forged \x1b[31m"))
    (told,) = setup.notices()
    assert isinstance(told, ErrorEvent)
    assert str(told.error).isprintable()
    assert setup.recorder.view.refused[TRADES].isprintable()


def test_a_long_refusal_names_twenty() -> None:
    setup = Setup()
    entries = frozenset(Subscription("trades", f"S{n:03}") for n in range(50))
    setup.recorder.on_control(Refused(entries, 405, "symbol limit exceeded"))
    (told,) = setup.notices()
    assert isinstance(told, ErrorEvent)
    assert "S019" in str(told.error)
    assert "S020" not in str(told.error)


def test_a_servers_report_is_told_as_a_typed_error() -> None:
    setup = Setup()
    setup.recorder.on_control(ServerReport(500, "internal\nerror"))
    (told,) = setup.notices()
    assert isinstance(told, ErrorEvent)
    assert isinstance(told.error, ServerError)
    assert not isinstance(told.error, RateLimitError)
    assert (told.source, told.fatal, told.error.code) == ("session", False, 500)
    assert str(told.error).isprintable()


def test_rejected_messages_are_counted_and_the_newest_kept() -> None:
    setup = Setup()
    rejects = [RejectedMessage("bad", bytes([n]), n) for n in range(4)]
    for reject in rejects:
        setup.recorder.on_control(reject)
    assert setup.recorder.rejected == 4
    assert list(setup.recorder.rejects) == rejects[2:]
    assert setup.notices() == []


def bar(kind: BarKind = "regular") -> Bar:
    one = Dec(1)
    return Bar(
        symbol="SECRET", timestamp_ns=MINUTE_NS, bar_kind=kind,
        open=one, high=one, low=one, close=one, volume=one,
    )  # fmt: skip


def test_symbols_are_logged_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    with caplog.at_level(logging.INFO, "realtime_stream"):
        setup.settle()
        setup.recorder.on_frame([bar()], 1)
        setup.recorder.on_control(Refused(frozenset({Subscription("bars", "SECRET")}), 405, "no"))
    assert caplog.records
    assert not any("SECRET" in str(vars(record)) for record in caplog.records)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "realtime_stream"):
        setup.recorder.on_frame([trade(), bar(), bar("updated")], 1)
    (record,) = caplog.records
    assert record.getMessage() == "realtime_bar_received"
    assert vars(record)["symbol"] == "SECRET"
    assert vars(record)["timestamp"] == "2024-03-04T14:30:00+00:00"
    assert vars(record)["latency_seconds"] == pytest.approx(0.25)  # from the end of the minute
