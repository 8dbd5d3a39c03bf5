"""The soak's book-keeping: every message of the exchange's ledger is explained, one by one."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.soak_server import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.soak_bot import CHANNELS, Key, Totals
    from benchmarks.soak_scene import Period, Window

__all__ = ["Accounts", "Entry", "explain", "read_ledger"]

_EVER: Final = float("inf")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message of the ledger.

    Attributes:
        sequence: Its number, in the order of publication.
        channel: Channel.
        symbol: Symbol.
        t_ns: Its own time.
        sessions: How many sessions it was written to: 1 or 0.
    """

    sequence: int
    channel: str
    symbol: str
    t_ns: int
    sessions: int


def read_ledger(path: Path, channels: Sequence[str]) -> list[Entry]:
    """The messages of these channels, oldest first."""
    entries = (msgspec.json.decode(line, type=Entry) for line in path.read_bytes().splitlines())
    return [entry for entry in entries if entry.channel in channels]
