"""What a provider must offer, and what it tells its listener.

**Provider contract.** ``run_session`` blocks on the calling thread for exactly one session and
returns why it ended. What it subscribes to is the latest ``set_wanted``, so that no change made
while a session begins can be lost. ``set_wanted`` and ``disconnect`` may be called from any thread
and never block; after ``disconnect`` the session returns within 0.5 s whatever the server does. The
provider calls its :class:`SessionListener` on the thread that runs the session, in the order things
came, and never keeps a lock while it does; only malformed messages may be told of later, by the
thread that reads a frame's events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from realtime_stream.config import Credentials
    from realtime_stream.market.channels import Subscription
    from realtime_stream.market.models import MarketEvent
    from realtime_stream.resilience.failures import SessionEnd

__all__ = [
    "Acknowledged",
    "Authenticated",
    "Checkpoint",
    "Connected",
    "Control",
    "MarketDataProvider",
    "ProviderFactory",
    "Refused",
    "RejectedMessage",
    "ServerReport",
    "SessionListener",
    "Settled",
]


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
