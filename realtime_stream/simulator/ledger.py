"""The ledger: what was published, message by message, and how many sessions it was written to."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtime_stream.simulator.wire import Message

__all__ = ["Ledger", "LedgerEntry"]


class LedgerEntry(msgspec.Struct, frozen=True, gc=False):
    """One published message.

    Attributes:
        sequence: 1, 2, 3 ... in the order of publication.
        channel: Channel, as the wire names it.
        symbol: Symbol; of news all of them, joined by commas.
        t_ns: The message's own time, nanoseconds since the epoch, if it has one.
        sessions: How many sessions it was written to.
    """

    sequence: int
    channel: str
    symbol: str
    t_ns: int | None
    sessions: int


class Ledger:
    """Every message that was published, whether or not any session got it.

    Thread safety: every method may be called from any thread. A message is in the ledger once the
    simulator's thread has written it, which may be a moment after ``publish`` has returned.
    """

    def __init__(self) -> None:
        """Empty."""
        self._lock = threading.Lock()  # guards both below
        self._entries: list[LedgerEntry] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """How many messages were published."""
        with self._lock:
            return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        """The entries so far, oldest first."""
        return iter(self.entries())

    def entries(self) -> tuple[LedgerEntry, ...]:
        """The entries so far, oldest first."""
        with self._lock:
            return tuple(self._entries)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many messages were published per (channel, symbol)."""
        with self._lock:
            return dict(self._counts)

    def by_channel(self) -> dict[str, int]:
        """How many messages were published per channel."""
        totals: Counter[str] = Counter()
        for (channel, _), count in self.counts().items():
            totals[channel] += count
        return dict(totals)

    def newest_ns(self, channel: str, symbol: str) -> int | None:
        """Time of the last message of this channel and symbol, or else of the last of any."""
        with self._lock:
            entries = self._entries
            if (channel, symbol) not in self._counts:
                return entries[-1].t_ns if entries else None
            return next(
                each.t_ns
                for each in reversed(entries)
                if each.symbol == symbol and each.channel == channel
            )

    def write(self, path: str | Path) -> None:
        """Write the entries as JSON Lines; an existing file is replaced.

        Raises:
            OSError: It cannot be written.
        """
        lines = (msgspec.json.encode(entry) + b"\n" for entry in self.entries())
        with Path(path).open("wb") as file:
            file.writelines(lines)

    def record(self, published: Iterable[tuple[Message, int]]) -> None:
        """Enter messages and to how many sessions each was written."""
        with self._lock:
            for message, sessions in published:
                symbol = ",".join(message.symbols)
                self._entries.append(
                    LedgerEntry(
                        len(self._entries) + 1, message.channel, symbol, message.t_ns, sessions
                    )
                )
                self._counts[message.channel, symbol] += 1
