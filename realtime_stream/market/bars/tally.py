"""The figures of a bar, out of trades in any order."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Context, Decimal, localcontext
from operator import attrgetter, mul
from typing import TYPE_CHECKING, Final, NamedTuple

from realtime_stream.market.bars.conditions import Eligibility, eligibility

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Trade

__all__ = ["EXACT", "ZERO", "Figures", "Tally", "is_plausible", "weighted_price"]

ZERO: Final = Decimal(0)
# Of its own, as a callback may have changed the precision of the thread it shares with us. Sums of
# what markets trade need fewer digits than these, so they do not depend on the order.
EXACT: Final = Context(prec=80)
_DECIMALS: Final = Decimal("1e-12")
_MAGNITUDE: Final = 30
_ONE: Final = Decimal(1)
_PRICE: Final = attrgetter("price")
_SIZE: Final = attrgetter("size")
_TIME: Final = attrgetter("timestamp_ns")


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
    """Average price at twelve decimals, without trailing zeros; ``None`` without a weight."""
    if not weight:
        return None
    price = EXACT.quantize(EXACT.divide(notional, weight), _DECIMALS)
    if price == EXACT.to_integral_value(price):
        return EXACT.quantize(price, _ONE)
    return EXACT.normalize(price)


def is_plausible(figure: Decimal) -> bool:
    """Whether a price or a size is positive, finite, and of a magnitude that can be added up."""
    return figure.is_finite() and figure > ZERO and abs(figure.adjusted()) < _MAGNITUDE


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
        before = replace(self)
        try:
            self._take_all(trades)
        except ArithmeticError:  # one is not finite, or beyond all bounds: validation was told so
            for each in fields(self):
                setattr(self, each.name, getattr(before, each.name))
            self._take_all([t for t in trades if is_plausible(t.price) and is_plausible(t.size)])

    def _take_all(self, trades: Sequence[Trade]) -> None:
        by_codes: dict[tuple[str | None, tuple[str, ...]], list[Trade]] = {}
        groups: dict[Eligibility, list[Trade]] = {}
        for trade in trades:
            codes = (trade.tape, trade.conditions)
            group = by_codes.get(codes)
            if group is None:
                rule = eligibility(*codes, self.daily)
                group = by_codes[codes] = groups.setdefault(rule, [])
            group.append(trade)
        with localcontext(EXACT):
            for rule, group in groups.items():
                self._take(rule, group)

    def _take(self, rule: Eligibility, trades: list[Trade]) -> None:
        if self.daily:
            self.first = _first(trades, self.first)
        if rule.open_close == "yes":
            self.open = _first(trades, self.open)
            self.close = _last(trades, self.close)
        prices = list(map(_PRICE, trades)) if rule.high_low else ()
        if prices:
            high, low = max(prices), min(prices)
            self.high = high if self.high is None else max(self.high, high)
            self.low = low if self.low is None else min(self.low, low)
        if rule.volume:
            sizes = list(map(_SIZE, trades))
            volume = sum(sizes, ZERO)
            self.volume += volume
            self.trade_count += len(trades)
            if prices:
                self.notional += sum(map(mul, prices, sizes), ZERO)
                self.weight += volume

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


def _first(trades: Sequence[Trade], known: Trade | None) -> Trade:
    earliest = min(map(_TIME, trades))
    ties = [trade for trade in trades if trade.timestamp_ns == earliest]
    if known is not None:
        ties.append(known)
    return ties[0] if len(ties) == 1 else min(ties, key=order_of)


def _last(trades: Sequence[Trade], known: Trade | None) -> Trade:
    latest = max(map(_TIME, trades))
    ties = [trade for trade in trades if trade.timestamp_ns == latest]
    if known is not None:
        ties.append(known)
    return ties[0] if len(ties) == 1 else max(ties, key=order_of)
