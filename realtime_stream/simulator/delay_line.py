"""Doing things later, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DelayLine"]


class DelayLine:
    """Actions that wait for their time; none overtakes another.

    Thread safety: used by the simulator's thread only.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def put(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` after so many seconds and after what waits; if it need not wait, now."""
        if seconds <= 0 and not self._waiting:
            action()
            return
        due = asyncio.get_running_loop().time() + seconds
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, action))
        self._set_timer()

    def flush(self) -> None:
        """Call everything that waits now."""
        self._run_until(float("inf"))

    def cancel(self) -> None:
        """Forget everything that waits."""
        self._waiting.clear()
        self._set_timer()

    def _run_until(self, time: float) -> None:
        while self._waiting and self._waiting[0][0] <= time:
            self._waiting.popleft()[1]()
        self._set_timer()

    def _run_due(self) -> None:
        self._timer = None
        self._run_until(asyncio.get_running_loop().time())

    def _set_timer(self) -> None:
        if not self._waiting:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            due = self._waiting[0][0]
            self._timer = asyncio.get_running_loop().call_at(due, self._run_due)
