"""Log records with constant event names, and the ids that tie a session's records together."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from realtime_stream.clock import Clock

__all__ = ["EventLog", "Throttle", "new_id"]

_LOGGER: Final = logging.getLogger("realtime_stream")


def new_id() -> str:
    """A short random id."""
    return uuid.uuid4().hex[:12]


class EventLog:
    """Writes records that carry ``correlation_id``, ``connection_id`` and ``causation_id``.

    The correlation id spans one run from start to stop, the connection id one session; the
    causation id names the connection whose end led to the present one.

    Thread safety: the ids are changed by the io thread only and read by all.
    """

    def __init__(self, manager: str) -> None:
        """Begin a new run."""
        self._manager = manager
        self.correlation_id = new_id()
        self.connection_id = ""
        self.causation_id = ""

    def next_connection(self) -> str:
        """Begin a new session; the one before becomes its cause."""
        self.causation_id = self.connection_id
        self.connection_id = new_id()
        return self.connection_id

    def is_debug(self) -> bool:
        """Whether DEBUG records would be kept; only they may name symbols."""
        return _LOGGER.isEnabledFor(logging.DEBUG)

    def write(
        self, level: int, event: str, exc_info: BaseException | None = None, **fields: object
    ) -> None:
        """Write one record.

        Args:
            level: A level of :mod:`logging`.
            event: Constant lower-case name of what happened.
            exc_info: An exception whose traceback goes with the record.
            **fields: Structured details; must hold no secret, and no symbol below DEBUG.
        """
        extra = {
            "manager": self._manager,
            "correlation_id": self.correlation_id,
            "connection_id": self.connection_id,
            "causation_id": self.causation_id,
            **fields,
        }
        _LOGGER.log(level, event, exc_info=exc_info, extra=extra)


class Throttle:
    """Lets one report of a kind through per interval, and counts the others.

    Thread safety: none; each thread that reports has its own.
    """

    def __init__(self, clock: Clock, interval: float) -> None:
        """Nothing reported yet; ``interval`` in seconds, 0 lets everything through."""
        self._clock = clock
        self._interval = interval
        self._last: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def turn(self, kind: str) -> int | None:
        """How many were held back since the last report; ``None`` if this one is too."""
        now = self._clock.monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < self._interval:
            self._suppressed[kind] += 1
            return None
        self._last[kind] = now
        return self._suppressed.pop(kind, 0)
