"""The exchange's time, as far as it can be told from here."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from realtime_stream.clock import FakeClock, ScaledClock
from realtime_stream.runtime.exchange_clock import ExchangeClock
from realtime_stream.runtime.latency_desk import LatencyDesk
from realtime_stream.runtime.log import EventLog
from tests.unit.test_history_desk import SECOND, START


def clocks(lead: float | None = None) -> tuple[ExchangeClock, FakeClock]:
    """With events that come so many seconds after they happened, by our clock."""
    data_clock = FakeClock(datetime.fromtimestamp(START // SECOND, UTC))
    latency = LatencyDesk(1e6, EventLog("test"), lambda _: None)
    if lead is not None:
        event_ns = START - int(lead * SECOND)
        latency.tick("trades", event_ns, START, START)
    return ExchangeClock(data_clock, latency), data_clock


@pytest.mark.parametrize(("lead", "behind"), [(None, 0), (0.0, 0), (900.0, 900), (-5.0, 0)])
def test_what_comes_late_is_taken_off_and_nothing_is_put_on(
    lead: float | None, behind: int
) -> None:
    exchange, data_clock = clocks(lead)
    assert exchange.utc_now_ns() == data_clock.utc_now_ns() - behind * SECOND
    assert exchange.of(START + 7) == START + 7 - behind * SECOND


def test_the_rest_is_the_data_clocks() -> None:
    exchange, data_clock = clocks(3.0)
    data_clock.advance(5)
    assert exchange.monotonic() == 5
    assert not exchange.wait(threading.Event(), 2.0)
    assert data_clock.waits() == (2.0,)
    latency = LatencyDesk(1.0, EventLog("test"), lambda _: None)
    scaled = ScaledClock(datetime(2026, 1, 1, tzinfo=UTC), 60)
    assert ExchangeClock(scaled, latency).real_seconds(60) == 1
