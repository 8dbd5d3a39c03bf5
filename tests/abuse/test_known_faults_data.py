"""Faults of other stream managers in parsing, delivering and keeping subscriptions.

Each test names what such a manager did, and shows that this one does not.
"""

from __future__ import annotations

import functools
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from realtime_stream import (
    Bar,
    Gap,
    Quote,
    RegularHours,
    ScaledClock,
    StaleEvent,
)
from tests.integration import conftest as integration
from tests.support import START_NS, Recorder, bar, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager


def serves(wanted: set[tuple[str, str]], simulator: AlpacaSimulator) -> bool:
    return any(session.subscriptions == wanted for session in simulator.sessions())


# --- a list, a bad decimal or an aware timestamp killed the listener; it still said connected ---


@pytest.mark.parametrize(
    ("frame", "rejected"),
    [
        ([[quote()]], 1),
        ({"T": "q"}, 1),
        ([quote(bp="ten", t="2026-09-21T12:00:00Z")], 1),
        ([quote(bp="1.2.3", t="2026-09-21T12:00:00Z")], 1),
        ([quote(t="2026-09-21T12:00:00")], 1),
        ([quote(t="2026-09-21T08:00:00-04:00", n=9)], 0),
        ([], 0),
        (None, 1),
    ],
    ids=[
        *("list-in-list", "no-list", "word-for-price", "bad-decimal"),
        *("naive-time", "aware-time", "empty", "null"),
    ],
)
def test_fault_an_odd_message_does_not_end_the_listening(
    simulator: AlpacaSimulator, new_manager: NewManager, frame: Any, rejected: int
) -> None:
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish_raw(msgspec.msgpack.encode(frame))
    simulator.publish(quote(n=1))
    quotes.wait_until(lambda items: START_NS + 1_000_000 in {q.timestamp_ns for q in items})
    assert manager.status().rejected == rejected
    assert manager.is_connected()
    assert simulator.attempts == 1


def test_fault_an_aware_timestamp_is_the_moment_it_says(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish_raw(msgspec.msgpack.encode([quote(t="2026-09-21T08:00:00.5-04:00")]))
    assert quotes.wait_for()[0].timestamp == datetime(2026, 9, 21, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be changed here")
@pytest.mark.usefixtures("far_from_utc")
def test_fault_timestamps_never_become_naive_local_time(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    bars = Recorder[Bar]()
    manager.on_bar(bars, "AAPL")
    manager.start()
    simulator.publish(bar(t="2026-09-21T13:30:00Z"))
    assert bars.wait_for()[0].timestamp == datetime(2026, 9, 21, 13, 30, tzinfo=UTC)
    assert bars.items[0].timestamp.utcoffset() == datetime.now(UTC).utcoffset()


@pytest.mark.parametrize("missing", ["S", "t", "o", "h", "l", "c", "v"])
def test_fault_a_bar_with_a_field_missing_costs_itself_alone(
    simulator: AlpacaSimulator, new_manager: NewManager, missing: str
) -> None:
    stamp = msgspec.msgpack.Ext(-1, (1_790_000_040).to_bytes(4, "big"))
    broken = {key: value for key, value in bar(t=stamp).items() if key != missing}
    manager = new_manager()
    bars = Recorder[Bar]()
    manager.on_bar(bars, "AAPL")
    manager.start()
    simulator.publish_raw(msgspec.msgpack.encode([bar(t=stamp, v=1), broken, bar(t=stamp, v=2)]))
    assert [event.volume for event in bars.wait_for(2)] == [Decimal(1), Decimal(2)]
    assert manager.status().rejected == 1
    assert missing in manager.rejects()[0].reason


# --- what failed was dropped without a trace ---


def test_fault_failed_events_are_kept_with_what_it_takes_to_deliver_them_again(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    healthy = threading.Event()
    delivered = Recorder[Quote]()

    def store(event: Quote) -> None:
        if not healthy.is_set():
            msg = "the database is away"
            raise ConnectionError(msg)
        delivered(event)

    manager = new_manager(dead_letters=50)
    every = Recorder[Quote]()
    manager.on_quote(store, "AAPL")
    manager.on_quote(every, "AAPL")
    manager.start()
    simulator.publish(*(quote(n=n) for n in range(60)))
    every.wait_for(60)
    healthy.set()
    letters = manager.dead_letters()
    assert [letter.event for letter in letters] == every.items[-50:]  # the newest
    assert manager.status().callback_errors == 60  # the older ones are counted
    assert {str(letter.exception) for letter in letters} == {"the database is away"}
    assert all(letter.callback.endswith("store") for letter in letters)


# --- the connection is lost while a bar is being worked on ---


def test_fault_a_connection_lost_in_the_middle_of_a_bar_costs_no_bar(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    entered, release = threading.Event(), threading.Event()
    manager = new_manager()
    bars, gaps, found = Recorder[Bar](), Recorder[Gap](), Recorder[object]()

    def work(event: Bar) -> None:
        if not bars.items:
            entered.set()
            assert release.wait(20)
        bars(event)

    manager.on_bar(work, "AAPL")
    manager.on_gap(gaps)
    manager.on_connect(found)
    manager.start()
    simulator.publish(bar(n=0), bar(n=1))
    simulator.publish(bar(n=2))
    assert entered.wait(5)
    simulator.drop(1011)
    assert simulator.wait_for(functools.partial(serves, {("bars", "AAPL")}))
    assert simulator.authenticated == 2  # the reconnect did not wait for the callback
    simulator.publish(bar(n=3))
    release.set()
    stamps = [event.timestamp_ns for event in bars.wait_for(4)]
    assert stamps == sorted(stamps)
    (gap,) = gaps.wait_for()
    assert gap.entries[0].last_event_ns == stamps[2]
    assert len(found.items) == 2


def test_fault_what_is_sent_until_the_close_is_delivered(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: a race between the end of the connection and the work on its last frames."""
    manager = new_manager()
    quotes, found = Recorder[Quote](), Recorder[object]()
    manager.on_quote(quotes, "AAPL")
    manager.on_connect(found)
    manager.start()
    for session in range(8):
        found.wait_for(session + 1)
        for n in range(20):
            simulator.publish(quote(n=20 * session + n))
        simulator.drop(1000)
    assert [q.timestamp_ns for q in quotes.wait_for(160)] == [
        START_NS + n * 1_000_000 for n in range(160)
    ]
    manager.stop()
    status = manager.status()
    assert status.received == sum(status.delivered.values()) == 160


@pytest.mark.parametrize("how", ["stop", "drop"])
def test_fault_accounts_add_up_when_the_end_races_with_the_work(
    simulator: AlpacaSimulator, new_manager: NewManager, how: str
) -> None:
    for _ in range(5):
        manager = new_manager()
        quotes = Recorder[Quote]()
        manager.on_quote(quotes, "AAPL")
        manager.start()
        for n in range(100):
            simulator.publish(quote(n=n), quote(n=n))
        quotes.wait_for()
        if how == "drop":
            simulator.drop(None)
        manager.stop()
        status = manager.status()
        delivered = sum(status.delivered.values())
        assert status.received == delivered + sum(status.dropped.values()) + status.undelivered
        assert delivered == len(quotes.items)


# --- tests that depend on when the market is open ---


def test_fault_market_hours_are_those_of_the_data_whatever_the_time_is_here(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: the tests of silence passed or failed with the time of day."""
    days = {"iex": 16, "sip": 19}  # a Wednesday and a Saturday, 11:00 in New York
    silent = {feed: Recorder[StaleEvent]() for feed in days}
    for feed, day in reversed(days.items()):
        clock = ScaledClock(datetime(2026, 9, day, 15, tzinfo=UTC), speed=600)
        manager = new_manager(
            manager={"data_clock": clock, "calendar": RegularHours()},
            path_feed=feed,
            stale_after=120,
            symbol_stale_after=0,
        )
        manager.on_stale(silent[feed])
        manager.subscribe("quotes", "AAPL")
        manager.start()
    assert silent["iex"].wait_for()[0].age > 120
    assert silent["sip"].items == []
