"""What a validator remembers; all of it bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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
        venues: The ids by venue and symbol.
        room: How many more ids fit into the young generation.
    """

    def __init__(self) -> None:
        """Nothing seen."""
        self.venues: dict[str | None, dict[str, TradeIds]] = {}
        self.room = GENERATION

    def take(self, trade: Trade, trade_id: int | str) -> bool:
        """Remember a trade; tells whether it is new.

        It is not when its venue had the same id for the same symbol at the same time: ids are
        used again the next day.
        """
        try:
            ids = self.venues[trade.exchange][trade.symbol]
        except KeyError:
            symbols = self.venues.setdefault(trade.exchange, {})
            ids = symbols[trade.symbol] = TradeIds()
        timestamp_ns = trade.timestamp_ns
        young = ids.young
        if trade_id in young:
            if young[trade_id] == timestamp_ns:
                return False
        elif trade_id in ids.old and ids.old[trade_id] == timestamp_ns:
            return False
        young[trade_id] = timestamp_ns
        self.room -= 1
        if not self.room:
            self._turn()
        return True

    def remember(self, trade: Trade, trade_id: int | str) -> None:
        """Remember a trade from history; those that come live are not forgotten any earlier."""
        symbols = self.venues.setdefault(trade.exchange, {})
        ids = symbols.setdefault(trade.symbol, TradeIds())
        ids.young[trade_id] = trade.timestamp_ns

    def knows(self, trade: Trade, trade_id: int | str) -> bool:
        """Whether a trade was taken before."""
        ids = self.venues.get(trade.exchange, {}).get(trade.symbol)
        if ids is None:
            return False
        times = (ids.young.get(trade_id), ids.old.get(trade_id))
        return trade.timestamp_ns in times

    def forget(self, symbol: str) -> None:
        """Forget a symbol."""
        for symbols in self.venues.values():
            symbols.pop(symbol, None)

    def _turn(self) -> None:
        """The young generation becomes the old one."""
        venues: dict[str | None, dict[str, TradeIds]] = {}
        for venue, symbols in self.venues.items():
            for symbol, ids in symbols.items():
                if ids.young:
                    ids.old, ids.young = ids.young, {}
                    venues.setdefault(venue, {})[symbol] = ids
        self.venues = venues
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
