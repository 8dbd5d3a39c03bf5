"""Which stretches of time may have been missed, per (channel, symbol)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.ports import Gap, GapEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from realtime_stream.market.models import MarketEvent
    from realtime_stream.runtime.inbox import LostEvents

__all__ = ["GapTracker"]

_KEPT: Final = 1000  # reports kept for gaps()
_ENTRIES_KEPT: Final = 100_000  # entries of all of them together, but for the newest report


@dataclass(slots=True, eq=False)
class _Hole:
    key: Subscription
    since_ns: int
    last: int | None
    first: int | None = None
    lost: int | None = None
    pending: bool = False  # not reported since it opened or stayed open over another outage

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

    Holes are reported together once the connection is whole again; one whose key is wanted but
    not served by then is reported when it is. A report's holes go on being filled: :meth:`gaps`
    shows what is known by now.

    Thread safety: the dispatch thread calls everything but :meth:`gaps` and :attr:`reported`.
    """

    def __init__(self) -> None:
        """Nothing missed yet."""
        self._lock = threading.Lock()  # guards the two attributes below against a reader of gaps()
        self._reports: deque[_Report] = deque(maxlen=_KEPT)
        self._entries = 0
        self._pending: dict[int, _Hole] = {}  # by id
        self._whole = False
        self.open: dict[Subscription, _Hole] = {}
        self.reported = 0

    def session_ended(
        self,
        at_ns: int,
        latest: dict[str, dict[str, MarketEvent]],
        acknowledged: Iterable[Subscription],
    ) -> None:
        """Open a hole for every key that was received or acknowledged."""
        self._whole = False
        keys = dict.fromkeys(sorted(acknowledged))  # so that reports are alike each time
        for channel, symbols in latest.items():
            keys.update(dict.fromkeys(Subscription(channel, symbol) for symbol in symbols))
        for key in keys:
            hole = self.open.get(key)
            if hole is None:
                last = latest.get(key.channel, {}).get(key.symbol)
                hole = _Hole(key, at_ns, None if last is None else last.timestamp_ns)
                self.open[key] = hole
            if not hole.pending:  # new, or open since an earlier outage: part of this one too
                hole.pending, hole.since_ns = True, at_ns
                self._pending[id(hole)] = hole

    def first_after(self, event: MarketEvent) -> Gap | None:
        """An event came while holes are open; it may close one, and that may be news."""
        hole = self.open.pop(Subscription(event.channel, event.symbol), None)
        if hole is None:
            return None
        hole.first = event.timestamp_ns
        if not (hole.pending and self._whole):
            return None
        return self._report("reconnect", event.received_ns, [hole])

    def connection_whole(
        self,
        at_ns: int,
        acknowledged: frozenset[Subscription],
        wanted: frozenset[Subscription] = frozenset(),
    ) -> Gap | None:
        """Report what was missed of the keys that are served again; forget what nobody wants."""
        self._whole = True
        served: list[_Hole] = []
        for hole in list(self._pending.values()):
            if hole.first is not None or _covers(acknowledged, hole.key):
                served.append(hole)
            elif not _covers(wanted, hole.key):
                self._settle(hole)
        kept = acknowledged | wanted
        # A hole of "*" stands for symbols nobody has heard of; no event of its own will close it.
        for key in [k for k in self.open if k.symbol == ALL_SYMBOLS or not _covers(kept, k)]:
            del self.open[key]
        return self._report("reconnect", at_ns, served) if served else None

    def bars_dropped(self, at_ns: int, losses: Mapping[Subscription, LostEvents]) -> Gap | None:
        """Report bars that the inbox gave up; trades that it gave up are only counted."""
        holes = [
            _Hole(key, lost.received_ns, lost.first_ns, lost.last_ns, lost.count)
            for key, lost in losses.items()
            if key.channel != "trades"
        ]
        return self._report("overflow", at_ns, holes) if holes else None

    def keep(self, gap: Gap) -> None:
        """Keep a report that was made elsewhere."""
        holes = [_Hole(Subscription(e.channel, e.symbol), gap.start_ns, None) for e in gap.entries]
        self._report(gap.cause, gap.end_ns, holes)

    def gaps(self) -> tuple[Gap, ...]:
        """The reports so far (the newest 1000), with what has become known since."""
        with self._lock:
            return tuple(report.gap() for report in self._reports)

    def _report(self, cause: str, end_ns: int, holes: list[_Hole]) -> Gap:
        for hole in holes:
            self._settle(hole)
        report = _Report(cause, min(hole.since_ns for hole in holes), end_ns, holes)
        with self._lock:
            if len(self._reports) == _KEPT:
                self._forget_oldest()
            self._reports.append(report)
            self._entries += len(holes)
            while self._entries > _ENTRIES_KEPT and len(self._reports) > 1:
                self._forget_oldest()
            self.reported += 1
        return report.gap()

    def _forget_oldest(self) -> None:
        self._entries -= len(self._reports.popleft().holes)

    def _settle(self, hole: _Hole) -> None:
        hole.pending = False
        self._pending.pop(id(hole), None)


def _covers(subscriptions: frozenset[Subscription], key: Subscription) -> bool:
    return key in subscriptions or Subscription(key.channel, ALL_SYMBOLS) in subscriptions
