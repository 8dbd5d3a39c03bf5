"""Which stretches of time may have been missed, per (channel, symbol)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.ports import Gap, GapEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from realtime_stream.market.models import MarketEvent

__all__ = ["GapTracker"]

_KEPT: Final = 1000  # reports kept for gaps()


@dataclass(slots=True, eq=False)
class _Hole:
    key: Subscription
    last: int | None
    first: int | None = None
    lost: int | None = None

    def entry(self) -> GapEntry:
        return GapEntry(self.key.channel, self.key.symbol, self.last, self.first, self.lost)


@dataclass(slots=True, eq=False)
class _Report:
    cause: str
    start_ns: int
    end_ns: int
    holes: list[_Hole]

    def gap(self) -> Gap:
        entries = tuple(hole.entry() for hole in self.holes)
        return Gap(self.cause, self.start_ns, self.end_ns, entries)


class GapTracker:
    """Opens a hole for every key when a session ends; the key's next event closes it.

    Holes are reported together once the connection is whole again. A report's holes go on being
    filled: :meth:`gaps` shows what is known by now.

    Thread safety: the dispatch thread calls everything but :meth:`gaps` and :attr:`reported`.
    """

    def __init__(self) -> None:
        """Nothing missed yet."""
        self._lock = threading.Lock()  # guards _reports against a reader of gaps()
        self._reports: deque[_Report] = deque(maxlen=_KEPT)
        self._unreported: list[_Hole] = []
        self._start_ns: int | None = None
        self.open: dict[Subscription, _Hole] = {}
        self.reported = 0

    def session_ended(
        self,
        at_ns: int,
        latest: dict[str, dict[str, MarketEvent]],
        acknowledged: Iterable[Subscription],
    ) -> None:
        """Open a hole for every key that was received or acknowledged."""
        keys = dict.fromkeys(acknowledged)
        for channel, symbols in latest.items():
            keys.update(dict.fromkeys(Subscription(channel, symbol) for symbol in symbols))
        for key in keys:
            if key.symbol == ALL_SYMBOLS:
                continue
            hole = self.open.get(key)
            if hole is None:
                last = latest.get(key.channel, {}).get(key.symbol)
                hole = self.open[key] = _Hole(key, None if last is None else last.timestamp_ns)
            # A hole that no event has closed since an earlier outage is part of this one too.
            if hole not in self._unreported:
                self._unreported.append(hole)
        if self._start_ns is None and self._unreported:
            self._start_ns = at_ns

    def first_after(self, event: MarketEvent) -> None:
        """An event came while holes are open; it may close one."""
        hole = self.open.pop(Subscription(event.channel, event.symbol), None)
        if hole is not None:
            hole.first = event.timestamp_ns

    def connection_whole(self, at_ns: int, acknowledged: frozenset[Subscription]) -> Gap | None:
        """Report what was missed, of the keys that are served again."""

        def is_served(key: Subscription) -> bool:
            return key in acknowledged or Subscription(key.channel, ALL_SYMBOLS) in acknowledged

        served = [h for h in self._unreported if is_served(h.key) or h.first is not None]
        start_ns = self._start_ns
        self._unreported = []
        self._start_ns = None
        self.open = {key: hole for key, hole in self.open.items() if is_served(key)}
        if not served or start_ns is None:
            return None
        return self._report(_Report("reconnect", start_ns, at_ns, served))

    def bars_dropped(self, at_ns: int, bars: Sequence[MarketEvent]) -> Gap:
        """Report bars that the inbox gave up."""
        holes: dict[Subscription, _Hole] = {}
        for bar in bars:
            key = Subscription(bar.channel, bar.symbol)
            hole = holes.setdefault(key, _Hole(key, bar.timestamp_ns, lost=0))
            hole.first = bar.timestamp_ns
            hole.lost = (hole.lost or 0) + 1
        start_ns = min(bar.received_ns for bar in bars)
        return self._report(_Report("overflow", start_ns, at_ns, list(holes.values())))

    def gaps(self) -> tuple[Gap, ...]:
        """The reports so far (the newest 1000), with what has become known since."""
        with self._lock:
            return tuple(report.gap() for report in self._reports)

    def _report(self, report: _Report) -> Gap:
        with self._lock:
            self._reports.append(report)
            self.reported += 1
        return report.gap()
