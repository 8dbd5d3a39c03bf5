from __future__ import annotations

import threading
from decimal import Decimal as Dec

import pytest
from msgspec.structs import replace

from realtime_stream.clock import FakeClock
from realtime_stream.market.models import Bar, MarketEvent, Trade
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.inbox import EventsDropped, Inbox
from realtime_stream.runtime.overflow import Frame, JoinedEvents

MAX_ERRORS = 1000


def trades(*numbers: int) -> list[MarketEvent]:
    return [Trade(symbol="A", timestamp_ns=n, price=Dec(1), size=Dec(1)) for n in numbers]


def bars(*numbers: int) -> list[MarketEvent]:
    one = Dec(1)
    return [
        Bar(symbol="A", timestamp_ns=n, open=one, high=one, low=one, close=one, volume=one)
        for n in numbers
    ]


def take_all(inbox: Inbox) -> list[object]:
    taken = []
    while (item := inbox.get(0)) is not None:
        taken.append(item)
    return taken


def shown(items: list[object]) -> list[object]:
    return [
        [event.timestamp_ns for event in item.events] if isinstance(item, Frame) else item
        for item in items
    ]


def test_frames_and_notices_keep_their_order() -> None:
    inbox = Inbox(100, FakeClock())
    inbox.put("first")
    inbox.put_frame(trades(1, 2), 0.5)
    inbox.put("second")
    inbox.put_frame(trades(3), 0.7)
    assert shown(take_all(inbox)) == ["first", [1, 2], "second", [3]]


def test_get_gives_none_after_its_timeout() -> None:
    inbox = Inbox(100, FakeClock())
    assert inbox.get(0) is None
    assert inbox.get(0.001) is None


def test_get_waits_for_what_another_thread_puts() -> None:
    inbox = Inbox(100, FakeClock())
    taken: list[object] = []

    def consume() -> None:
        taken.extend([inbox.get(10), inbox.get(10)])

    consumer = threading.Thread(target=consume)
    consumer.start()
    inbox.put_frame(trades(1), 0.0)
    inbox.put("notice")
    consumer.join(10)
    assert shown(taken) == [[1], "notice"]


def test_nothing_is_dropped_up_to_the_capacity() -> None:
    inbox = Inbox(4, FakeClock())
    inbox.put_frame(trades(1, 2), 0)
    inbox.put_frame(trades(3, 4), 0)
    assert inbox.counts().dropped == {}
    assert inbox.counts().waiting == 4


def test_one_event_more_shortens_it_to_half() -> None:
    inbox = Inbox(4, FakeClock())
    inbox.put_frame(trades(1, 2), 0)
    inbox.put("kept")
    inbox.put_frame(trades(3, 4), 0)
    inbox.put_frame(trades(5), 0)
    counts = inbox.counts()
    assert counts.dropped == {("trades", "overflow"): 3}
    assert (counts.received, counts.waiting) == (5, 2)
    announced, *rest = take_all(inbox)  # before what stays: what went was older
    assert isinstance(announced, EventsDropped)
    assert shown(rest) == ["kept", [4, 5]]


def test_dropped_bars_are_announced_once_with_what_they_add_up_to() -> None:
    inbox = Inbox(2, FakeClock())
    inbox.put_frame(bars(1, 2, 3), 0)
    inbox.put_frame(bars(4, 5), 0)
    items = take_all(inbox)
    (announced,) = [item for item in items if isinstance(item, EventsDropped)]
    (lost,) = announced.losses.values()
    assert (lost.first_ns, lost.last_ns, lost.count) == (1, 4, 4)
    assert [item for item in shown(items) if isinstance(item, list)] == [[5]]
    inbox.put_frame(bars(6, 7, 8), 0)  # what was told is not told again
    again = [item for item in take_all(inbox) if isinstance(item, EventsDropped)]
    assert [loss.count for loss in again[0].losses.values()] == [2]


def test_dropped_events_are_announced_with_when_they_were_received() -> None:
    inbox = Inbox(2, FakeClock())
    received = [
        replace(bar, received_ns=at) for bar, at in zip(bars(1, 2, 3), (9, 7, 8), strict=True)
    ]
    inbox.put_frame(received, 0)
    (announced,) = [item for item in take_all(inbox) if isinstance(item, EventsDropped)]
    (lost,) = announced.losses.values()
    assert (lost.received_ns, lost.received_until_ns) == (9, 7)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_received_is_taken_plus_dropped_plus_waiting(taken: int) -> None:
    inbox = Inbox(10, FakeClock())
    out = 0
    for n in range(taken):
        inbox.put_frame(trades(n, n), 0)
        item = inbox.get(0)
        assert isinstance(item, Frame)
        out += len(item.events)
    for n in range(20):
        inbox.put_frame([*trades(n, n), *bars(n)], 0)
    counts = inbox.counts()
    assert counts.received == out + sum(counts.dropped.values()) + counts.waiting
    left = sum(len(item.events) for item in take_all(inbox) if isinstance(item, Frame))
    assert left == counts.waiting
    assert inbox.counts().waiting == 0


def test_the_oldest_waiting_frame_is_known() -> None:
    inbox = Inbox(10, FakeClock())
    assert inbox.counts().oldest is None
    inbox.put("notice")
    inbox.put_frame(trades(1), 3.5)
    inbox.put_frame(trades(2), 4.5)
    assert inbox.counts().oldest == 3.5
    take_all(inbox)
    assert inbox.counts().oldest is None


def test_only_errors_are_bounded_and_the_newest_goes() -> None:
    """What sessions and gaps are told by must not be lost behind a stuck callback."""
    inbox = Inbox(10, FakeClock())
    for n in range(MAX_ERRORS + 3):
        inbox.put(n)
        inbox.put(ErrorEvent(ValueError(str(n)), "session"))
    inbox.put(ErrorEvent(ValueError("last"), "session", fatal=True))
    items = take_all(inbox)
    errors = [item for item in items if isinstance(item, ErrorEvent)]
    assert len(items) - len(errors) == MAX_ERRORS + 3
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1].fatal
    assert inbox.counts().notices_dropped == 3
    inbox.put(ErrorEvent(ValueError("room again"), "session"))
    assert len(take_all(inbox)) == 1


def test_producers_in_several_threads_lose_nothing() -> None:
    inbox, barrier = Inbox(100_000, FakeClock()), threading.Barrier(4)

    def produce(offset: int) -> None:
        barrier.wait(10)
        for n in range(200):
            inbox.put_frame(trades(offset + n), 0)

    threads = [threading.Thread(target=produce, args=(k * 1000,)) for k in range(4)]
    for thread in threads:
        thread.start()
    got: list[int] = []
    while len(got) < 800:
        item = inbox.get(10)
        assert isinstance(item, Frame)
        got.extend(event.timestamp_ns for event in item.events)
    for thread in threads:
        thread.join(10)
    for k in range(4):
        own = [n for n in got if n // 1000 == k]
        assert own == list(range(k * 1000, k * 1000 + 200))


def test_small_frames_that_wait_are_handed_over_together() -> None:
    inbox = Inbox(1000, FakeClock())
    inbox.put_frame(trades(1, 2), 1.0)
    inbox.put_frame(trades(3), 2.0)
    inbox.put("between")
    inbox.put_frame(trades(4), 3.0)
    first = inbox.get(0)
    assert isinstance(first, Frame)
    assert (first.received, first.count, len(first.events)) == (1.0, 3, 3)  # the oldest's lag
    assert first.events
    assert trades(3)[0] in first.events
    assert trades(4)[0] not in first.events
    assert inbox.counts().waiting == 1
    assert shown([first, *take_all(inbox)]) == [[1, 2, 3], "between", [4]]


def test_frames_handed_over_together_tell_where_each_ended() -> None:
    inbox = Inbox(10, FakeClock())
    for numbers in ([1, 2], [], [3]):
        inbox.put_frame(trades(*numbers), 0)
    frame = inbox.get(0)
    assert isinstance(frame, Frame)
    assert isinstance(frame.events, JoinedEvents)
    assert list(frame.events) == trades(1, 2, 3)
    assert frame.events.ends == trades(2, 3)


def test_a_large_frame_is_handed_over_alone_and_no_joined_one_grows_much() -> None:
    inbox = Inbox(10_000, FakeClock())
    for size in (20, 10, 10, 10):
        inbox.put_frame(trades(*range(size)), 0)
    taken = take_all(inbox)
    assert [item.count for item in taken if isinstance(item, Frame)] == [20, 20, 10]


def test_malformed_messages_do_not_count_as_received() -> None:
    inbox = Inbox(10, FakeClock())
    inbox.put_frame(trades(1, 2, 3), 0)
    inbox.discount(2)
    assert inbox.counts().received == 1
