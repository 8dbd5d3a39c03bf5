"""The ``on_*`` attributes of the manager: called directly, or used as decorators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, overload

from realtime_stream.errors import ConfigurationError
from realtime_stream.runtime.series_spec import BuiltFrom, checked_look_back

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.registry import Registration, Registry

__all__ = ["BarHook", "EventHook", "ListenerHook"]

E = TypeVar("E")


class EventHook(Generic[E]):
    """Registers callbacks for one kind of market event.

    Thread safety: may be called from any thread, at any time, from callbacks too.
    """

    def __init__(self, registry: Registry, channel: str) -> None:
        """Made by the manager."""
        self._registry = registry
        self._channel = channel

    @overload
    def __call__(self, callback: Callable[[E], object], /, *symbols: str) -> Registration: ...

    @overload
    def __call__(self, /, *symbols: str) -> Callable[[Callable[[E], object]], Registration]: ...

    def __call__(
        self, /, *arguments: Callable[[E], object] | str
    ) -> Registration | Callable[[Callable[[E], object]], Registration]:
        """Register a callback, or return a decorator that does.

        Args:
            *arguments: The callback first, unless used as a decorator; then the symbols it is for.
                ``"*"`` stands for every symbol; none at all stands for the watchlist.

        Returns:
            The registration, with ``remove()``; callable like the callback.

        Raises:
            ConfigurationError: The callback is not a plain callable, or the market does not have
                this channel.
            InvalidSymbolError: A symbol does not have the form the market uses.
        """
        callback, symbols = _parted(arguments)
        if callback is None:
            return lambda function: self._registry.add(self._channel, function, symbols)
        return self._registry.add(self._channel, callback, symbols)


class BarHook:
    """Registers callbacks for bars, of the feed's own timeframe or of any other.

    Thread safety: may be called from any thread, at any time, from callbacks too.
    """

    def __init__(self, registry: Registry, channel: str) -> None:
        """Made by the manager."""
        self._registry = registry
        self._channel = channel

    @overload
    def __call__(
        self,
        callback: Callable[[Bar], object],
        /,
        *symbols: str,
        timeframe: str = ...,
        built_from: BuiltFrom | None = ...,
        fill: bool = ...,
        history: int | timedelta | None = ...,
    ) -> Registration: ...

    @overload
    def __call__(
        self,
        /,
        *symbols: str,
        timeframe: str = ...,
        built_from: BuiltFrom | None = ...,
        fill: bool = ...,
        history: int | timedelta | None = ...,
    ) -> Callable[[Callable[[Bar], object]], Registration]: ...

    def __call__(
        self,
        /,
        *arguments: Callable[[Bar], object] | str,
        timeframe: str = "1m",
        built_from: BuiltFrom | None = None,
        fill: bool = False,
        history: int | timedelta | None = None,
    ) -> Registration | Callable[[Callable[[Bar], object]], Registration]:
        """Register a callback, or return a decorator that does.

        Args:
            *arguments: The callback first, unless used as a decorator; then the symbols it is for.
                ``"*"`` stands for every symbol; none at all stands for the watchlist.
            timeframe: ``30s``, ``1m``, ``5m``, ``4h``, ``1d`` and so on; or ``ticks:500``,
                ``volume:10000``, ``dollars:1000000``.
            built_from: What bars that the feed does not have are built of: ``bars`` (the feed's
                minute bars; of a day, its running daily bars) or ``trades``. By default bars where
                they can be, else trades. ``trades`` builds one-minute bars too.
            fill: Whether intervals without a trade get a bar all the same, marked ``is_filled``.
            history: So many bars, or the bars of so much time, are fetched and delivered before
                the first live one. Needs a history (``config.backfill``).

        Returns:
            The registration, with ``remove()``; callable like the callback.

        Raises:
            ConfigurationError: The callback is not a plain callable, the timeframe does not exist
                or cannot be built that way, or the market does not have bars to build it of. Or
                ``history`` cannot be given: none is configured, for ``"*"``, for larger bars that
                are aligned to the session, or for updated bars.
            InvalidSymbolError: A symbol does not have the form the market uses.
        """
        if history is not None and self._channel != "bars":
            msg = "history: belongs to on_bar; what was updated since is in the bars it brings"
            raise ConfigurationError(msg)
        series = self._registry.series_of(timeframe, built_from, fill=fill)
        look_back = checked_look_back(history, timeframe)
        callback, symbols = _parted(arguments)

        def add(function: Callable[[Bar], object]) -> Registration:
            return self._registry.add(
                self._channel, function, symbols, series=series, history=look_back
            )

        return add if callback is None else add(callback)


def _parted(
    arguments: tuple[Callable[[E], object] | str, ...],
) -> tuple[Callable[[E], object] | None, list[str]]:
    """The callback, if one is given, and the symbols."""
    symbols = [argument for argument in arguments if isinstance(argument, str)]
    others = [argument for argument in arguments if not isinstance(argument, str)]
    if len(others) > 1 or (others and arguments[0] is not others[0]):
        msg = "arguments must be one callback, then symbols as separate strings"
        raise ConfigurationError(msg)
    return (others[0] if others else None), symbols


class ListenerHook(Generic[E]):
    """Registers listeners for one kind of report of the manager itself.

    Thread safety: may be called from any thread, at any time, from callbacks too.
    """

    def __init__(self, registry: Registry, kind: str) -> None:
        """Made by the manager."""
        self._registry = registry
        self._kind = kind

    def __call__(self, callback: Callable[[E], object], /) -> Registration:
        """Register a listener; also as a decorator.

        Raises:
            ConfigurationError: The callback is not a plain callable.
        """
        return self._registry.add(self._kind, callback, ())
