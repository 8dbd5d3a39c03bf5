"""What one session is subscribed to, and what the server says to a request to change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from realtime_stream.simulator.endpoints import ALL_SYMBOLS, MARKETS, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from realtime_stream.simulator.wire import Codec, Message

__all__ = ["RequestError", "Subscriptions", "requested"]

# The channels whose symbols a plan limits; Alpaca does not say how bars count, so they count.
_LIMITED: Final = ("trades", "quotes", "bars")
_ALL_CHANNELS: Final = frozenset(
    channel for market in MARKETS.values() for channel in market.channels
)


class RequestError(Exception):
    """The server answers the request with an error."""

    def __init__(self, code: int) -> None:
        """Args: the error's ``code``."""
        super().__init__(code)
        self.code = code


def requested(
    request: Mapping[str, Any], endpoint: Endpoint, codec: Codec
) -> list[tuple[str, str]]:
    """The (channel, symbol) pairs that a subscribe or unsubscribe request names.

    Raises:
        RequestError: 400, 410, 412 or 413.
    """
    market = endpoint.market
    pairs: list[tuple[str, str]] = []
    for channel, symbols in request.items():
        if channel == "action":
            continue
        if channel not in _ALL_CHANNELS or not isinstance(symbols, list | tuple):
            raise RequestError(400)
        if symbols and channel not in market.channels:
            raise RequestError(410)
        if not all(isinstance(symbol, str) and market.accepts_symbol(symbol) for symbol in symbols):
            raise RequestError(400)
        pairs += [(channel, symbol) for symbol in symbols]
    if market.name == "options":
        _check_options(pairs, codec)
    return pairs


def _check_options(pairs: Collection[tuple[str, str]], codec: Codec) -> None:
    if codec == "json":
        raise RequestError(412)
    if ("quotes", ALL_SYMBOLS) in pairs:
        raise RequestError(413)


class Subscriptions:
    """The channels and symbols of one session. Thread safety: simulator's thread only."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Args: ``endpoint`` says which channels there are."""
        self._endpoint = endpoint
        self._symbols: dict[str, set[str]] = {
            channel: set() for channel in endpoint.market.channels
        }

    def add(self, pairs: Iterable[tuple[str, str]], limit: int | None) -> None:
        """Subscribe.

        Raises:
            RequestError: 405: trades, quotes and bars together would have more than ``limit``
                different symbols (``"*"`` counts as one); nothing has changed.
        """
        wanted = [pair for pair in pairs if pair[0] not in self._endpoint.market.mirrored]
        limited = {symbol for channel, symbol in wanted if channel in _LIMITED}
        limited.update(*(self._symbols.get(channel, ()) for channel in _LIMITED))
        if limit is not None and len(limited) > limit:
            raise RequestError(405)
        self._apply(wanted, set.add)

    def remove(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Unsubscribe; what was not subscribed does not matter."""
        mirrored = self._endpoint.market.mirrored
        self._apply((pair for pair in pairs if pair[0] not in mirrored), set.discard)

    def _apply(
        self, pairs: Iterable[tuple[str, str]], change: Callable[[set[str], str], None]
    ) -> None:
        for channel, symbol in pairs:
            change(self._symbols[channel], symbol)
        for channel in self._endpoint.market.mirrored:
            self._symbols[channel] = set(self._symbols["trades"])

    def wants(self, message: Message) -> bool:
        """Whether the message goes to this session."""
        symbols = self._symbols[message.channel]
        return ALL_SYMBOLS in symbols or not symbols.isdisjoint(message.symbols)

    def pairs(self) -> frozenset[tuple[str, str]]:
        """Everything that is subscribed."""
        return frozenset(
            (channel, symbol) for channel, symbols in self._symbols.items() for symbol in symbols
        )

    def acknowledgement(self, *, terse: bool) -> dict[str, object]:
        """The complete current list; ``terse`` leaves out channels without a symbol."""
        listed = () if terse else self._endpoint.listed
        return {
            "T": "subscription",
            **{
                channel: sorted(symbols)
                for channel, symbols in self._symbols.items()
                if symbols or channel in listed
            },
        }
