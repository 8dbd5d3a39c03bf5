"""What a request for history asks for: Alpaca's paths and parameters, checked as Alpaca does.

Source: Alpaca's page on historical market data. Where it says nothing: parameters that it does not
name are refused, a date is midnight in New York for stocks and in UTC for crypto, and neither the
wording of most refusals nor the order of symbols with ``sort=desc`` is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from realtime_stream.simulator.bars import trading_day_start
from realtime_stream.simulator.endpoints import ENDPOINTS, MARKETS
from realtime_stream.simulator.history import END_OF_TIME
from realtime_stream.simulator.page_token import read_token
from realtime_stream.simulator.rollup import parse_timeframe
from realtime_stream.simulator.wire import to_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtime_stream.simulator.endpoints import Market
    from realtime_stream.simulator.page_token import Token
    from realtime_stream.simulator.rollup import Timeframe

__all__ = ["Query", "Route", "parse_query", "route_of"]

Kind = Literal["bars", "trades"]

_DEFAULT_LIMIT: Final = 1_000
_MAX_LIMIT: Final = 10_000
_FEEDS: Final = ("sip", "iex", "boats", "otc")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_NEW_YORK: Final = ZoneInfo("America/New_York")
_COMMON: Final = frozenset({"symbols", "start", "end", "limit", "page_token", "sort", "currency"})
_OF_BARS: Final = frozenset({"timeframe"})
_OF_STOCKS: Final = frozenset({"feed", "asof"})
_OF_STOCK_BARS: Final = frozenset({"adjustment"})


@dataclass(frozen=True, slots=True)
class Route:
    """A path that history is served at.

    Attributes:
        market: Market.
        kind: What is asked for.
    """

    market: Market
    kind: Kind

    @property
    def parameters(self) -> frozenset[str]:
        """Names of its parameters."""
        names = _COMMON
        if self.kind == "bars":
            names |= _OF_BARS
        if self.market.name == "stocks":
            names |= _OF_STOCKS
            if self.kind == "bars":
                names |= _OF_STOCK_BARS
        return names


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.

    Attributes:
        route: Where.
        symbols: Symbols, in order.
        start_ns: First time, nanoseconds since the epoch.
        end_ns: Last time, included; without one, the end of time.
        timeframe: Of bars.
        feed: Feed, if one is named.
        limit: Most rows of a page, over all symbols.
        descending: Newest first.
        token: Where the page before has ended.
    """

    route: Route
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    timeframe: Timeframe | None
    feed: str | None
    limit: int
    descending: bool
    token: Token | None


def _routes() -> dict[str, Route]:
    kinds: tuple[Kind, ...] = ("bars", "trades")
    crypto = [path for path, each in ENDPOINTS.items() if each.market.name == "crypto"]
    return {
        **{f"/v2/stocks/{kind}": Route(MARKETS["stocks"], kind) for kind in kinds},
        **{f"{path}/{kind}": Route(MARKETS["crypto"], kind) for path in crypto for kind in kinds},
    }


_ROUTES: Final = _routes()


def route_of(path: str) -> Route | None:
    """The route of a path, if there is one."""
    return _ROUTES.get(path)


def parse_query(route: Route, text: str, now_ns: int) -> Query:
    """The query behind a path.

    Args:
        route: Route of the path.
        text: What stands after the question mark.
        now_ns: Data time: without a start the day of this counts from its beginning.

    Raises:
        ValueError: It is refused; the text says why, as Alpaca's would.
    """
    values: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in route.parameters:
            _refuse(f"unexpected query parameter(s): {name}")
        values[name] = value
    end_ns = _time("end", values, route, END_OF_TIME)
    start_ns = _time("start", values, route, trading_day_start(now_ns))
    if end_ns < start_ns:
        _refuse("end should not be before start")
    _check_constants(values)
    timeframe = _timeframe(values) if route.kind == "bars" else None
    return Query(
        route=route,
        symbols=_symbols(values, route.market),
        start_ns=start_ns,
        end_ns=end_ns,
        timeframe=timeframe,
        feed=values.get("feed"),
        limit=_limit(values),
        descending=values.get("sort") == "desc",
        token=_token(values, route),
    )


def _refuse(reason: str) -> None:
    raise ValueError(reason)


def _symbols(values: Mapping[str, str], market: Market) -> tuple[str, ...]:
    symbols = [each for each in values.get("symbols", "").split(",") if each]
    if not symbols:
        _refuse("symbols is required")
    for symbol in symbols:
        if symbol == "*" or not market.accepts_symbol(symbol):
            _refuse(f"invalid symbol: {symbol}")
    return tuple(sorted(set(symbols)))


def _timeframe(values: Mapping[str, str]) -> Timeframe:
    if "timeframe" not in values:
        _refuse("timeframe is required")
    text = values["timeframe"]
    if text[-1:] in ("m", "h", "d"):  # this library's, which Alpaca does not know
        _refuse(f"invalid timeframe: {text}")
    return parse_timeframe(text)


def _limit(values: Mapping[str, str]) -> int:
    text = values.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_LIMIT):
        _refuse(f"invalid limit: {text}")
    return int(text)


def _check_constants(values: Mapping[str, str]) -> None:
    if values.get("sort", "asc") not in ("asc", "desc"):
        _refuse(f"invalid sort: {values['sort']}")
    if values.get("feed", "sip") not in _FEEDS:
        _refuse(f"invalid feed: {values['feed']}")


def _token(values: Mapping[str, str], route: Route) -> Token | None:
    text = values.get("page_token", "")
    if not text:
        return None
    token = read_token(text)
    if (token.place is None) != (route.kind == "bars"):
        _refuse(f"invalid page_token: {text}")
    return token


def _time(name: str, values: Mapping[str, str], route: Route, default: int) -> int:
    text = values.get(name)
    if text is None:
        return default
    try:
        if _DATE.fullmatch(text):
            zone = _NEW_YORK if route.market.name == "stocks" else UTC
            t_ns = to_ns(datetime.combine(date.fromisoformat(text), time(), zone))
        else:
            t_ns = to_ns(text)
    except ValueError as exc:
        msg = f"invalid {name}: {text}"
        raise ValueError(msg) from exc
    return min(max(t_ns, 0), END_OF_TIME)
