"""What is given up when the inbox is full: a pure function over the waiting frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from realtime_stream.market.models import MarketEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


__all__ = ["Frame", "JoinedEvents", "Overflow", "compact", "decode_all"]

_BARS: Final = frozenset({"bars", "updated_bars", "daily_bars"})
_KEPT_LAST: Final = _BARS | {"statuses"}
_TRADES: Final = frozenset({"trades"})
_QUOTES: Final = frozenset({"quotes"})
_MISSED: Final = _BARS | _TRADES


class Frame(Struct, gc=False):
    """The events of one frame. Many may wait, so the garbage collector is spared them.

    Attributes:
        events: The events; a collection that decodes itself when somebody iterates over it.
        received: When it was received, monotonic seconds.
        count: How many messages it was said to hold when it came; some may be malformed.
    """

    events: Collection[MarketEvent]
    received: float
    count: int


class JoinedEvents(Struct, gc=False):
    """The events of several small frames, in order.

    Attributes:
        parts: The events of each frame.
        ends: The last event of each, once they were iterated over; frames without any are left out.
    """

    parts: list[Collection[MarketEvent]]
    ends: list[MarketEvent] = []

    def __len__(self) -> int:
        """Of all parts together."""
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[MarketEvent]:
        """Decode every part, then iterate."""
        events: list[MarketEvent] = []
        self.ends = []
        for part in self.parts:
            before = len(events)
            events.extend(part)
            if len(events) > before:
                self.ends.append(events[-1])
        return iter(events)

    def __contains__(self, event: object) -> bool:
        """Whether one of the frames brought this event."""
        return any(event in part for part in self.parts)


@dataclass(slots=True)
class Overflow:
    """What a compaction gave up.

    Attributes:
        dropped: Number of events, per (channel, cause); causes are ``conflated`` and ``overflow``.
        missed: The bars and trades among them, in order: holes in series of bars.
    """

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: list[MarketEvent] = field(default_factory=list)


def decode_all(frames: Sequence[Frame]) -> int:
    """Decode what waits, in place; tell how many messages turned out to be no events."""
    malformed = 0
    for frame in frames:
        if not isinstance(frame.events, list):
            frame.events = list(frame.events)
            malformed += frame.count - len(frame.events)
            frame.count = len(frame.events)
    return malformed


def compact(frames: Sequence[Frame], target: int) -> Overflow:
    """Shorten decoded ``frames`` in place to ``target`` events, giving up the least valuable.

    First each symbol keeps only its newest quote, in its own place. Then the oldest events go:
    trades, after them what is neither quote, bar nor status, then quotes; bars and statuses last.
    The order of what stays is unchanged.
    """
    overflow = Overflow()
    _conflate_quotes(frames, overflow)
    excess = sum(len(frame.events) for frame in frames) - target
    present = {event.channel for frame in frames for event in frame.events}
    others = present - _TRADES - _QUOTES - _KEPT_LAST
    for group in (_TRADES, others, _QUOTES, _KEPT_LAST):
        excess = _drop_oldest(frames, group, excess, overflow)
    for frame in frames:
        frame.count = len(frame.events)
    return overflow


def _conflate_quotes(frames: Sequence[Frame], overflow: Overflow) -> None:
    seen: set[str] = set()
    for frame in reversed(frames):
        kept: list[MarketEvent] = []
        for event in reversed(list(frame.events)):
            if event.channel == "quotes":
                if event.symbol in seen:
                    overflow.dropped["quotes", "conflated"] += 1
                    continue
                seen.add(event.symbol)
            kept.append(event)
        kept.reverse()
        frame.events = kept


def _drop_oldest(
    frames: Sequence[Frame], group: frozenset[str] | set[str], excess: int, overflow: Overflow
) -> int:
    for frame in frames:
        if excess <= 0:
            break
        kept: list[MarketEvent] = []
        for event in frame.events:
            if excess > 0 and event.channel in group:
                excess -= 1
                overflow.dropped[event.channel, "overflow"] += 1
                if event.channel in _MISSED:
                    overflow.missed.append(event)
            else:
                kept.append(event)
        frame.events = kept
    return excess
