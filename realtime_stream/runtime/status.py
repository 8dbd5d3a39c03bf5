"""Puts the status together from what each part knows."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.ports import Status

if TYPE_CHECKING:
    from realtime_stream.runtime.engine import Engine
    from realtime_stream.runtime.run import Surroundings

__all__ = ["snapshot"]


def snapshot(around: Surroundings, engine: Engine) -> Status:
    """One frozen look at everything. Thread-safe; takes no lock for longer than a copy."""
    run, board = engine.run, around.board
    wanted = around.registry.wanted()
    if run is None:
        return Status(
            lifecycle=board.lifecycle,
            connection=board.connection,
            wanted=wanted,
            breaker=around.breaker.info(),
        )
    run.recorder.note_stability()
    view, counts, guard = run.recorder.view, run.inbox.counts(), run.guard
    now, data_now = around.clock.monotonic(), around.data_clock.utc_now_ns()
    unserved = wanted - view.acknowledged
    refused = {s: why for s, why in view.refused.items() if s in unserved}
    until = now if run.ended_at is None else run.ended_at
    ages = {
        Subscription(channel, symbol): (data_now - event.received_ns) / 1e9
        for channel, symbols in engine.memory.latest.items()
        for symbol, event in symbols.copy().items()
        if {Subscription(channel, symbol), Subscription(channel, ALL_SYMBOLS)} & wanted
    }
    return Status(
        lifecycle=board.lifecycle,
        connection=board.connection,
        attempts=view.attempts,
        sessions=view.sessions,
        consecutive_failures=view.consecutive,
        last_error=view.last_error,
        next_attempt_in=max((view.next_attempt_at or now) - now, 0.0),
        uptime=until - run.started_at,
        connected_for=0.0 if view.connected_since is None else now - view.connected_since,
        wanted=wanted,
        acknowledged=view.acknowledged,
        refused=MappingProxyType(refused),
        ages=MappingProxyType(ages),
        stale=MappingProxyType(run.watch.stale),
        received=counts.received,
        delivered=MappingProxyType({c: n for c, n in run.dispatcher.delivered.items() if n}),
        dropped=MappingProxyType(counts.dropped),
        undelivered=run.dispatcher.undelivered,
        rejected=run.recorder.rejected,
        invalid=run.dispatcher.invalid,
        findings=MappingProxyType(dict(run.path.screen.findings)),
        callback_errors=guard.errors,
        slow_callbacks=MappingProxyType(dict(guard.slow_calls)),
        running_callback=guard.running,
        reports_dropped=counts.notices_dropped + run.dispatcher.reports_dropped,
        queue_dropped=around.queues.dropped,
        in_inbox=counts.waiting + run.dispatcher.in_hand,
        lag=run.lag.info(now, counts.oldest),
        breaker=around.breaker.info(),
        gaps=engine.memory.gaps.reported,
        bars=engine.memory.series.info(),
        backfill=run.path.history.info(),
        latency=MappingProxyType(run.path.latency.info()),
        sinks=MappingProxyType(run.storage.infos()),
        recording=None if around.recorder is None else around.recorder.info(),
        threads=run.threads(),
    )
