"""How much a sink's worker writes at once, keeps in memory and keeps on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.resilience.circuit_breaker import BreakerPolicy

__all__ = ["SinkLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkLimits:
    """Settings of a sink's worker.

    Attributes:
        batch_size: Bars written at once, at most.
        batch_delay: Seconds the first waiting bar waits for others.
        capacity: Bars kept in memory, at most.
        spool_above: Bars in memory above which, while the sink is down, the oldest are moved to
            disk; and above which new bars go before spooled ones.
        spool_bytes: Size on disk, at most; what comes beyond it is dead-lettered.
        segment_bytes: Size of one file of the spool.
        retry: Waits between failed writes. Its ``max_attempts`` does not count: a sink is never
            given up.
        breaker: When failed writes make the worker pause for longer.
        report_interval: Seconds between two reports of the same kind.
    """

    batch_size: int = 500
    batch_delay: float = 0.2
    capacity: int = 50_000
    spool_above: int = 10_000
    spool_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    retry: ReconnectPolicy = field(default_factory=lambda: ReconnectPolicy(maximum=30.0))
    breaker: BreakerPolicy = field(default_factory=lambda: BreakerPolicy(reset_timeout=30.0))
    report_interval: float = 60.0
