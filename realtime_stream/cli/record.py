"""``realtime-stream record``: watch symbols and keep every frame for a replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from realtime_stream.cli.run import RunOptions, watch
from realtime_stream.manager import RealTimeStreamManager

if TYPE_CHECKING:
    from pathlib import Path

    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import Status

__all__ = ["RecordOptions", "run_record"]


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What to record, where, for how long, and whether to print events.

    Attributes:
        config: Endpoint and watchlist.
        out: Folder of the recording; one that is there goes on.
        duration: Seconds; ``None`` until a signal.
        quiet: Print figures only.
    """

    config: StreamConfig
    out: Path
    duration: float | None
    quiet: bool


def run_record(options: RecordOptions) -> int:
    """Record until a signal or the duration ends it.

    Returns:
        The exit code: 0 after a wanted end, 1 when the stream failed for good or never connected,
        or when frames are missing in the recording.

    Raises:
        StreamingError: No connection could be made, or the folder cannot be written to.
    """
    manager = RealTimeStreamManager(options.config, record=options.out)
    code = watch(manager, RunOptions(options.config, options.duration, quiet=options.quiet))
    return _print_recorded(manager.status()) or code


def _print_recorded(status: Status) -> int:
    info = status.recording
    if info is None:
        return 1
    typer.echo(f"recorded: {info.frames} frames, {info.size} bytes in {info.file}")
    if info.dropped:
        why = f": {info.last_error}" if info.last_error else ""
        typer.echo(f"missing in the recording: {info.dropped} frames{why}", err=True)
    return 1 if info.dropped else 0
