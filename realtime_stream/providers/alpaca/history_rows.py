"""Bodies of history to events. A malformed row costs a row, a malformed body the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from realtime_stream.errors import HistoryError
from realtime_stream.market.models import Bar, Trade
from realtime_stream.providers.alpaca.decoder import nanoseconds
from realtime_stream.resilience.failures import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from realtime_stream.providers.alpaca.history_query import Query

__all__ = ["RowDecoder", "Rows"]

# What bytes that nobody checked may raise, as in the decoder of frames.
_BAD_DATA: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_NOT_STANDING: Final = frozenset({"canceled", "incorrect"})  # a trade as reported first


class _BarRow(msgspec.Struct):
    t: str
    o: Decimal
    h: Decimal
    l: Decimal  # noqa: E741  # the wire's name
    c: Decimal
    v: Decimal
    n: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    vw: Decimal | None = None


class _TradeRow(msgspec.Struct):
    t: str
    p: Decimal
    s: Decimal
    x: str | None = None
    i: int | str | None = None
    c: tuple[str, ...] | str | None = ()
    z: str | None = None
    tks: str | None = None
    u: str | None = None


class _Bars(msgspec.Struct):
    bars: dict[str, list[_BarRow] | None] | None
    next_page_token: str | None = None


class _Trades(msgspec.Struct):
    trades: dict[str, list[_TradeRow] | None] | None
    next_page_token: str | None = None


class _RawBars(msgspec.Struct):
    bars: dict[str, list[msgspec.Raw] | None] | None
    next_page_token: str | None = None


class _RawTrades(msgspec.Struct):
    trades: dict[str, list[msgspec.Raw] | None] | None
    next_page_token: str | None = None


@dataclass(slots=True)
class Rows:
    """What one page holds.

    Attributes:
        events: Bars or trades, each symbol's in the order of the page.
        next_token: Token of the next page; empty after the last.
        malformed: Rows that could not be understood, or that nobody asked for.
        reason: What was wrong with the first of them.
    """

    events: list[Any] = field(default_factory=list)
    next_token: str = ""
    malformed: int = 0
    reason: str = ""

    def reject(self, reason: str) -> None:
        """Count a row that costs only itself."""
        self.malformed += 1
        self.reason = self.reason or harmless(reason)


class RowDecoder:
    """Decodes the pages that answer one request.

    Thread safety: it keeps nothing between pages; any thread may decode.
    """

    def __init__(self, channel: Literal["bars", "trades"], timeframe: str) -> None:
        """Build the decoders.

        Args:
            channel: What the pages hold.
            timeframe: Of bars, as stamped on them.
        """
        self._channel = channel
        self._timeframe = timeframe
        bars = channel == "bars"
        self._page: Any = msgspec.json.Decoder(_Bars if bars else _Trades)
        self._parts: Any = msgspec.json.Decoder(_RawBars if bars else _RawTrades)
        self._row: Any = msgspec.json.Decoder(_BarRow if bars else _TradeRow)
        self._event: Callable[..., Bar | Trade | None] = self._bar if bars else _trade

    def decode(self, body: bytes, query: Query, received_ns: int) -> Rows:
        """Decode one page.

        Args:
            body: As it came.
            query: What was asked for; rows of anything else are left out.
            received_ns: Stamped on every event.

        Raises:
            HistoryError: It is no page at all.
        """
        rows = Rows()
        wanted = frozenset(query.symbols)
        for symbol, row in self._read(body, rows):
            if symbol not in wanted:
                rows.reject("a symbol that was not asked for")
                continue
            try:
                event = self._event(symbol, row, received_ns)
            except _BAD_DATA as exc:
                rows.reject(str(exc))
                continue
            if event is None:
                continue
            if query.start_ns <= event.timestamp_ns < query.end_ns:
                rows.events.append(event)
            else:
                rows.reject("a time that was not asked for")
        return rows

    def _read(self, body: bytes, rows: Rows) -> Iterator[tuple[str, Any]]:
        """Symbol and row, one after the other, and the token of the next page."""
        try:
            page = self._page.decode(body)
            read: Callable[[Any], Any] = _as_it_is
        except _BAD_DATA:
            page = self._parts_of(body)
            read = self._row.decode
        rows.next_token = page.next_page_token or ""
        by_symbol: Mapping[str, list[Any] | None] = getattr(page, self._channel) or {}
        for symbol, part in by_symbol.items():
            for raw in part or ():
                try:
                    row = read(raw)
                except _BAD_DATA as exc:
                    rows.reject(str(exc))
                    continue
                yield symbol, row

    def _parts_of(self, body: bytes) -> Any:
        """The slow way, for a page in which something is wrong."""
        try:
            return self._parts.decode(body)
        except _BAD_DATA as exc:
            msg = f"the answer is no page of {self._channel}: {harmless(str(exc))}"
            raise HistoryError(msg) from None

    def _bar(self, symbol: str, row: _BarRow, received_ns: int) -> Bar:
        _check_finite(row.o, row.h, row.l, row.c, row.v, row.vw)
        return Bar(
            symbol=symbol,
            timestamp_ns=nanoseconds(row.t),
            received_ns=received_ns,
            open=row.o,
            high=row.h,
            low=row.l,
            close=row.c,
            volume=row.v,
            trade_count=row.n,
            vwap=row.vw,
            timeframe=self._timeframe,
            source="backfill",
        )


def _trade(symbol: str, row: _TradeRow, received_ns: int) -> Trade | None:
    """``None`` for a trade that was taken back."""
    if row.u in _NOT_STANDING:
        return None
    _check_finite(row.p, row.s)
    codes = row.c
    return Trade(
        symbol=symbol,
        timestamp_ns=nanoseconds(row.t),
        received_ns=received_ns,
        price=row.p,
        size=row.s,
        exchange=row.x,
        trade_id=row.i,
        conditions=((codes,) if codes else ()) if isinstance(codes, str) else codes or (),
        tape=row.z,
        taker_side=row.tks,
        source="backfill",
    )


def _as_it_is(row: Any) -> Any:
    return row


def _check_finite(*numbers: Decimal | None) -> None:
    for number in numbers:
        if number is not None and not number.is_finite():
            msg = "a number is not finite"
            raise ValueError(msg)
