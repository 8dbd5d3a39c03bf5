"""A plausible trading session from a seed: quotes, trades, and bars that agree with the trades."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

__all__ = ["SyntheticSession"]

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_BAR_DELAY: Final = 50_000_000  # bars come 20-100 ms after the minute mark
_LATE_DELAY: Final = _SECOND // 2
_QUIET: Final = _SECOND  # no trades this long after the mark, so that late ones keep their order
_UPDATE_DELAY: Final = 30 * _SECOND + _BAR_DELAY  # updated bars come after the half-minute mark
_LATE: Final = 0.1  # share of minutes whose last trade is reported late
_ODD_LOT: Final = 0.2
_NEW_YORK: Final = ZoneInfo("America/New_York")

Message = dict[str, Any]
Timed = tuple[int, Message]


@dataclass(slots=True)
class _Totals:
    """A bar in the making; prices in cents. Odd lots count for volume and trade count alone."""

    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    volume: float = 0
    count: int = 0
    eligible: float = 0
    value: float = 0.0

    def add(self, cents: int, size: float, *, odd: bool) -> None:
        self.volume += size
        self.count += 1
        if odd:
            return
        self.open = self.open or cents
        self.high = max(self.high, cents)
        self.low = min(self.low or cents, cents)
        self.close = cents
        self.eligible += size
        self.value += cents * size

    def message(self, kind: str, symbol: str, t_ns: int) -> Message:
        volume = round(self.volume, 9)
        return {
            "T": kind,
            "S": symbol,
            "o": self.open / 100,
            "h": self.high / 100,
            "l": self.low / 100,
            "c": self.close / 100,
            "v": int(volume) if volume == int(volume) else volume,
            "n": self.count,
            "vw": round(self.value / self.eligible / 100, 6),
            "t": t_ns,
        }


@dataclass(slots=True)
class _Instrument:
    symbol: str
    rng: random.Random
    crypto: bool
    cents: int
    next_id: int = 1
    day: _Totals = field(default_factory=_Totals)


class SyntheticSession:
    """Iterates over ``(emission time in ns, message)``; the same seed gives the same session.

    Stamps of quotes and of trades increase strictly per symbol. A minute bar follows its minute
    mark and agrees with the trades: odd lots (``I``) count for volume only. Now and then a trade
    is reported after the mark; an updated bar follows half a minute later. Daily bars carry
    running totals, stamped with midnight in New York.

    Thread safety: each iteration is independent.
    """

    def __init__(  # what makes a session
        self,
        seed: int,
        symbols: Iterable[str],
        *,
        start: datetime,
        minutes: int,
        quotes_per_minute: int = 120,
        trades_per_minute: int = 30,
        market: str = "stocks",
    ) -> None:
        """Generate nothing yet.

        Args:
            seed: Decides everything.
            symbols: Instruments.
            start: First minute mark; timezone-aware, cut to the minute.
            minutes: Length.
            quotes_per_minute: Per symbol.
            trades_per_minute: Per symbol.
            market: ``stocks`` or ``crypto`` (fractional sizes, no conditions).

        Raises:
            ValueError: ``start`` is naive.
        """
        if start.tzinfo is None:
            msg = "start must be timezone-aware"
            raise ValueError(msg)
        self._seed = seed
        self._symbols = tuple(symbols)
        self._start_ns = int(start.timestamp()) // 60 * _MINUTE
        midnight = start.astimezone(_NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        self._day_ns = int(midnight.timestamp()) * _SECOND
        self._minutes = minutes
        self._quotes = quotes_per_minute
        self._trades = trades_per_minute
        self._crypto = market == "crypto"

    def __iter__(self) -> Iterator[Timed]:
        """The session from its beginning."""
        instruments = [self._instrument(symbol) for symbol in self._symbols]
        waiting: list[Timed] = []  # made in one minute, sent in the next
        for minute in range(self._minutes + 1):
            start = self._start_ns + minute * _MINUTE
            batch, waiting = waiting, []
            if minute < self._minutes:
                for instrument in instruments:
                    batch += self._minute(instrument, start, waiting)
            batch.sort(key=lambda timed: timed[0])
            yield from batch

    def _instrument(self, symbol: str) -> _Instrument:
        rng = random.Random(f"{self._seed}/{symbol}")  # noqa: S311  # a repeatable session, no secret
        return _Instrument(symbol, rng, self._crypto, rng.randrange(2_000, 60_000))

    def _minute(self, instrument: _Instrument, start: int, later: list[Timed]) -> list[Timed]:
        """One instrument's minute; what follows the minute mark goes to ``later``."""
        rng, made = instrument.rng, []
        times = sorted(rng.sample(range(_QUIET, _MINUTE - _QUIET), self._quotes + self._trades))
        trades = set(rng.sample(range(len(times)), self._trades))
        totals, mark = _Totals(), start + _MINUTE
        for index, offset in enumerate(times):
            instrument.cents = max(instrument.cents + rng.choice((-1, 0, 0, 1)), 100)
            spread = rng.choice((1, 1, 2, 3))
            if index in trades:
                message = self._trade(instrument, start + offset, spread, totals)
            else:
                message = self._quote(instrument, start + offset, spread)
            made.append((start + offset, message))
        later += self._after_the_mark(instrument, mark, totals)
        return made

    def _after_the_mark(
        self, instrument: _Instrument, mark: int, totals: _Totals
    ) -> Iterator[Timed]:
        """The bars of a minute, and perhaps a trade that was reported late with the bar's update."""
        if not totals.eligible:
            return
        symbol, start = instrument.symbol, mark - _MINUTE
        yield mark + _BAR_DELAY, totals.message("b", symbol, start)
        yield mark + _BAR_DELAY, instrument.day.message("d", symbol, self._day_ns)
        if instrument.rng.random() < _LATE:
            yield mark + _LATE_DELAY, self._trade(instrument, mark - _QUIET // 2, 1, totals)
            yield mark + _UPDATE_DELAY, totals.message("u", symbol, start)

    def _quote(self, instrument: _Instrument, t_ns: int, spread: int) -> Message:
        rng, cents = instrument.rng, instrument.cents
        sizes = [self._size(instrument) for _ in range(2)]
        quote = {
            "T": "q",
            "S": instrument.symbol,
            "bp": (cents - spread) / 100,
            "bs": sizes[0],
            "ap": (cents + spread) / 100,
            "as": sizes[1],
            "t": t_ns,
        }
        if not instrument.crypto:
            quote |= {"bx": rng.choice("KPQVZ"), "ax": rng.choice("KPQVZ"), "c": ["R"], "z": "C"}
        return quote

    def _trade(self, instrument: _Instrument, t_ns: int, spread: int, totals: _Totals) -> Message:
        rng = instrument.rng
        cents = instrument.cents + rng.randint(-spread, spread)
        odd = not instrument.crypto and rng.random() < _ODD_LOT
        size = rng.randrange(1, 100) if odd else self._size(instrument)
        totals.add(cents, size, odd=odd)
        instrument.day.add(cents, size, odd=odd)
        trade = {
            "T": "t",
            "S": instrument.symbol,
            "i": instrument.next_id,
            "p": cents / 100,
            "s": size,
            "t": t_ns,
        }
        instrument.next_id += 1
        if instrument.crypto:
            return trade | {"tks": rng.choice("BS")}
        return trade | {"x": rng.choice("KPQVZ"), "c": ["@", "I"] if odd else ["@"], "z": "C"}

    def _size(self, instrument: _Instrument) -> float:
        if instrument.crypto:
            return instrument.rng.randrange(1, 10**9) / 10**9
        return instrument.rng.randrange(1, 20) * 100
