"""Checks a stream of events: nearly all are as they should be, and pass quickly."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, Rounded
from typing import TYPE_CHECKING, Final, TypeVar

from realtime_stream.market.validation.findings import (
    LEAST,
    MAX_DIGITS,
    PRICE_END,
    SIZE_END,
    Finding,
    bar_findings,
    has_good_symbol,
    quote_findings,
    trade_findings,
)
from realtime_stream.market.validation.grid import interval_ns, is_aligned
from realtime_stream.market.validation.memory import (
    MAX_SYMBOLS,
    LastBars,
    SeenTrades,
    make_room,
)
from realtime_stream.market.validation.outliers import Outliers
from realtime_stream.market.validation.policy import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from realtime_stream.market.channels import Market
    from realtime_stream.market.models import Bar, MarketEvent, Quote, Trade
    from realtime_stream.market.validation.policy import ValidationPolicy

__all__ = ["Validator", "Verdict"]

_NS: Final = 1_000_000_000
_NEVER: Final = 2**63  # nanoseconds: instead of a time of receipt where there was none
# What a field raises that is no number, no Decimal, or has too many digits.
_ODD: Final = (ArithmeticError, AttributeError, TypeError)

E = TypeVar("E", bound="MarketEvent")


def _is_decimal(figure: object) -> bool:
    return figure.__class__ is Decimal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an event.

    Attributes:
        rule: Which rule, one of :data:`~realtime_stream.market.validation.RULES`.
        field: Which field.
        value: The field's value.
        message: A sentence about it, ASCII but for the value.
        rejected: ``True`` when the policy rejects the event, ``False`` when it only flags it.
    """

    rule: str
    field: str
    value: object
    message: str
    rejected: bool


class Validator:
    """Checks the events of one stream.

    It remembers what it has accepted, to find what repeats or goes back in time: the ids of recent
    trades, the last bar of each series, prices for the median. Live and historical data go through
    the same rules but are two streams: history is older than live data, and may hold the same
    events. So history gets a validator of its own, a fresh one for each request: an answer comes
    in the order of time, and another answer may repeat it. What is rejected does not move what it
    remembers, so that one bad event casts no doubt on those after it.

    Memory is bounded whatever comes: 65,536 to 131,072 ids of trades in all, and of at most 20,000
    symbols the last bars and a window of prices.

    ``checks`` has a function for each channel that is checked (quotes, trades and the three of
    bars); it returns ``None`` for an event that is as it should be.

    Thread safety: none; one thread calls it.
    """

    def __init__(self, policy: ValidationPolicy, market: Market) -> None:
        """Nothing seen yet."""
        self._actions = {rule: policy.action(rule) for rule in RULES}
        self._market: Market = market
        self._tolerance_ns = int(policy.future_tolerance * _NS)
        self._locked_passes = policy.locked == "pass"
        self._repeats_pass = policy.duplicate == "pass"
        self._exactly = Context(prec=MAX_DIGITS, traps=[Rounded]).plus
        self._symbols: set[str] = set()  # known to be good
        self._trades = SeenTrades()
        self._bars = LastBars()
        self._last_quotes: dict[str, int] = {}
        self._last_trades: dict[str, int] = {}
        self._outliers: Outliers | None = None
        if policy.outlier_limit is not None and policy.outlier != "pass":
            limit, keep = Decimal(str(policy.outlier_limit)), policy.outlier == "flag"
            self._outliers = Outliers(limit, policy.outlier_window, keep=keep)
        self.checks: Mapping[str, Callable[..., Verdict | None]] = self._chosen(policy)

    def check(self, event: MarketEvent) -> Verdict | None:
        """What is wrong with an event; ``None`` if nothing is, or its channel is not checked."""
        check = self.checks.get(event.channel)
        return None if check is None else check(event)

    def knows(self, trade: Trade) -> bool:
        """Whether a trade was seen before; never of one without an id."""
        return trade.trade_id is not None and self._trades.knows(trade, trade.trade_id)

    def remember(self, trade: Trade) -> None:
        """Take note of a trade that came another way."""
        if trade.trade_id is not None:
            self._trades.remember(trade, trade.trade_id)

    def forget(self, symbol: str) -> None:
        """Forget what was seen of a symbol, so that its next event stands alone."""
        self.forget_order(symbol)
        if self._outliers is not None:
            self._outliers.forget(symbol)

    def forget_order(self, symbol: str) -> None:
        """Forget which events of a symbol came, but not their prices.

        So the next may be older than the last, or the same again, and still be an outlier.
        """
        self._trades.forget(symbol)
        self._bars.forget(symbol)
        self._last_quotes.pop(symbol, None)
        self._last_trades.pop(symbol, None)

    def _chosen(self, policy: ValidationPolicy) -> dict[str, Callable[..., Verdict | None]]:
        """What each channel is checked with: rules that are off cost nothing."""
        quote: Callable[[Quote], Verdict | None] = self._quote
        trade: Callable[[Trade], Verdict | None] = self._trade
        if self._outliers is not None:
            trade = self._trade_by_median
        if policy.out_of_order_ticks != "pass":
            quote = self._in_order(quote, self._last_quotes)
            trade = self._in_order(trade, self._last_trades)
        bars = dict.fromkeys(("bars", "updated_bars", "daily_bars"), self._bar)
        return {"quotes": quote, "trades": trade, **bars}

    def _quote(self, quote: Quote) -> Verdict | None:
        """Quotes are most of all events: what nearly all of them are is one expression."""
        bid, ask, bid_size, ask_size = (
            quote.bid_price,
            quote.ask_price,
            quote.bid_size,
            quote.ask_size,
        )
        try:
            plain = (
                LEAST <= bid <= ask < PRICE_END
                and LEAST <= bid_size < SIZE_END
                and LEAST <= ask_size < SIZE_END
                and bid.__class__ is ask.__class__ is Decimal
                and bid_size.__class__ is ask_size.__class__ is Decimal
                and quote.symbol in self._symbols
                and quote.timestamp_ns - self._tolerance_ns <= (quote.received_ns or _NEVER)
                and (self._locked_passes or bid != ask)
                and self._exactly(bid) is not None
                and self._exactly(ask) is not None
            )
        except _ODD:
            plain = False
        return None if plain else self._judged(quote, quote_findings(quote, self._tolerance_ns))

    def _trade(self, trade: Trade) -> Verdict | None:
        """One expression for what nearly every trade is, and its id; all in one call."""
        price, size, symbol, at_ns = trade.price, trade.size, trade.symbol, trade.timestamp_ns
        try:
            if (
                LEAST <= price < PRICE_END
                and LEAST <= size < SIZE_END
                and price.__class__ is size.__class__ is Decimal
                and symbol in self._symbols
                and at_ns - self._tolerance_ns <= (trade.received_ns or _NEVER)
            ):
                self._exactly(price)
                verdict = None
            else:
                verdict = self._judged(trade, trade_findings(trade, self._tolerance_ns))
        except _ODD:
            verdict = self._judged(trade, trade_findings(trade, self._tolerance_ns))
        if verdict is not None and verdict.rejected:
            return verdict
        trade_id = trade.trade_id
        if trade_id is None or self._repeats_pass:
            return verdict
        seen = self._trades
        try:  # what take() does about nearly every trade, without the call
            ids = seen.venues[trade.exchange][symbol]
            young, room = ids.young, seen.room
            if trade_id not in young and trade_id not in ids.old and room > 1:
                young[trade_id] = at_ns
                seen.room = room - 1
                return verdict
        except KeyError:  # the first trade of its symbol there
            pass
        if seen.take(trade, trade_id):
            return verdict
        text = f"trade {ascii(trade_id)[:40]} was seen before"
        return self._worse(verdict, Finding("duplicate", "trade_id", trade_id, text))

    def _trade_by_median(self, trade: Trade) -> Verdict | None:
        verdict = self._trade(trade)
        if self._outliers is None or (verdict is not None and verdict.rejected):
            return verdict
        return self._worse(verdict, self._outliers.of_trade(trade))

    def _bar(self, bar: Bar) -> Verdict | None:
        verdict = None
        if not self._is_plain_bar(bar):
            verdict = self._judged(bar, bar_findings(bar, self._market, self._tolerance_ns))
        if verdict is None or not verdict.rejected:
            verdict = self._worse(verdict, self._place_of(bar))
        if verdict is not None and verdict.rejected:
            return verdict
        if self._outliers is not None and bar.bar_kind == "regular":
            verdict = self._worse(verdict, self._outliers.of_bar(bar))
        if verdict is None or not verdict.rejected:
            self._bars.put(bar)
        return verdict

    def _is_plain_bar(self, bar: Bar) -> bool:
        low, high, vwap = bar.low, bar.high, bar.vwap
        length = 0 if bar.bar_kind == "daily" else interval_ns(bar.timeframe)
        end_ns = bar.timestamp_ns + length
        try:
            return (
                LEAST <= low <= bar.open <= high < PRICE_END
                and low <= bar.close <= high
                and LEAST <= bar.volume < SIZE_END
                and (vwap is None or LEAST <= vwap < PRICE_END)
                and (bar.trade_count is None or bar.trade_count >= 0)
                and bar.symbol in self._symbols
                and end_ns - self._tolerance_ns <= (bar.received_ns or _NEVER)
                and is_aligned(bar.timestamp_ns, bar.timeframe, self._market)
                and all(map(_is_decimal, (bar.open, high, low, bar.close, vwap or low, bar.volume)))
                and all(map(self._exactly, (bar.open, high, low, bar.close, vwap or low)))
            )
        except _ODD:
            return False

    def _place_of(self, bar: Bar) -> Finding | None:
        """What is wrong with a bar's place among those of its series."""
        last = self._bars.last(bar)
        if last is None or bar.is_late:
            return None
        kind = bar.bar_kind
        if bar.timestamp_ns < last.timestamp_ns and kind != "updated":
            text = f"{(last.timestamp_ns - bar.timestamp_ns) / _NS:.0f} s before the last one"
            return Finding("out_of_order", "timestamp_ns", bar.timestamp_ns, text)
        if bar.timestamp_ns != last.timestamp_ns or kind == "daily":
            return None
        if bar == last:
            text = "the same bar was seen before"
            return Finding("duplicate", "timestamp_ns", bar.timestamp_ns, text)
        if kind == "updated":
            return None
        text = "another bar of this interval was seen before"
        return Finding("conflicting", "timestamp_ns", bar.timestamp_ns, text)

    def _in_order(
        self, check: Callable[[E], Verdict | None], last: dict[str, int]
    ) -> Callable[[E], Verdict | None]:
        """The same check, and whether time goes back."""

        def ordered(event: E) -> Verdict | None:
            verdict = check(event)
            if verdict is not None and verdict.rejected:
                return verdict
            before = last.get(event.symbol)
            if before is not None and event.timestamp_ns < before:
                text = f"{(before - event.timestamp_ns) / _NS:.6f} s before the last one"
                finding = Finding("out_of_order_ticks", "timestamp_ns", event.timestamp_ns, text)
                return self._worse(verdict, finding)
            if before is None:
                make_room(last)
            last[event.symbol] = event.timestamp_ns
            return verdict

        return ordered

    def _judged(self, event: MarketEvent, findings: Iterable[Finding]) -> Verdict | None:
        """The first that rejects, or else the first that flags."""
        verdict: Verdict | None = None
        for finding in findings:
            verdict = self._worse(verdict, finding)
            if verdict is not None and verdict.rejected:
                return verdict
        if has_good_symbol(event):
            if len(self._symbols) >= MAX_SYMBOLS:
                self._symbols.clear()  # they are looked at again
            self._symbols.add(event.symbol)
        return verdict

    def _worse(self, verdict: Verdict | None, finding: Finding | None) -> Verdict | None:
        """What stands after one more finding."""
        if finding is None:
            return verdict
        action = self._actions[finding.rule]
        if action == "reject" or (action == "flag" and verdict is None):
            return Verdict(*finding, rejected=action == "reject")
        return verdict
