"""Time for a check: so much for each step, so much for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from realtime_stream.clock import Clock

__all__ = ["Budget"]

_STEPS: Final = 4  # as many steps may take all their time; one that does is mostly the last
_LEAST: Final = 0.1  # seconds, however late it is


class Budget:
    """Bounds every step and the whole. Used by one thread."""

    def __init__(self, clock: Clock, step: float) -> None:
        """Start counting.

        Args:
            clock: Measures.
            step: Seconds that a step may take.
        """
        self._clock = clock
        self._step = step
        self._end = clock.monotonic() + _STEPS * step

    def step(self, share: float = 1.0) -> float:
        """Seconds that the next step may take: so many steps' worth, if they are left."""
        left = self._end - self._clock.monotonic()
        return max(min(self._step * share, left), _LEAST)
