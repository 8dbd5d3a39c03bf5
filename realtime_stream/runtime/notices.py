"""What travels through the inbox beside frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.channels import Subscription
    from realtime_stream.ports import ConnectionEvent, DisconnectEvent

__all__ = [
    "Question",
    "SessionLost",
    "SessionSettled",
    "SubscriptionsChanged",
    "SupervisorEnded",
]


@dataclass(frozen=True, slots=True)
class SessionSettled:
    """A session became connected."""

    at_ns: int
    acknowledged: frozenset[Subscription]
    event: ConnectionEvent


@dataclass(frozen=True, slots=True)
class SessionLost:
    """A session ended; ``event`` is ``None`` if it never was connected."""

    at_ns: int
    acknowledged: frozenset[Subscription]
    event: DisconnectEvent | None


@dataclass(slots=True)
class Question:
    """A user function that the io thread wants called on the dispatch thread.

    ``answer`` is set by the dispatch thread before it calls ``done``.
    """

    function: Callable[[], object]
    name: str
    done: Callable[[], None]
    answer: object = None
    answered: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class SubscriptionsChanged:
    """Registrations or subscriptions are others than before."""


@dataclass(frozen=True, slots=True)
class SupervisorEnded:
    """The last notice of a run: the io thread is about to end."""
