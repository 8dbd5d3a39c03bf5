"""``realtime-stream replay``: play a recording through a manager, and log what it delivers."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from realtime_stream.cli.event_log import EventLog, register
from realtime_stream.cli.run import describe
from realtime_stream.clock import SystemClock
from realtime_stream.errors import ConfigurationError, StreamFailedError
from realtime_stream.manager import RealTimeStreamManager
from realtime_stream.market.models import MarketEvent
from realtime_stream.ports import Gap
from realtime_stream.providers.replay import Replay
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from realtime_stream.ports import Status

__all__ = ["ReplayOptions", "parse_speed", "run_replay"]

_LOOK = 0.05  # seconds between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to play, how fast, and what to do with it.

    Attributes:
        recording: Folder, or one segment.
        speed: Recorded seconds per second; infinity plays as fast as possible.
        log: Where the event log goes; ``None`` prints events instead.
        timeframes: Of bars that are built besides those that were recorded.
        quiet: Print figures only.
    """

    recording: Path
    speed: float = math.inf
    log: Path | None = None
    timeframes: tuple[str, ...] = ()
    quiet: bool = False


def parse_speed(text: str) -> float:
    """A speed as the command line has it: a number above 0, or ``max``.

    Raises:
        ValueError: It is neither.
    """
    if text == "max":
        return math.inf
    speed = float(text)
    if not speed > 0:
        msg = f"must be above 0 or max, not {text}"
        raise ValueError(msg)
    return speed


def run_replay(options: ReplayOptions) -> int:
    """Play a recording to its end, or until a signal.

    Returns:
        The exit code: 0 after a whole replay (of a recording in which nothing was subscribed to,
        too), 1 when the recorded stream failed for good, when the recording cannot be read to its
        end, or when the log could not be written, 130 when interrupted.

    Raises:
        StreamingError: It is no recording, or the log cannot be written.
    """
    replay = Replay(options.recording, speed=options.speed)
    manager = RealTimeStreamManager(
        replay.config(name="replay"), provider=replay.provider, data_clock=replay.clock
    )
    began = SystemClock().monotonic()
    with shutdown_on_signals() as request, _output(options) as write:
        subscriptions = replay.recording.subscriptions()
        if not subscriptions:  # a manager that wants nothing would never connect
            typer.echo("nothing was subscribed to in this recording", err=True)
            return 0
        register(manager, write, subscriptions, options.timeframes)
        code = 0
        manager.start(timeout=0)
        try:
            _play(manager, replay, request)
        except StreamFailedError as exc:
            typer.echo(f"error: {exc}", err=True)
            code = 1
        finally:
            manager.stop()
    seconds = SystemClock().monotonic() - began
    _print_figures(replay, manager.status(), seconds)
    if not replay.finished.is_set() and code == 0:
        return 130
    return code or int(manager.status().callback_errors > 0)


@contextlib.contextmanager
def _output(options: ReplayOptions) -> Iterator[Callable[[object], None]]:
    """What is called with everything that is delivered."""
    if options.log is None:
        yield _silent if options.quiet else _print_event
        return
    try:
        with options.log.open("wb") as file:
            yield EventLog(file).write
    except OSError as exc:
        msg = f"the event log cannot be written: {exc}"
        raise ConfigurationError(msg) from exc


def _silent(_: object) -> None:
    """For --quiet: the figures count."""


def _print_event(event: object) -> None:
    if isinstance(event, MarketEvent):
        typer.echo(describe(event))
    elif isinstance(event, Gap):
        typer.echo(f"gap: {event.cause}, {event.start:%H:%M:%S} to {event.end:%H:%M:%S} UTC")


def _play(manager: RealTimeStreamManager, replay: Replay, request: ShutdownRequest) -> None:
    while not request.is_requested() and not replay.finished.wait(_LOOK):
        manager.wait_until_stopped(0)  # raises when what was recorded ended for good
    manager.wait_until_stopped(0)  # it may have done so a moment ago


def _print_figures(replay: Replay, status: Status, seconds: float) -> None:
    info = replay.info
    delivered = ", ".join(f"{n} {channel}" for channel, n in sorted(status.delivered.items()) if n)
    typer.echo(f"replayed: {info.frames} frames of {info.sessions} sessions in {seconds:.1f} s")
    typer.echo(f"delivered: {delivered or 'nothing'}")
    typer.echo(f"gaps: {status.gaps}, rejected: {status.rejected}")
    if info.lost or info.torn:
        typer.echo(f"missing: {info.lost} frames, torn segments: {info.torn}", err=True)
