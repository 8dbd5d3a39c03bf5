"""Faults on demand: what the simulator is told to do wrong, while it runs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from realtime_stream.simulator.endpoints import MARKETS
from realtime_stream.simulator.fault_rules import MuteRule, names
from realtime_stream.simulator.handshake_faults import check_seconds
from realtime_stream.simulator.rest_faults import RestFaults
from realtime_stream.simulator.wire import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["Faults"]


def _ignore(_on: bool) -> None:
    """Nothing runs yet that could be told."""


def _ignore_change() -> None:
    """Nothing runs yet that could be told."""


class Faults(RestFaults):
    """What to do wrong from now on; what has happened already is not undone.

    Faults are independent of each other. ``times`` limits how often one applies; ``None`` is until
    :meth:`clear`, and the default but for errors and lost acknowledgements, which come once. Those
    of data apply to what is published or played from then on.

    Thread safety: every method may be called from any thread. On the simulator's own, where only
    fault scripts call them, a method returns before its effect on sockets.
    """

    def __init__(
        self,
        *,
        on_refuse_connections: Callable[[bool], None] = _ignore,
        on_stop_reading: Callable[[bool], None] = _ignore,
        on_change: Callable[[], None] = _ignore_change,
    ) -> None:
        """Made by the simulator, which passes what it does about its sockets."""
        super().__init__(on_change)
        self._on_refuse_connections = on_refuse_connections
        self._on_stop_reading = on_stop_reading

    def mute(
        self,
        on: bool = True,
        *,
        market: str | None = None,
        channels: Collection[str] | None = None,
        symbols: Collection[str] | None = None,
    ) -> None:
        """Write no data; sessions stay open, requests and pings are answered.

        Without a limit it is about all data, and undoes every earlier call. With limits, the last
        call that is about a message decides: ``mute()`` and then ``mute(False, symbols=["SPY"])``
        leaves SPY alone. The ledger has muted messages, as written to no session.

        Args:
            on: Whether to hold back, or not.
            market: Only data of this market.
            channels: Only these channels, as the wire names them.
            symbols: Only messages with one of these symbols.

        Raises:
            ValueError: There is no such market or channel, or one text stands where a collection
                should.
        """
        rule = MuteRule(on, market, names("channels", channels), names("symbols", symbols))
        _check_scope(rule)
        with self._lock:
            old = self._data_terms
            mutes: tuple[MuteRule, ...]
            if rule.about_all and market is None:
                mutes = (rule,) if on else ()
            else:
                mutes = (*(each for each in old.mutes if each.scope != rule.scope), rule)
            self._data_terms = replace(old, mutes=mutes)

    def delay(self, seconds: float) -> None:
        """Write data so many seconds later, in their order; 0 ends that, and all is written.

        What is delayed enters the ledger when it is written, and goes to who is subscribed then.

        Raises:
            ValueError: The figure is negative.
        """
        check_seconds(seconds)
        with self._lock:
            self._data_terms = replace(self._data_terms, delay=seconds)
        self._on_change()

    def duplicate(self, every: int) -> None:
        """Write every so-manieth data message twice; 0 ends that.

        The copy follows the message at once. It has an entry of its own in the ledger.

        Raises:
            ValueError: The figure is negative.
        """
        _check_number("every", every)
        with self._lock:
            self._duplicate_every = self._until_duplicate = every

    def reorder(self, window: int) -> None:
        """Shuffle data messages within windows of so many; 0 ends that.

        Only messages of one ``publish``, or of one frame that is played, change places, so that
        none waits for another. The order is the same each time.

        Raises:
            ValueError: The figure is negative.
        """
        _check_number("window", window)
        with self._lock:
            self._reorder_window = window
            self._shuffler = random.Random(0)  # noqa: S311  # the same disorder each time, no secret

    def skew(self, seconds: float) -> None:
        """Let the server's clock be off: times of data are so many seconds later; 0 ends that.

        The ledger has the times that were written.

        Args:
            seconds: Negative if the clock is slow.

        Raises:
            ValueError: The figure is not finite.
        """
        check_seconds(abs(seconds))
        with self._lock:
            self._skew_ns = round(seconds * SECOND)

    def refuse_connections(self, on: bool = True) -> None:
        """Close the listening socket, so that new connections are refused; open ones live on.

        Has happened when it returns. Turned off, the simulator listens on the same port again.
        """
        with self._lock:
            self._refusing = on
        self._on_refuse_connections(on)

    def stop_reading(self, on: bool = True) -> None:
        """Be a dead peer: neither read from nor write to the sessions that are open now.

        Connections that come later are served. Turned off, the connections are read from again.
        """
        self._on_stop_reading(on)

    def read_slowly(self, bytes_per_second: float | None) -> None:
        """Take what clients send, requests and pings alike, at this pace; ``None`` ends that.

        Each connection has the pace for itself. What a client sends beyond waits in its own
        buffers.

        Raises:
            ValueError: The figure is not positive.
        """
        if bytes_per_second is not None and not 0 < bytes_per_second < float("inf"):
            msg = f"bytes_per_second must be positive, and not {bytes_per_second!r}"
            raise ValueError(msg)
        with self._lock:
            self._read_rate = bytes_per_second
        self._on_change()

    def ignore_pings(self, on: bool = True) -> None:
        """Answer no pings; requests are answered and data written."""
        with self._lock:
            self._ignoring_pings = on

    def clear(self) -> None:
        """No faults any more."""
        with self._lock:
            self._reset()
        self._on_refuse_connections(False)
        self._on_stop_reading(False)
        self._on_change()


def _check_scope(rule: MuteRule) -> None:
    if rule.market is not None and rule.market not in MARKETS:
        msg = f"unknown market {rule.market!r}; allowed are {', '.join(MARKETS)}"
        raise ValueError(msg)
    markets = MARKETS.values() if rule.market is None else [MARKETS[rule.market]]
    known = {channel for market in markets for channel in market.channels}
    unknown = (rule.channels or frozenset()) - known
    if unknown:
        msg = f"unknown channels {sorted(unknown)}; allowed are {', '.join(sorted(known))}"
        raise ValueError(msg)


def _check_number(name: str, value: int) -> None:
    if value < 0:
        msg = f"{name} must be zero or more, and not {value!r}"
        raise ValueError(msg)
