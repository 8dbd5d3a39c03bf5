"""What the tests of sinks share: bars, a sink that does what it is told, and a listener."""

from __future__ import annotations

import random
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.market.models import Bar
from realtime_stream.ports import ErrorEvent, LatencyInfo, SinkInfo
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.resilience.circuit_breaker import BreakerPolicy
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.sink_delivery import SinkDelivery
from realtime_stream.runtime.sink_reports import SinkReports
from realtime_stream.runtime.sink_settings import SinkLimits
from tests.support import START_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MINUTE_NS = 60_000_000_000


def bar(n: int = 0, **fields: Any) -> Bar:
    """A bar of its own minute."""
    values: dict[str, Any] = {
        "symbol": "AAPL",
        "timestamp_ns": START_NS + n * MINUTE_NS,
        "open": Decimal("133.850"),
        "high": Decimal("134"),
        "low": Decimal("1E-8"),
        "close": Decimal("133.9"),
        "volume": Decimal("1000.000000001"),
        "vwap": Decimal("133.87"),
        "trade_count": n,
        **fields,
    }
    return Bar(**values)


def bar_end_ns(bar: Bar) -> int:
    return bar.timestamp_ns + MINUTE_NS


class MemorySink:
    """Keeps what it is given, and does first what the test has put into ``behave``.

    ``behave`` is called with each batch, on the thread that writes; it may raise, wait for an
    event, or do what another thread would do meanwhile.
    """

    name = "memory"

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batches: list[tuple[Bar, ...]] = []
        self.behave: Callable[[Sequence[Bar]], None] | None = None
        self.calls = 0
        self.closed = 0

    def write(self, bars: Sequence[Bar]) -> None:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
        if self.behave is not None:
            self.behave(bars)
        with self._changed:
            self._batches.append(tuple(bars))
            self._changed.notify_all()

    def close(self) -> None:
        self.closed += 1

    @property
    def batches(self) -> list[tuple[Bar, ...]]:
        with self._changed:
            return list(self._batches)

    @property
    def bars(self) -> list[Bar]:
        return [bar for batch in self.batches for bar in batch]

    def fails_with(self, *errors: Exception | None) -> None:
        """Raise these in turn, ``None`` for a write that works; then work."""
        left = list(errors)

        def behave(_: Sequence[Bar]) -> None:
            error = left.pop(0) if left else None
            if error is not None:
                raise error

        self.behave = behave

    def wait_for_calls(self, count: int, timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= count, timeout), self.calls

    def wait_for_bars(self, count: int, timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: sum(map(len, self._batches)) >= count, timeout), (
                self._batches
            )


class Latencies:
    """Keeps what it is told."""

    def __init__(self, alarm: str | None = None) -> None:
        self.noted: list[tuple[int, int]] = []
        self.alarm = alarm

    def note(self, event_ns: int, now_ns: int, weight: int = 1) -> str | None:
        assert weight == 1
        self.noted.append((event_ns, now_ns))
        return self.alarm

    def info(self) -> LatencyInfo:
        return LatencyInfo(count=len(self.noted))


def limits(**values: Any) -> SinkLimits:
    """Small sizes, and waits without jitter."""
    return SinkLimits(**{
        "batch_size": 3,
        "batch_delay": 0.2,
        "capacity": 20,
        "spool_above": 6,
        "retry": ReconnectPolicy(initial=1, maximum=8, jitter=False),
        "breaker": BreakerPolicy(failure_threshold=3, reset_timeout=30),
        **values,
    })


class Workbench:
    """A delivery without its thread, which the test steps by hand, in a time that stands still."""

    def __init__(self, folder: Path, sink: MemorySink | None = None, **values: Any) -> None:
        self.folder = folder
        self.sink = sink or MemorySink()
        self.clock = FakeClock()
        self.data_clock = FakeClock()
        self.latency = Latencies()
        self.told: list[ErrorEvent] = []
        settings = limits(**values)
        self.delivery = SinkDelivery(
            self.sink,
            folder=folder,
            limits=settings,
            latency=self.latency,
            bar_end_ns=bar_end_ns,
            clock=self.clock,
            data_clock=self.data_clock,
            rng=random.Random(7),  # noqa: S311  # waits, no secrets
            reports=SinkReports(
                self.sink.name,
                clock=self.clock,
                interval=settings.report_interval,
                tell=self.told.append,
                log=EventLog("test"),
            ),
        )

    def offer(self, *numbers: int) -> None:
        for number in numbers:
            self.delivery.offer(bar(number))

    def turns(self) -> float | None:
        """Turn until there is nothing to do now; how long there is not."""
        for _ in range(1000):
            pause = self.delivery.turn()
            if pause != 0:
                return pause
        pytest.fail("it never comes to an end")

    def settle(self, limit: int = 100) -> None:
        """Let time pass until there is nothing to do at all."""
        for _ in range(limit):
            pause = self.turns()
            if pause is None:
                return
            self.clock.advance(pause)
        pytest.fail("it never comes to rest")

    def info(self) -> SinkInfo:
        """The accounts, which add up."""
        info = self.delivery.info()
        assert info.offered == info.stored + info.queued + info.spooled + info.dead_lettered
        assert min(info.stored, info.queued, info.spooled, info.dead_lettered) >= 0
        return info
