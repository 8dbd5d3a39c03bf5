"""Who wants what: registrations, explicit subscriptions and the watchlist, in one place."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from realtime_stream.errors import ConfigurationError, UnsupportedChannelError
from realtime_stream.market.channels import (
    ALL_SYMBOLS,
    MARKET_CHANNELS,
    Subscription,
    validate_channel,
    validate_symbol,
)
from realtime_stream.market.models import Bar, MarketEvent, News
from realtime_stream.runtime.home import Home
from realtime_stream.runtime.series_spec import SeriesSpec, series_spec

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["LISTENERS", "Callback", "Registration", "Registry", "Routes", "callback_name"]

Callback: TypeAlias = Callable[[Any], object]

LISTENERS: Final = (
    "connect",
    "disconnect",
    "gap",
    "backfill",
    "rejected",
    "stale",
    "error",
    "state_change",
)
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
        self,
        channel: str,
        callback: Callback,
        symbols: frozenset[str],
        registry: Registry,
        *,
        series: SeriesSpec | None = None,
        history: int | timedelta | None = None,
    ) -> None:
        """Made by the manager's ``on_*`` methods."""
        self.channel = channel
        self.series = series
        self.history = history
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

    @property
    def channels(self) -> tuple[str, ...]:
        """What has to be subscribed to for it."""
        return (self.channel,) if self.series is None else self.series.channels

    def __call__(self, event: object) -> object:
        """Call the callback."""
        return self.callback(event)

    def __repr__(self) -> str:
        """Channel and callback; no symbols, they are private."""
        return f"<Registration {self.channel} {self.name}>"


@dataclass(slots=True)
class SeriesRoutes:
    """Who gets the bars of one series.

    Attributes:
        symbols: Registrations with symbols, per symbol.
        for_all: Registrations that want every symbol.
    """

    symbols: dict[str, list[Registration]] = field(default_factory=dict)
    for_all: list[Registration] = field(default_factory=list)

    def of(self, bar: Bar) -> list[Registration]:
        """The registrations that get ``bar``, in the order they were made."""
        own = self.symbols.get(bar.symbol, ())
        found = [each for each in (*own, *self.for_all) if each.channel == bar.channel]
        return sorted(found, key=lambda registration: registration.number)

    def wants(self, symbol: str) -> bool:
        """Whether anybody wants bars of this symbol."""
        return bool(self.for_all) or symbol in self.symbols


@dataclass(slots=True)
class Routes:
    """An immutable picture of who gets what.

    Attributes:
        by_symbol: Registrations per channel and symbol, those for every symbol included. Nothing
            for news, which have several symbols: ask :meth:`of`.
        news: Registrations for news, per symbol.
        for_all: Registrations per channel that want every symbol.
        listeners: Registrations per kind of listener.
        series: Who gets the bars of each series that is built here.
        warm: Registrations that want a look-back before the first live bar, and their symbols.
        stale: Whether registrations have changed since.
    """

    by_symbol: dict[str, dict[str, tuple[Registration, ...]]] = field(default_factory=dict)
    news: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    for_all: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    listeners: dict[str, tuple[Registration, ...]] = field(default_factory=dict)
    series: dict[SeriesSpec, SeriesRoutes] = field(default_factory=dict)
    warm: tuple[tuple[Registration, frozenset[str]], ...] = ()
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
        *,
        has_history: bool = False,
        aligned: str = "utc",
        has_days: bool = True,
    ) -> None:
        """Start with the configured watchlist and no registrations.

        Args:
            market: Decides which symbols are valid.
            watchlist: Symbols that registrations without symbols stand for.
            watchlist_channels: Channels on which the watchlist is always wanted.
            on_change: Called, without a lock, after every change of what is wanted.
            has_history: Whether registrations may ask for a look-back.
            aligned: From where the intervals of bars are counted.
            has_days: Whether the calendar tells days from each other.
        """
        self._has_days = has_days
        self._aligned = aligned
        self._has_history = has_history
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

    def series_of(self, timeframe: str, built_from: str | None, *, fill: bool) -> SeriesSpec | None:
        """The series that has to be built for this timeframe; ``None`` if the feed has it.

        Raises:
            ConfigurationError: There is no such timeframe, or it cannot be built that way.
        """
        return series_spec(timeframe, built_from, fill=fill, channels=self._channels)

    def add(
        self,
        channel: str,
        callback: Callback,
        symbols: Iterable[str],
        *,
        series: SeriesSpec | None = None,
        history: int | timedelta | None = None,
    ) -> Registration:
        """Register ``callback``; without symbols it stands for the watchlist.

        Args:
            channel: What it gets.
            callback: What is called.
            symbols: Of which symbols.
            series: The series of bars it gets, if that is built here.
            history: How much look-back it gets before the first live bar.

        Raises:
            ConfigurationError: The callback cannot be called, is a coroutine function, or the
                market lacks the channel.
            InvalidSymbolError: A symbol does not have the market's form.
            ForkedProcessError: In a forked child.
        """
        self._home.check()  # before any lock: in a forked child it may never be free
        checked: frozenset[str] = frozenset()
        if channel not in LISTENERS:
            for source in (channel,) if series is None else series.channels:
                checked = self._check(source, symbols)
        _check_callback(callback)
        if history is not None and not self._has_history:
            msg = "history: none is configured; set backfill=('bars',) in StreamConfig"
            raise ConfigurationError(msg)
        self._check_bars(checked, series, history)
        registration = Registration(
            channel, callback, checked, self, series=series, history=history
        )
        with self._lock:
            self._registrations.append(registration)
            self._rebuild()
        self._on_change()
        return registration

    def _check_bars(
        self,
        symbols: frozenset[str],
        series: SeriesSpec | None,
        history: int | timedelta | None,
    ) -> None:
        if series is not None and series.timeframe == "1d" and not self._has_days:
            msg = "timeframe: bars of a day need a calendar with day_of and session_of"
            raise ConfigurationError(msg)
        if history is None:
            return
        if ALL_SYMBOLS in symbols:
            msg = "history: there is none of every symbol; name those that you want"
            raise ConfigurationError(msg)
        if series is not None and self._aligned == "session":
            msg = "history: that of larger bars is aligned to UTC, and not to the session"
            raise ConfigurationError(msg)

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
                for source in registration.channels:
                    if not registration.symbols:
                        channels.add(source)
                    wanted |= {Subscription(source, symbol) for symbol in registration.symbols}
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
        series: dict[SeriesSpec, SeriesRoutes] = {}
        warm: list[tuple[Registration, frozenset[str]]] = []
        for registration in self._registrations:
            channel = registration.channel
            if channel in LISTENERS:
                listeners.setdefault(channel, []).append(registration)
                continue
            wanted = registration.symbols or watchlist
            if registration.history is not None:
                warm.append((registration, wanted))
            if registration.series is None:
                every = for_all.setdefault(channel, [])
                symbols = by_symbol.setdefault(channel, {})
            else:
                built = series.setdefault(registration.series, SeriesRoutes())
                every, symbols = built.for_all, built.symbols
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
            series,
            tuple(warm),
        )


def _merged(own: list[Registration], every: list[Registration]) -> tuple[Registration, ...]:
    """Both in the order in which they were made."""
    if not every:
        return tuple(own)
    return tuple(sorted((*own, *every), key=lambda registration: registration.number))
