"""The ``on_*`` attributes of the manager: called directly, or used as decorators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, overload

from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.runtime.registry import Registration, Registry

__all__ = ["EventHook", "ListenerHook"]

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
        symbols = [argument for argument in arguments if isinstance(argument, str)]
        others = [argument for argument in arguments if not isinstance(argument, str)]
        if not others:
            return lambda callback: self._registry.add(self._channel, callback, symbols)
        if len(others) > 1 or arguments[0] is not others[0]:
            msg = "arguments must be one callback, then symbols as separate strings"
            raise ConfigurationError(msg)
        return self._registry.add(self._channel, others[0], symbols)


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
