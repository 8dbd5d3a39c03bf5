"""Past bars, piece by piece: asked for again where that may help, checked, and stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from realtime_stream.clock import datetime_from_ns
from realtime_stream.errors import HistoryError, HistoryRefusedError, HistoryUnavailableError
from realtime_stream.market.timeframe import Intervals
from realtime_stream.market.validation import Validator
from realtime_stream.ports import HistoryRequest
from realtime_stream.resilience.failures import harmless
from realtime_stream.runtime.sink_writing import write_batch

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials, StreamConfig
    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.models import Bar
    from realtime_stream.market.timeframe import TimeframeSpec
    from realtime_stream.ports import HistoryProvider, Sink

__all__ = ["PieceFetcher", "Tally", "WholeBars"]

_TRIES: Final = 3  # of a piece; within each, the provider tries several times by itself
_PAUSE: Final = 5.0  # seconds between them
_LONGEST_NS: Final = 25 * 3600 * 10**9  # a day in autumn


@dataclass
class Tally:
    """What became of the bars.

    Attributes:
        stored: How many are in the database.
        refused: How many cannot be true, or the database will never take.
        first: The first of those, and why.
    """

    stored: int = 0
    refused: int = 0
    first: str = ""


class WholeBars:
    """Tells the bars whose interval is over from the one that still grows. Not thread-safe."""

    def __init__(self, spec: TimeframeSpec, calendar: MarketCalendar, *, until_ns: int) -> None:
        """Args: ``until_ns`` is the moment up to which history has everything.

        Raises:
            ConfigurationError: The timeframe has no intervals.
        """
        self.spec = spec
        self._intervals = Intervals(spec, calendar)
        self.until_ns = until_ns

    def cut(self, end_ns: int) -> int:
        """The end of what may be asked for, at most ``end_ns``."""
        if end_ns <= self.until_ns - _LONGEST_NS:
            return end_ns
        start_ns, interval_end_ns = self._intervals.of(min(end_ns - 1, self.until_ns))
        return end_ns if interval_end_ns <= self.until_ns else start_ns

    def is_over(self, bar: Bar) -> bool:
        """Whether the bar's interval is over: intervals of hours may be counted otherwise."""
        return bar.timestamp_ns + (self.spec.ns or 0) <= self.until_ns


class PieceFetcher:
    """Fetches one piece after the other and stores it.

    Thread safety: none; another thread may set ``interrupted`` and close the history.

    Attributes:
        spec: Timeframe of the bars.
        tally: What became of the bars; of a piece that was asked for several times, of those that
            the last answer had.
    """

    def __init__(
        self,
        history: HistoryProvider,
        sink: Sink,
        *,
        config: StreamConfig,
        credentials: Credentials,
        whole: WholeBars,
        clock: Clock,
        interrupted: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is fetched yet.

        Args:
            history: Where bars come from.
            sink: Where they go.
            config: Watchlist, market, and what is done about bars that cannot be true.
            credentials: For the history.
            whole: Which bars are over.
            clock: For waits, and says what time it is.
            interrupted: Set when it has to end.
            say: Told what the user should know.
        """
        self.spec = whole.spec
        self.tally = Tally()
        self._history = history
        self._sink = sink
        self._config = config
        self._credentials = credentials
        self._whole = whole
        self._clock = clock
        self._interrupted = interrupted
        self._say = say

    def fetch(self, start_ns: int, end_ns: int, progress: Callable[[], None]) -> None:
        """Fetch and store the bars of a stretch of time; returns early when interrupted.

        What history does not have yet is left out, and said.

        Args:
            start_ns: First moment.
            end_ns: The moment after the last.
            progress: Called when a part is stored.

        Raises:
            HistoryError: It cannot be fetched.
            SinkError: It cannot be stored.
        """
        before, failed = self.tally, 0
        while not self._interrupted.is_set():
            end_ns = self._whole.cut(end_ns)
            if end_ns <= start_ns:
                return
            self.tally = replace(before)
            try:
                self._fetch_once(start_ns, end_ns, progress)
            except HistoryRefusedError:
                raise
            except HistoryError as exc:
                if self._interrupted.is_set():
                    return
                failed += 1
                if failed == _TRIES:
                    raise
                self._prepare_another_try(exc, end_ns)
            else:
                return

    def _prepare_another_try(self, exc: HistoryError, end_ns: int) -> None:
        if isinstance(exc, HistoryUnavailableError):
            delay_ns = exc.available_ns - end_ns
            self._whole.until_ns = min(self._clock.utc_now_ns() - delay_ns, end_ns - 1)
            until = datetime_from_ns(self._whole.cut(end_ns))
            self._say(
                f"only until {until:%Y-%m-%d %H:%M} UTC: later bars are not there yet ({exc})"
            )
        else:
            self._say(f"trying again in {_PAUSE:.0f} s: {exc}")
            self._clock.wait(self._interrupted, _PAUSE)

    def _fetch_once(self, start_ns: int, end_ns: int, progress: Callable[[], None]) -> None:
        symbols = self._config.watchlist
        request = HistoryRequest("bars", symbols, start_ns, end_ns, self.spec.text)
        validator = Validator(self._config.validation, self._config.market)
        for page in self._history.fetch(request, self._credentials):
            if self._interrupted.is_set():
                return
            self._store(page.bars, validator)
            progress()

    def _store(self, bars: Sequence[Bar], validator: Validator) -> None:
        good = []
        for bar in filter(self._whole.is_over, bars):
            verdict = validator.check(bar)
            if verdict is not None and verdict.rejected:
                self._refuse(bar, verdict.message)
            else:
                good.append(bar)
        answer = write_batch(self._sink, good)
        if answer.error is not None:
            raise answer.error
        for reason, refused in answer.refused.items():
            for bar in refused:
                self._refuse(bar, reason)
        self.tally.stored += len(answer.stored)

    def _refuse(self, bar: Bar, reason: str) -> None:
        self.tally.refused += 1
        if not self.tally.first:
            self.tally.first = harmless(f"{bar.symbol} {bar.timestamp:%Y-%m-%d %H:%M}: {reason}")
