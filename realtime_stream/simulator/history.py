"""History: what the simulator's REST side knows, whatever became of it on the streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from realtime_stream.simulator.endpoints import MARKETS
from realtime_stream.simulator.rollup import MINUTE, parse_timeframe
from realtime_stream.simulator.tape import Tape, place_at
from realtime_stream.simulator.wire import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from realtime_stream.simulator.wire import Message

__all__ = ["END_OF_TIME", "History"]

END_OF_TIME: Final = (1 << 63) - 1  # nanoseconds since the epoch: the year 2262
_CHANNELS: Final = frozenset({
    "trades",
    "corrections",
    "cancelErrors",
    "bars",
    "updatedBars",
    "dailyBars",
})

_Row = TypeVar("_Row")


class History:
    """Trades and bars as they are known in the end: one history for all feeds of a market.

    Everything that is published or played goes in before the faults of the streams are applied:
    what is muted, delayed, skewed or written twice there is here on time, and once. A trade counts
    once per exchange, number and day. A correction marks the old trade and adds the right one; a
    cancelled one is marked. An updated bar replaces the regular one of its start, for good.

    It has a data time of its own per market: that of the newest message, bars counting from their
    end, or of the playback.

    It keeps everything and has no bound: it is made for tests.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        """Empty."""
        self._lock = threading.Lock()  # guards all below
        self._tapes: dict[str, dict[str, Tape]] = {market: {} for market in MARKETS}
        self._now: dict[str, int] = {}

    def add(
        self,
        messages: Iterable[Mapping[str, Any] | tuple[int, Mapping[str, Any]]],
        *,
        market: str = "stocks",
    ) -> None:
        """Enter what happened before anybody was connected; nothing is written to any session.

        Args:
            messages: Messages as for ``AlpacaSimulator.publish``, or pairs of time and message as
                for ``play``, such as a whole :class:`~realtime_stream.simulator.SyntheticSession`.
            market: Their market.

        Raises:
            ValueError: A message is not one of this market, or there is no such market.
            TypeError: A time or another value is of a type it cannot be.
        """
        self._tapes_of(market)  # there is such a market
        for each in messages:
            at_ns, fields = each if isinstance(each, tuple) else (None, each)
            self.record([prepare(fields, market)], market, at_ns)

    def now_ns(self, market: str = "stocks") -> int | None:
        """Data time, nanoseconds since the epoch; ``None`` before the first message."""
        with self._lock:
            self._tapes_of(market)
            return self._now.get(market)

    def final_bars(
        self, symbol: str, timeframe: str = "1m", *, market: str = "stocks"
    ) -> list[dict[str, Any]]:
        """Bars as they stand now, also those that ``Faults.history_lag`` hides; oldest first.

        Of a timeframe beyond a minute, also the one that has not ended yet.

        Args:
            symbol: Symbol.
            timeframe: "1m", "5m", "1h", "1d" ..., or as Alpaca writes it.
            market: Its market.

        Returns:
            Bars as on the wire without type and symbol; "t", their start, in nanoseconds.

        Raises:
            ValueError: There is no such timeframe or market.
        """
        wanted = parse_timeframe(timeframe)
        return list(
            self.read(
                market, symbol, lambda tape, _: tape.bars(wanted, 0, END_OF_TIME, END_OF_TIME)
            )
        )

    def final_trades(self, symbol: str, *, market: str = "stocks") -> list[dict[str, Any]]:
        """The trades that stand: without cancelled ones, corrected ones as corrected.

        Returns:
            Trades as on the wire without type and symbol, in the order of their times; "t" in
            nanoseconds, and "u" is "corrected" where that was so.

        Raises:
            ValueError: There is no such market.
        """
        rows = self.read(
            market, symbol, lambda tape, _: tape.trades(place_at(0), place_at(END_OF_TIME))
        )
        return [row.fields() for row in rows if row.mark in (None, "corrected")]

    def read(
        self, market: str, symbol: str, question: Callable[[Tape, int], Sequence[_Row]]
    ) -> Sequence[_Row]:
        """Ask what is known of a symbol, with the data time; if nothing is, nothing is the answer.

        Raises:
            ValueError: There is no such market.
        """
        with self._lock:
            tape = self._tapes_of(market).get(symbol)
            return () if tape is None else question(tape, self._now.get(market, 0))

    def record(self, messages: Iterable[Message], market: str, at_ns: int | None = None) -> None:
        """Enter what is published now; ``at_ns`` is the time of the playback."""
        with self._lock:
            tapes, now_ns = self._tapes[market], self._now.get(market, 0)
            for message in messages:
                now_ns = max(now_ns, at_ns or 0, _time_of(message))
                if message.channel in _CHANNELS:
                    # Without a playback, a late trade or an updated bar does not say when it comes.
                    is_timed = at_ns is not None or message.channel == "dailyBars"
                    told_ns = now_ns if is_timed else _time_of(message)
                    tapes.setdefault(message.symbols[0], Tape()).take(message, told_ns)
            if now_ns:
                self._now[market] = min(now_ns, END_OF_TIME)

    def _tapes_of(self, market: str) -> dict[str, Tape]:
        if market not in self._tapes:
            msg = f"unknown market {market!r}; allowed are {', '.join(self._tapes)}"
            raise ValueError(msg)
        return self._tapes[market]


def _time_of(message: Message) -> int:
    """When it can have been published at the earliest, as far as it tells."""
    t_ns = message.t_ns or 0
    match message.channel:
        case "bars" | "updatedBars":
            return t_ns + MINUTE
        case "dailyBars":
            return 0  # its time is the beginning of its day
        case _:
            return t_ns
