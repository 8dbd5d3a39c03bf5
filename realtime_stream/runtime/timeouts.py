"""One check for every timeout that a caller may give."""

from __future__ import annotations

import threading

from realtime_stream.errors import ConfigurationError

__all__ = ["checked_timeout", "checked_wait"]


def checked_timeout(value: object) -> float:
    """Return ``value`` in seconds, cut to what the system can wait.

    Args:
        value: Seconds.

    Raises:
        ConfigurationError: It is not a number, or below 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        msg = f"timeout must be a number of seconds, 0 or more, not {ascii(value)[:40]}"
        raise ConfigurationError(msg)
    return min(float(value), threading.TIMEOUT_MAX / 4)


def checked_wait(value: object) -> float | None:
    """The same, with ``None`` for a wait without an end."""
    return None if value is None else checked_timeout(value)
