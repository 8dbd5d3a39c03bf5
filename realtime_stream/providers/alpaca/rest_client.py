"""The SDK's historical clients, sending through a transport of ours.

Every method of theirs sends its request through their public ``get()``. Overridden, it hands path
and parameters to a transport with timeouts, keeps the body as it came, and gives the SDK an empty
answer: the SDK itself would gather all pages in memory and turn prices into floats. Times never
pass through its request classes, which cut them to microseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import quote, urlencode

from alpaca.common.enums import BaseURL, Sort
from alpaca.data.enums import Adjustment, CryptoFeed, DataFeed
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoTradesRequest,
    StockBarsRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from realtime_stream.providers.alpaca.history_query import TIMEFRAMES

__all__ = ["BASE_URL", "HistoryClient", "PageRequest", "history_client"]

BASE_URL: Final = BaseURL.DATA.value
Send: TypeAlias = Callable[[str], bytes]

_UNUSED: Final = "unused"  # the keys go into the headers of our own transport, never in here
_EMPTY: Final[Mapping[str, object]] = {"bars": {}}


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to ask for.

    Attributes:
        channel: ``bars`` or ``trades``.
        symbols: Which symbols.
        limit: Most rows.
        newest_first: The order of the rows.
        exact: Parameters that are sent as they are, such as times with all their digits.
        timeframe: Of bars.
    """

    channel: Literal["bars", "trades"]
    symbols: tuple[str, ...]
    limit: int
    newest_first: bool
    exact: Mapping[str, str]
    timeframe: str

    def common(self) -> dict[str, Any]:
        """What all of the SDK's requests take."""
        return {
            "symbol_or_symbols": list(self.symbols),
            "limit": self.limit,
            "sort": Sort.DESC if self.newest_first else Sort.ASC,
        }

    def sdk_timeframe(self) -> TimeFrame:
        """The timeframe as the SDK has it."""
        amount, unit = TIMEFRAMES[self.timeframe]
        return TimeFrame(amount, TimeFrameUnit(unit))


class _OwnTransport(ABC):
    """What both clients' ``get()`` becomes. Used by one thread at a time."""

    version: str
    _exact: Mapping[str, str]
    _send: Send
    _body: bytes

    def get(self, path: str, data: Any = None, **_: Any) -> Any:
        """See the module; called by the SDK."""
        values = {**data, **self._exact}
        query = {name: _text(value) for name, value in values.items() if value is not None}
        # The separators of symbols are legal in a query, and three times as long when quoted.
        encoded = urlencode(query, quote_via=quote, safe=",/:")
        self._body = self._send(f"/{self.version}{path}?{encoded}")
        return _EMPTY

    def page(self, request: PageRequest, send: Send) -> bytes:
        """The body that answers ``request``, sent through ``send`` with path and query."""
        self._exact, self._send = request.exact, send
        if request.channel == "bars":
            self._ask_for_bars(request)
        else:
            self._ask_for_trades(request)
        body, self._body = self._body, b""
        return body

    @abstractmethod
    def _ask_for_bars(self, request: PageRequest) -> None:
        """Have the SDK ask for a page of bars."""

    @abstractmethod
    def _ask_for_trades(self, request: PageRequest) -> None:
        """Have the SDK ask for a page of trades."""


class _Stocks(_OwnTransport, StockHistoricalDataClient):
    version = "v2"

    def __init__(self, feed: str) -> None:
        super().__init__(_UNUSED, _UNUSED, raw_data=True)
        self._feed = DataFeed(feed)

    def _ask_for_bars(self, request: PageRequest) -> None:
        self.get_stock_bars(
            StockBarsRequest(
                **request.common(),
                timeframe=request.sdk_timeframe(),
                adjustment=Adjustment.RAW,  # the stream's prices are not adjusted either
                feed=self._feed,
            )
        )

    def _ask_for_trades(self, request: PageRequest) -> None:
        self.get_stock_trades(StockTradesRequest(**request.common(), feed=self._feed))


class _Venue(Enum):
    """The SDK's enum lacks the venues that were added later; it looks at the value alone."""

    US = "us"
    US_1 = "us-1"
    EU_1 = "eu-1"


class _Crypto(_OwnTransport, CryptoHistoricalDataClient):
    version = "v1beta3"

    def __init__(self, feed: str) -> None:
        super().__init__(_UNUSED, _UNUSED, raw_data=True)
        self._feed = cast("CryptoFeed", _Venue(feed))

    def _ask_for_bars(self, request: PageRequest) -> None:
        asked = CryptoBarsRequest(**request.common(), timeframe=request.sdk_timeframe())
        self.get_crypto_bars(asked, self._feed)

    def _ask_for_trades(self, request: PageRequest) -> None:
        self.get_crypto_trades(CryptoTradesRequest(**request.common()), self._feed)


HistoryClient: TypeAlias = _Stocks | _Crypto


def history_client(market: str, feed: str) -> HistoryClient:
    """The SDK's client of a market that has a history."""
    return _Stocks(feed) if market == "stocks" else _Crypto(feed)


def _text(value: object) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)
