"""What a source of past events must offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from realtime_stream.config import Credentials
    from realtime_stream.market.models import Bar, Trade

__all__ = [
    "HistoryFactory",
    "HistoryPage",
    "HistoryProvider",
    "HistoryRequest",
]


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """What to fetch: ``start_ns <= timestamp_ns < end_ns``, nanoseconds since the epoch.

    Attributes:
        channel: ``bars`` or ``trades``.
        symbols: Which symbols.
        start_ns: First moment.
        end_ns: The moment after the last.
        timeframe: Of bars, such as ``1m``.
        newest: For one symbol, only so many events, the newest of the stretch; ``None`` for all.
    """

    channel: Literal["bars", "trades"]
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    timeframe: str = "1m"
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of an answer; each symbol's events come in the order of their times.

    Attributes:
        bars: Bars, with ``source="backfill"``; one whose interval still runs may be left out or
            come as it stands.
        trades: Trades that stand (not cancelled, corrected ones as corrected), with
            ``source="backfill"``.
    """

    bars: tuple[Bar, ...] = ()
    trades: tuple[Trade, ...] = ()


class HistoryProvider(Protocol):
    """A source of past bars and trades."""

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        """Fetch page after page; blocks. One thread at a time.

        Temporary refusals are tried again within, for a bounded time.

        Raises:
            HistoryUnavailableError: Not to be had before a time that it names.
            HistoryRefusedError: The request is refused for good.
            HistoryError: It failed, or :meth:`close` was called.
        """

    def close(self) -> None:
        """End what is being fetched within 0.5 s, and every later fetch at once.

        May be called more than once, by any thread.
        """


HistoryFactory: TypeAlias = Callable[[], HistoryProvider]
