"""Playing a source: pace, frames, the wait for a client, cancelling, and failures."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator, SyntheticSession
from tests.unit.simulator.client import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.simulator.conftest import Connect

SECOND = 1_000_000_000
Event = tuple[int, dict[str, Any]]


def trades(*seconds: float) -> list[Event]:
    return [
        (int(second * SECOND), {"T": "t", "S": "AAPL", "i": number})
        for number, second in enumerate(seconds)
    ]


def test_everything_is_published_in_order(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    client.subscribe(trades=["AAPL"])
    handle = simulator.play(trades(*range(100)), speed=math.inf)
    assert handle.wait(TIMEOUT)
    assert (handle.finished, handle.published) == (True, 100)
    seen = [message["i"] for _ in range(10) for message in client.receive()]
    assert seen == list(range(100))
    handle.cancel()


def test_what_is_due_together_shares_frames(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    client.subscribe(trades=["AAPL"])
    source = trades(0, 0, 0, 1, 1)
    assert simulator.play(source, speed=20, messages_per_frame=2).wait(TIMEOUT)
    assert [len(client.receive()) for _ in range(3)] == [2, 1, 2]


def test_the_pace_follows_the_times_of_the_source(simulator: AlpacaSimulator) -> None:
    began = time.monotonic()
    assert simulator.play(trades(1_000_000, 1_000_003), speed=10).wait(TIMEOUT)
    assert 0.3 <= time.monotonic() - began < 5


def test_it_begins_with_the_first_subscription(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    changes: list[str] = []
    other, client = connect("crypto").login(), connect(feed="sip").login()
    handle = simulator.play(
        trades(0, 1),
        speed=math.inf,
        feed="sip",
        wait_for_subscription=True,
        on_change=changes.append,
    )
    other.subscribe(trades=["BTC/USD"])
    client.subscribe()
    assert changes == []
    client.subscribe(trades=["AAPL"])
    assert [message["i"] for message in client.receive()] == [0, 1]
    assert handle.wait(TIMEOUT)
    assert changes == ["started", "finished"]


def test_cancelled_it_publishes_nothing_more(simulator: AlpacaSimulator) -> None:
    handle = simulator.play(trades(0, 3600))
    assert simulator.wait_for(lambda s: s.attempts == 0)
    assert not handle.wait(0)
    handle.cancel()
    assert handle.wait(TIMEOUT)
    assert handle.published <= 1


def test_stopping_the_simulator_ends_it(connect: Connect) -> None:
    with AlpacaSimulator() as simulator:
        handle = simulator.play(trades(0, 3600), wait_for_subscription=True)
    assert handle.wait(TIMEOUT)
    assert handle.published == 0


def test_a_source_that_fails_is_told(simulator: AlpacaSimulator) -> None:
    def broken() -> Iterator[Event]:
        yield trades(0)[0]
        msg = "the file ends here"
        raise OSError(msg)

    handle = simulator.play(broken(), speed=math.inf)
    with pytest.raises(OSError, match="ends here"):
        handle.wait(TIMEOUT)
    handle = simulator.play([(0, {"T": "o", "S": "AAPL"})])
    with pytest.raises(ValueError, match="no data messages"):
        handle.wait(TIMEOUT)


@pytest.mark.parametrize(
    "settings",
    [{"speed": 0}, {"speed": math.nan}, {"messages_per_frame": 0}, {"market": "x"}, {"feed": "x"}],
)
def test_bad_figures_are_refused(simulator: AlpacaSimulator, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be positive|unknown market|has no feed"):
        simulator.play([], **settings)


def test_without_a_limit_it_waits_for_slow_clients(connect: Connect) -> None:
    """64 MB go through a client that takes them late, and none of it is dropped."""
    with AlpacaSimulator(buffer_limit=4 << 20) as simulator:
        client = connect(to=simulator, compression=None, max_size=None, max_queue=1).login()
        client.subscribe(trades=["AAPL"])
        padding = "x" * 100_000
        source = ((0, {"T": "t", "S": "AAPL", "i": n, "x": padding}) for n in range(640))
        handle = simulator.play(source, speed=math.inf, messages_per_frame=20)
        assert not handle.wait(0.2)
        taken = 0
        while taken < 640:
            taken += len(client.receive())
        assert handle.wait(TIMEOUT)
        assert len(simulator.ledger) == 640
        assert all(entry.sessions == 1 for entry in simulator.ledger)


def test_an_empty_source_ends_at_once(simulator: AlpacaSimulator) -> None:
    handle = simulator.play([])
    assert handle.wait(TIMEOUT)
    assert handle.published == 0


def test_requests_are_answered_while_it_plays(simulator: AlpacaSimulator, connect: Connect) -> None:
    more = threading.Event()
    more.set()

    def endless() -> Iterator[Event]:
        number = 0
        while more.is_set():
            yield 0, {"T": "t", "S": "AAPL", "i": (number := number + 1)}

    handle = simulator.play(endless(), speed=math.inf)
    client = connect().login()
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    more.clear()
    assert handle.wait(TIMEOUT)


def test_a_made_up_session_plays(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect("crypto", codec="msgpack").login()
    channels = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
    client.subscribe(**{channel: ["*"] for channel in channels})
    session = SyntheticSession(
        1, ["BTC/USD"], start=datetime(2026, 3, 6, tzinfo=UTC), minutes=30, market="crypto"
    )
    expected = [message for _, message in session]
    handle = simulator.play(session, speed=math.inf, market="crypto")
    received: list[dict[str, Any]] = []
    while len(received) < len(expected):
        received += client.receive()
    assert handle.wait(TIMEOUT)
    for message in received:
        message["t"] = message["t"].to_unix_nano()
    assert received == expected
    assert set(simulator.ledger.by_channel()) == set(channels)
