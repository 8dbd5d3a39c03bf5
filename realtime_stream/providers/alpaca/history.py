"""Alpaca's past bars and trades, page by page; closed from any thread at any moment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.errors import HistoryError, HistoryRefusedError
from realtime_stream.ports import HistoryPage
from realtime_stream.providers.alpaca.history_query import (
    MAX_ROWS,
    check_timeframe,
    history_feed,
    queries_of,
)
from realtime_stream.providers.alpaca.history_rows import RowDecoder, Rows
from realtime_stream.providers.alpaca.rest_client import BASE_URL, PageRequest, history_client
from realtime_stream.providers.alpaca.rest_exchange import RestExchange, RestPolicy
from realtime_stream.providers.alpaca.rest_line import RestLine

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials, StreamConfig
    from realtime_stream.ports import HistoryRequest
    from realtime_stream.providers.alpaca.history_query import Query

__all__ = ["AlpacaHistory"]

_LOGGER: Final = logging.getLogger("realtime_stream")


class AlpacaHistory:
    """A :class:`~realtime_stream.ports.HistoryProvider` over the official SDK's clients.

    Stocks have a history for the feeds ``iex``, ``sip``, ``delayed_sip`` (that of ``sip``) and
    ``boats``, crypto for its venues. Bars of timeframes from 1 to 30 minutes, 1 to 12 hours and
    one day; their prices are as traded, not adjusted for splits. A bar whose interval still runs
    comes as it stands: ask for no more than what has ended.

    Thread safety: :meth:`fetch`, and the iterator it returns, are used by one thread; the rest by
    any.
    """

    def __init__(
        self,
        config: StreamConfig,
        clock: Clock,
        data_clock: Clock,
        rng: random.Random,
        *,
        url: str | None = None,
        owner: str = "history",
        policy: RestPolicy | None = None,
    ) -> None:
        """Nothing connects yet.

        Args:
            config: Market and feed.
            clock: Network waits and backoff.
            data_clock: Stamps what is received.
            rng: Draws the jitter of the backoff.
            url: Base URL, ``http://`` or ``https://``, without the version (``/v2``); ``None`` for
                Alpaca's own.
            owner: The manager's name, for the thread of a look-up and for log records.
            policy: Timeouts and retries; ``None`` for the defaults.

        Raises:
            ConfigurationError: The market or the feed has no history, or that is no URL.
        """
        policy = policy or RestPolicy()
        self._market = config.market
        self._client = history_client(config.market, history_feed(config.market, config.feed))
        self._data_clock = data_clock
        self._owner = owner
        base_url = BASE_URL if url is None else url
        self._line = RestLine(base_url, clock=clock, timeouts=policy.timeouts, owner=owner)
        self._exchange = RestExchange(self._line, clock=clock, rng=rng, policy=policy, owner=owner)

    def close(self) -> None:
        """See :class:`~realtime_stream.ports.HistoryProvider`."""
        self._exchange.close()

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        """See :class:`~realtime_stream.ports.HistoryProvider`.

        A request that cannot be served is refused by the call itself, everything else by the
        iterator. A page holds at most 10,000 events and is never empty.
        """
        self._exchange.check_open()
        if request.channel not in {"bars", "trades"}:
            msg = f"there is no history of {ascii(request.channel)[:30]}: only of bars and trades"
            raise HistoryRefusedError(msg)
        if request.channel == "bars":
            check_timeframe(request.timeframe)
        queries = queries_of(request, self._market)
        fetch = self._all if request.newest is None else self._newest
        return fetch(request, queries, credentials)

    def _all(
        self, request: HistoryRequest, queries: Sequence[Query], credentials: Credentials
    ) -> Iterator[HistoryPage]:
        for query in queries:
            for rows in self._pages(request, query, credentials):
                yield from _whole_pages(request, rows.events)

    def _newest(
        self, request: HistoryRequest, queries: Sequence[Query], credentials: Credentials
    ) -> Iterator[HistoryPage]:
        """The newest come first from the server, and leave here in the order of their times."""
        wanted = request.newest or 0
        events: list[Any] = []
        for query in queries:
            for rows in self._pages(request, query, credentials):
                events.extend(rows.events)
                if len(events) >= wanted:
                    break
        yield from _whole_pages(request, events[:wanted][::-1])

    def _pages(
        self, request: HistoryRequest, query: Query, credentials: Credentials
    ) -> Iterator[Rows]:
        """The server's pages; those of ``newest`` begin with the last event."""
        decoder = RowDecoder(request.channel, request.timeframe)
        exact = query.times()
        while True:
            page = PageRequest(
                channel=request.channel,
                symbols=query.symbols,
                timeframe=request.timeframe,
                limit=min(request.newest or MAX_ROWS, MAX_ROWS),
                newest_first=request.newest is not None,
                exact=exact,
            )
            body = self._client.page(
                page,
                lambda target: self._exchange.get(target, credentials, end_ns=query.end_ns),
            )
            rows = decoder.decode(body, query, self._data_clock.utc_now_ns())
            self._note(rows)
            yield rows
            if not rows.next_token:
                return
            if rows.next_token == exact.get("page_token"):
                msg = "the server sends the same page again and again"
                raise HistoryError(msg)
            exact = {**exact, "page_token": rows.next_token}

    def _note(self, rows: Rows) -> None:
        if rows.malformed:
            _LOGGER.debug(
                "realtime_history_rows_malformed",
                extra={"manager": self._owner, "count": rows.malformed, "reason": rows.reason},
            )


def _whole_pages(request: HistoryRequest, events: Sequence[Any]) -> Iterator[HistoryPage]:
    """Pages as large as promised, whatever the server took for one."""
    for first in range(0, len(events), MAX_ROWS):
        part = tuple(events[first : first + MAX_ROWS])
        if request.channel == "bars":
            yield HistoryPage(bars=part)
        else:
            yield HistoryPage(trades=part)
