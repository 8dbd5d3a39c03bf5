from __future__ import annotations

import gc
import threading
from decimal import Decimal as Dec

import pytest

from realtime_stream.errors import CallbackContextError, StreamFailedError
from realtime_stream.market.models import Trade
from realtime_stream.runtime.queues import EventQueues, EventStream


def trade(n: int) -> Trade:
    return Trade(symbol="A", timestamp_ns=n, price=Dec(1), size=Dec(1))


def nothing_failed() -> None:
    """What a healthy manager's check does."""


def stream(capacity: int = 10, timeout: float | None = 0) -> EventStream:
    return EventStream(capacity, timeout, check=nothing_failed, before_wait=nothing_failed)


def stamps(events: EventStream) -> list[int]:
    return [event.timestamp_ns for event in events]


def test_events_come_in_order_and_end_with_the_timeout() -> None:
    queues, seen = EventQueues(), stream()
    queues.open(seen)
    for n in range(3):
        queues.put(trade(n))
    assert stamps(seen) == [0, 1, 2]
    queues.put(trade(3))
    assert stamps(seen) == [3]


def test_the_oldest_is_dropped_and_counted() -> None:
    queues, seen = EventQueues(), stream(capacity=2)
    queues.open(seen)
    for n in range(5):
        queues.put(trade(n))
    assert stamps(seen) == [3, 4]
    assert (seen.dropped, queues.dropped) == (3, 3)


def test_every_open_stream_sees_every_event() -> None:
    queues, one, other = EventQueues(), stream(), stream()
    queues.open(one)
    queues.put(trade(1))
    queues.open(other)
    queues.put(trade(2))
    assert stamps(one) == [1, 2]
    assert stamps(other) == [2]


def test_what_waits_is_still_given_after_the_end() -> None:
    queues, seen = EventQueues(), stream(timeout=None)
    queues.open(seen)
    queues.put(trade(1))
    queues.end()
    assert stamps(seen) == [1]
    assert stamps(seen) == []
    assert queues.active == ()


def test_the_drops_of_an_ended_run_stay_counted() -> None:
    queues, seen = EventQueues(), stream(capacity=1)
    queues.open(seen)
    queues.put(trade(1))
    queues.put(trade(2))
    queues.end()
    assert queues.dropped == 1


def test_an_end_is_reported_as_a_failure_if_it_was_one() -> None:
    def failed() -> None:
        msg = "the stream has failed"
        raise StreamFailedError(msg)

    seen = EventStream(5, None, check=failed, before_wait=nothing_failed)
    seen.put(trade(1))
    seen.close()
    assert next(seen).timestamp_ns == 1
    with pytest.raises(StreamFailedError):
        next(seen)


def test_a_timeout_is_not_an_end() -> None:
    def must_not_be_asked() -> None:
        raise AssertionError

    with pytest.raises(StopIteration):
        next(EventStream(5, 0.001, check=must_not_be_asked, before_wait=nothing_failed))


@pytest.mark.parametrize("close", [True, False])
def test_a_waiting_reader_is_woken(close: bool) -> None:
    seen = stream(timeout=10)
    taken: list[int] = []
    reader = threading.Thread(target=lambda: taken.extend(stamps(seen)))
    reader.start()
    if not close:
        seen.put(trade(1))
    seen.close()
    reader.join(10)
    assert taken == ([] if close else [1])


def test_a_stream_nobody_refers_to_goes_away() -> None:
    queues, kept = EventQueues(), stream()
    queues.open(stream())
    gc.collect()
    queues.put(trade(1))
    queues.open(kept)
    assert [reference() for reference in queues.active] == [kept]
    queues.put(trade(2))
    assert stamps(kept) == [2]
    queues.end()


def test_the_drops_of_a_stream_that_went_away_stay_counted() -> None:
    queues, seen = EventQueues(), stream(capacity=1)
    queues.open(seen)
    for n in range(4):
        queues.put(trade(n))
    assert queues.dropped == 3
    del seen
    gc.collect()
    assert queues.dropped == 3


def test_a_reader_that_must_not_wait_is_told() -> None:
    def forbidden() -> None:
        msg = "called from a callback"
        raise CallbackContextError(msg)

    seen = EventStream(5, None, check=nothing_failed, before_wait=forbidden)
    seen.put(trade(1))
    assert next(seen).timestamp_ns == 1
    with pytest.raises(CallbackContextError):
        next(seen)
