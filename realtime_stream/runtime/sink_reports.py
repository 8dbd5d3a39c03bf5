"""What a sink's worker says: log records, and errors for the user's listeners."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from realtime_stream.errors import SinkError
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.log import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.log import EventLog

__all__ = ["SinkReports"]


class SinkReports:
    """Reports about one sink, at most one of a kind in an interval.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self,
        sink: str,
        *,
        clock: Clock,
        interval: float,
        tell: Callable[[ErrorEvent], None],
        log: EventLog,
    ) -> None:
        """Nothing is said yet.

        Args:
            sink: Its name.
            clock: Only its monotonic time is used.
            interval: Seconds between two reports of the same kind.
            tell: Takes errors for the user's listeners; never blocks.
            log: Where records go.
        """
        self._sink = sink
        self._lock = threading.Lock()  # guards _throttle
        self._throttle = Throttle(clock, interval)
        self._tell = tell
        self._log = log

    def failed(self, error: SinkError, failures: int, pause: float) -> None:
        """A write failed, the ``failures``-th in a row; the next try is ``pause`` seconds away."""
        first = failures == 1
        suppressed = self._turn("failed")
        if suppressed is None and not first:
            return
        self._write(
            logging.WARNING,
            "realtime_sink_failed",
            error=type(error.__cause__ or error).__name__,
            failures=failures,
            retry_in=round(pause, 3),
            suppressed=suppressed or 0,
        )
        if first:
            self._say(error)

    def recovered(self, failures: int) -> None:
        """A write worked after so many that had failed."""
        self._write(logging.INFO, "realtime_sink_recovered", failures=failures)

    def spooled(self, bars: int) -> None:
        """Bars were moved from memory to disk."""
        self._rarely(logging.WARNING, "realtime_bars_spooled", bars=bars)

    def found(self, bars: int, unreadable: int) -> None:
        """An earlier run has left bars on disk, and bytes there that are none."""
        if bars:
            self._write(logging.INFO, "realtime_spool_found", bars=bars)
        if unreadable:
            self._write(logging.WARNING, "realtime_spool_damaged", bytes=unreadable)

    def disk_failed(self, error: OSError) -> None:
        """The spool or the dead-letter file cannot be read or written."""
        kind = type(error).__name__
        self._rarely(logging.ERROR, "realtime_spool_failed", error=kind, errno=error.errno)

    def inserted(self, bars: Iterable[Bar]) -> None:
        """Bars are stored: a record for each, at DEBUG only."""
        if not self._log.is_debug():
            return
        for bar in bars:
            self._write(
                logging.DEBUG,
                "realtime_bar_inserted",
                symbol=bar.symbol,
                timeframe=bar.timeframe,
                timestamp_ns=bar.timestamp_ns,
            )

    def late(self) -> None:
        """Bars are stored long after their end."""
        self._write(logging.WARNING, "realtime_latency_high", channel="stored")
        self._say(SinkError("bars are stored late"))

    def dead_lettered(self, count: int, reason: str, *, written: bool) -> None:
        """Bars are given up; ``written`` says whether the file has them."""
        if self._log.is_debug():  # what a sink says may name a symbol
            self._write(logging.DEBUG, "realtime_bar_refused", reason=reason)
        kind = "realtime_bar_dead_lettered"
        if self._rarely(logging.ERROR, kind, bars=count, written=written):
            self._say(SinkError(f"{count} bars could not be stored: {reason}"))

    def letters_lost(self, bars: int) -> None:
        """So many of the bars given up are not in the file at the end."""
        self._write(logging.ERROR, "realtime_dead_letters_lost", bars=bars)

    def died(self) -> None:
        """The worker's thread ends by what must not be survived; everything left goes to disk."""
        self._write(logging.CRITICAL, "realtime_sink_died")
        self._say(SinkError("the sink has ended its own thread; nothing is stored any more"))

    def _turn(self, kind: str) -> int | None:
        with self._lock:
            return self._throttle.turn(kind)

    def _rarely(self, level: int, event: str, **fields: object) -> bool:
        suppressed = self._turn(event)
        if suppressed is None:
            return False
        self._write(level, event, suppressed=suppressed, **fields)
        return True

    def _write(self, level: int, event: str, **fields: object) -> None:
        self._log.write(level, event, None, sink=self._sink, **fields)

    def _say(self, error: SinkError) -> None:
        self._tell(ErrorEvent(error, f"sink:{self._sink}"))
