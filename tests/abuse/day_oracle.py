"""What a bot should have seen of a day, out of the simulator's own history; and whether it has."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.abuse.day_faults import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from realtime_stream import Bar, Status, Trade
    from realtime_stream.ports import BackfillEvent
    from realtime_stream.simulator import History

__all__ = ["MINUTE_NS", "SERIES", "Series", "Tape", "expected", "wrong_accounts", "wrong_bars"]
__all__ += ["wrong_trades"]

MINUTE_NS: Final = 60 * 10**9
_ODD_LOT: Final = "I"  # of what the simulator makes up, the one condition with a meaning
_VWAP_TOLERANCE: Final = Decimal("0.00001")  # of the price: the wire has six decimals


class Series(NamedTuple):
    """One kind of bars that the bot asks for; without ``built_from`` the feed's own."""

    timeframe: str
    built_from: str | None = None

    @property
    def ns(self) -> int:
        return int(self.timeframe.removesuffix("m")) * MINUTE_NS

    @property
    def channel(self) -> str:
        """What has to be complete for it to be whole."""
        return "trades" if self.built_from == "trades" else "bars"

    def __str__(self) -> str:
        return self.timeframe if self.built_from is None else f"{self.timeframe} {self.built_from}"


SERIES: Final = (
    Series("1m"),
    Series("5m", "bars"),
    Series("1m", "trades"),
    Series("5m", "trades"),
)


class Facts(NamedTuple):
    """What a bar says; its average price is compared with a tolerance."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    vwap: Decimal

    def agree(self, other: Facts) -> bool:
        near = abs(self.vwap - other.vwap) <= _VWAP_TOLERANCE * self.close
        return near and self[:-1] == other[:-1]


Expected = dict[Series, dict[str, dict[int, Facts]]]  # by symbol and start


@dataclass(frozen=True, slots=True)
class Tape:
    """What the bot was called with, in that order.

    Attributes:
        bars: Regular and updated ones.
        trades: Trades.
        backfills: How the stretches ended that history was asked for.
    """

    bars: Mapping[Series, Sequence[Bar]]
    trades: Sequence[Trade]
    backfills: Sequence[BackfillEvent]


# --- what is expected ---


def expected(history: History) -> Expected:
    """All bars of all series by what history knows in the end.

    Bars of trades are computed of its trades, so that they are not taken for right because the
    simulator makes the same mistake. Larger bars consist of minute bars, whatever those are of: a
    minute of nothing but odd lots has no bar, and its volume is in no other.
    """
    found: Expected = {series: {} for series in SERIES}
    for symbol in SYMBOLS:
        minutes = {bar["t"]: _facts(bar) for bar in history.final_bars(symbol)}
        traded = _of_trades(history.final_trades(symbol))
        for series in SERIES:
            parts = traded if series.channel == "trades" else minutes
            found[series][symbol] = parts if series.ns == MINUTE_NS else _of_bars(parts, series.ns)
    return found


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


def _facts(bar: Mapping[str, Any]) -> Facts:
    opened, high, low, close, volume, vwap = (
        _decimal(bar[key]) for key in ("o", "h", "l", "c", "v", "vw")
    )
    return Facts(opened, high, low, close, volume, bar["n"], vwap)


def _of_trades(trades: Iterable[Mapping[str, Any]]) -> dict[int, Facts]:
    bars = {}
    for start, group in itertools.groupby(trades, lambda t: t["t"] // MINUTE_NS * MINUTE_NS):
        every = list(group)
        priced = [(_decimal(t["p"]), _decimal(t["s"])) for t in every if _ODD_LOT not in t["c"]]
        if priced:
            prices = [price for price, _ in priced]
            bars[start] = Facts(
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                sum((_decimal(trade["s"]) for trade in every), Decimal()),
                len(every),
                _average(priced),
            )
    return bars


def _of_bars(minutes: Mapping[int, Facts], ns: int) -> dict[int, Facts]:
    bars = {}
    for start, group in itertools.groupby(sorted(minutes), lambda each: each // ns * ns):
        parts = [minutes[each] for each in group]
        bars[start] = Facts(
            parts[0].open,
            max(part.high for part in parts),
            min(part.low for part in parts),
            parts[-1].close,
            sum((part.volume for part in parts), Decimal()),
            sum(part.trades for part in parts),
            _average([(part.vwap, part.volume) for part in parts]),
        )
    return bars


def _average(weighted: Sequence[tuple[Decimal, Decimal]]) -> Decimal:
    return sum((p * s for p, s in weighted), Decimal()) / sum((s for _, s in weighted), Decimal())


# --- what is wrong ---


def wrong_bars(tape: Tape, wanted: Expected, first_bars: set[tuple[str, int]]) -> Iterator[str]:
    """What is wrong with the bars, series by series.

    Args:
        tape: What the bot saw.
        wanted: What history knows.
        first_bars: Symbol and start of the regular minute bars the feed had. For a minute of odd
            lots it has none, and an updated one nevertheless if a late trade follows.
    """
    for series in SERIES:
        by_symbol = defaultdict(list)
        for bar in tape.bars[series]:
            by_symbol[bar.symbol].append(bar)
        for symbol in SYMBOLS:
            about = f"{series} {symbol}"
            bars = by_symbol[symbol]
            for problem in itertools.chain(
                _wrong_starts(series, bars, wanted[series][symbol], first_bars),
                _wrong_order(bars),
                _wrong_figures(bars, wanted[series][symbol]),
                _wrongly_partial(series, bars, tape.backfills),
            ):
                yield f"{about} {problem}"


def _wrong_starts(
    series: Series,
    bars: Sequence[Bar],
    wanted: Mapping[int, Facts],
    first_bars: set[tuple[str, int]],
) -> Iterator[str]:
    """Each start once, as a regular bar; and no other."""
    regular = Counter(bar.timestamp_ns for bar in bars if bar.bar_kind == "regular")
    there = {bar.timestamp_ns for bar in bars}
    for start in sorted(wanted.keys() | there):
        if start not in wanted:
            yield f"{_time(start)}: history has no such bar"
        elif start not in there:
            yield f"{_time(start)}: missing"
        elif regular[start] > 1:
            yield f"{_time(start)}: {regular[start]} regular bars"
        elif not regular[start] and (
            series.built_from is not None or (bars[0].symbol, start) in first_bars
        ):
            yield f"{_time(start)}: only updated bars"


def _wrong_order(bars: Sequence[Bar]) -> Iterator[str]:
    """Regular bars in the order of their starts, but for those marked as late; then updates."""
    newest = 0
    seen: set[int] = set()
    updated: set[int] = set()
    for bar in bars:
        start = bar.timestamp_ns
        if bar.bar_kind == "updated":
            updated.add(start)
        elif start in updated:
            yield f"{_time(start)}: the regular bar came after an updated one"
        elif bar.is_late != (start < newest):
            yield f"{_time(start)}: is_late is {bar.is_late}, after a bar of {_time(newest)}"
        newest = max(newest, start)
        seen.add(start)


def _wrong_figures(bars: Sequence[Bar], wanted: Mapping[int, Facts]) -> Iterator[str]:
    """The last version of each bar is that of history."""
    for start, bar in {bar.timestamp_ns: bar for bar in bars}.items():
        if start in wanted and not wanted[start].agree(_said(bar)):
            yield (
                f"{_time(start)}: {bar.bar_kind} from {bar.source}"
                f"{' partial' if bar.is_partial else ''}\n"
                f"    says    {_shown(_said(bar))}\n    history {_shown(wanted[start])}"
            )


def _wrongly_partial(
    series: Series, bars: Sequence[Bar], backfills: Sequence[BackfillEvent]
) -> Iterator[str]:
    """A bar stays partial only if history could not fill a gap that it overlaps.

    The first one may be: whether all of its interval was seen cannot be told from its first event.
    """
    last = {bar.timestamp_ns: bar for bar in bars}
    first = min(last, default=0)
    for start, bar in last.items():
        if (
            bar.is_partial
            and start != first
            and not any(
                not event.complete
                and (event.channel, event.symbol) == (series.channel, bar.symbol)
                and event.start_ns < start + series.ns
                and start < event.end_ns
                for event in backfills
            )
        ):
            yield f"{_time(start)}: partial, and no gap is left"


def _said(bar: Bar) -> Facts:
    return Facts(
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        -1 if bar.trade_count is None else bar.trade_count,
        Decimal(-1) if bar.vwap is None else bar.vwap,
    )


def wrong_trades(trades: Sequence[Trade], history: History) -> Iterator[str]:
    """Each trade once."""
    seen = Counter((t.symbol, t.timestamp_ns, t.exchange, t.trade_id) for t in trades)
    there = {
        (symbol, trade["t"], trade["x"], trade["i"])
        for symbol in SYMBOLS
        for trade in history.final_trades(symbol)
    }
    for key in sorted(there - seen.keys()):
        yield f"trade missing: {key} of {_time(key[1])}"
    for key in sorted(seen.keys() - there):
        yield f"trade unknown to history: {key}"
    for key, count in sorted(seen.items()):
        if count > 1:
            yield f"trade {count} times: {key}"


def wrong_accounts(status: Status) -> Iterator[str]:
    """What was received has gone somewhere, and nothing waits any more."""
    backfill = status.backfill
    right = (
        sum(status.delivered.values())
        + status.invalid
        + sum(status.dropped.values())
        + status.undelivered
        + status.in_inbox
        + backfill.held
        + backfill.superseded
    )
    if status.received != right:
        yield f"received {status.received} and accounted for {right}: {status}"
    if backfill.held or backfill.failed:
        yield f"not all is filled: {backfill}"
    if status.rejected or status.callback_errors or status.dropped or status.undelivered:
        yield f"something was lost here: {status}"


def _time(ns: int) -> str:
    seconds = ns // 10**9 % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} UTC"


def _shown(facts: Facts) -> str:
    return " ".join(f"{name}={value}" for name, value in facts._asdict().items())
