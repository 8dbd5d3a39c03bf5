"""What a validator remembers; all of it bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar, Trade

__all__ = ["GENERATION", "MAX_SYMBOLS", "LastBars", "SeenTrades", "make_room"]

MAX_SYMBOLS: Final = 20_000  # of which anything is remembered; beyond it the first is forgotten
GENERATION: Final = 2**16  # trades


def make_room(table: dict[str, Any]) -> None:
    """Drop what was remembered first, of a table by symbol that is full."""
    if len(table) >= MAX_SYMBOLS:
        del table[next(iter(table))]


class TradeIds:
    """Ids of trades, each with the time of its trade, in two generations."""

    __slots__ = ("old", "young")

    def __init__(self) -> None:
        self.young: dict[int | str, int] = {}
        self.old: dict[int | str, int] = {}


class SeenTrades:
    """The ids of the last trades: of all symbols and venues together 65,536 to 131,072 (13 MB).

    The bound is one for all, not one for each symbol, so that memory does not grow with the number
    of symbols. What repeats a trade, such as a server after a reconnect, repeats recent ones.

    Not thread-safe.

    Attributes:
        symbols: The ids by symbol and venue.
        room: How many more new trades may come before the young generation is the old one.
    """

    def __init__(self) -> None:
        """Nothing seen."""
        self.symbols: dict[str, dict[str | None, TradeIds]] = {}
        self.room = GENERATION

    def take(self, trades: Sequence[Trade]) -> list[int]:
        """Remember trades that came together; tells the places of those that are not new.

        A trade is not when its venue had the same id for the same symbol at the same time: ids are
        used again the next day. One without an id always is.
        """
        repeats: list[int] = []
        symbols = self.symbols
        for place, trade in enumerate(trades):
            trade_id = trade.trade_id
            try:
                ids = symbols[trade.symbol][trade.exchange]
            except KeyError:
                ids = self._ids(trade)
            young = ids.young
            if trade_id in young or trade_id in ids.old:
                before = young if trade_id in young else ids.old
                if before[trade_id] == trade.timestamp_ns:
                    repeats.append(place)
                    continue
            if trade_id is not None:
                young[trade_id] = trade.timestamp_ns
        self.room -= len(trades) - len(repeats)
        if self.room <= 0:
            self._turn()
        return repeats

    def remember(self, trade: Trade, trade_id: int | str) -> None:
        """Remember a trade from history; those that come live are not forgotten any earlier."""
        self._ids(trade).young[trade_id] = trade.timestamp_ns

    def knows(self, trade: Trade, trade_id: int | str) -> bool:
        """Whether a trade was taken before."""
        ids = self.symbols.get(trade.symbol, {}).get(trade.exchange)
        if ids is None:
            return False
        times = (ids.young.get(trade_id), ids.old.get(trade_id))
        return trade.timestamp_ns in times

    def unsee(self, trade: Trade, trade_id: int | str) -> None:
        """Forget a trade, if its id was not used again since."""
        ids = self._ids(trade)
        for times in (ids.young, ids.old):
            if times.get(trade_id) == trade.timestamp_ns:
                del times[trade_id]

    def forget(self, symbol: str) -> None:
        """Forget a symbol."""
        self.symbols.pop(symbol, None)

    def _ids(self, trade: Trade) -> TradeIds:
        return self.symbols.setdefault(trade.symbol, {}).setdefault(trade.exchange, TradeIds())

    def _turn(self) -> None:
        """The young generation becomes the old one."""
        symbols: dict[str, dict[str | None, TradeIds]] = {}
        for symbol, venues in self.symbols.items():
            for venue, ids in venues.items():
                if ids.young:
                    ids.old, ids.young = ids.young, {}
                    symbols.setdefault(symbol, {})[venue] = ids
        self.symbols = symbols
        self.room = GENERATION


class LastBars:
    """The last bar of each symbol, channel and timeframe.

    Not thread-safe.
    """

    def __init__(self) -> None:
        """Nothing seen."""
        self._symbols: dict[str, dict[tuple[str, str], Bar]] = {}

    def last(self, bar: Bar) -> Bar | None:
        """The newest bar of the series this one belongs to."""
        series = self._symbols.get(bar.symbol)
        return None if series is None else series.get((bar.bar_kind, bar.timeframe))

    def put(self, bar: Bar) -> None:
        """Remember a bar, unless its series has a newer one."""
        last = self.last(bar)
        if last is not None and last.timestamp_ns > bar.timestamp_ns:
            return
        series = self._symbols.get(bar.symbol)
        if series is None:
            make_room(self._symbols)
            series = self._symbols[bar.symbol] = {}
        series[bar.bar_kind, bar.timeframe] = bar

    def forget(self, symbol: str) -> None:
        """Forget a symbol."""
        self._symbols.pop(symbol, None)
