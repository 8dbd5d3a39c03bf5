"""What many tests share: a recorder to wait on, wire messages, and quick settings."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from realtime_stream import BreakerPolicy, ReconnectPolicy, StreamConfig
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator

T = TypeVar("T")

START_NS = 1_790_000_000_123_456_789  # a plain moment with all nine digits


class Recorder(Generic[T]):
    """A callback that keeps what it is given; tests wait on it instead of sleeping."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: list[T] = []

    def __call__(self, item: T) -> None:
        with self._condition:
            self._items.append(item)
            self._condition.notify_all()

    @property
    def items(self) -> list[T]:
        with self._condition:
            return list(self._items)

    def wait_for(self, count: int = 1, timeout: float = 10.0) -> list[T]:
        """Wait until at least ``count`` items are there."""
        return self.wait_until(lambda items: len(items) >= count, timeout)

    def wait_until(self, predicate: Callable[[list[T]], bool], timeout: float = 10.0) -> list[T]:
        """Wait until ``predicate`` of the items holds."""
        with self._condition:
            assert self._condition.wait_for(lambda: predicate(self._items), timeout), self._items
            return list(self._items)


def quote(symbol: str = "AAPL", n: int = 0, **fields: Any) -> dict[str, Any]:
    """A quote as the wire has it; ``n`` moves its time by milliseconds."""
    return {
        "T": "q",
        "S": symbol,
        "bx": "K",
        "bp": 133.85,
        "bs": 4,
        "ax": "P",
        "ap": 135.77,
        "as": 5,
        "c": ["R"],
        "z": "C",
        "t": START_NS + n * 1_000_000,
        **fields,
    }


def trade(symbol: str = "AAPL", n: int = 0, **fields: Any) -> dict[str, Any]:
    """A trade as the wire has it."""
    return {
        "T": "t",
        "S": symbol,
        "i": n + 1,
        "x": "V",
        "p": 134.5,
        "s": 100,
        "c": ["@"],
        "z": "C",
        "t": START_NS + n * 1_000_000,
        **fields,
    }


def bar(symbol: str = "AAPL", n: int = 0, **fields: Any) -> dict[str, Any]:
    """A minute bar as the wire has it; ``n`` moves its time by minutes."""
    return {
        "T": "b",
        "S": symbol,
        "o": 132.65,
        "h": 136.0,
        "l": 132.12,
        "c": 134.65,
        "v": 205,
        "n": 16,
        "vw": 133.7,
        "t": 1_790_000_040_000_000_000 + n * 60_000_000_000,
        **fields,
    }


def config(simulator: AlpacaSimulator, **settings: Any) -> StreamConfig:
    """Settings for a test: the simulator's address and keys, and short waits."""
    defaults: dict[str, Any] = {
        "url": simulator.url(settings.get("market", "stocks"), settings.pop("path_feed", "iex")),
        "api_key": SIMULATOR_KEY,
        "secret_key": SIMULATOR_SECRET,
        "reconnect": ReconnectPolicy(initial=0.05, maximum=0.2),
        "breaker": BreakerPolicy(failure_threshold=1000),
        "connect_timeout": 5.0,
        "handshake_timeout": 5.0,
        "acknowledge_timeout": 2.0,
    }
    return StreamConfig(**{**defaults, **settings})
