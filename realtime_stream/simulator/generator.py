"""A made-up trading session from a seed: quotes, trades, and the bars that agree with them."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from realtime_stream.simulator.amendments import Amender, Sale
from realtime_stream.simulator.bars import BarTotals, trading_day_start
from realtime_stream.simulator.walk import SIZE_SCALES, Walk
from realtime_stream.simulator.wire import SECOND, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

__all__ = ["SyntheticSession"]

_MINUTE: Final = 60 * SECOND
_MILLISECOND: Final = SECOND // 1_000
# Offsets into the minute. Bars come 20-100 ms after the minute mark (Alpaca's staff name that
# figure), then late trades of the minute before, and only then trades of the new minute: so the
# times of one symbol's trades never go backwards.
_BAR_DELAY: Final = (20 * _MILLISECOND, 100 * _MILLISECOND)
_DAILY_DELAY: Final = 5 * _MILLISECOND  # after the minute's bar
_LATE_DELAY: Final = (150 * _MILLISECOND, 400 * _MILLISECOND)
_TRADES: Final = range(500 * _MILLISECOND, 59_500 * _MILLISECOND)
_LATE_TRADES: Final = range(59_900 * _MILLISECOND, _MINUTE)
_QUOTES: Final = range(_LATE_TRADES.start)  # a late trade's quote is the minute's last one
_UPDATE_DELAY: Final = 30 * SECOND + 50 * _MILLISECOND
_LATE_SHARE: Final = 0.15  # of the minutes

_Event = tuple[int, dict[str, Any]]


class SyntheticSession:
    """Pairs of (time, message) in the order in which a server would send them.

    Each symbol has quotes and trades at random moments; after each minute its bar and its daily
    bar so far; now and then trades that are reported after the bar, and half a minute later the
    updated bar; on request, also quiet minutes, and corrections and cancels of trades. Bars agree
    exactly with the trades: odd lots count for volume only. Within a symbol and channel the times
    of quotes and trades strictly increase.

    The same arguments give the same session, each time it is iterated.

    Thread safety: may be iterated by several threads at once; each iterator by one.
    """

    def __init__(
        self,
        seed: int,
        symbols: Sequence[str],
        *,
        start: datetime,
        minutes: int,
        quotes_per_minute: int = 120,
        trades_per_minute: int = 30,
        late_trades_per_minute: int = 0,
        quiet_share: float = 0.0,
        correction_share: float = 0.0,
        cancel_share: float = 0.0,
        market: str = "stocks",
    ) -> None:
        """Describe the session.

        Args:
            seed: Decides about everything that is random.
            symbols: Symbols.
            start: When it begins. If that is within a minute, that minute is cut short.
            minutes: How many minutes it has, the first one included.
            quotes_per_minute: Quotes per symbol and minute.
            trades_per_minute: Trades per symbol and minute, not counting late ones.
            late_trades_per_minute: Trades per symbol and minute that are reported after the
                minute's bar, with an updated bar to follow; 0 is one in some of the minutes. The
                last minute has none.
            quiet_share: Share of the minutes of each symbol, each in half of them, without any
                trade or with odd lots only (crypto has none of those), and so without a bar. A
                late trade may bring an updated bar for a minute of odd lots that had none.
            correction_share: Share of the trades that are corrected after their minute's bar and
                before its updated bar, which follows. Those of the last minute are not, nor late
                ones. The right trade has a number of its own.
            cancel_share: Share of the trades that are cancelled likewise. Never so many that a
                minute with a bar would have none.
            market: "stocks" or "crypto".

        Raises:
            ValueError: ``start`` has no time zone, a figure is negative or a share above 1, or the
                market is another one or has no such messages.
        """
        if min(quotes_per_minute, trades_per_minute, late_trades_per_minute) < 0:
            msg = "quotes and trades per minute must be zero or more"
            raise ValueError(msg)
        amended_share = correction_share + cancel_share
        if (
            min(quiet_share, correction_share, cancel_share) < 0
            or max(quiet_share, amended_share) > 1
        ):
            msg = "shares must lie between 0 and 1, those of corrections and cancels together"
            raise ValueError(msg)
        if market not in SIZE_SCALES:
            msg = f"market {market!r} cannot be made up; allowed are {', '.join(SIZE_SCALES)}"
            raise ValueError(msg)
        if amended_share and market != "stocks":
            msg = f"{market} has no corrections and cancels"
            raise ValueError(msg)
        self._seed = seed
        self._symbols = tuple(symbols)
        self._start_ns = to_ns(start)
        self._minutes = minutes
        self._rates = _Rates(
            quotes_per_minute, trades_per_minute, late_trades_per_minute, quiet_share
        )
        self._correction_share = correction_share
        self._cancel_share = cancel_share
        self._market = market

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """From the beginning."""
        makers = [self._maker(symbol) for symbol in self._symbols]
        first = self._start_ns // _MINUTE * _MINUTE
        order = itertools.count()
        pending: list[tuple[int, int, dict[str, Any]]] = []
        for minute in range(self._minutes):
            begin = first + minute * _MINUTE
            last = minute == self._minutes - 1
            for maker in makers:
                for t_ns, message in maker.minute(begin, self._start_ns, last=last):
                    heapq.heappush(pending, (t_ns, next(order), message))
            while pending and (last or pending[0][0] < begin + _MINUTE):
                t_ns, _, message = heapq.heappop(pending)
                yield t_ns, message

    def _maker(self, symbol: str) -> _SymbolSession:
        walk = Walk(self._seed, symbol, self._market)
        # What is off by default draws from a generator of its own: a seed stays what it was.
        extras = random.Random(f"{self._seed}/{symbol}/extras")  # noqa: S311  # no secret
        amender = Amender(
            extras,
            walk.new_trade_id,
            correction_share=self._correction_share,
            cancel_share=self._cancel_share,
        )
        return _SymbolSession(walk, self._rates, SIZE_SCALES[self._market], extras, amender)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Messages a minute; without late trades, there is one in some of the minutes.

    A share of the minutes is quiet.
    """

    quotes: int
    trades: int
    late_trades: int
    quiet_share: float


class _SymbolSession:
    """What one symbol sends, minute by minute."""

    def __init__(
        self,
        walk: Walk,
        rates: _Rates,
        size_scale: int,
        extras: random.Random,
        amender: Amender,
    ) -> None:
        self._walk = walk
        self._rates = rates
        self._size_scale = size_scale
        self._extras = extras
        self._amender = amender
        self._day = 0
        self._minutes: list[BarTotals] = []  # of the day, the one at hand included
        self._daily = BarTotals()

    def minute(self, begin: int, not_before: int, *, last: bool) -> Iterator[_Event]:
        """Everything that belongs to the minute, in no particular order."""
        rng = self._walk.rng
        self._turn_day(begin)
        self._minutes.append(BarTotals())
        mood = self._mood()
        sales: list[Sale] = []
        for offset, is_trade in self._moments():
            t_ns = begin + offset
            if t_ns < not_before:
                continue
            if not is_trade:
                self._walk.step()
                yield t_ns, self._walk.quote(t_ns)
            elif mood != "silent":
                sales.append(self._trade(t_ns, odd_lot=mood == "odd lots"))
                yield t_ns, sales[-1].message
        bar_at = begin + _MINUTE + rng.randint(*_BAR_DELAY)
        if self._minutes[-1].exists:
            yield bar_at, self._bar("b", self._minutes[-1], begin)
        if self._daily.exists:
            yield bar_at + _DAILY_DELAY, self._bar("d", self._daily, self._day)
        if self._rates.trades and not last and mood != "silent":
            yield from self._aftermath(begin, sales)

    def _aftermath(self, begin: int, sales: list[Sale]) -> Iterator[_Event]:
        """What comes after the bar, and the updated bar if that has changed anything."""
        late = list(self._late(begin))
        amendments = list(self._amender.amend(begin + _MINUTE, sales))
        if amendments:
            self._recount([*sales, *(sale for _, sale in late)])
        yield from ((t_ns, sale.message) for t_ns, sale in late)
        yield from amendments
        bar = self._minutes[-1]
        if (late or amendments) and bar.exists:
            yield begin + _MINUTE + _UPDATE_DELAY, self._bar("u", bar, begin)

    def _mood(self) -> Literal["silent", "odd lots", "usual"]:
        share = self._rates.quiet_share
        if not share or self._extras.random() >= share:
            return "usual"
        return "silent" if self._extras.random() < 0.5 or self._size_scale > 1 else "odd lots"  # noqa: PLR2004  # either alike

    def _moments(self) -> list[tuple[int, bool]]:
        rng = self._walk.rng
        quotes = rng.sample(_QUOTES, self._rates.quotes)
        trades = rng.sample(_TRADES, self._rates.trades)
        return sorted([(at, False) for at in quotes] + [(at, True) for at in trades])

    def _trade(self, t_ns: int, *, odd_lot: bool = False) -> Sale:
        sale = Sale(*self._walk.trade(t_ns, odd_lot=odd_lot))
        self._count(sale)
        return sale

    def _late(self, begin: int) -> Iterator[tuple[int, Sale]]:
        rng = self._walk.rng
        count = self._rates.late_trades or int(rng.random() < _LATE_SHARE)
        if count:
            offsets = sorted(rng.sample(_LATE_TRADES, count))
            delays = sorted(rng.randint(*_LATE_DELAY) for _ in range(count))
            for offset, delay in zip(offsets, delays, strict=True):
                yield begin + _MINUTE + delay, self._trade(begin + offset)

    def _count(self, sale: Sale) -> None:
        if sale.meaning is not None:
            self._minutes[-1].add(sale.meaning)
            self._daily.add(sale.meaning)

    def _recount(self, sales: list[Sale]) -> None:
        self._minutes[-1] = BarTotals()
        self._daily = BarTotals.joined(self._minutes)
        for sale in sales:
            self._count(sale)

    def _turn_day(self, begin: int) -> None:
        day = trading_day_start(begin)
        if day != self._day:
            self._day = day
            self._minutes.clear()
            self._daily = BarTotals()

    def _bar(self, kind: str, bar: BarTotals, t_ns: int) -> dict[str, Any]:
        return bar.message(kind, self._walk.symbol, t_ns, self._size_scale)
