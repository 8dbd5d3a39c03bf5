"""A request for history as the queries that answer it: short URLs, exact times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import ConfigurationError, HistoryRefusedError, InvalidSymbolError
from realtime_stream.market.channels import ALL_SYMBOLS, validate_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtime_stream.ports import HistoryRequest

__all__ = [
    "MAX_ROWS",
    "TIMEFRAMES",
    "Query",
    "check_timeframe",
    "history_feed",
    "queries_of",
    "rfc3339",
]

MAX_ROWS: Final = 10_000  # the most that a page may hold
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Characters of symbols in one URL: one of about 10 kB was answered with 414.
_MAX_SYMBOLS: Final = 1800

# Which history belongs to a feed of the stream. The overnight feed is made of delayed prices that
# no history has, and the test feed's one symbol exists nowhere else.
_STOCK_FEEDS: Final = {"iex": "iex", "sip": "sip", "delayed_sip": "sip", "boats": "boats"}
_CRYPTO_FEEDS: Final = {feed: feed for feed in ("us", "us-1", "eu-1")}
_FEEDS: Final[dict[str, dict[str, str]]] = {"stocks": _STOCK_FEEDS, "crypto": _CRYPTO_FEEDS}

# Amount and unit of each, as Alpaca has them. Only lengths that fill the next unit without a rest:
# those whose bars begin where ours do.
TIMEFRAMES: Final[dict[str, tuple[int, str]]] = {
    **{f"{n}m": (n, "Min") for n in range(1, 60) if 60 % n == 0},
    **{f"{n}h": (n, "Hour") for n in range(1, 24) if 24 % n == 0},
    "1d": (1, "Day"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One query: a stretch of time of symbols that fit into one URL.

    Attributes:
        symbols: Which symbols.
        start_ns: First moment.
        end_ns: The moment after the last.
    """

    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int

    def times(self) -> dict[str, str]:
        """The parameters ``start`` and ``end``; the server takes both as inclusive."""
        return {"start": rfc3339(self.start_ns), "end": rfc3339(self.end_ns - 1)}


def history_feed(market: str, feed: str) -> str:
    """The feed of the history that goes with a feed of the stream.

    Raises:
        ConfigurationError: There is none; the message says for which there is one.
    """
    feeds = _FEEDS.get(market)
    if feeds is None:
        msg = f"there is no history for market {market!r}: it is there for {' and '.join(_FEEDS)}"
        raise ConfigurationError(msg)
    found = feeds.get(feed)
    if found is None:
        msg = (
            f"there is no history for feed {ascii(feed)[:30]} of {market}: it is there for "
            f"{', '.join(feeds)}"
        )
        raise ConfigurationError(msg)
    return found


def check_timeframe(timeframe: str) -> None:
    """Nothing, for a timeframe of which there are bars.

    Raises:
        HistoryRefusedError: There are none; the message names what is allowed.
    """
    if timeframe not in TIMEFRAMES:
        msg = (
            f"there is no history of bars with timeframe {ascii(timeframe)[:30]}: allowed are "
            f"{', '.join(TIMEFRAMES)}"
        )
        raise HistoryRefusedError(msg)


def queries_of(request: HistoryRequest, market: str) -> tuple[Query, ...]:
    """The queries that together answer a request, in the order of its symbols.

    Raises:
        HistoryRefusedError: A symbol or a number in it is not acceptable.
    """
    symbols = tuple(dict.fromkeys(_checked(request.symbols, market)))
    if request.newest is not None and (len(symbols) != 1 or request.newest < 1):
        msg = "newest needs exactly one symbol, and a number above 0"
        raise HistoryRefusedError(msg)
    start_ns, end_ns = request.start_ns, request.end_ns
    if start_ns >= end_ns:
        return ()
    try:
        rfc3339(start_ns), rfc3339(end_ns)
    except OverflowError:
        msg = "start and end must lie in the years 1 to 9999"
        raise HistoryRefusedError(msg) from None
    return tuple(Query(part, start_ns, end_ns) for part in _parts(symbols))


def _checked(symbols: Iterable[str], market: str) -> Iterator[str]:
    for symbol in symbols:
        if symbol == ALL_SYMBOLS:
            msg = "history is of single symbols: '*' is not allowed"
            raise HistoryRefusedError(msg)
        try:
            yield validate_symbol(symbol, market)
        except InvalidSymbolError as exc:
            raise HistoryRefusedError(str(exc)) from None


def _parts(symbols: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    part: list[str] = []
    size = 0
    for symbol in symbols:
        size += len(symbol) + 1
        if part and size > _MAX_SYMBOLS:
            yield tuple(part)
            part, size = [], len(symbol) + 1
        part.append(symbol)
    if part:
        yield tuple(part)


def rfc3339(timestamp_ns: int) -> str:
    """The moment with all nine digits of its nanoseconds.

    Raises:
        OverflowError: Beyond the years 1 to 9999.
    """
    seconds, fraction = divmod(timestamp_ns, _NS)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment.isoformat()[:19]}.{fraction:09d}Z"
