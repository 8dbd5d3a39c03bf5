"""What a store must offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar

__all__ = [
    "Sink",
]


class Sink(Protocol):
    """Where delivered bars go. Called by one thread of its own, which may block.

    One with a property ``target``, a short name of the place it writes to, has what is spooled for
    one place never loaded into another.
    """

    @property
    def name(self) -> str:
        """What it is called in thread names, log records and the status; ``[a-z0-9-]+``."""

    def write(self, bars: Sequence[Bar]) -> None:
        """Store bars, all or none; those that are stored already do no harm.

        Of several bars with the same symbol, timeframe and start, a whole one wins over a partial
        one, then one with trades over one that was filled in, an updated one over a regular one,
        and last the one that was received last: bars that were spooled come after newer ones. It
        must give up by itself within seconds.

        Raises:
            SinkRejectedError: Some of them can never be stored; none was.
            SinkError: It did not work this time; none was stored.
        """

    def close(self) -> None:
        """Let go of connections; nothing is written after it."""
