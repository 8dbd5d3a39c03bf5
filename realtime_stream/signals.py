"""Stop on SIGTERM and SIGINT: for applications to opt into; the library never installs handlers."""

from __future__ import annotations

import queue
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["ShutdownRequest", "shutdown_on_signals"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class ShutdownRequest:
    """Set by a signal, waited for by the main loop.

    Built on a queue whose ``put`` may interrupt itself: an Event set in a signal handler can
    deadlock with the very wait that the signal interrupts.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        """Not requested yet."""
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._requested = False

    def request(self) -> None:
        """Ask for the shutdown."""
        self._requested = True
        self._queue.put(None)

    def is_requested(self) -> bool:
        """Whether the shutdown was asked for."""
        return self._requested

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the request, at most ``timeout`` seconds; tell whether it came.

        One waiter at a time is woken; a later call returns at once.
        """
        if not self._requested:
            try:
                self._queue.get(timeout=timeout)
            except queue.Empty:
                return self._requested
        return True


@contextmanager
def shutdown_on_signals() -> Iterator[ShutdownRequest]:
    """While the block runs, SIGTERM and SIGINT set the request instead of ending the program.

    Yields:
        The request.

    Raises:
        ConfigurationError: Not called from the main thread, where alone handlers can be installed.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "signal handlers can only be installed from the main thread"
        raise ConfigurationError(msg)
    request = ShutdownRequest()

    def handle(_number: int, _frame: FrameType | None) -> None:
        request.request()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
