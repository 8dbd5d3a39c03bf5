"""The two state machines as transition tables, and the board that everybody waits on."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import IllegalTransitionError
from realtime_stream.ports import ConnectionState as C
from realtime_stream.ports import LifecycleState as L
from realtime_stream.ports import StateChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.runtime.log import EventLog

__all__ = ["ALIVE", "CONNECTION_TABLE", "LIFECYCLE_TABLE", "StateBoard"]

ALIVE: Final = frozenset({L.STARTING, L.RUNNING})
LIFECYCLE_TABLE: Final[dict[tuple[L, str], L]] = {
    (L.STOPPED, "start"): L.STARTING,
    (L.FAILED, "start"): L.STARTING,
    (L.STARTING, "ready"): L.RUNNING,
    (L.STARTING, "stop"): L.STOPPING,
    (L.STARTING, "fail"): L.FAILED,
    (L.RUNNING, "stop"): L.STOPPING,
    (L.RUNNING, "fail"): L.FAILED,
    (L.STOPPING, "stopped"): L.STOPPED,
}

CONNECTION_TABLE: Final[dict[tuple[C, str], C]] = {
    (C.DISCONNECTED, "connect"): C.CONNECTING,
    (C.DISCONNECTED, "idle"): C.IDLE,
    (C.DISCONNECTED, "circuit_open"): C.CIRCUIT_OPEN,
    (C.CONNECTING, "settled"): C.CONNECTED,
    (C.CONNECTING, "lost"): C.RECONNECTING,
    (C.CONNECTING, "circuit_open"): C.CIRCUIT_OPEN,
    (C.CONNECTING, "idle"): C.IDLE,
    (C.CONNECTING, "end"): C.DISCONNECTED,
    (C.CONNECTED, "lost"): C.RECONNECTING,
    (C.CONNECTED, "circuit_open"): C.CIRCUIT_OPEN,
    (C.CONNECTED, "idle"): C.IDLE,
    (C.CONNECTED, "end"): C.DISCONNECTED,
    (C.RECONNECTING, "connect"): C.CONNECTING,
    (C.RECONNECTING, "circuit_open"): C.CIRCUIT_OPEN,
    (C.RECONNECTING, "idle"): C.IDLE,
    (C.RECONNECTING, "end"): C.DISCONNECTED,
    (C.CIRCUIT_OPEN, "connect"): C.CONNECTING,
    (C.CIRCUIT_OPEN, "lost"): C.RECONNECTING,
    (C.CIRCUIT_OPEN, "idle"): C.IDLE,
    (C.CIRCUIT_OPEN, "end"): C.DISCONNECTED,
    (C.IDLE, "connect"): C.CONNECTING,
    (C.IDLE, "circuit_open"): C.CIRCUIT_OPEN,
    (C.IDLE, "lost"): C.RECONNECTING,
    (C.IDLE, "end"): C.DISCONNECTED,
}


class StateBoard:
    """Holds both states; every legal move is logged, published, and wakes the waiters.

    Waits here are on the machine's clock: they bound a caller's time, whatever data time does.

    Thread safety: all methods may be called from any thread. The connection machine is moved by
    the io thread alone, the lifecycle machine by whoever holds the right trigger.
    """

    def __init__(self) -> None:
        """Stopped and disconnected."""
        self._condition = threading.Condition()  # guards the four attributes below
        self._owner: EventLog | None = None
        self._lifecycle = L.STOPPED
        self._connection = C.DISCONNECTED
        self._publish: Callable[[StateChange], None] | None = None
        self.connected = threading.Event()

    @property
    def lifecycle(self) -> L:
        """The lifecycle state."""
        return self._lifecycle

    @property
    def connection(self) -> C:
        """The connection state."""
        return self._connection

    def begin(self, publish: Callable[[StateChange], None], log: EventLog) -> None:
        """A new run begins, which is known by its ``log``; only it moves the lifecycle from now on.

        Args:
            publish: Gets the changes; called under the board's lock.
            log: The run's own.
        """
        with self._condition:
            self._publish = publish
            self._owner = log

    def move_lifecycle(self, trigger: str, log: EventLog) -> None:
        """Move the lifecycle machine.

        Raises:
            IllegalTransitionError: The table has no such move.
        """
        if not self.try_lifecycle(trigger, log):
            msg = f"lifecycle cannot {trigger!r} while {self._lifecycle.value}"
            raise IllegalTransitionError(msg)

    def try_lifecycle(self, trigger: str, log: EventLog) -> bool:
        """Move the lifecycle machine if the table allows it; tell whether it did.

        A call that comes late, from a run that is over, moves nothing.
        """
        with self._condition:
            previous = self._lifecycle
            current = LIFECYCLE_TABLE.get((previous, trigger))
            if current is None or log is not self._owner:
                return False
            self._lifecycle = current
            if current not in ALIVE:
                self.connected.clear()
            change = self._changed(StateChange("lifecycle", previous, current))
        _log(change, log)
        return True

    def move_connection(self, trigger: str, log: EventLog) -> None:
        """Move the connection machine; staying where the trigger leads is no move.

        Raises:
            IllegalTransitionError: The table has no such move.
        """
        with self._condition:
            previous = self._connection
            current = CONNECTION_TABLE.get((previous, trigger))
            if current is None:
                if (previous, trigger) in _NO_MOVE:
                    return
                msg = f"connection cannot {trigger!r} while {previous.value}"
                raise IllegalTransitionError(msg)
            self._connection = current
            if current is C.CONNECTED and self._lifecycle in ALIVE:
                self.connected.set()
            else:
                self.connected.clear()
            change = self._changed(StateChange("connection", previous, current))
        _log(change, log)

    def wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until ``predicate`` holds or ``timeout`` seconds have passed; return what it says.

        ``predicate`` is called under the board's lock: it may read the states and nothing more.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not predicate():
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                self._condition.wait(remaining)
            return True

    def wake(self) -> None:
        """Let the waiters look again."""
        with self._condition:
            self._condition.notify_all()

    def _changed(self, change: StateChange) -> StateChange:
        """Wake the waiters and publish; under the lock, so that changes are published in order."""
        self._condition.notify_all()
        if self._publish is not None:
            self._publish(change)
        return change


def _log(change: StateChange, log: EventLog) -> None:
    """Write the record; never under the lock, because log handlers are foreign code."""
    log.write(
        logging.INFO,
        "realtime_feed_state_changed",
        machine=change.machine,
        previous=change.previous.value,
        current=change.current.value,
    )


_NO_MOVE: Final = frozenset({
    (C.IDLE, "idle"),
    (C.RECONNECTING, "lost"),
    (C.CIRCUIT_OPEN, "circuit_open"),
    (C.DISCONNECTED, "end"),
})
