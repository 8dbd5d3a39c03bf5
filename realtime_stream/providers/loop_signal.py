"""How any thread makes something happen on an event loop that it knows nothing of."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopSignal"]


class LoopSignal:
    """A flag that also calls whatever is armed, each time it is set; never blocks the setter.

    Thread safety: :meth:`set` and :meth:`is_set` may be called from any thread, the rest from the
    thread that runs the session.
    """

    def __init__(self) -> None:
        """Neither set nor armed."""
        self._lock = threading.Lock()  # guards the two attributes below against each other
        self._set = False
        self._call: Callable[[], object] | None = None

    def is_set(self) -> bool:
        """Whether :meth:`set` was ever called."""
        return self._set

    def set(self) -> None:
        """Make the armed call, or have it made as soon as one is armed."""
        with self._lock:
            self._set = True
            call = self._call
        if call is not None:
            call()

    def arm(self, action: Callable[[], object]) -> None:
        """Have ``action`` called on the running loop; at once, if the flag is set."""
        loop = asyncio.get_running_loop()

        def schedule() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all it ran
                loop.call_soon_threadsafe(action)

        self.arm_direct(schedule)

    def arm_direct(self, action: Callable[[], object]) -> None:
        """Have ``action`` called on the setter's thread: it must be quick and thread-safe."""
        with self._lock:
            self._call = action
            already = self._set
        if already:
            action()

    def disarm(self) -> None:
        """Call nothing any more."""
        with self._lock:
            self._call = None
