"""Who wants what: registrations, explicit subscriptions and the watchlist, in one place."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from realtime_stream.errors import ConfigurationError, UnsupportedChannelError
from realtime_stream.market.channels import (
    ALL_SYMBOLS,
    MARKET_CHANNELS,
    Subscription,
    validate_channel,
    validate_symbol,
)
from realtime_stream.market.models import MarketEvent, News
from realtime_stream.runtime.home import Home

__all__ = ["LISTENERS", "Callback", "Registration", "Registry", "Routes", "callback_name"]

Callback: TypeAlias = Callable[[Any], object]

LISTENERS: Final = ("connect", "disconnect", "gap", "stale", "error", "state_change")
_numbers: Final = itertools.count(1)
_NONE: Final[tuple[Registration, ...]] = ()


def callback_name(callback: Callable[..., object]) -> str:
    """What a callback is called in reports: module and qualified name."""
    name = getattr(callback, "__qualname__", type(callback).__qualname__)
    return f"{getattr(callback, '__module__', None) or '?'}.{name}"


def _check_callback(callback: object) -> None:
    if not callable(callback):
        msg = f"callback must be callable, not {type(callback).__name__}"
        raise ConfigurationError(msg)
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
        type(callback).__call__
    ):
        msg = "callback must be a plain function: coroutine functions are never awaited here"
        raise ConfigurationError(msg)


class Registration:
    """Handle of one registered callback. Callable like the callback itself.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self, channel: str, callback: Callback, symbols: frozenset[str], registry: Registry
    ) -> None:
        """Made by the manager's ``on_*`` methods."""
        self.channel = channel
        self.symbols = symbols
        self.callback = callback
        self.name = callback_name(callback)
        self.number = next(_numbers)
        self.removed = False
        self._registry = registry

    def remove(self) -> None:
        """Stop calling the callback; its symbols are unsubscribed if nobody else wants them.

        A call that is running goes on to its end. Removing twice does nothing.
        """
        self._registry.remove(self)

    def __call__(self, event: object) -> object:
        """Call the callback."""
        return self.callback(event)

    def __repr__(self) -> str:
        """Channel and callback; no symbols, they are private."""
        return f"<Registration {self.channel} {self.name}>"


@dataclass(slots=True)
class Routes:
    """An immutable picture of who gets what.

    Attributes:
        by_symbol: Registrations per channel and symbol, those for every symbol included. Nothing
            for news, which have several symbols: ask :meth:`of`.
        news: Registrations for news, per symbol.
        for_all: Registrations per channel that want every symbol.
        listeners: Registrations per kind of listener.
        stale: Whether registrations have changed since.
    """

    by_symbol: dict[str, dict[str, tuple[Registration, ...]]] = field(default_factory=dict)
    news: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    for_all: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    listeners: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    stale: bool = False

    def of(self, event: MarketEvent) -> tuple[Registration, ...]:
        """The registrations that get ``event``, in the order they were made."""
        channel = event.channel
        symbols = self.by_symbol.get(channel)
        if symbols is None:
            return _NONE
        if isinstance(event, News):
            return self._of_news(event)
        found = symbols.get(event.symbol)
        return self.for_all[channel] if found is None else found

    def _of_news(self, event: News) -> tuple[Registration, ...]:
        for_all = self.for_all[event.channel]
        chosen = set(for_all).union(*(self.news.get(symbol, _NONE) for symbol in event.symbols))
        return tuple(sorted(chosen, key=lambda registration: registration.number))


class Registry:
    """Registrations and subscriptions, and what is wanted because of them.

    Wanted = registrations with symbols, plus explicit subscriptions, plus the watchlist (given,
    and dynamic from ``get_symbols``) on every channel that has a registration without symbols and
    on the configured watchlist channels.

    Thread safety: every method may be called from any thread. ``routes`` is replaced, never
    changed but for saying that it is stale, and made anew when somebody looks after a change.
    """

    def __init__(
        self,
        market: str,
        watchlist: Iterable[str],
        watchlist_channels: Iterable[str],
        on_change: Callable[[], None],
    ) -> None:
        """Start with the configured watchlist and no registrations.

        Args:
            market: Decides which symbols are valid.
            watchlist: Symbols that registrations without symbols stand for.
            watchlist_channels: Channels on which the watchlist is always wanted.
            on_change: Called, without a lock, after every change of what is wanted.
        """
        self._on_change = on_change
        self._home = Home()
        self._market = market
        self._channels = MARKET_CHANNELS[market]
        self._watchlist_channels = frozenset(watchlist_channels) & self._channels
        self._lock = threading.Lock()  # guards every attribute below
        self._registrations: list[Registration] = []
        self._explicit: set[Subscription] = set()
        self._given = frozenset(watchlist)
        self._dynamic: frozenset[str] = frozenset()
        self._routes: Routes | None = None

    @property
    def routes(self) -> Routes:
        """Who gets what now."""
        routes = self._routes
        if routes is None:
            with self._lock:
                routes = self._routes = self._picture()
        return routes

    def add(self, channel: str, callback: Callback, symbols: Iterable[str]) -> Registration:
        """Register ``callback``; without symbols it stands for the watchlist.

        Raises:
            ConfigurationError: The callback cannot be called, is a coroutine function, or the
                market lacks the channel.
            InvalidSymbolError: A symbol does not have the market's form.
            ForkedProcessError: In a forked child.
        """
        self._home.check()  # before any lock: in a forked child it may never be free
        checked = self._check(channel, symbols) if channel not in LISTENERS else frozenset()
        _check_callback(callback)
        registration = Registration(channel, callback, checked, self)
        with self._lock:
            self._registrations.append(registration)
            self._rebuild()
        self._on_change()
        return registration

    def remove(self, registration: Registration) -> None:
        """Forget a registration; nothing happens if it is unknown."""
        self._home.check()
        registration.removed = True
        with self._lock:
            if registration in self._registrations:
                self._registrations.remove(registration)
                self._rebuild()
        self._on_change()

    def subscribe(self, channel: str, symbols: Iterable[str]) -> None:
        """Want ``channel`` of ``symbols`` without a callback.

        Raises:
            ConfigurationError: As in :meth:`add`; also when no symbol is given.
        """
        self._check_some(symbols)
        checked = self._check(channel, symbols)
        with self._lock:
            self._explicit |= {Subscription(channel, symbol) for symbol in checked}
        self._on_change()

    def unsubscribe(self, channel: str, symbols: Iterable[str]) -> None:
        """Take back what :meth:`subscribe` asked for; registrations are not touched.

        Raises:
            ConfigurationError: As in :meth:`subscribe`.
        """
        self._check_some(symbols)
        checked = self._check(channel, symbols)
        with self._lock:
            self._explicit -= {Subscription(channel, symbol) for symbol in checked}
        self._on_change()

    def set_dynamic(self, symbols: Iterable[str]) -> None:
        """Replace what ``get_symbols`` contributed to the watchlist.

        Raises:
            InvalidSymbolError: A symbol does not have the market's form.
        """
        checked = frozenset(validate_symbol(symbol, self._market) for symbol in symbols)
        with self._lock:
            if checked != self._dynamic:
                self._dynamic = checked
                self._rebuild()

    def wanted(self) -> frozenset[Subscription]:
        """Everything that should be subscribed to now."""
        with self._lock:
            watchlist = self._given | self._dynamic
            wanted = set(self._explicit)
            channels = set(self._watchlist_channels)
            for registration in self._registrations:
                channel = registration.channel
                if channel in LISTENERS:
                    continue
                if not registration.symbols:
                    channels.add(channel)
                wanted |= {Subscription(channel, symbol) for symbol in registration.symbols}
            wanted |= {Subscription(c, symbol) for c in channels for symbol in watchlist}
            return frozenset(wanted)

    def symbols(self) -> tuple[str, ...]:
        """Every wanted symbol, sorted."""
        return tuple(sorted({entry.symbol for entry in self.wanted()}))

    def _check_some(self, symbols: Iterable[str]) -> None:
        if not symbols:
            msg = "symbols: at least one is needed"
            raise ConfigurationError(msg)

    def _check(self, channel: str, symbols: Iterable[str]) -> frozenset[str]:
        validate_channel(channel)
        if channel not in self._channels:
            allowed = ", ".join(sorted(self._channels))
            msg = f"channel {channel!r} does not exist for {self._market}: allowed are {allowed}"
            raise UnsupportedChannelError(msg)
        if isinstance(symbols, str):
            msg = "symbols must be given as separate strings, not as one"
            raise ConfigurationError(msg)
        return frozenset(validate_symbol(symbol, self._market) for symbol in symbols)

    def _rebuild(self) -> None:
        """Forget the picture; it is made again when somebody looks."""
        if self._routes is not None:
            self._routes.stale = True
        self._routes = None

    def _picture(self) -> Routes:
        watchlist = self._given | self._dynamic
        listeners: dict[str, list[Registration]] = {}
        for_all: dict[str, list[Registration]] = {}
        by_symbol: dict[str, dict[str, list[Registration]]] = {}
        for registration in self._registrations:
            channel = registration.channel
            if channel in LISTENERS:
                listeners.setdefault(channel, []).append(registration)
                continue
            every = for_all.setdefault(channel, [])
            symbols = by_symbol.setdefault(channel, {})
            wanted = registration.symbols or watchlist
            if ALL_SYMBOLS in wanted:
                every.append(registration)
                continue
            for symbol in wanted:
                symbols.setdefault(symbol, []).append(registration)
        merged = {
            channel: {symbol: _merged(own, for_all[channel]) for symbol, own in symbols.items()}
            for channel, symbols in by_symbol.items()
        }
        news = merged.get("news", {})
        if news:
            merged["news"] = {}
        return Routes(
            merged,
            news,
            {channel: tuple(every) for channel, every in for_all.items()},
            {kind: tuple(found) for kind, found in listeners.items()},
        )


def _merged(own: list[Registration], every: list[Registration]) -> tuple[Registration, ...]:
    """Both in the order in which they were made."""
    if not every:
        return tuple(own)
    return tuple(sorted((*own, *every), key=lambda registration: registration.number))
