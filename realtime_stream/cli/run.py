"""``realtime-stream run``: watch symbols until told to stop, then say how it went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from realtime_stream.cli.store import open_sql_sink
from realtime_stream.clock import SystemClock
from realtime_stream.errors import ConfigurationError, StreamFailedError
from realtime_stream.manager import RealTimeStreamManager
from realtime_stream.market.models import Bar, MarketEvent, News, Quote, Trade
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

if TYPE_CHECKING:
    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import BackfillEvent, ErrorEvent, Gap, Status

__all__ = ["RunOptions", "describe", "run_watch", "watch"]

_LOOK = 0.25  # seconds between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to watch, and what to do with it.

    Attributes:
        config: Endpoint and watchlist.
        duration: Seconds; ``None`` until a signal.
        quiet: Print figures only.
        timeframes: Of bars that are built besides those of the feed.
        store: Where bars are stored, the URL of a database; ``None`` for nowhere.
    """

    config: StreamConfig
    duration: float | None
    quiet: bool
    timeframes: tuple[str, ...] = ()
    store: str | None = None


def describe(event: MarketEvent) -> str:
    """One line about an event."""
    head = f"{event.timestamp:%H:%M:%S.%f} {event.channel:12} {event.symbol:10}"
    if isinstance(event, Bar):
        figures = f"o={event.open} h={event.high} l={event.low} c={event.close} v={event.volume}"
        marks = "" if event.source == "stream" else f" {event.source}"
        return f"{head} {event.timeframe:4} {figures}{marks}"
    if isinstance(event, Quote):
        return (
            f"{head} bid={event.bid_price}x{event.bid_size} ask={event.ask_price}x{event.ask_size}"
        )
    if isinstance(event, Trade):
        return f"{head} price={event.price} size={event.size}"
    if isinstance(event, News):
        return f"{head} {ascii(event.headline)[1:-1]}"
    return head


def run_watch(options: RunOptions) -> int:
    """Watch until a signal or the duration ends it.

    Returns:
        The exit code: 0 after a wanted end, 1 when the stream failed for good or never connected.

    Raises:
        StreamingError: No connection could be made.
    """
    sinks = [] if options.store is None else [open_sql_sink(options.store)]
    try:
        manager = RealTimeStreamManager(options.config, sinks=sinks)
        for timeframe in options.timeframes:
            manager.on_bar(_nothing, timeframe=timeframe)
        return watch(manager, options)
    finally:
        for sink in sinks:
            sink.close()


def _nothing(_: Bar) -> None:
    """What is built is shown, and stored, without a callback's help."""


def watch(manager: RealTimeStreamManager, options: RunOptions) -> int:
    """Start a manager and watch until a signal or the duration ends it; then stop it.

    Returns:
        As :func:`run_watch`.

    Raises:
        StreamingError: No connection could be made.
    """
    if not manager.subscriptions():
        msg = "symbols: give some with --symbols, --watchlist-file or WATCHLIST_SYMBOLS"
        raise ConfigurationError(msg)
    manager.on_error(_print_error)
    manager.on_gap(_print_gap)
    manager.on_backfill(_print_backfill)
    with shutdown_on_signals() as request:
        code = 0
        manager.start(timeout=0)
        try:
            _watch(manager, options, request)
        except StreamFailedError as exc:
            typer.echo(f"error: {exc}", err=True)
            code = 1
        finally:
            manager.stop()
    status = manager.status()
    _print_figures(status)
    return code if status.sessions else 1


def _watch(manager: RealTimeStreamManager, options: RunOptions, request: ShutdownRequest) -> None:
    clock = SystemClock()
    end = math.inf if options.duration is None else clock.monotonic() + options.duration
    events = manager.events(timeout=_LOOK)
    while not request.is_requested() and clock.monotonic() < end:
        event = next(events, None)  # raises when the stream has failed
        if event is not None and not options.quiet:
            typer.echo(describe(event))


def _print_error(event: ErrorEvent) -> None:
    typer.echo(f"{event.source}: {event.error}", err=True)


def _print_gap(gap: Gap) -> None:
    typer.echo(f"gap: {gap.cause}, {gap.start:%H:%M:%S} to {gap.end:%H:%M:%S} UTC", err=True)


def _print_backfill(event: BackfillEvent) -> None:
    what = f"{event.delivered} {event.channel} of {event.symbol}"
    typer.echo(f"backfill: {what}{'' if event.complete else f': open, {event.reason}'}", err=True)


def _print_figures(status: Status) -> None:
    delivered = ", ".join(f"{n} {channel}" for channel, n in sorted(status.delivered.items()))
    typer.echo(f"bars received: {status.delivered.get('bars', 0)}")
    typer.echo(f"delivered: {delivered or 'nothing'}")
    typer.echo(f"sessions: {status.sessions}, gaps: {status.gaps}, rejected: {status.rejected}")
    if status.invalid:
        typer.echo(f"invalid: {status.invalid}")
    for name, info in status.sinks.items():
        waiting = info.queued + info.spooled
        typer.echo(f"{name}: {info.stored} stored, {waiting} waiting, {info.dead_lettered} refused")
        if info.offered and not info.stored:
            why = info.last_error or "the sink refused all"
            typer.echo(f"{name}: NOTHING of {info.offered} bars was stored: {why}", err=True)
    typer.echo(f"uptime: {status.uptime:.1f} s")
