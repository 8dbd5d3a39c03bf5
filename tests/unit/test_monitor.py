from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import FakeClock, StaleDataError, StaleEvent, StreamConfig
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import Quote
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.lag import LagMeter
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.monitor import Monitor
from realtime_stream.runtime.session import SessionView
from realtime_stream.runtime.staleness import StalenessWatch

if TYPE_CHECKING:
    from realtime_stream.runtime.dispatcher import Latest


ONE = Decimal(1)


def quote(symbol: str, received_ns: int) -> Quote:
    return Quote(
        symbol=symbol,
        timestamp_ns=1,
        received_ns=received_ns,
        bid_price=ONE,
        bid_size=ONE,
        ask_price=ONE,
        ask_size=ONE,
    )


class Known:
    """What io and dispatch would tell the monitor."""

    def __init__(self) -> None:
        self.view = SessionView()
        self.last_data_ns = 0
        self.last_event_ns = 0
        self.running_since: float | None = None


class Broken(AlwaysOpen):
    def open_ns(self, start_ns: int, end_ns: int) -> int:
        raise LookupError


class Setup:
    def __init__(self, calendar: Any = None, **settings: Any) -> None:
        self.clock = FakeClock(datetime(2026, 3, 4, 15, tzinfo=UTC))
        self.inbox = Inbox(100, self.clock)
        self.known = Known()
        self.lag = LagMeter(1.0)
        self.latest: Latest = {channel: {} for channel in CHANNELS}
        self.asked: list[tuple[StaleDataError, str]] = []
        self.log = EventLog("test")
        self.log.next_connection()
        config = StreamConfig(**{"stale_after": 60, "symbol_stale_after": 60, **settings})
        self.watch = StalenessWatch(
            AlwaysOpen() if calendar is None else calendar,
            stream_after=config.stale_after,
            symbol_after=config.symbol_stale_after,
        )
        known: Any = self.known
        self.monitor = Monitor(
            config=config,
            clock=self.clock,
            data_clock=self.clock,
            watch=self.watch,
            recorder=known,
            dispatcher=known,
            inbox=self.inbox,
            lag=self.lag,
            guard=known,
            latest=self.latest,
            reconnect=lambda error, connection: self.asked.append((error, connection)),
            log=self.log,
        )

    def connect(self) -> None:
        served = frozenset({Subscription("quotes", "A"), Subscription("quotes", "B")})
        self.known.view = SessionView(
            sessions=self.known.view.sessions + 1, connected_since=1.0, acknowledged=served
        )
        self.monitor.look()

    def receive(self, symbol: str) -> None:
        self.known.last_data_ns = self.known.last_event_ns = self.clock.utc_now_ns()
        self.latest["quotes"][symbol] = quote(symbol, self.known.last_event_ns)

    def after(self, seconds: float) -> list[object]:
        """What the monitor puts into the inbox at a look so much later."""
        self.clock.advance(seconds)
        self.monitor.look()
        found: list[object] = []
        while (item := self.inbox.get(0)) is not None:
            found.append(item)
        return found


def test_silence_is_put_into_the_inbox_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    setup.connect()
    with caplog.at_level(logging.INFO, "realtime_stream"):
        assert setup.after(29) == []
        assert setup.after(32) == [StaleEvent("*", None, 61.0)]
        assert setup.after(1) == []
    stale = [record for record in caplog.records if record.getMessage() == "realtime_feed_stale"]
    (record,) = stale
    assert (vars(record)["scope"], vars(record)["count"]) == ("stream", 1)
    assert not hasattr(record, "symbol")


def test_the_silent_symbols_are_named_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(stale_after=0)
    setup.connect()
    with caplog.at_level(logging.DEBUG, "realtime_stream"):
        assert len(setup.after(61)) == 2
    named = {vars(r).get("symbol"): r.levelno for r in caplog.records if hasattr(r, "symbol")}
    assert named == {"A": logging.DEBUG, "B": logging.DEBUG}


def test_a_heartbeat_every_thirty_seconds_with_counts_and_ages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    setup.connect()
    setup.receive("A")
    with caplog.at_level(logging.INFO, "realtime_stream"):
        for _ in range(90):
            setup.after(1)
    beats = [r for r in caplog.records if r.getMessage() == "realtime_feed_heartbeat"]
    fields = ("connected", "symbols", "age_seconds", "stale", "oldest_age_seconds")
    assert [tuple(vars(beat)[field] for field in fields) for beat in beats] == [
        (True, 2, 30.0, 0, 0.0),
        (True, 2, 60.0, 0, 0.0),
        (True, 2, 90.0, 1, 90.0),
    ]


def test_a_callback_that_hangs_is_reported_on_a_silent_feed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    setup.lag.begin(received=0.0, now=0.0)
    with caplog.at_level(logging.WARNING, "realtime_stream"):
        (event,) = setup.after(1.5)
        assert setup.after(1.5) == []
    assert isinstance(event, ErrorEvent)
    assert event.source == "lag"
    assert [record.getMessage() for record in caplog.records] == ["realtime_feed_lagging"]


def test_a_calendar_that_fails_is_reported_and_the_monitor_lives_on() -> None:
    setup = Setup(Broken(), error_log_interval=1000.0)
    setup.connect()
    (event,) = setup.after(61)
    assert isinstance(event, ErrorEvent)
    assert isinstance(event.error, LookupError)
    assert event.source == "calendar"
    assert setup.after(1) == []


def test_by_default_nothing_is_asked_for() -> None:
    setup = Setup()
    setup.connect()
    setup.after(61)
    assert setup.asked == []


def test_a_silent_stream_makes_one_new_session_until_data_come_again() -> None:
    setup = Setup(reconnect_when_stale="stream")
    setup.connect()
    setup.after(61)
    ((error, connection),) = setup.asked
    assert "no data for the stream in 61 s" in str(error)
    assert connection == setup.log.connection_id
    setup.connect()
    for _ in range(20):
        setup.after(61)
    assert len(setup.asked) == 1
    setup.receive("A")
    setup.after(1)
    setup.after(61)
    assert len(setup.asked) == 2


def test_silent_symbols_make_one_only_when_asked_to_and_one_for_them_all() -> None:
    setup = Setup(reconnect_when_stale="stream", stale_after=0)
    setup.connect()
    setup.after(61)
    assert setup.asked == []
    setup = Setup(reconnect_when_stale="symbol", stale_after=0)
    setup.connect()
    setup.after(61)
    ((error, _),) = setup.asked
    assert "no data for 2 symbol(s) in 61 s" in str(error)
    setup.connect()
    for _ in range(20):
        setup.after(61)
    assert len(setup.asked) == 1
    setup.receive("B")
    setup.after(1)
    setup.after(61)
    assert len(setup.asked) == 2


def test_a_session_that_brings_no_data_is_not_taken_for_data() -> None:
    setup = Setup(reconnect_when_stale="stream")
    for _ in range(5):
        setup.connect()
        setup.after(61)
        setup.after(61)
    assert len(setup.asked) == 1


def test_while_events_wait_the_frames_of_the_network_count() -> None:
    setup = Setup()
    setup.connect()
    setup.clock.advance(59)
    setup.known.last_data_ns = setup.clock.utc_now_ns()
    setup.inbox.put_frame([quote("A", setup.clock.utc_now_ns())], 0)
    setup.clock.advance(2)
    setup.monitor.look()
    assert setup.watch.stale == {}


def test_a_listener_that_hangs_is_reported_too() -> None:
    setup = Setup()
    setup.known.running_since = 0.0
    (event,) = setup.after(1.5)
    assert isinstance(event, ErrorEvent)
    assert event.source == "lag"


def test_a_heartbeat_before_any_data_has_no_age(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    with caplog.at_level(logging.INFO, "realtime_stream"):
        setup.after(31)
    (record,) = caplog.records
    assert vars(record)["age_seconds"] is None


def test_the_thread_ends_when_told_to() -> None:
    setup = Setup()
    setup.monitor.stop()
    setup.monitor.run()
    assert setup.clock.waits() == (1.0,)


@pytest.mark.parametrize(
    ("settings", "pause"),
    [
        ({}, 1.0),
        ({"stale_after": 0.4}, 0.1),
        ({"lag_alarm": 0.5}, 0.5),
        ({"heartbeat": 0.001}, 0.02),
    ],
)
def test_the_pause_between_two_looks_suits_the_thresholds(
    settings: dict[str, float], pause: float
) -> None:
    setup = Setup(**settings)
    setup.monitor.stop()
    setup.monitor.run()
    assert setup.clock.waits() == (pause,)
