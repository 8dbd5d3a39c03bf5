"""The bars that are built here: which, of what, and when each is due."""

from __future__ import annotations

import heapq
import itertools
import sys
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from realtime_stream.market.bars import build_bars
from realtime_stream.market.bars.tally import is_plausible
from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.market.timeframe import Intervals, parse_timeframe
from realtime_stream.ports import BarsInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from realtime_stream.market.bars import BarBuilder
    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.models import Bar, MarketEvent, TradeCorrection
    from realtime_stream.market.timeframe import Alignment
    from realtime_stream.runtime.series_spec import SeriesSpec

__all__ = ["NEVER_NS", "BuilderFactory", "SeriesBoard", "WantsSymbol"]

NEVER_NS: Final = sys.maxsize
_MINUTE_NS: Final = 60 * 10**9
# Empty intervals are filled no further than this after the newest event of all symbols: a clock
# that is set ahead for a moment must make no bars.
_FILL_AHEAD_NS: Final = 600 * 10**9
_LOOK_AGAIN_NS: Final = 10**9
_Takers: TypeAlias = "tuple[Callable[[Any], None], ...]"
_TAKES: Final[dict[str, Callable[[BarBuilder], Callable[[Any], None]]]] = {
    "trades": attrgetter("add"),
    "corrections": lambda builder: partial(_correct, builder),
    "cancels": attrgetter("cancel"),
}


class WantsSymbol(Protocol):
    """Who gets the bars of a series."""

    def wants(self, symbol: str) -> bool:
        """Whether anybody wants bars of this symbol."""


class BuilderFactory:
    """Makes the builder of a series for a symbol.

    Thread safety: immutable.
    """

    def __init__(self, *, calendar: MarketCalendar, alignment: Alignment, grace_ns: int) -> None:
        """Args: as of :func:`~realtime_stream.market.bars.build_bars`."""
        self._calendar = calendar
        self._alignment: Alignment = alignment
        self._grace_ns = grace_ns

    def start_of(self, spec: SeriesSpec, at_ns: int) -> int:
        """The start of the interval that a moment is in; 0 for those that are counted."""
        parsed = parse_timeframe(spec.timeframe)
        if parsed.kind != "time":
            return 0
        return Intervals(parsed, self._calendar, self._alignment).of(at_ns)[0]

    def __call__(self, spec: SeriesSpec, symbol: str, since_ns: int) -> BarBuilder:
        """A builder that has watched since then."""
        return build_bars(
            symbol,
            parse_timeframe(spec.timeframe),
            spec.channel,
            calendar=self._calendar,
            alignment=self._alignment,
            grace_ns=self._grace_ns,
            since_ns=since_ns,
            fill=spec.fill,
        )


@dataclass(slots=True, eq=False)
class _Slot:
    """One builder; ``due_ns`` is the time for which it stands in the queue."""

    spec: SeriesSpec
    builder: BarBuilder
    due_ns: int = NEVER_NS
    gone: bool = False
    not_before_ns: int = 0  # older bars that are partial are of no use: they began before us


class SeriesBoard:
    """Feeds the builders of the wanted series, and closes what is due.

    Thread safety: used by the dispatch thread; :meth:`info` by any.

    Attributes:
        due_ns: When :meth:`advance` has something to do, nanoseconds of data time.
        feeds: What takes the events of a symbol, by channel, for trades and what changes them;
            a symbol that is missing has to be asked for with :meth:`takers`.
    """

    def __init__(self, new_builder: BuilderFactory) -> None:
        """Nothing is built yet."""
        self._new_builder = new_builder
        self._wanted: Mapping[SeriesSpec, WantsSymbol] = {}
        self._slots: dict[str, dict[str, list[_Slot]]] = {}  # by channel and symbol
        self._queue: list[tuple[int, int, _Slot]] = []
        self._numbers = itertools.count()
        # Since when each symbol is watched for a series, on this machine's clock.
        self._watched: dict[tuple[SeriesSpec, str], int] = {}
        # What look-back has brought, by timeframe too: until when, and from when on all is known.
        self._look_back: dict[tuple[str, str, str], tuple[int, int | None]] = {}
        self.newest_ns = 0  # of all events, by the exchange's clock
        self.lead_ns: Callable[[], int | None] = _unknown  # of our clock, set for each run
        self._open: dict[tuple[str, str], int] = {}  # gaps: start by channel and symbol
        self.due_ns = NEVER_NS
        self.feeds: dict[str, dict[str, _Takers]] = {}
        self._past = BarsInfo()  # of builders that are gone

    def want(self, wanted: Mapping[SeriesSpec, WantsSymbol]) -> None:
        """Replace what is wanted; builders that nobody wants any more are forgotten."""
        self._wanted = dict(wanted)
        for symbols in self._slots.values():
            for symbol, slots in symbols.items():
                kept = [slot for slot in slots if self._is_wanted(slot.spec, symbol)]
                for slot in slots:
                    if slot not in kept:
                        slot.gone = True
                        self._past = _sum([self._past, _info(slot.builder)])
                symbols[symbol] = kept
        self._look_back = {
            (channel, symbol, timeframe): found
            for (channel, symbol, timeframe), found in self._look_back.items()
            if any(
                (spec.channel, spec.timeframe) == (channel, timeframe) and wants.wants(symbol)
                for spec, wants in wanted.items()
            )
        }
        of_trades = any(spec.channel == "trades" for spec in wanted)
        self.feeds = {channel: {} for channel in _TAKES} if of_trades else {}

    def _is_wanted(self, spec: SeriesSpec, symbol: str) -> bool:
        wants = self._wanted.get(spec)
        return wants is not None and wants.wants(symbol)

    def watch(self, pairs: Iterable[tuple[str, str]], at_ns: int) -> None:
        """From ``at_ns`` on, by this machine's clock, everything of these (channel, symbol) comes.

        What was watched before goes on to be; what is not named is watched no more. Of all symbols
        together, those that nothing has come of yet begin anew: nobody says what they missed.
        """
        watched, self._watched = self._watched, {}
        for channel, symbol in pairs:
            for spec, wants in self._wanted.items():
                if spec.channel == channel and wants.wants(symbol):
                    key = (spec, symbol)
                    is_all = symbol == ALL_SYMBOLS
                    self._watched[key] = at_ns if is_all else watched.get(key, at_ns)

    def takers(self, event: MarketEvent) -> _Takers:
        """What takes a trade, a correction or a cancel; found once for each symbol."""
        late_ns = max(event.received_ns - event.timestamp_ns, 0)
        slots = self._builders("trades", event.symbol, event.timestamp_ns, late_ns)
        take = _TAKES[event.channel]
        takers = tuple(take(slot.builder) for slot in slots)
        self.feeds[event.channel][event.symbol] = takers
        return takers

    def on_bar(self, bar: Bar) -> None:
        """Feed a bar of the feed to whatever is built of it."""
        channel = "daily_bars" if bar.bar_kind == "daily" else "bars"
        if not any(spec.channel == channel for spec in self._wanted):
            return
        late_ns = max(bar.received_ns - bar.timestamp_ns - _MINUTE_NS, 0)
        for slot in self._builders(channel, bar.symbol, bar.timestamp_ns, late_ns):
            slot.builder.add(bar)

    def advance(self, now_ns: int) -> Iterator[tuple[SeriesSpec, Bar]]:
        """Close what is due at this data time; updates of larger bars come after their parts."""
        while self._queue and self._queue[0][0] <= now_ns:
            due_ns, _, slot = heapq.heappop(self._queue)
            if slot.gone or due_ns != slot.due_ns:  # it stands there again, for an earlier time
                continue
            slot.due_ns = NEVER_NS
            known_ns = min(now_ns, self.newest_ns + _FILL_AHEAD_NS) if slot.spec.fill else now_ns
            bars = slot.builder.advance(known_ns)
            next_ns = slot.builder.next_due_ns
            if slot.spec.fill and next_ns is not None and next_ns <= now_ns:
                # Nothing has told that it is so late already, or there is much: not at once.
                self._queue_up(slot, now_ns + _LOOK_AGAIN_NS)
            else:
                self._look_at(slot)
            for bar in bars:
                if not (bar.is_partial and bar.timestamp_ns < slot.not_before_ns):
                    yield slot.spec, bar
        self._note_due()

    def open_gap(self, channel: str, symbol: str, start_ns: int) -> None:
        """Events may be missing from ``start_ns`` on: keep open what it touches."""
        self._open.setdefault((channel, symbol), start_ns)
        for slot in self._slots.get(channel, {}).get(symbol, ()):
            slot.builder.open_gap(start_ns)
            self._look_at(slot)

    def close_gap(self, channel: str, symbol: str, end_ns: int, *, filled: bool) -> None:
        """The gap is filled, or nothing more is waited for."""
        if self._open.pop((channel, symbol), None) is None:
            return
        slots = self._slots.get(channel, {}).get(symbol, ())
        for slot in slots:
            slot.builder.close_gap(end_ns, filled=filled)
            self._look_at(slot)
        if not (slots or filled):
            for key in self._watched:
                if key[0].channel == channel and key[1] == symbol:
                    self._watched[key] = end_ns  # as good as begun anew

    def open_gaps(self) -> dict[tuple[str, str], int]:
        """The (channel, symbol) of which something may be missing, and from when on."""
        return dict(self._open)

    def gap_filled(self, channel: str, symbol: str, start_ns: int, end_ns: int) -> None:
        """A gap that was given up has been filled after all."""
        for slot in self._slots.get(channel, {}).get(symbol, ()):
            slot.builder.gap_filled(start_ns, end_ns)
            self._look_at(slot)

    def look_back_until(
        self, channel: str, symbol: str, timeframe: str, until_ns: int, known_ns: int | None
    ) -> None:
        """Look-back has brought the bars until a moment.

        Args:
            channel: What the series is built of.
            symbol: Symbol.
            timeframe: Of the series.
            until_ns: The end of the newest of them.
            known_ns: From when on everything has been fed to the builder; ``None`` if that is not
                known.
        """
        self._look_back[channel, symbol, timeframe] = (until_ns, known_ns)
        for slot in self._slots.get(channel, {}).get(symbol, ()):
            if slot.spec.timeframe == timeframe:
                self._tell_look_back(slot, symbol)

    def _tell_look_back(self, slot: _Slot, symbol: str) -> None:
        found = self._look_back.get((slot.spec.channel, symbol, slot.spec.timeframe))
        if found is None:
            return
        slot.not_before_ns = max(slot.not_before_ns, found[0])
        if found[1] is not None:
            slot.builder.history_known_from(found[1])
            self._look_at(slot)

    def info(self) -> BarsInfo:
        """Counters of all builders together."""
        slots = [
            slot
            for symbols in self._slots.copy().values()
            for each in symbols.copy().values()
            for slot in each
        ]
        return _sum([self._past, *(_info(slot.builder) for slot in slots)])

    def _builders(self, channel: str, symbol: str, at_ns: int, late_ns: int) -> list[_Slot]:
        """The slots of this symbol; made now, at the first event, where a series has none.

        Not before, as only events tell how far this machine's clock is ahead of the exchange's.
        """
        slots = self._slots.setdefault(channel, {}).setdefault(symbol, [])
        there = {slot.spec for slot in slots}
        for spec, wants in self._wanted.items():
            if spec.channel == channel and spec not in there and wants.wants(symbol):
                since_ns = self._since(spec, symbol, at_ns, late_ns)
                slot = _Slot(spec, self._new_builder(spec, symbol, since_ns))
                slot.builder.on_due = partial(self._look_at, slot)
                slot.not_before_ns = self._new_builder.start_of(spec, since_ns)
                self._tell_look_back(slot, symbol)
                gap_ns = self._open.get((channel, symbol))
                if gap_ns is not None:
                    slot.builder.open_gap(gap_ns)
                slots.append(slot)
        return slots

    def _since(self, spec: SeriesSpec, symbol: str, at_ns: int, late_ns: int) -> int:
        """Since when a symbol is watched, by the exchange's clock.

        Its first event is at ``at_ns``; how late that came stands for our clock's lead until more
        is known.
        """
        watched_ns = self._watched.get((spec, symbol))
        if watched_ns is None:
            watched_ns = self._watched.get((spec, ALL_SYMBOLS))
        if watched_ns is None:
            return at_ns
        lead_ns = self.lead_ns()
        return watched_ns - (late_ns if lead_ns is None else lead_ns)

    def _look_at(self, slot: _Slot) -> None:
        due = slot.builder.next_due_ns
        if due is None:
            slot.due_ns = NEVER_NS
        elif due != slot.due_ns:
            self._queue_up(slot, due)

    def _queue_up(self, slot: _Slot, due_ns: int) -> None:
        slot.due_ns = due_ns
        heapq.heappush(self._queue, (due_ns, next(self._numbers), slot))
        self.due_ns = min(self.due_ns, due_ns)

    def _note_due(self) -> None:
        queue = self._queue
        while queue and (queue[0][2].gone or queue[0][0] != queue[0][2].due_ns):
            heapq.heappop(queue)
        self.due_ns = queue[0][0] if queue else NEVER_NS


def _correct(builder: BarBuilder, correction: TradeCorrection) -> None:
    """Apply a correction, unless it cannot be true itself."""
    if is_plausible(correction.corrected_price) and is_plausible(correction.corrected_size):
        builder.correct(correction)
    else:
        builder.counts.unmatched += 1


def _unknown() -> int | None:
    """No lead is known before a run."""
    return None


def _info(builder: BarBuilder) -> BarsInfo:
    counts = builder.counts
    return BarsInfo(
        counts.built,
        counts.updated,
        counts.late,
        counts.too_late,
        counts.corrected,
        counts.unmatched,
    )


def _sum(infos: Iterable[BarsInfo]) -> BarsInfo:
    columns = zip(
        *((i.built, i.updated, i.late, i.too_late, i.corrected, i.unmatched) for i in infos),
        strict=True,
    )
    return BarsInfo(*map(sum, columns))
