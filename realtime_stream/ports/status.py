"""What ``status()`` shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtime_stream.market.channels import Subscription
    from realtime_stream.ports.states import ConnectionState, LifecycleState
    from realtime_stream.resilience.circuit_breaker import BreakerInfo
    from realtime_stream.resilience.failures import Failure

__all__ = [
    "BackfillInfo",
    "BarsInfo",
    "LagInfo",
    "LatencyInfo",
    "RecordingInfo",
    "SinkInfo",
    "Status",
]


@dataclass(frozen=True, slots=True)
class LagInfo:
    """Seconds from receiving a frame to delivering it.

    Attributes:
        last: Of the last frame delivered.
        highest: The highest so far.
        waiting: How long the oldest frame not yet delivered has been waiting.
        alarms: How often the alarm threshold was crossed.
    """

    last: float = 0.0
    highest: float = 0.0
    waiting: float = 0.0
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class LatencyInfo:
    """Seconds from when something happened to when it was dealt with, since the last start.

    For bars counted from the end of the bar's interval, for quotes and trades from the event's own
    time; so the difference between the exchange's clock and ours is in it: see ``skew``.

    Attributes:
        count: How many were measured.
        p50: Half were faster; upper bound of a bucket, at most 10 % above the exact figure.
        p95: 95 of 100 were faster.
        p99: 99 of 100 were faster.
        highest: The slowest.
        skew: The smallest time from event to receipt seen lately. Below 0 our clock is behind the
            exchange's by at least so much; well above 0 with every event alike, ours is ahead.
            ``None`` before any was measured.
        alarms: How often the latency, the skew taken out, rose above the threshold.
    """

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    highest: float = 0.0
    skew: float | None = None
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class SinkInfo:
    """How a sink stands. ``offered = stored + spooled + dead_lettered + queued``.

    Attributes:
        offered: Bars handed over since ``start()``, those of an old spool included.
        stored: Bars the sink has taken.
        queued: Bars waiting in memory.
        spooled: Bars waiting on disk.
        dead_lettered: Bars that can never be stored, written to the dead-letter file.
        retries: Writes that failed and were tried again.
        circuit: The sink's breaker: ``closed``, ``open`` or ``half_open``.
        last_error: What the last failed write said; empty once one has worked.
        latency: From the end of a bar to its storage.
    """

    offered: int = 0
    stored: int = 0
    queued: int = 0
    spooled: int = 0
    dead_lettered: int = 0
    retries: int = 0
    circuit: str = "closed"
    last_error: str = ""
    latency: LatencyInfo = LatencyInfo()


@dataclass(frozen=True, slots=True)
class BackfillInfo:
    """What was filled from history since the last start or restart.

    Attributes:
        pending: Stretches being fetched or waited for.
        filled: Stretches that are complete.
        failed: Stretches that were given up: they stay open gaps.
        bars: Bars delivered.
        trades: Trades delivered.
        late: Bars of them that came after newer live bars.
        held: Live bars that wait for older ones.
        superseded: Live bars that were not delivered because history had brought the same.
    """

    pending: int = 0
    filled: int = 0
    failed: int = 0
    bars: int = 0
    trades: int = 0
    late: int = 0
    held: int = 0
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class BarsInfo:
    """What became of trades and bars that were built into bars here, since the last fresh start.

    Attributes:
        built: Bars emitted.
        updated: Updated bars emitted.
        late: Trades or smaller bars that came after their bar, within what is kept for updates.
        too_late: Those that came later still; they changed nothing.
        corrected: Corrections and cancels applied.
        unmatched: Corrections and cancels of trades that are not known (any more).
    """

    built: int = 0
    updated: int = 0
    late: int = 0
    too_late: int = 0
    corrected: int = 0
    unmatched: int = 0


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """How a recording stands.

    Attributes:
        frames: Frames written since ``start()``.
        dropped: Frames that are missing, because the disk was too slow, full or gone.
        queued: Frames that wait for the disk.
        size: Bytes written.
        file: The file being written.
        last_error: What the last failed write said; empty once one has worked.
    """

    frames: int = 0
    dropped: int = 0
    queued: int = 0
    size: int = 0
    file: str = ""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """One consistent look at the manager.

    Counters are totals since the last ``start()``, but for those that say otherwise. ``received =
    delivered + invalid + dropped + undelivered + in_inbox``, with ``backfill.held`` and
    ``backfill.superseded`` on the right where history is configured; exact whenever no frame
    changes hands at that moment.

    Attributes:
        lifecycle: State of the lifecycle machine.
        connection: State of the connection machine.
        attempts: Connection attempts.
        sessions: Sessions that became connected.
        consecutive_failures: Failed or short-lived sessions in a row.
        last_error: The last failure, if any.
        next_attempt_in: Seconds until the next attempt, while waiting for one.
        uptime: Seconds from ``start()`` until now, or until the run ended.
        connected_for: Seconds the present connection has lasted; 0 when not connected.
        wanted: Subscriptions wanted.
        acknowledged: Subscriptions the server serves.
        refused: Subscriptions the server refused, with code and text.
        ages: Data seconds since the last event was received, per (channel, symbol).
        stale: Seconds of market time without data, per symbol that is silent though connected;
            ``*`` stands for the whole stream.
        received: Events received.
        delivered: Events delivered, per channel.
        dropped: Events dropped by the inbox, per (channel, cause).
        undelivered: Events that were in the inbox when ``stop()`` ran out of time.
        rejected: Messages that could not be understood.
        invalid: Events that validation kept from everybody.
        findings: What validation found, per (rule, symbol), whatever was done about it.
        callback_errors: Calls of callbacks that raised.
        slow_callbacks: Calls that took longer than the threshold, per callback.
        running_callback: Name of the callback that is running now, if any.
        reports_dropped: Reports that listeners did not get: errors beyond a thousand waiting, and
            what was left when ``stop()`` ran out of time.
        queue_dropped: Events dropped by slow ``events()`` iterators.
        in_inbox: Events waiting for delivery, the rest of the frame in delivery included.
        lag: From receive to delivery.
        breaker: The circuit breaker; it counts over the manager's life.
        gaps: How many gaps were reported since the last fresh start; a restart does not reset it.
        bars: What bars were built here.
        backfill: What was filled from history.
        latency: From event to delivery, for ``quotes``, ``trades`` and ``bars``.
        sinks: How each sink stands, by name.
        recording: How the recording stands; ``None`` without one.
        threads: Names of our threads that are alive.
    """

    lifecycle: LifecycleState
    connection: ConnectionState
    attempts: int = 0
    sessions: int = 0
    consecutive_failures: int = 0
    last_error: Failure | None = None
    next_attempt_in: float = 0.0
    uptime: float = 0.0
    connected_for: float = 0.0
    wanted: frozenset[Subscription] = frozenset()
    acknowledged: frozenset[Subscription] = frozenset()
    refused: Mapping[Subscription, str] = field(default_factory=dict)
    ages: Mapping[Subscription, float] = field(default_factory=dict)
    stale: Mapping[str, float] = field(default_factory=dict)
    received: int = 0
    delivered: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    undelivered: int = 0
    rejected: int = 0
    invalid: int = 0
    findings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    callback_errors: int = 0
    slow_callbacks: Mapping[str, int] = field(default_factory=dict)
    running_callback: str | None = None
    reports_dropped: int = 0
    queue_dropped: int = 0
    in_inbox: int = 0
    lag: LagInfo = LagInfo()
    breaker: BreakerInfo | None = None
    gaps: int = 0
    bars: BarsInfo = BarsInfo()
    backfill: BackfillInfo = BackfillInfo()
    latency: Mapping[str, LatencyInfo] = field(default_factory=dict)
    sinks: Mapping[str, SinkInfo] = field(default_factory=dict)
    recording: RecordingInfo | None = None
    threads: tuple[str, ...] = ()
