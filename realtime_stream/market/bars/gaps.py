"""What is known to be missing: the gap that is open, and those that were never filled."""

from __future__ import annotations

from typing import Final

__all__ = ["KnownGaps"]

_KEPT: Final = 1000


class KnownGaps:
    """The open gap and the latest unfilled ones of one series.

    Thread safety: one thread at a time.
    """

    __slots__ = ("held_from_ns", "unfilled")

    def __init__(self) -> None:
        """Begin with nothing missing."""
        self.held_from_ns: int | None = None
        self.unfilled: list[tuple[int, int]] = []

    def open(self, start_ns: int) -> None:
        """Something may be missing from a moment on; the earliest of several stands."""
        held = self.held_from_ns
        self.held_from_ns = start_ns if held is None else min(held, start_ns)

    def close(self, end_ns: int, *, filled: bool) -> None:
        """Nothing is missing from a moment on; what was before is there, or stays missing."""
        start, self.held_from_ns = self.held_from_ns, None
        if start is None or filled or end_ns <= start:
            return
        self.unfilled.append((start, end_ns))
        del self.unfilled[:-_KEPT]

    def fill(self, start_ns: int, end_ns: int) -> None:
        """What was missing between two moments is there after all."""
        left = []
        for start, end in self.unfilled:
            left += [(start, min(end, start_ns)), (max(start, end_ns), end)]
        self.unfilled = [(start, end) for start, end in left if start < end]

    def holds(self, end_ns: int) -> bool:
        """Whether an interval with this end has to wait."""
        held = self.held_from_ns
        return held is not None and end_ns > held

    def overlap(self, start_ns: int, end_ns: int) -> bool:
        """Whether something of an interval was never filled."""
        return any(start < end_ns and start_ns < end for start, end in self.unfilled)
