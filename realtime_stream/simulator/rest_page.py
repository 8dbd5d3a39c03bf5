"""Pages of history: which rows, and the token of the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from realtime_stream.simulator.page_token import bars_token, trades_token
from realtime_stream.simulator.rollup import Fields
from realtime_stream.simulator.tape import TradeRow, place_at
from realtime_stream.simulator.wire import encode_object, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.simulator.history import History
    from realtime_stream.simulator.page_token import Token
    from realtime_stream.simulator.rest_query import Query
    from realtime_stream.simulator.rollup import Timeframe
    from realtime_stream.simulator.tape import Tape

__all__ = ["page"]

_Row: TypeAlias = Fields | TradeRow


def page(query: Query, history: History, lag_ns: int) -> bytes:
    """The JSON of one page.

    Args:
        query: What is asked for.
        history: Where it comes from.
        lag_ns: Nanoseconds of data time by which history is late.
    """
    found: list[tuple[str, _Row]] = []
    for symbol in query.symbols:
        most = query.limit + 1 - len(found)  # one more, to know whether there is another page
        found += [(symbol, row) for row in _rows(query, symbol, history, most, lag_ns)]
        if len(found) > query.limit:
            break
    token = _token(query, *found[query.limit - 1]) if len(found) > query.limit else None
    shown: dict[str, list[Fields]] = {}
    for symbol, row in found[: query.limit]:
        shown.setdefault(symbol, []).append(_shown(row))
    return encode_object({query.route.kind: shown, "next_page_token": token}, "json")


def _rows(query: Query, symbol: str, history: History, most: int, lag_ns: int) -> Sequence[_Row]:
    if query.token is not None and symbol < query.token.symbol:
        return ()
    last = query.token if query.token is not None and symbol == query.token.symbol else None

    def question(tape: Tape, now_ns: int) -> Sequence[_Row]:
        if query.timeframe is None:
            return _trades(query, tape, last, now_ns - lag_ns, most)
        return _bars(query, tape, query.timeframe, last, now_ns - lag_ns)

    rows = history.read(query.route.market.name, symbol, question)
    return (rows[::-1] if query.descending else rows)[:most]


def _bars(
    query: Query, tape: Tape, timeframe: Timeframe, last: Token | None, known_ns: int
) -> list[Fields]:
    begin_ns, end_ns = query.start_ns, query.end_ns
    if last is not None and query.descending:
        end_ns = min(end_ns, last.t_ns - 1)
    elif last is not None:
        begin_ns = max(begin_ns, last.t_ns + 1)
    return tape.bars(timeframe, begin_ns, end_ns, known_ns)


def _trades(
    query: Query, tape: Tape, last: Token | None, known_ns: int, most: int
) -> list[TradeRow]:
    begin, past = place_at(query.start_ns), place_at(min(query.end_ns, known_ns) + 1)
    if last is not None and last.place is not None:
        if query.descending:
            past = min(past, last.place)
        else:
            begin = max(begin, (*last.place[:-1], last.place[-1] + 1))
    return tape.trades(begin, past, most, newest=query.descending, known_ns=known_ns)


def _token(query: Query, symbol: str, last: _Row) -> str:
    if isinstance(last, TradeRow):
        return trades_token(symbol, last.key)
    return bars_token(symbol, "Min" if query.timeframe is None else query.timeframe.unit, last["t"])


def _shown(row: _Row) -> Fields:
    fields = row.fields() if isinstance(row, TradeRow) else dict(row)
    fields["t"] = format_time(fields["t"])
    return fields
