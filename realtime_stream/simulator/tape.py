"""What history knows of one symbol: its trades and its bars."""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import structs

from realtime_stream.simulator.rollup import MINUTE, Fields, roll_up
from realtime_stream.simulator.wire import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtime_stream.simulator.rollup import Timeframe
    from realtime_stream.simulator.wire import Message

__all__ = ["Tape", "TradeKey", "TradeRow", "place_at"]

TradeKey = tuple[int, str, int, int]
Mark = Literal["canceled", "incorrect", "corrected"]

_DAY: Final = 86_400 * SECOND
_BAR_KEYS: Final = ("o", "h", "l", "c", "v", "n", "vw")
_LOWEST_ID: Final = -(1 << 63)
_LEFT_OUT: Final = frozenset({"T", "S", "t"})
_CORRECTED_KEYS: Final = ("i", "p", "s", "c")  # in a correction each behind a "c"


class TradeRow(msgspec.Struct, frozen=True, gc=False):
    """One trade, packed: a session of tests has millions.

    Attributes:
        t_ns: Its time, nanoseconds since the epoch.
        exchange: Venue code; empty where there is none.
        trade_id: Its number; 0 if it has none.
        revision: 0, 1, 2 ... of the rows with the same time, exchange and number.
        mark: What a later message has said about it.
        told_ns: Data time at which it was published, which may be later.
        marked_ns: Data time at which the mark was.
        before: The mark before that.
        packed: The message, in msgpack.
    """

    t_ns: int
    exchange: str
    trade_id: int
    revision: int
    mark: Mark | None
    told_ns: int
    marked_ns: int
    packed: bytes
    before: Mark | None = None

    @property
    def key(self) -> TradeKey:
        """Its place among the trades of its symbol."""
        return self.t_ns, self.exchange, self.trade_id, self.revision

    def known_at(self, known_ns: int) -> TradeRow | None:
        """As it was known then, if it was."""
        if self.told_ns > known_ns:
            return None
        return self if self.marked_ns <= known_ns else structs.replace(self, mark=self.before)

    def fields(self) -> Fields:
        """Keys and values of the wire, without type and symbol; ``t`` in nanoseconds."""
        message: Fields = msgspec.msgpack.decode(self.packed)
        fields: Fields = {"t": self.t_ns}
        fields |= {key: message[key] for key in message if key not in _LEFT_OUT}
        if self.mark is not None:
            fields["u"] = self.mark
        return fields


def place_at(t_ns: int) -> TradeKey:
    """The place before all trades of this time."""
    return t_ns, "", _LOWEST_ID, 0


def _key(row: TradeRow) -> TradeKey:
    return row.key


class _Minute(msgspec.Struct):
    """A minute's bar, and what it was updated to when."""

    regular: Fields | None = None
    updates: list[tuple[int, Fields]] = []

    def known_at(self, known_ns: int) -> Fields | None:
        """As it was known then; a regular bar is known from the minute's end on."""
        for told_ns, bar in reversed(self.updates):
            if told_ns <= known_ns:
                return bar
        return self.regular


class Tape:
    """One symbol.

    Thread safety: guarded by who holds it.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._trades: list[TradeRow] = []
        self._seen: dict[str, dict[int, int]] = {}  # exchange, number: time of the newest
        self._amendments: set[tuple[object, ...]] = set()
        self._bars: dict[int, _Minute] = {}  # by start
        self._newest_ns = 0  # when the newest trade, or mark of one, was published
        self._starts: list[int] = []  # of the bars, in order
        self._days: dict[int, list[tuple[int, Fields]]] = {}  # start: when published, totals

    def take(self, message: Message, told_ns: int) -> None:
        """Enter a trade, a bar, or what changes one of them, as published at this data time.

        Anything else is not history, nor is what has no time, or a bar that lacks a figure.
        """
        fields = message.fields
        if "t" not in fields:
            return
        match message.channel:
            case "trades":
                self._take_trade(message, told_ns)
            case "bars" | "updatedBars" if _is_bar(fields):
                self._take_bar(message, told_ns)
            case "dailyBars" if _is_bar(fields):
                self._days.setdefault(fields["t"], []).append((told_ns, _bar_fields(fields)))
            case "corrections" | "cancelErrors":
                mark: Mark = "incorrect" if message.channel == "corrections" else "canceled"
                self._amend(fields, mark, told_ns)

    def trades(
        self,
        begin: TradeKey,
        past: TradeKey,
        most: int | None = None,
        *,
        newest: bool = False,
        known_ns: int | None = None,
    ) -> list[TradeRow]:
        """Trades from one place on and before another, in their order.

        Args:
            begin: The first place.
            past: The place after the last.
            most: At most so many; ``None`` is all.
            newest: Of more than that, the newest instead of the oldest.
            known_ns: Only what had been published by then; ``None`` is everything.
        """
        low = bisect.bisect_left(self._trades, begin, key=_key)
        high = max(bisect.bisect_left(self._trades, past, key=_key), low)
        if known_ns is not None and known_ns < self._newest_ns:
            places = range(low, high)
            rows = (
                self._trades[at].known_at(known_ns) for at in (places[::-1] if newest else places)
            )
            known = list(itertools.islice((row for row in rows if row is not None), most))
            return known[::-1] if newest else known
        if most is not None and newest:
            low = max(low, high - most)
        elif most is not None:
            high = min(high, low + most)
        return self._trades[low:high]

    def bars(self, timeframe: Timeframe, begin_ns: int, end_ns: int, known_ns: int) -> list[Fields]:
        """Bars whose start lies from ``begin_ns`` to ``end_ns``, both included, oldest first.

        Args:
            timeframe: Their length.
            begin_ns: First start.
            end_ns: Last start.
            known_ns: Only what had ended by then, as it was known then. A day that has not ended is
                there with what there is.
        """
        if timeframe.is_day:
            return self._daily_bars(timeframe, begin_ns, end_ns, known_ns)
        last = min(end_ns, known_ns - timeframe.length_ns)
        first = timeframe.start_of(begin_ns)
        minutes = self._minutes(first, last + timeframe.length_ns, known_ns)
        if timeframe.is_minute:
            return [{"t": start, **bar} for start, bar in minutes if begin_ns <= start <= last]
        return [bar for bar in roll_up(minutes, timeframe) if begin_ns <= bar["t"] <= last]

    def _daily_bars(
        self, timeframe: Timeframe, begin_ns: int, end_ns: int, known_ns: int
    ) -> list[Fields]:
        first = timeframe.start_of(begin_ns)
        past = timeframe.start_of(end_ns) + timeframe.length_ns + 60 * MINUTE
        minutes = self._minutes(first, past, known_ns)
        bars = {bar["t"]: bar for bar in roll_up(minutes, timeframe)}
        for start, published in self._days.items():
            totals = [bar for at_ns, bar in published if at_ns <= known_ns]
            if totals:
                bars[start] = {"t": start, **totals[-1]}
        return [bars[start] for start in sorted(bars) if begin_ns <= start <= end_ns]

    def _minutes(self, begin_ns: int, past_ns: int, known_ns: int) -> list[tuple[int, Fields]]:
        low = bisect.bisect_left(self._starts, begin_ns)
        high = bisect.bisect_left(self._starts, min(past_ns, known_ns - MINUTE + 1))
        minutes = (
            (start, self._bars[start].known_at(known_ns)) for start in self._starts[low:high]
        )
        return [(start, bar) for start, bar in minutes if bar is not None]

    def _take_bar(self, message: Message, told_ns: int) -> None:
        start, bar = message.fields["t"], _bar_fields(message.fields)
        minute = self._bars.get(start)
        if minute is None:
            bisect.insort(self._starts, start)
            minute = self._bars[start] = _Minute()
        if message.channel == "updatedBars":
            minute.updates.append((told_ns, bar))
        else:
            minute.regular = bar

    def _take_trade(self, message: Message, told_ns: int) -> None:
        fields = message.fields
        t_ns, number, exchange = fields["t"], _number(fields, "i"), _exchange(fields)
        if number is not None:
            known = self._seen.setdefault(exchange, {})
            # Numbers are unique within a day only.
            if number in known and known[number] // _DAY == t_ns // _DAY:
                return
            known[number] = t_ns
        self._insert((t_ns, exchange, number), None, told_ns, message.encoded("msgpack"))

    def _insert(
        self, place: tuple[int, str, int | None], mark: Mark | None, told_ns: int, packed: bytes
    ) -> None:
        t_ns, exchange, number = place
        trade_id = number or 0
        index = len(self._trades)
        past = (t_ns, exchange, trade_id + 1, 0)
        if self._trades and self._trades[-1].key >= past:
            index = bisect.bisect_left(self._trades, past, key=_key)
        revision = 0
        if index:
            before = self._trades[index - 1]
            if before.key[:-1] == (*past[:2], trade_id):
                revision = before.revision + 1
        row = TradeRow(t_ns, exchange, trade_id, revision, mark, told_ns, told_ns, packed)
        self._trades.insert(index, row)
        self._newest_ns = max(self._newest_ns, told_ns)

    def _amend(self, fields: Fields, mark: Mark, told_ns: int) -> None:
        """Carry out a correction or a cancel: once, however often it comes."""
        number, exchange = _number(fields, "oi" if mark == "incorrect" else "i"), _exchange(fields)
        known = (mark, exchange, number, _number(fields, "ci"), fields["t"])
        if known in self._amendments:
            return
        self._amendments.add(known)
        t_ns = self._mark(exchange, number, mark, told_ns)
        if mark == "incorrect":
            # The right trade took place when the wrong one did, not when that was noticed.
            self._correct(fields, exchange, fields["t"] if t_ns is None else t_ns, told_ns)

    def _mark(self, exchange: str, number: int | None, mark: Mark, told_ns: int) -> int | None:
        """Mark the newest trade of this number; its time, if there is one."""
        t_ns = None if number is None else self._seen.get(exchange, {}).get(number)
        if number is None or t_ns is None:
            return None
        index = bisect.bisect_left(self._trades, (t_ns, exchange, number + 1, 0), key=_key) - 1
        row = self._trades[index]
        self._trades[index] = structs.replace(row, mark=mark, marked_ns=told_ns, before=row.mark)
        self._newest_ns = max(self._newest_ns, told_ns)
        return t_ns

    def _correct(self, fields: Fields, exchange: str, t_ns: int, told_ns: int) -> None:
        right = {"T": "t", "S": fields["S"]}
        right |= {key: fields[key] for key in ("x", "z") if key in fields}
        right |= {key: fields["c" + key] for key in _CORRECTED_KEYS if "c" + key in fields}
        number = _number(right, "i")
        if number is not None:
            self._seen.setdefault(exchange, {})[number] = t_ns
        self._insert((t_ns, exchange, number), "corrected", told_ns, msgspec.msgpack.encode(right))


def _number(fields: Mapping[str, Any], key: str) -> int | None:
    number = fields.get(key)
    return number if isinstance(number, int) else None


def _exchange(fields: Mapping[str, Any]) -> str:
    exchange = fields.get("x")
    return exchange if isinstance(exchange, str) else ""


def _is_bar(fields: Mapping[str, Any]) -> bool:
    return all(isinstance(fields.get(key), (int, float)) for key in _BAR_KEYS)


def _bar_fields(fields: Mapping[str, Any]) -> Fields:
    return {key: fields[key] for key in _BAR_KEYS}
