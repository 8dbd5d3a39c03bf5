"""Every message that was published, whether or not anybody got it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["Ledger", "LedgerEntry"]


class LedgerEntry(msgspec.Struct, frozen=True):
    """One published message.

    Attributes:
        sequence: Running number, from 1.
        channel: Channel on the wire.
        symbol: Symbol; the first one, for news.
        t_ns: The message's time, nanoseconds since the epoch, if it has one.
        sessions: To how many sessions it was written.
    """

    sequence: int
    channel: str
    symbol: str
    t_ns: int | None
    sessions: int


class Ledger:
    """Thread safety: every method may be called from any thread."""

    def __init__(self) -> None:
        """Nothing published yet."""
        self._lock = threading.Lock()  # guards _entries
        self._entries: list[LedgerEntry] = []

    def add(self, channel: str, symbol: str, t_ns: int | None, sessions: int) -> None:
        """Enter a message."""
        with self._lock:
            number = len(self._entries) + 1
            self._entries.append(LedgerEntry(number, channel, symbol, t_ns, sessions))

    def __len__(self) -> int:
        """How many messages were published."""
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        """The messages so far, in order."""
        with self._lock:
            return iter(tuple(self._entries))

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages per (channel, symbol)."""
        return dict(Counter((entry.channel, entry.symbol) for entry in self))

    def by_channel(self) -> dict[str, int]:
        """Messages per channel."""
        return dict(Counter(entry.channel for entry in self))

    def write(self, path: Path) -> None:
        """Write one JSON object a line."""
        encoder = msgspec.json.Encoder()
        path.write_bytes(b"".join(encoder.encode(entry) + b"\n" for entry in self))
