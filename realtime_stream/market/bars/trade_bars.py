"""Time bars out of trades."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec import structs

from realtime_stream.market.bars.series import Cell, Series
from realtime_stream.market.bars.tally import Figures, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.market.models import Trade, TradeCancel, TradeCorrection
    from realtime_stream.market.timeframe import Intervals

__all__ = ["TradeBars"]

_MOST_TRADES: Final = 20_000
# Trades are summed up in batches of this many, while they are in the processor's cache. At the
# end of the interval it takes twice as long, and that is when the bars of all symbols are due.
_BATCH: Final = 64


class TradeCell(Cell):
    """An interval's trades, and their sums.

    Attributes:
        trades: Those that are kept one by one.
        listed: How many of them the builder has listed.
        folded: Sums of those that are no longer kept.
        sums: Sums of all, but for those of ``trades`` from ``summed`` on; ``None``: of nothing yet.
        summed: See ``sums``.
    """

    __slots__ = ("daily", "folded", "listed", "summed", "sums", "trades")

    def __init__(self, start: int, end: int, *, daily: bool) -> None:
        """Begin without trades."""
        super().__init__(start, end)
        self.trades: list[Trade] = []
        self.daily = daily
        self.listed = 0
        self.folded: Tally | None = None
        self.sums: Tally | None = None
        self.summed = 0

    def sum_up(self) -> Tally:
        """The sums of all trades."""
        sums = self.sums
        if sums is None:
            folded = self.folded
            sums = self.sums = Tally(self.daily) if folded is None else replace(folded)
        if self.summed < len(self.trades):
            sums.take(self.trades[self.summed :])
            self.summed = len(self.trades)
        return sums

    def fold(self, number: int) -> None:
        """Keep only the sums of the first trades."""
        if number == len(self.trades):
            self.folded = replace(self.sum_up())
        else:
            if self.folded is None:
                self.folded = Tally(self.daily)
            self.folded.take(self.trades[:number])
        del self.trades[:number]
        if self.summed < number:
            self.changed()
        else:
            self.summed -= number

    def changed(self) -> None:
        """Begin the sums anew: a trade is not what it was."""
        self.sums = None
        self.summed = 0


class TradeBars(Series[TradeCell]):
    """Bars of one interval length out of trades, by the rules of the tape's conditions.

    Trades count by their own time, whatever order they come in; of those with the same time, the
    exchange and the id decide. Up to 20,000 trades are kept one by one so that they can be
    corrected or taken back, of the newest interval and of older ones each; of older trades only
    sums are kept, which later trades still change as they should.

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
        most_trades: int = _MOST_TRADES,
        batch: int = _BATCH,
    ) -> None:
        """Begin with nothing open.

        Args:
            symbol: Whose bars.
            intervals: The time frame's intervals; not shared with another builder.
            grace_ns: How long after its end an interval is kept open for trades that come late.
            since_ns: When watching began: what began before is partial; ``None``: nothing is.
            fill: Whether empty intervals are emitted too.
            most_trades: How many trades are kept one by one.
            batch: How many trades of the newest interval are summed up together.
        """
        super().__init__(symbol, intervals, grace_ns=grace_ns, since_ns=since_ns, fill=fill)
        self._daily = intervals.spec.is_day
        self._most = most_trades
        self._batch = batch
        self._by_age: deque[TradeCell] = deque()  # cells with trades, but for the current one
        self._stored = 0  # how many those are
        # The newest open interval, to which nearly every trade belongs.
        self._current = TradeCell(0, 0, daily=self._daily)
        self._start = self._end = 0
        self._trades = self._current.trades
        self._full_at = batch  # at how many trades the current interval is summed up

    def add(self, event: Trade) -> None:
        """Take a trade. Emits nothing."""
        if self._start <= event.timestamp_ns < self._end:
            trades = self._trades
            trades.append(event)
            if len(trades) >= self._full_at:
                self._sum_up()
            return
        self._add_elsewhere(event)

    def _add_elsewhere(self, trade: Trade) -> None:
        cell = self._cell_of(trade.timestamp_ns)
        if cell is None:
            self.counts.too_late += 1
            return
        if cell.closed:
            self.counts.late += 1
            self._wait(cell, trade.received_ns + self._grace_ns)
        elif cell.start > self._start:
            self._list(self._current)
            self._unlist(cell)
            self._current, self._start, self._end = cell, cell.start, cell.end
            self._trades = cell.trades
            self._await_batch()
        cell.trades.append(trade)
        if cell is not self._current:
            self._list(cell)
        if len(cell.trades) > self._most:
            self._fold_oldest(cell)
        self._fold_old()

    def _sum_up(self) -> None:
        cell = self._current
        cell.sum_up()
        if len(cell.trades) > self._most:
            self._fold_oldest(cell)
        self._await_batch()

    def _await_batch(self) -> None:
        self._full_at = min(self._current.summed + self._batch, self._most + 1)

    # --- memory ---

    def _list(self, cell: TradeCell) -> None:
        """Count the trades of a cell that is not the current one."""
        if not cell.listed and cell.trades:
            self._by_age.append(cell)
        self._stored += len(cell.trades) - cell.listed
        cell.listed = len(cell.trades)

    def _unlist(self, cell: TradeCell) -> None:
        if cell.listed:
            self._by_age.remove(cell)
            self._stored -= cell.listed
            cell.listed = 0

    def _fold_oldest(self, cell: TradeCell) -> None:
        """Keep the newest quarter of a cell's trades one by one."""
        self._fold(cell, len(cell.trades) - self._most // 4)

    def _fold_old(self) -> None:
        """Keep the trades of the newest cells one by one, as far as there is room."""
        while self._stored > self._most:
            cell = self._by_age[0]
            self._fold(cell, len(cell.trades))

    def _fold(self, cell: TradeCell, number: int) -> None:
        cell.fold(number)
        if cell is not self._current:
            self._unlist(cell)
            self._list(cell)

    # --- see Series ---

    def _make(self, start: int, end: int) -> TradeCell:
        return TradeCell(start, end, daily=self._daily)

    def _forgotten(self, cell: TradeCell) -> None:
        self._unlist(cell)
        if cell is self._current:
            self._current = TradeCell(0, 0, daily=self._daily)

    def _close(self, cell: TradeCell) -> None:
        super()._close(cell)
        if cell is self._current:  # what comes from now on is late
            self._start = self._end = 0

    def _figures(self, cell: TradeCell) -> Figures | None:
        return cell.sum_up().figures()

    # --- corrections ---

    def correct(self, correction: TradeCorrection) -> None:
        """Replace a trade by what it should have been."""
        for cell, index in self._find(correction.exchange, correction.original_id):
            cell.trades[index] = structs.replace(
                cell.trades[index],
                trade_id=correction.corrected_id,
                price=correction.corrected_price,
                size=correction.corrected_size,
                conditions=correction.corrected_conditions,
            )
            self._corrected(cell, correction.received_ns)
            return
        self.counts.unmatched += 1

    def cancel(self, cancel: TradeCancel) -> None:
        """Take a trade back."""
        for cell, index in self._find(cancel.exchange, cancel.trade_id):
            del cell.trades[index]
            self._corrected(cell, cancel.received_ns)
            return
        self.counts.unmatched += 1

    def _find(self, exchange: str | None, trade_id: int) -> Iterator[tuple[TradeCell, int]]:
        # The newest first: what is corrected was mostly reported a moment ago.
        for cell in (self._current, *reversed(self._by_age)):
            for index in range(len(cell.trades) - 1, -1, -1):
                trade = cell.trades[index]
                if trade.trade_id == trade_id and trade.exchange == exchange:
                    yield cell, index

    def _corrected(self, cell: TradeCell, received_ns: int) -> None:
        self.counts.corrected += 1
        cell.changed()
        if cell is not self._current:
            self._unlist(cell)
            self._list(cell)
        else:  # all of it has to be summed up again: not before as many have come as there are
            self._full_at = min(2 * len(cell.trades), self._most + 1)
        if cell.closed:
            self._wait(cell, received_ns + self._grace_ns)
