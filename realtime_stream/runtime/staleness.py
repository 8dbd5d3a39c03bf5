"""Connected but mute: which symbols, or the whole stream, have had no data for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.ports import StaleEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.channels import Subscription
    from realtime_stream.runtime.dispatcher import Latest
    from realtime_stream.runtime.session import SessionView

__all__ = ["StalenessWatch"]

# Channels on which data keep coming while the market is open. The others speak only when
# something happens: silence there means nothing.
_TICKING: Final = ("trades", "quotes", "bars", "daily_bars", "orderbooks")
_NS: Final = 1_000_000_000
_SCANS: Final = 10  # looks at all symbols within one threshold


class StalenessWatch:
    """Compares the age of the data, counted in market time, with two thresholds.

    What is silent is measured from its last event, or from when the session was seen connected if
    that is later. While everything is silent there is one report for the stream, not one for each
    symbol.

    Thread safety: the monitor thread calls :meth:`look`; :attr:`stale` is replaced, never changed,
    and may be read by all.
    """

    def __init__(
        self, calendar: MarketCalendar, *, stream_after: float, symbol_after: float
    ) -> None:
        """Nothing is stale yet.

        Args:
            calendar: Decides which time counts.
            stream_after: Seconds without any data; 0 switches this off.
            symbol_after: Seconds without data for one symbol; 0 switches this off.
        """
        self._calendar = calendar
        self._stream_after = stream_after
        self._symbol_after = symbol_after
        self._session = 0
        self._session_ns = 0
        self._known: frozenset[Subscription] = frozenset()
        self._ticking = False
        self._since: dict[str, int] = {}  # per symbol: when its subscription was first seen
        self._next_scan_ns = 0
        self._looked_ns = 0
        self._silence = (0, 0)  # the last one of the whole stream, from when to when
        self.stale: dict[str, float] = {}

    @property
    def symbols(self) -> int:
        """How many symbols are being watched."""
        return len(self._since)

    def look(
        self, now_ns: int, view: SessionView, last_ns: int, latest: Latest | None
    ) -> list[StaleEvent]:
        """What has become stale since the last look.

        Args:
            now_ns: Now, on the data clock.
            view: The session as the io thread sees it.
            last_ns: When the last data were received; 0 for never.
            latest: The newest events per channel and symbol; ``None`` while events wait for their
                delivery, so that it is out of date.
        """
        if view.connected_since is None:
            self.stale, self._since = {}, {}
            return []
        if now_ns < self._looked_ns - _NS:  # the clock was set back: everything counts from now
            self._session, self._silence = -1, (0, 0)
        self._looked_ns = now_ns
        self._learn(now_ns, view)
        if not self._ticking:
            self.stale = {}
            return []
        stale = dict(self.stale)
        onsets = self._look_at_stream(now_ns, last_ns if last_ns <= now_ns else 0, stale)
        if ALL_SYMBOLS not in stale and latest is not None and self._symbol_after:
            onsets += self._look_at_symbols(now_ns, latest, stale)
        self.stale = stale
        return onsets

    def _learn(self, now_ns: int, view: SessionView) -> None:
        """Take note of a new session, and of what it serves."""
        if view.sessions != self._session:
            self._session, self._session_ns = view.sessions, now_ns
            self._since, self._known, self.stale = {}, frozenset(), {}
            self._silence = (0, 0)
        if view.acknowledged is self._known:
            return
        self._known = view.acknowledged
        ticking = {entry.symbol for entry in self._known if entry.channel in _TICKING}
        self._ticking = bool(ticking)
        ticking.discard(ALL_SYMBOLS)
        self._since = {symbol: self._since.get(symbol, now_ns) for symbol in ticking}
        self.stale = {s: age for s, age in self.stale.items() if s in ticking or s == ALL_SYMBOLS}
        self._next_scan_ns = now_ns

    def _look_at_stream(
        self, now_ns: int, last_ns: int, stale: dict[str, float]
    ) -> list[StaleEvent]:
        if not self._stream_after:
            return []
        age = self._age(max(last_ns, self._session_ns), now_ns, self._stream_after)
        if age is None:
            if stale.pop(ALL_SYMBOLS, None) is not None:
                self._silence = (self._silence[0], now_ns)
            return []
        fresh = ALL_SYMBOLS not in stale
        if fresh:
            self._silence = (last_ns, now_ns)
        stale[ALL_SYMBOLS] = age
        return [StaleEvent(ALL_SYMBOLS, last_ns or None, age)] if fresh else []

    def _look_at_symbols(
        self, now_ns: int, latest: Latest, stale: dict[str, float]
    ) -> list[StaleEvent]:
        full = now_ns >= self._next_scan_ns
        onsets: list[StaleEvent] = []
        candidates: Iterable[str] = self._since if full else [s for s in stale if s in self._since]
        if full:
            self._next_scan_ns = now_ns + int(self._symbol_after * _NS / _SCANS)
        for symbol in candidates:
            last = _last_received(symbol, latest, now_ns)
            age = self._age(self._counted_from(symbol, last, now_ns), now_ns, self._symbol_after)
            if age is None:
                stale.pop(symbol, None)
                continue
            if symbol not in stale:
                onsets.append(StaleEvent(symbol, last, age))
            stale[symbol] = age
        return onsets

    def _counted_from(self, symbol: str, last: int | None, now_ns: int) -> int:
        """From when a symbol's silence counts; the stream's last silence is left out of it.

        When the stream comes back each symbol gets the time it had left to come back too.
        """
        since_ns = max(last or 0, self._since[symbol])
        start_ns, end_ns = self._silence
        if since_ns < end_ns:
            since_ns += end_ns - max(since_ns, start_ns)
        return min(since_ns, now_ns)

    def _age(self, since_ns: int, now_ns: int, threshold: float) -> float | None:
        """Seconds of market time since then, if they are too many."""
        limit = threshold * _NS
        if now_ns - since_ns <= limit:  # market time is never longer than time
            return None
        age = self._calendar.open_ns(since_ns, now_ns)
        return age / _NS if age > limit else None


def _last_received(symbol: str, latest: Latest, now_ns: int) -> int | None:
    """When the last event came; what is stamped later than now is from before a clock was set."""
    found = (latest[channel].get(symbol) for channel in _TICKING)
    stamps = (event.received_ns for event in found if event is not None)
    return max((stamp for stamp in stamps if stamp <= now_ns), default=None)
