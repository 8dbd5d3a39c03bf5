"""The soak's bot: a manager with every callback, and a record of each event it was given."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from benchmarks.soak_server import MALFORMED
from realtime_stream import (
    BreakerPolicy,
    LifecycleState,
    RealTimeStreamManager,
    ReconnectPolicy,
    StreamConfig,
    ValidationPolicy,
)
from realtime_stream.market.validation import RULES
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from realtime_stream import Bar, Quote, StateChange, Status, Trade
    from realtime_stream.clock import Clock
    from realtime_stream.runtime.registry import Registration

__all__ = ["CHANNELS", "Bot", "Key", "Totals", "config_for", "read_record"]

Key = tuple[str, str]  # channel and symbol

CHANNELS: Final = ("bars", "quotes", "trades")
_RECORD: Final = struct.Struct("<Hq")  # number of the key, time of the event
_NO_RULE: Final[dict[str, Any]] = dict.fromkeys(RULES, "pass")
_INBOX_SECONDS: Final = 3.0  # what the inbox holds, so that a blocked callback can fill it
_MIN_INBOX: Final = 500


@dataclass(slots=True)
class Totals:
    """The manager's own counters, summed over all runs (each start begins them at zero)."""

    runs: int = 0
    attempts: int = 0
    sessions: int = 0
    reconnects: int = 0
    received: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    undelivered: int = 0
    rejected: int = 0
    in_inbox: int = 0
    callback_errors: int = 0
    reports_dropped: int = 0
    breaker_opened: int = 0
    highest_lag: float = 0.0

    def add(self, status: Status) -> None:
        """Enter a run that has ended."""
        self.runs += 1
        self.attempts += status.attempts
        self.sessions += status.sessions
        self.reconnects += max(status.sessions - 1, 0)
        self.received += status.received
        self.delivered.update(status.delivered)
        self.dropped.update(status.dropped)
        self.undelivered += status.undelivered
        self.rejected += status.rejected
        self.in_inbox += status.in_inbox
        self.callback_errors += status.callback_errors
        self.reports_dropped += status.reports_dropped
        self.highest_lag = max(self.highest_lag, status.lag.highest)
        if status.breaker is not None:  # counts over the manager's life
            self.breaker_opened = status.breaker.opened


def config_for(url: str, rate: float) -> StreamConfig:
    """Settings of a soak: everything on, with waits that fit a day of minutes."""
    return StreamConfig(
        url=url,
        api_key=SIMULATOR_KEY,
        secret_key=SIMULATOR_SECRET,
        watchlist_channels=(),
        name="soak",
        reconnect=ReconnectPolicy(initial=0.1, maximum=1.0),
        breaker=BreakerPolicy(failure_threshold=5, reset_timeout=2.0),
        stable_after=1.0,
        connect_timeout=1.0,
        handshake_timeout=1.0,
        acknowledge_timeout=0.5,
        ping_interval=1.0,
        ping_timeout=1.5,
        dead_letters=100,  # soon full, so that what grows later is a leak
        inbox_capacity=max(int(rate * _INBOX_SECONDS), _MIN_INBOX),
        # The books are about what comes; doubled, skewed and negative events are among it.
        validation=ValidationPolicy(**_NO_RULE),
    )


class Bot:
    """Registers a callback per channel and symbol, writes down what each is given, and misbehaves.

    The record goes to a file, so that it takes no memory that would be measured.

    Attributes:
        manager: The manager.
        newest: Time of the newest event delivered, per (channel, symbol).
        totals: Counters of the runs that have ended.
        stale: How many reports of silence came.
        trouble: Called within each callback after the event is written down, if set.

    Thread safety: callbacks run on the dispatch thread; the rest belongs to the main thread.
    """

    def __init__(
        self,
        config: StreamConfig,
        symbols: Iterable[str],
        record: BinaryIO,
        *,
        data_clock: Clock | None = None,
    ) -> None:
        """Register everything; nothing is started."""
        self.keys: tuple[Key, ...] = tuple(itertools.product(CHANNELS, symbols))
        self.manager = RealTimeStreamManager(config, data_clock=data_clock)
        self.newest: dict[Key, int] = {}
        self.totals = Totals()
        self.stale = 0
        self.trouble: Callable[[], None] | None = None
        self._number = {key: number for number, key in enumerate(self.keys)}
        self._record = record
        self._registrations: dict[Key, Registration] = {}
        self.register(self.keys)
        self.manager.subscribe("quotes", MALFORMED)
        self.manager.on_state_change(self._on_state_change)
        self.manager.on_stale(self._on_stale)

    def register(self, keys: Iterable[Key]) -> None:
        """Want these, with their callbacks."""
        hooks: dict[str, Callable[..., Registration]] = {
            "bars": self.manager.on_bar,
            "quotes": self.manager.on_quote,
            "trades": self.manager.on_trade,
        }
        for channel, symbol in keys:
            self._registrations[channel, symbol] = hooks[channel](self._on_event, symbol)

    def remove(self, keys: Iterable[Key]) -> None:
        """Want these no more."""
        for key in keys:
            self._registrations.pop(key).remove()

    def served(self) -> bool:
        """Whether the connection stands and everything wanted is acknowledged."""
        status = self.manager.status()
        return self.manager.is_connected() and status.wanted <= status.acknowledged

    def caught_up(self, newest: dict[Key, int]) -> bool:
        """Whether these events, or later ones, have been delivered."""
        return all(self.newest.get(key, 0) >= t_ns for key, t_ns in newest.items())

    def _on_event(self, event: Bar | Quote | Trade) -> None:
        key = (event.channel, event.symbol)
        self._record.write(_RECORD.pack(self._number[key], event.timestamp_ns))
        self.newest[key] = event.timestamp_ns
        if self.trouble is not None:
            self.trouble()

    def _on_state_change(self, change: StateChange) -> None:
        # The last thing a run says; a restart would leave no other moment to look.
        if change.current in {LifecycleState.STOPPED, LifecycleState.FAILED}:
            self.totals.add(self.manager.status())

    def _on_stale(self, _: object) -> None:
        self.stale += 1


def read_record(path: Path, keys: tuple[Key, ...]) -> dict[Key, list[int]]:
    """Times of the events that were delivered, per (channel, symbol), in the order of delivery."""
    delivered: dict[Key, list[int]] = {key: [] for key in keys}
    for number, t_ns in _RECORD.iter_unpack(path.read_bytes()):
        delivered[keys[number]].append(t_ns)
    return delivered
