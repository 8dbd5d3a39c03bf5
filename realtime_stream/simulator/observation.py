"""What can be seen of a running simulator from other threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator.wire import Codec

__all__ = ["Observation", "SessionInfo"]

_MAX_RECEIVED: Final = 100_000


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One open session.

    Attributes:
        id: 1, 2, 3 ... in the order in which sessions were opened.
        path: Path of its URL.
        codec: How its messages are encoded.
        authenticated: Whether it is.
        subscriptions: Pairs of channel, as the wire names it, and symbol or ``"*"``.
        header_auth: Whether its credentials came with the HTTP upgrade.
    """

    id: int
    path: str
    codec: Codec
    authenticated: bool
    subscriptions: frozenset[tuple[str, str]]
    header_auth: bool


class Observation:
    """Counters, open sessions and received requests.

    Thread safety: written by the simulator's thread, read by any.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._changed = threading.Condition()  # guards everything below
        self._version = 0
        self._counters = {"attempts": 0, "handshakes": 0, "auth_attempts": 0, "authenticated": 0}
        self._sessions: dict[int, SessionInfo] = {}
        self._received: deque[dict[str, Any]] = deque(maxlen=_MAX_RECEIVED)
        self._rest_requests: deque[str] = deque(maxlen=_MAX_RECEIVED)
        self._rest_answers: Counter[int] = Counter()

    def count(self, counter: str) -> None:
        """One more of ``counter``."""
        with self._changed:
            self._counters[counter] += 1
            self._notify()

    def counter(self, counter: str) -> int:
        """How many there were."""
        with self._changed:
            return self._counters[counter]

    def update(self, info: SessionInfo) -> None:
        """A session is open, and this is its state now."""
        with self._changed:
            self._sessions[info.id] = info
            self._notify()

    def remove(self, session_id: int) -> None:
        """A session is no longer open."""
        with self._changed:
            if self._sessions.pop(session_id, None) is not None:
                self._notify()

    def sessions(self) -> tuple[SessionInfo, ...]:
        """The open sessions, oldest first."""
        with self._changed:
            return tuple(self._sessions.values())

    def receive(self, request: dict[str, Any]) -> None:
        """A client has sent this."""
        with self._changed:
            self._received.append(request)
            self._notify()

    def received(self) -> list[dict[str, Any]]:
        """What clients have sent, oldest first."""
        with self._changed:
            return list(self._received)

    def rest_requested(self, target: str) -> None:
        """A client has asked for this path and query."""
        with self._changed:
            self._rest_requests.append(target)
            self._notify()

    def rest_requests(self) -> list[str]:
        """What was asked for, oldest first."""
        with self._changed:
            return list(self._rest_requests)

    def rest_answered(self, status: int) -> None:
        """A request is answered with this status."""
        with self._changed:
            self._rest_answers[status] += 1
            self._notify()

    def rest_answers(self) -> dict[int, int]:
        """How many requests were answered, per status."""
        with self._changed:
            return dict(self._rest_answers)

    def touch(self) -> None:
        """Something else has changed that somebody may wait for."""
        with self._changed:
            self._notify()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``predicate`` holds; it is asked after every change, without a lock held."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self._version
            if predicate():
                return True
            with self._changed:
                remaining = deadline - time.monotonic()
                if not self._changed.wait_for(lambda: self._version != seen, remaining):  # noqa: B023  # called at once
                    return False

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()
