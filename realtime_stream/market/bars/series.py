"""When the bars of a series are closed, updated and filled, whatever they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from realtime_stream.market.bars.builder import BuilderCounts, unheard
from realtime_stream.market.bars.fill import ForwardFill
from realtime_stream.market.bars.gaps import KnownGaps
from realtime_stream.market.bars.tally import ZERO, Figures
from realtime_stream.market.models import Bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from realtime_stream.market.models import TradeCancel, TradeCorrection
    from realtime_stream.market.timeframe import Intervals

__all__ = ["Cell", "Series"]

_UPDATABLE_NS: Final = 2 * 3600 * 10**9
_FEWEST, _MOST = 8, 1800


class Cell:
    """One interval: what it is made of stands in subclasses.

    Attributes:
        start: Start of the interval.
        end: Its end, which is outside.
        due: When it is to be closed, or once closed to be looked at again; ``None``: not at all.
        closed: Whether its time has come once.
        bar: What was emitted last, if anything.
    """

    __slots__ = ("bar", "closed", "due", "end", "start")

    def __init__(self, start: int, end: int) -> None:
        """Begin open, with nothing emitted."""
        self.start = start
        self.end = end
        self.due: int | None = None
        self.closed = False
        self.bar: Bar | None = None


C = TypeVar("C", bound=Cell)


class Series(ABC, Generic[C]):
    """Time bars of one symbol and time frame; see :class:`BarBuilder` for what it offers.

    An interval is closed when the data clock has passed its end by the grace period, in the order
    of starts, unless a gap holds it. It stays updatable for two hours after, or for 8 intervals if
    that is more, but for no more than 1,800. A bar that is not what was emitted before is emitted
    again as a whole, as an updated one. When late trades make the first bar of an interval, it is a
    regular one that ``is_late``; when a cancel leaves no bar, what is emitted is an updated one
    with a volume of 0 that ``is_filled``.

    Thread safety: one thread at a time.
    """

    def __init__(
        self,
        symbol: str,
        intervals: Intervals,
        *,
        grace_ns: int,
        since_ns: int | None = None,
        fill: bool = False,
    ) -> None:
        """Begin with nothing open.

        Args:
            symbol: Whose bars.
            intervals: The time frame's intervals; not shared with another builder.
            grace_ns: How long after its end an interval is kept open for what comes late.
            since_ns: When watching began: what began before is partial; ``None``: nothing is.
            fill: Whether empty intervals are emitted too.
        """
        self.symbol = symbol
        self.timeframe = intervals.spec.text
        self.next_due_ns: int | None = None
        self.on_due: Callable[[], None] = unheard
        self.counts = BuilderCounts()
        self._intervals = intervals
        self._grace_ns = grace_ns
        self._since_ns = since_ns
        length = intervals.length_ns
        self._updatable_ns = length * min(max(_UPDATABLE_NS // length, _FEWEST), _MOST)
        self._gaps = KnownGaps()
        self._fill = ForwardFill(intervals, grace_ns) if fill else None
        self._cells: dict[int, C] = {}
        self._starts: list[int] = []  # a heap of the cells' keys, to forget the oldest first
        self._waiting: dict[int, C] = {}  # cells with a due time, open or closed
        self._closed_to = 0  # end of the newest interval whose time has come
        self._newest: Bar | None = None  # by start, of what was emitted

    # --- what subclasses say ---

    @abstractmethod
    def add(self, event: Any) -> None:
        """See :class:`BarBuilder`."""

    @abstractmethod
    def _make(self, start: int, end: int) -> C:
        """A new, empty cell."""

    @abstractmethod
    def _figures(self, cell: C) -> Figures | None:
        """What the cell's bar says, or ``None`` if there is no bar."""

    def _forgotten(self, cell: C) -> None:
        """The cell is no longer kept."""

    def _is_partial(self, cell: C) -> bool:
        since = self._since_ns
        return (since is not None and cell.start < since) or self._gaps.overlap(
            cell.start, cell.end
        )

    # --- cells ---

    def _cell_of(self, timestamp_ns: int) -> C | None:
        """The cell of a moment; ``None`` if it is too late for it."""
        start, end = self._intervals.of(timestamp_ns)
        return self._cell(start, end)

    def _cell(self, start: int, end: int) -> C | None:
        cell = self._cells.get(start)
        if cell is not None:
            return cell
        if end <= self._closed_to - self._updatable_ns:
            return None
        cell = self._keep(start, end)
        if end <= self._closed_to:
            cell.closed = True
        else:
            self._wait(cell, end + self._grace_ns)
        return cell

    def _keep(self, start: int, end: int) -> C:
        cell = self._cells[start] = self._make(start, end)
        heappush(self._starts, start)
        return cell

    def _wait(self, cell: C, due_ns: int) -> None:
        """Have a cell looked at, at the earliest of the times that were named."""
        if cell.due is None or due_ns < cell.due:
            cell.due = due_ns
            self._waiting[cell.start] = cell
            if not self._gaps.holds(cell.end):
                next_due = self.next_due_ns
                if next_due is None or due_ns < next_due:
                    self.next_due_ns = due_ns
                    self.on_due()

    def _forget_old(self) -> None:
        oldest_end = self._closed_to - self._updatable_ns
        while self._starts:
            cell = self._cells[self._starts[0]]
            if cell.end > oldest_end or cell.due is not None:
                return
            self._forgotten(cell)
            del self._cells[heappop(self._starts)]

    # --- time ---

    def advance(self, now_ns: int) -> list[Bar]:
        """See :class:`BarBuilder`."""
        if self.next_due_ns is None or now_ns < self.next_due_ns:
            return []
        bars: list[Bar] = []
        for cell in self._ready(now_ns):
            if not cell.closed and not self._fill_to(cell.start, now_ns, bars):
                break
            self._look_at(cell, now_ns, bars)
        else:
            self._fill_to(now_ns, now_ns, bars)
        self._forget_old()
        self._schedule()
        return bars

    def _ready(self, now_ns: int) -> list[C]:
        free = [cell for cell in self._waiting.values() if not self._gaps.holds(cell.end)]
        due = [cell for cell in free if cell.due is not None and cell.due <= now_ns]
        if len(due) < len(free):
            # One that is complete before its time takes the older ones with it.
            newest = max((cell.start for cell in due if not cell.closed), default=None)
            if newest is not None:
                due += [
                    cell
                    for cell in free
                    if cell.due is not None
                    and cell.due > now_ns
                    and not cell.closed
                    and cell.start < newest
                ]
        return sorted(due, key=attrgetter("start"))

    def _look_at(self, cell: C, now_ns: int, bars: list[Bar]) -> None:
        cell.due = None
        del self._waiting[cell.start]
        if not cell.closed:
            self._close(cell)
        bar = self._bar(cell, now_ns)
        if bar is not None:
            self._emit(cell, bar, bars)

    def _close(self, cell: C) -> None:
        cell.closed = True
        self._closed_to = max(self._closed_to, cell.end)

    def _bar(self, cell: C, now_ns: int) -> Bar | None:
        """The cell's bar, if it is to be emitted: there is one, and not the same as before."""
        figures, before = self._figures(cell), cell.bar
        is_empty = figures is None
        if figures is None:
            if before is None:
                return None
            price = before.open if before.is_filled else self._close_before(cell) or before.open
            figures = _nothing_at(price)
        bar = self._made(cell, figures, now_ns, is_filled=is_empty)
        return None if before is not None and _said_by(bar) == _said_by(before) else bar

    def _made(self, cell: C, figures: Figures, now_ns: int, *, is_filled: bool) -> Bar:
        is_first, newest = cell.bar is None, self._newest
        return Bar(
            symbol=self.symbol,
            timestamp_ns=cell.start,
            received_ns=now_ns,
            open=figures.open,
            high=figures.high,
            low=figures.low,
            close=figures.close,
            volume=figures.volume,
            trade_count=figures.trade_count,
            vwap=figures.vwap,
            timeframe=self.timeframe,
            bar_kind="regular" if is_first else "updated",
            source="built",
            is_filled=is_filled,
            is_late=is_first and newest is not None and cell.start < newest.timestamp_ns,
            is_partial=self._is_partial(cell),
        )

    def _close_before(self, cell: C) -> Decimal | None:
        """Close of the bar before, as far as bars are kept."""
        closes = [(bar.timestamp_ns, bar.close) for bar in self._bars()]
        return max((each for each in closes if each[0] < cell.start), default=(0, None))[1]

    def _emit(self, cell: C, bar: Bar, bars: list[Bar]) -> None:
        cell.bar = bar
        bars.append(bar)
        if bar.bar_kind == "updated":
            self.counts.updated += 1
        else:
            self.counts.built += 1
        if self._newest is None or cell.start >= self._newest.timestamp_ns:
            self._newest = bar
            if self._fill is not None:
                self._fill.go_on_from(cell.end)

    def _schedule(self) -> None:
        times = [
            cell.due
            for cell in self._waiting.values()
            if cell.due is not None and not self._gaps.holds(cell.end)
        ]
        if self._fill is not None:
            times += self._fill.due(self._gaps)
        self.next_due_ns = min(times, default=None)

    # --- empty intervals ---

    def _fill_to(self, until_ns: int, now_ns: int, bars: list[Bar]) -> bool:
        """Emit what is empty before a moment; ``False`` if that is too much for one time."""
        if self._fill is None:
            return True
        for start, end in self._fill.empty(until_ns, now_ns, self._gaps):
            if len(bars) >= self._fill.most:
                return False
            self._fill.go_on_from(end)
            self._emit_filled(start, end, now_ns, bars)
        return True

    def _emit_filled(self, start: int, end: int, now_ns: int, bars: list[Bar]) -> None:
        cell = self._cells.get(start) or self._keep(start, end)
        self._close(cell)
        if self._newest is not None:
            figures = _nothing_at(self._newest.close)
            self._emit(cell, self._made(cell, figures, now_ns, is_filled=True), bars)

    # --- what is missing ---

    def open_gap(self, start_ns: int) -> None:
        """See :class:`BarBuilder`."""
        self._gaps.open(start_ns)
        self._schedule()

    def close_gap(self, end_ns: int, *, filled: bool) -> None:
        """See :class:`BarBuilder`."""
        self._gaps.close(end_ns, filled=filled)
        self._look_again()

    def gap_filled(self, start_ns: int, end_ns: int) -> None:
        """See :class:`BarBuilder`."""
        self._gaps.fill(start_ns, end_ns)
        self._look_again()

    def history_known_from(self, start_ns: int) -> None:
        """See :class:`BarBuilder`."""
        if self._since_ns is not None:
            self._since_ns = min(self._since_ns, start_ns)
        self._look_again()

    def _look_again(self) -> None:
        """Have every bar emitted again that is now known to be partial, or known to be whole."""
        for bar in self._bars():
            cell = self._cells[bar.timestamp_ns]
            if bar.is_partial != self._is_partial(cell):
                self._wait(cell, 0)
        self._schedule()

    def _bars(self) -> Iterator[Bar]:
        """What was emitted last for each interval that is kept."""
        return (cell.bar for cell in self._cells.values() if cell.bar is not None)

    # --- trades that were not what they seemed ---

    def correct(self, correction: TradeCorrection) -> None:
        """Bars are corrected by updated bars."""

    def cancel(self, cancel: TradeCancel) -> None:
        """Bars are corrected by updated bars."""


def _nothing_at(price: Decimal) -> Figures:
    return Figures(price, price, price, price, ZERO, 0, None)


def _said_by(bar: Bar) -> tuple[object, ...]:
    return (
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.trade_count,
        bar.vwap,
        bar.is_partial,
        bar.is_filled,
    )
