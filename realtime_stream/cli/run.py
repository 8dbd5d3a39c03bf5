"""``realtime-stream run``: watch symbols until told to stop, then say how it went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from realtime_stream.clock import SystemClock
from realtime_stream.errors import ConfigurationError, StreamFailedError
from realtime_stream.manager import RealTimeStreamManager
from realtime_stream.market.models import Bar, MarketEvent, News, Quote, Trade
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

if TYPE_CHECKING:
    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import ErrorEvent, Gap, Status

__all__ = ["RunOptions", "describe", "run_watch"]

_LOOK = 0.25  # seconds between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to watch, for how long, and whether to print events."""

    config: StreamConfig
    duration: float | None
    quiet: bool


def describe(event: MarketEvent) -> str:
    """One line about an event."""
    head = f"{event.timestamp:%H:%M:%S.%f} {event.channel:12} {event.symbol:10}"
    if isinstance(event, Bar):
        return (
            f"{head} o={event.open} h={event.high} l={event.low} c={event.close} v={event.volume}"
        )
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
    manager = RealTimeStreamManager(options.config)
    if not manager.subscriptions():
        msg = "symbols: give some with --symbols, --watchlist-file or WATCHLIST_SYMBOLS"
        raise ConfigurationError(msg)
    manager.on_error(_print_error)
    manager.on_gap(_print_gap)
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


def _print_figures(status: Status) -> None:
    delivered = ", ".join(f"{n} {channel}" for channel, n in sorted(status.delivered.items()))
    typer.echo(f"bars received: {status.delivered.get('bars', 0)}")
    typer.echo(f"delivered: {delivered or 'nothing'}")
    typer.echo(f"sessions: {status.sessions}, gaps: {status.gaps}, rejected: {status.rejected}")
    typer.echo(f"uptime: {status.uptime:.1f} s")
