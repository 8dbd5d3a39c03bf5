"""The figures of a bar, out of trades in any order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation, Overflow, localcontext
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

from realtime_stream.market.bars.conditions import Eligibility, eligibility

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from realtime_stream.market.models import Trade

__all__ = ["EXACT", "ZERO", "Figures", "Tally", "is_countable", "is_plausible", "weighted_price"]

ZERO: Final = Decimal(0)
# Of its own, as a callback may have changed the precision of the thread it shares with us. Sums of
# what markets trade need fewer digits than these, so they do not depend on the order.
EXACT: Final = Context(prec=80)
_DECIMALS: Final = Decimal("1e-12")
_MOST_INTEGRAL: Final = 68  # digits before the point, if twelve behind it have to have room
_MAGNITUDE: Final = 30
_ONE: Final = Decimal(1)


class Figures(NamedTuple):
    """What a bar says, apart from when and how it came."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int | None
    vwap: Decimal | None


def weighted_price(notional: Decimal, weight: Decimal) -> Decimal | None:
    """Average price at twelve decimals, without trailing zeros; ``None`` if there is none."""
    if not weight:
        return None
    try:
        price = EXACT.divide(notional, weight)
    except Overflow:
        return None
    if price.adjusted() >= _MOST_INTEGRAL:  # a price that validation was told to let pass
        return price
    price = EXACT.quantize(price, _DECIMALS)
    if price == EXACT.to_integral_value(price):
        return EXACT.quantize(price, _ONE)
    return EXACT.normalize(price)


def is_countable(figure: Decimal) -> bool:
    """Whether a figure is finite, and of a magnitude that can be added up; or 0."""
    return figure.is_finite() and (not figure or abs(figure.adjusted()) < _MAGNITUDE)


def is_plausible(figure: Decimal) -> bool:
    """Whether a price or a size is countable and positive."""
    return is_countable(figure) and figure > ZERO


def order_of(trade: Trade) -> tuple[object, ...]:
    """Where a trade stands among those of its symbol; the same whatever order they came in.

    Ids are compared within one exchange only, as each counts for itself.
    """
    number = trade.trade_id
    return (
        trade.timestamp_ns,
        trade.exchange or "",
        (0, number, "") if isinstance(number, int) else (1, 0, number or ""),
        trade.price,
        trade.size,
        trade.conditions,
    )


@dataclass(slots=True)
class Tally:
    """Sums over the trades of a bar, none of which needs the trades again.

    ``open`` and ``close`` are the first and last of the trades that may be either whatever else
    there is; ``first`` is the first one of all, kept for daily bars, in which some trades may be
    the open only if they are the first. So trades may be added in any order, at any time.
    """

    daily: bool = False
    first: Trade | None = None
    open: Trade | None = None
    close: Trade | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    volume: Decimal = ZERO
    trade_count: int = 0
    notional: Decimal = ZERO
    weight: Decimal = ZERO

    def take(self, trades: Sequence[Trade]) -> None:
        """Count trades in; those whose figures nobody can count with are left out."""
        with localcontext(EXACT):
            for rule, group in self._groups(trades):
                try:
                    self._take(rule, group)
                except ArithmeticError:  # one is not finite or beyond all bounds
                    for each in group:
                        with suppress(ArithmeticError):  # validation told of it
                            self._take(rule, [each])

    def _groups(self, trades: Sequence[Trade]) -> Iterable[tuple[Eligibility, list[Trade]]]:
        """The trades by what they count for."""
        by_codes: dict[tuple[str | None, tuple[str, ...]], list[Trade]] = {}
        groups: dict[Eligibility, list[Trade]] = {}
        for trade in trades:
            codes = (trade.tape, trade.conditions)
            group = by_codes.get(codes)
            if group is None:
                rule = eligibility(*codes, self.daily)
                group = by_codes[codes] = groups.setdefault(rule, [])
            group.append(trade)
        return groups.items()

    def _take(self, rule: Eligibility, trades: list[Trade]) -> None:
        """Count trades of one kind in: all of them or, if one cannot be counted, none.

        Raises:
            ArithmeticError: One cannot.
        """
        prices = [each.price for each in trades] if rule.high_low else ()
        sizes = [each.size for each in trades] if rule.volume else ()
        high, low = self.high, self.low
        if prices:
            high = max(prices) if high is None else max(high, *prices)
            low = min(prices) if low is None else min(low, *prices)
        traded = sum(sizes, ZERO)
        volume = self.volume + traded
        notional, weight = self.notional, self.weight
        if prices and sizes:
            notional += sum(map(mul, prices, sizes), ZERO)
            weight += traded
        for figure in (high, low, volume, notional):
            if figure is not None and not figure.is_finite():
                raise InvalidOperation
        first, opening, closing = self.first, self.open, self.close
        if self.daily or rule.open_close == "yes":
            times = [each.timestamp_ns for each in trades]
            earliest, latest = min(times), max(times)
            if self.daily and (first is None or earliest <= first.timestamp_ns):
                first = min(_at(earliest, trades, times, first), key=order_of)
            if rule.open_close == "yes":
                if opening is None or earliest <= opening.timestamp_ns:
                    opening = min(_at(earliest, trades, times, opening), key=order_of)
                if closing is None or latest >= closing.timestamp_ns:
                    closing = max(_at(latest, trades, times, closing), key=order_of)
        self.first, self.open, self.close = first, opening, closing
        self.high, self.low = high, low
        self.volume, self.notional, self.weight = volume, notional, weight
        self.trade_count += len(sizes)

    def figures(self) -> Figures | None:
        """What the bar says; ``None`` if there is no bar: no price, or no volume, that counts."""
        opening, closing = self.open, self.close
        first = self.first
        if first is not None and self._only_as_first(first):
            opening, closing = first, closing or first
        if opening is None or closing is None or self.high is None or self.low is None:
            return None
        if not self.volume:
            return None
        return Figures(
            opening.price,
            self.high,
            self.low,
            closing.price,
            self.volume,
            self.trade_count,
            weighted_price(self.notional, self.weight),
        )

    @staticmethod
    def _only_as_first(trade: Trade) -> bool:
        rule = eligibility(trade.tape, trade.conditions, daily=True)
        return rule.open_close == "first"


def _at(moment: int, trades: list[Trade], times: list[int], known: Trade | None) -> Iterator[Trade]:
    """The trades of a moment, which are few, and the one that is known."""
    if known is not None:
        yield known
    index = -1
    for _ in range(times.count(moment)):
        index = times.index(moment, index + 1)
        yield trades[index]
