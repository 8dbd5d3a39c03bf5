"""What every builder of bars offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.models import Bar, TradeCancel, TradeCorrection

__all__ = ["BarBuilder", "BuilderCounts", "unheard"]


def unheard() -> None:
    """Nobody wants to know when something is due."""


@dataclass(slots=True)
class BuilderCounts:
    """What became of what a builder was given.

    Attributes:
        built: Bars emitted for the first time, filled ones included.
        updated: Updated bars emitted.
        late: Trades or smaller bars that came after their bar, within what is kept for updates.
        too_late: Those that came later still; they changed nothing.
        corrected: Corrections and cancels applied.
        unmatched: Corrections and cancels of trades that are not known (any more).
    """

    built: int = 0
    updated: int = 0
    late: int = 0
    too_late: int = 0
    corrected: int = 0
    unmatched: int = 0


class BarBuilder(Protocol):
    """Builds the bars of one symbol and one time frame. Pure: every moment is given.

    Moments are nanoseconds since the epoch, UTC; those named "now" are on the data clock, the one
    that ``received_ns`` is on.

    Thread safety: one thread at a time.
    """

    @property
    def symbol(self) -> str:
        """Whose bars."""

    @property
    def timeframe(self) -> str:
        """The time frame's canonical text."""

    @property
    def next_due_ns(self) -> int | None:
        """When :meth:`advance` will have something to emit.

        0 is at once; ``None`` is not before something else happens: nothing is open, or a gap
        holds everything.
        """

    @property
    def counts(self) -> BuilderCounts:
        """What became of what it was given."""

    @property
    def on_due(self) -> Callable[[], None]:
        """Called while something is added, when that makes :attr:`next_due_ns` earlier."""

    @on_due.setter
    def on_due(self, call: Callable[[], None]) -> None: ...

    def add(self, event: Any) -> None:
        """Take a trade or a smaller bar, whichever it is built from. Emits nothing."""

    def advance(self, now_ns: int) -> list[Bar]:
        """Close what is due, and return the new and the updated bars in the order of their starts.

        Cheap when nothing is due.
        """

    def correct(self, correction: TradeCorrection) -> None:
        """Apply a correction to a trade that was added; of no effect where bars are added."""

    def cancel(self, cancel: TradeCancel) -> None:
        """Take back a trade that was added; of no effect where bars are added."""

    def open_gap(self, start_ns: int) -> None:
        """Hold every interval that ends after a moment, as something of it may be missing.

        While a gap is open, only the earliest start counts.
        """

    def close_gap(self, end_ns: int, *, filled: bool) -> None:
        """End the hold.

        Args:
            end_ns: The moment from which on nothing is missing.
            filled: Whether what was missing has been added; if not, bars that overlap the gap are
                partial.
        """

    def gap_filled(self, start_ns: int, end_ns: int) -> None:
        """Take note that a gap that was closed unfilled has been filled after all."""

    def history_known_from(self, start_ns: int) -> None:
        """Take note that everything from a moment on has been added, also from before the start."""
