"""The seams: what a provider must offer, what it is told, and what a user is shown.

**Provider contract.** ``run_session`` blocks on the calling thread for exactly one session and
returns why it ended. What it subscribes to is the latest ``set_wanted``, so that no change made
while a session begins can be lost. ``set_wanted`` and ``disconnect`` may be called from any thread
and never block; after ``disconnect`` the session returns within 0.5 s whatever the server does. The
provider calls its :class:`SessionListener` on the thread that runs the session, in the order things
came, and never keeps a lock while it does; only malformed messages may be told of later, by the
thread that reads a frame's events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from realtime_stream.clock import datetime_from_ns

if TYPE_CHECKING:
    from datetime import datetime

    from realtime_stream.config import Credentials
    from realtime_stream.market.channels import Subscription
    from realtime_stream.market.models import Bar, MarketEvent, Trade
    from realtime_stream.resilience.circuit_breaker import BreakerInfo
    from realtime_stream.resilience.failures import Failure, SessionEnd

__all__ = [
    "Acknowledged",
    "Authenticated",
    "BackfillEvent",
    "BackfillInfo",
    "BarsInfo",
    "Checkpoint",
    "Connected",
    "ConnectionEvent",
    "ConnectionState",
    "Control",
    "DeadLetter",
    "DisconnectEvent",
    "ErrorEvent",
    "Gap",
    "GapEntry",
    "HistoryFactory",
    "HistoryPage",
    "HistoryProvider",
    "HistoryRequest",
    "LagInfo",
    "LatencyInfo",
    "LifecycleState",
    "MarketDataProvider",
    "ProviderFactory",
    "RecordingInfo",
    "Refused",
    "RejectedEvent",
    "RejectedMessage",
    "ServerReport",
    "SessionListener",
    "Settled",
    "Sink",
    "SinkInfo",
    "StaleEvent",
    "StateChange",
    "Status",
]


class LifecycleState(StrEnum):
    """What the user asked for, and how far that has come."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


class ConnectionState(StrEnum):
    """How the connection stands, whatever the user asked for.

    ``CONNECTED`` means authenticated, and every wanted subscription acknowledged or refused.
    """

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    IDLE = "idle"
    CIRCUIT_OPEN = "circuit_open"


# --- what a provider tells its listener ---


@dataclass(frozen=True, slots=True)
class Connected:
    """The server greeted us."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The server accepted the keys."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The complete set of subscriptions the server now serves, of those asked for."""

    subscriptions: frozenset[Subscription]


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused these subscriptions for good."""

    subscriptions: frozenset[Subscription]
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Every wanted subscription is acknowledged or refused."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """An error message of the server that belongs to no subscription; the session may live on."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """One message that could not be understood.

    Attributes:
        reason: What is wrong with it; ASCII, at most 200 characters.
        raw: Its first bytes as they came, at most 512.
        received_ns: When its frame was read, nanoseconds since the epoch.
        count: How many messages this stands for: one, but for the rest of a frame that had a
            hundred malformed ones before it.
    """

    reason: str
    raw: bytes
    received_ns: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Asks to be told when everything handed over before has been dealt with. Replays use it.

    Attributes:
        reached: Called on the thread that delivers; returns at once.
    """

    reached: Callable[[], None]


Control: TypeAlias = (
    Connected
    | Authenticated
    | Acknowledged
    | Refused
    | Settled
    | ServerReport
    | RejectedMessage
    | Checkpoint
)


class SessionListener(Protocol):
    """What a provider calls while a session runs. Implementations return quickly."""

    def on_frame(self, events: Collection[MarketEvent], received_ns: int) -> None:
        """Take the events of one frame, in order.

        They may be decoded only when somebody iterates over them, once, on whatever thread that
        is. Their number is then that of the frame's messages; those that turn out to be malformed
        come to :meth:`on_control` on that thread, before the iteration begins.
        """

    def on_control(self, control: Control) -> None:
        """Take note of something that is not market data."""


class MarketDataProvider(Protocol):
    """A source of market events; see the module's contract."""

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        """Connect, subscribe to what is wanted, deliver until it ends, and say why it ended.

        Raises:
            ConfigurationError: Something is wanted that this provider cannot serve at all.
        """

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        """Set what the running (and any later) session subscribes to. Thread-safe, non-blocking.

        An empty set ends the running session as requested.
        """

    def end_session(self) -> None:
        """End the running session, if there is one, as requested. Thread-safe, non-blocking."""

    def disconnect(self) -> None:
        """End the running session, and every later one at once. Thread-safe, non-blocking."""

    def lingering_threads(self) -> tuple[str, ...]:
        """Names of own threads that the operating system has not let go yet. Thread-safe."""


ProviderFactory: TypeAlias = Callable[[], MarketDataProvider]


# --- history ---


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """What to fetch: ``start_ns <= timestamp_ns < end_ns``, nanoseconds since the epoch.

    Attributes:
        channel: ``bars`` or ``trades``.
        symbols: Which symbols.
        start_ns: First moment.
        end_ns: The moment after the last.
        timeframe: Of bars, such as ``1m``.
        newest: For one symbol, only so many events, the newest of the stretch; ``None`` for all.
    """

    channel: Literal["bars", "trades"]
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    timeframe: str = "1m"
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of an answer; each symbol's events come in the order of their times.

    Attributes:
        bars: Bars, with ``source="backfill"``.
        trades: Trades that stand (not cancelled, corrected ones as corrected), with
            ``source="backfill"``.
    """

    bars: tuple[Bar, ...] = ()
    trades: tuple[Trade, ...] = ()


class HistoryProvider(Protocol):
    """A source of past bars and trades."""

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        """Fetch page after page; blocks. One thread at a time.

        Temporary refusals are tried again within, for a bounded time.

        Raises:
            HistoryUnavailableError: Not to be had before a time that it names.
            HistoryRefusedError: The request is refused for good.
            HistoryError: It failed, or :meth:`close` was called.
        """

    def close(self) -> None:
        """End what is being fetched within 0.5 s, and every later fetch at once. Thread-safe."""


HistoryFactory: TypeAlias = Callable[[], HistoryProvider]


# --- storage ---


class Sink(Protocol):
    """Where delivered bars go. Called by one thread of its own, which may block.

    One with a property ``target``, a short name of the place it writes to, has what is spooled for
    one place never loaded into another.
    """

    @property
    def name(self) -> str:
        """What it is called in thread names, log records and the status; ``[a-z0-9-]+``."""

    def write(self, bars: Sequence[Bar]) -> None:
        """Store bars, all or none; those that are stored already do no harm.

        Of several bars with the same symbol, timeframe and start, a whole one wins over a partial
        one, then one with trades over one that was filled in, an updated one over a regular one,
        and last the one that was received last: bars that were spooled come after newer ones. It
        must give up by itself within seconds.

        Raises:
            SinkRejectedError: Some of them can never be stored; none was.
            SinkError: It did not work this time; none was stored.
        """

    def close(self) -> None:
        """Let go of connections; nothing is written after it."""


# --- what a user is told ---


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


@dataclass(frozen=True, slots=True)
class LagInfo:
    """Seconds from receiving a frame to delivering it.

    Attributes:
        last: Of the last frame delivered.
        highest: The highest so far.
        waiting: How long the oldest frame not yet delivered has been waiting.
        alarms: How often the alarm threshold was crossed.
    """

    last: float = 0.0
    highest: float = 0.0
    waiting: float = 0.0
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class LatencyInfo:
    """Seconds from when something happened to when it was dealt with, since the last start.

    For bars counted from the end of the bar's interval, for quotes and trades from the event's own
    time; so the difference between the exchange's clock and ours is in it: see ``skew``.

    Attributes:
        count: How many were measured.
        p50: Half were faster; upper bound of a bucket, at most 10 % above the exact figure.
        p95: 95 of 100 were faster.
        p99: 99 of 100 were faster.
        highest: The slowest.
        skew: The smallest time from event to receipt seen lately. Below 0 our clock is behind the
            exchange's by at least so much; well above 0 with every event alike, ours is ahead.
            ``None`` before any was measured.
        alarms: How often the latency, the skew taken out, rose above the threshold.
    """

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    highest: float = 0.0
    skew: float | None = None
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class SinkInfo:
    """How a sink stands. ``offered = stored + spooled + dead_lettered + queued``.

    Attributes:
        offered: Bars handed over since ``start()``, those of an old spool included.
        stored: Bars the sink has taken.
        queued: Bars waiting in memory.
        spooled: Bars waiting on disk.
        dead_lettered: Bars that can never be stored, written to the dead-letter file.
        retries: Writes that failed and were tried again.
        circuit: The sink's breaker: ``closed``, ``open`` or ``half_open``.
        last_error: What the last failed write said; empty once one has worked.
        latency: From the end of a bar to its storage.
    """

    offered: int = 0
    stored: int = 0
    queued: int = 0
    spooled: int = 0
    dead_lettered: int = 0
    retries: int = 0
    circuit: str = "closed"
    last_error: str = ""
    latency: LatencyInfo = LatencyInfo()


@dataclass(frozen=True, slots=True)
class BackfillInfo:
    """What was filled from history since the last start or restart.

    Attributes:
        pending: Stretches being fetched or waited for.
        filled: Stretches that are complete.
        failed: Stretches that were given up: they stay open gaps.
        bars: Bars delivered.
        trades: Trades delivered.
        late: Bars of them that came after newer live bars.
        held: Live bars that wait for older ones.
        superseded: Live bars that were not delivered because history had brought the same.
    """

    pending: int = 0
    filled: int = 0
    failed: int = 0
    bars: int = 0
    trades: int = 0
    late: int = 0
    held: int = 0
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class BarsInfo:
    """What became of trades and bars that were built into bars here, since the last fresh start.

    Attributes:
        built: Bars emitted.
        updated: Updated bars emitted.
        late: Trades or smaller bars that came after their bar, within what is kept for updates.
        too_late: Those that came later still; they changed nothing.
        corrected: Corrections and cancels applied.
        unmatched: Corrections and cancels of trades that are not known (any more).
    """

    built: int = 0
    updated: int = 0
    late: int = 0
    too_late: int = 0
    corrected: int = 0
    unmatched: int = 0


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """How a recording stands.

    Attributes:
        frames: Frames written since ``start()``.
        dropped: Frames that are missing, because the disk was too slow, full or gone.
        queued: Frames that wait for the disk.
        size: Bytes written.
        file: The file being written.
        last_error: What the last failed write said; empty once one has worked.
    """

    frames: int = 0
    dropped: int = 0
    queued: int = 0
    size: int = 0
    file: str = ""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """One consistent look at the manager.

    Counters are totals since the last ``start()``, but for those that say otherwise. ``received =
    delivered + invalid + dropped + undelivered + in_inbox``, with ``backfill.held`` and
    ``backfill.superseded`` on the right where history is configured; exact whenever no frame
    changes hands at that moment.

    Attributes:
        lifecycle: State of the lifecycle machine.
        connection: State of the connection machine.
        attempts: Connection attempts.
        sessions: Sessions that became connected.
        consecutive_failures: Failed or short-lived sessions in a row.
        last_error: The last failure, if any.
        next_attempt_in: Seconds until the next attempt, while waiting for one.
        uptime: Seconds from ``start()`` until now, or until the run ended.
        connected_for: Seconds the present connection has lasted; 0 when not connected.
        wanted: Subscriptions wanted.
        acknowledged: Subscriptions the server serves.
        refused: Subscriptions the server refused, with code and text.
        ages: Data seconds since the last event was received, per (channel, symbol).
        stale: Seconds of market time without data, per symbol that is silent though connected;
            ``*`` stands for the whole stream.
        received: Events received.
        delivered: Events delivered, per channel.
        dropped: Events dropped by the inbox, per (channel, cause).
        undelivered: Events that were in the inbox when ``stop()`` ran out of time.
        rejected: Messages that could not be understood.
        invalid: Events that validation kept from everybody.
        findings: What validation found, per (rule, symbol), whatever was done about it.
        callback_errors: Calls of callbacks that raised.
        slow_callbacks: Calls that took longer than the threshold, per callback.
        running_callback: Name of the callback that is running now, if any.
        reports_dropped: Reports that listeners did not get: errors beyond a thousand waiting, and
            what was left when ``stop()`` ran out of time.
        queue_dropped: Events dropped by slow ``events()`` iterators.
        in_inbox: Events waiting for delivery, the rest of the frame in delivery included.
        lag: From receive to delivery.
        breaker: The circuit breaker; it counts over the manager's life.
        gaps: How many gaps were reported since the last fresh start; a restart does not reset it.
        bars: What bars were built here.
        backfill: What was filled from history.
        latency: From event to delivery, for ``quotes``, ``trades`` and ``bars``.
        sinks: How each sink stands, by name.
        recording: How the recording stands; ``None`` without one.
        threads: Names of our threads that are alive.
    """

    lifecycle: LifecycleState
    connection: ConnectionState
    attempts: int = 0
    sessions: int = 0
    consecutive_failures: int = 0
    last_error: Failure | None = None
    next_attempt_in: float = 0.0
    uptime: float = 0.0
    connected_for: float = 0.0
    wanted: frozenset[Subscription] = frozenset()
    acknowledged: frozenset[Subscription] = frozenset()
    refused: Mapping[Subscription, str] = field(default_factory=dict)
    ages: Mapping[Subscription, float] = field(default_factory=dict)
    stale: Mapping[str, float] = field(default_factory=dict)
    received: int = 0
    delivered: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    undelivered: int = 0
    rejected: int = 0
    invalid: int = 0
    findings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    callback_errors: int = 0
    slow_callbacks: Mapping[str, int] = field(default_factory=dict)
    running_callback: str | None = None
    reports_dropped: int = 0
    queue_dropped: int = 0
    in_inbox: int = 0
    lag: LagInfo = LagInfo()
    breaker: BreakerInfo | None = None
    gaps: int = 0
    bars: BarsInfo = BarsInfo()
    backfill: BackfillInfo = BackfillInfo()
    latency: Mapping[str, LatencyInfo] = field(default_factory=dict)
    sinks: Mapping[str, SinkInfo] = field(default_factory=dict)
    recording: RecordingInfo | None = None
    threads: tuple[str, ...] = ()
