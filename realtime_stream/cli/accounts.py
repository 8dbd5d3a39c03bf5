"""The demo's book-keeping: what the exchange sent against what the bot can account for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_stream.market.channels import ALL_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from realtime_stream.ports import Gap, Status

__all__ = ["Accounts", "Sent", "balance", "read_ledger"]

_OUR_NAMES: Final = {"updatedBars": "updated_bars", "dailyBars": "daily_bars"}  # of the wire's


class Sent(msgspec.Struct, frozen=True):
    """One message that the exchange published, whether or not anybody was connected.

    Attributes:
        channel: Channel.
        symbol: Symbol.
        t_ns: The message's own time, nanoseconds since the epoch.
    """

    channel: str
    symbol: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class Accounts:
    """Where every message that was sent has gone; it adds up when both sides are equal.

    Attributes:
        sent: Messages that the exchange published.
        delivered: Those that came to the callbacks.
        in_gaps: Those whose time lies in a gap that was reported.
        dropped: Those that a full inbox gave up.
        rejected: Those that could not be understood, or cannot be true.
        superseded: Bars that history had brought before.
        undelivered: Those that waited when the time to stop was over.
    """

    sent: int
    delivered: int
    in_gaps: int
    dropped: int
    rejected: int
    superseded: int
    undelivered: int

    @property
    def accounted(self) -> int:
        """The right-hand side."""
        told = self.delivered + self.in_gaps + self.superseded
        return told + self.dropped + self.rejected + self.undelivered

    @property
    def add_up(self) -> bool:
        """Whether nothing is missing and nothing counted twice."""
        return self.sent == self.accounted


def read_ledger(path: Path) -> list[Sent]:
    """The simulator's ledger: one JSON object a line.

    Raises:
        OSError: The file cannot be read.
        msgspec.MsgspecError: A line is not a ledger entry.
    """
    entries = (msgspec.json.decode(line, type=Sent) for line in path.read_bytes().splitlines())
    return [
        msgspec.structs.replace(entry, channel=_OUR_NAMES.get(entry.channel, entry.channel))
        for entry in entries
    ]


def balance(sent: Iterable[Sent], gaps: Iterable[Gap], status: Status) -> Accounts:
    """Enter every message; one is in a gap if its time lies strictly between the gap's two ends.

    The times of the messages of one (channel, symbol) must be distinct.
    """
    intervals: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    unnamed: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for gap in gaps:
        for entry in gap.entries:
            if entry.symbol == ALL_SYMBOLS:
                unnamed[entry.channel].append((gap.start_ns, gap.end_ns))
                continue
            first = float("inf") if entry.first_event_ns is None else entry.first_event_ns
            intervals[entry.channel, entry.symbol].append((entry.last_event_ns or 0, first))

    def missed(message: Sent) -> bool:
        own = intervals.get((message.channel, message.symbol), unnamed[message.channel])
        return any(last < message.t_ns < first for last, first in own)

    sent = list(sent)
    in_gaps = sum(missed(message) for message in sent)
    return Accounts(
        sent=len(sent),
        delivered=sum(status.delivered.values()),
        in_gaps=in_gaps,
        dropped=sum(status.dropped.values()),
        rejected=status.rejected + status.invalid,
        superseded=status.backfill.superseded,
        undelivered=status.undelivered,
    )
