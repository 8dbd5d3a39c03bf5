"""What listeners are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtime_stream.clock import datetime_from_ns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from realtime_stream.market.models import MarketEvent
    from realtime_stream.ports.states import ConnectionState, LifecycleState
    from realtime_stream.resilience.failures import Failure

__all__ = [
    "BackfillEvent",
    "ConnectionEvent",
    "DeadLetter",
    "DisconnectEvent",
    "ErrorEvent",
    "Gap",
    "GapEntry",
    "RejectedEvent",
    "StaleEvent",
    "StateChange",
]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A move of one of the two state machines; ``machine`` is ``lifecycle`` or ``connection``."""

    machine: str
    previous: LifecycleState | ConnectionState
    current: LifecycleState | ConnectionState


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A session became connected: the first (``reconnect`` is ``False``) or a later one."""

    connection_id: str
    session: int
    reconnect: bool


@dataclass(frozen=True, slots=True)
class DisconnectEvent:
    """A connected session ended. ``failure`` is ``None`` when we ended it ourselves."""

    connection_id: str
    failure: Failure | None
    consecutive: int


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Something failed in the background.

    Attributes:
        error: The typed error (or the user's own exception, for a failing callback).
        source: Where: ``session``, ``subscription``, ``callback``, ``get_symbols``,
            ``credentials``, ``calendar``, ``inbox`` (events were dropped), ``lag`` (delivery is
            late), ``latency`` (events come late, or the clocks differ), ``sink:`` and the name of a
            sink.
        fatal: Whether the manager has failed with it.
    """

    error: BaseException
    source: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class GapEntry:
    """The gap of one (channel, symbol).

    Attributes:
        channel: Channel.
        symbol: Symbol; ``*`` stands for all that have no entry of their own, over the whole time
            of the gap.
        last_event_ns: Time of the last event received before; ``None`` if there was none, and for
            the cause ``history``.
        first_event_ns: Time of the first event received after; ``None`` while none has come.
        lost: Events known to be lost, when we dropped them ourselves; otherwise ``None``.
    """

    channel: str
    symbol: str
    last_event_ns: int | None
    first_event_ns: int | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which events may have been missed.

    Attributes:
        cause: ``reconnect`` (there was no session), ``overflow`` (the inbox was full) or
            ``history`` (a gap reported before, which history could not fill).
        start_ns: When the last frame before it was received, or the session began.
        end_ns: When the connection was whole again.
        entries: One per (channel, symbol) that was being received.
    """

    cause: str
    start_ns: int
    end_ns: int
    entries: tuple[GapEntry, ...]

    @property
    def start(self) -> datetime:
        """:attr:`start_ns` as a UTC datetime."""
        return datetime_from_ns(self.start_ns)

    @property
    def end(self) -> datetime:
        """:attr:`end_ns` as a UTC datetime."""
        return datetime_from_ns(self.end_ns)

    @property
    def last_events(self) -> Mapping[str, datetime | None]:
        """Time of the last event before the gap, per symbol, over all its channels."""
        latest: dict[str, int | None] = {}
        for entry in self.entries:
            known = latest.get(entry.symbol)
            if known is None or (entry.last_event_ns or 0) > known:
                latest[entry.symbol] = entry.last_event_ns
        return {s: None if ns is None else datetime_from_ns(ns) for s, ns in latest.items()}


@dataclass(frozen=True, slots=True)
class StaleEvent:
    """Connected, but no data came for too long while the market was open.

    Attributes:
        symbol: The symbol that is silent; ``*`` when the whole stream is.
        last_received_ns: When its last event was received; ``None`` if there was none.
        age: Seconds of market time without data.
    """

    symbol: str
    last_received_ns: int | None
    age: float


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that validation found fault with.

    Attributes:
        event: The event as it came.
        rule: Which rule, such as ``crossed`` or ``not_positive``.
        field: Which field, such as ``bid_price``.
        value: The field's value.
        rejected: ``True`` when it was kept from everybody, ``False`` when it was only flagged.
        message: A sentence about it.
    """

    event: MarketEvent
    rule: str
    field: str
    value: object
    rejected: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class BackfillEvent:
    """A gap of one (channel, symbol) was filled from history, or could not be; or a look-back came.

    Attributes:
        channel: ``bars`` or ``trades``.
        symbol: Symbol.
        start_ns: Beginning of the stretch that was asked for, nanoseconds since the epoch.
        end_ns: Its end.
        fetched: How many events of it history has.
        delivered: How many of them were new, or newer than what had been delivered; of a look-back,
            how many bars it has.
        complete: Whether everything that history will have is there; ``False`` leaves the gap open.
        reason: Why it is not complete.
        purpose: ``gap``, or ``look_back`` for what a registration wanted before its first live bar.
    """

    channel: str
    symbol: str
    start_ns: int
    end_ns: int
    fetched: int
    delivered: int
    complete: bool
    reason: str = ""
    purpose: Literal["gap", "look_back"] = "gap"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event whose callback failed.

    Attributes:
        event: What was being delivered.
        callback: Name of the callback.
        exception: What it raised.
    """

    event: object
    callback: str
    exception: BaseException
