from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.errors import ConfigurationError, InvalidSymbolError
from realtime_stream.runtime.hooks import EventHook, ListenerHook
from realtime_stream.runtime.registry import Registration, Registry

if TYPE_CHECKING:
    from realtime_stream.market.models import Trade


def hooked() -> tuple[Registry, EventHook[Trade]]:
    registry = Registry("stocks", ["W"], (), lambda: None)
    return registry, EventHook(registry, "trades")


def callback(_: object) -> None:
    """Does nothing."""


def test_called_with_a_callback_it_registers() -> None:
    registry, on_trade = hooked()
    registration = on_trade(callback, "A", "B")
    assert registration.symbols == {"A", "B"}
    assert {entry.symbol for entry in registry.wanted()} == {"A", "B"}


def test_without_symbols_it_means_the_watchlist() -> None:
    registry, on_trade = hooked()
    on_trade(callback)
    assert registry.symbols() == ("W",)


def test_it_decorates_with_symbols_and_without() -> None:
    registry, on_trade = hooked()

    @on_trade("A")
    def one(_: Trade) -> None: ...

    @on_trade
    def two(_: Trade) -> None: ...

    @on_trade()
    def three(_: Trade) -> None: ...

    assert all(isinstance(made, Registration) for made in (one, two, three))
    assert registry.symbols() == ("A", "W")
    two.remove()
    three.remove()
    assert registry.symbols() == ("A",)


@pytest.mark.parametrize(
    "arguments", [("A", callback), (callback, callback), (callback, ["A"]), (callback, None)]
)
def test_other_orders_are_refused(arguments: tuple[Any, ...]) -> None:
    _, on_trade = hooked()
    with pytest.raises(ConfigurationError, match="one callback, then symbols"):
        on_trade(*arguments)


def test_a_bad_symbol_or_callback_is_refused() -> None:
    _, on_trade = hooked()
    with pytest.raises(InvalidSymbolError):
        on_trade(callback, "a")
    not_callable: Any = 5
    with pytest.raises(ConfigurationError, match="must be callable"):
        on_trade(not_callable)


def test_a_listener_is_registered_for_its_kind() -> None:
    registry, _ = hooked()
    on_error: ListenerHook[Any] = ListenerHook(registry, "error")
    registration = on_error(callback)
    assert registry.routes.listeners == {"error": (registration,)}
