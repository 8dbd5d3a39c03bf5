"""What the server allows, and what a session needs of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from realtime_stream.simulator.fault_state import FaultState
    from realtime_stream.simulator.observation import Observation
    from realtime_stream.simulator.session import Session

__all__ = ["Host", "Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the server allows; see the arguments of the simulator."""

    credentials: Mapping[str, str] = field(repr=False)  # the secrets
    connection_limit: int
    symbol_limit: int | None
    auth_timeout: float
    refused_feeds: Collection[str]
    terse_acknowledgements: bool
    buffer_limit: int


@dataclass(frozen=True, slots=True)
class Host:
    """What a session needs of the server around it.

    Attributes:
        rules: What is allowed.
        faults: What to do wrong.
        observation: Where to tell what happens.
        holders: How many sessions are authenticated with this key at this path.
        end: Ends a session with a close code, or without a close frame if it is ``None``.
        subscribed: Told after each change of subscriptions.
    """

    rules: Rules
    faults: FaultState
    observation: Observation
    holders: Callable[[str, str], int]
    end: Callable[[Session, int | None], None]
    subscribed: Callable[[], None]
