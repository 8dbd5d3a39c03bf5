"""The states of the lifecycle and of the connection."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ConnectionState",
    "LifecycleState",
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
