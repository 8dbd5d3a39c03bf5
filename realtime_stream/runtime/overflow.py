"""What is given up when the inbox is full: a pure function over the waiting frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import MarketEvent

__all__ = ["Frame", "Overflow", "compact"]

_BARS: Final = frozenset({"bars", "updated_bars", "daily_bars"})
_KEPT_LAST: Final = _BARS | {"statuses"}
_TRADES: Final = frozenset({"trades"})
_QUOTES: Final = frozenset({"quotes"})


@dataclass(slots=True)
class Frame:
    """The events of one frame and when it was received (monotonic seconds)."""

    events: Sequence[MarketEvent]
    received: float


@dataclass(slots=True)
class Overflow:
    """What a compaction gave up.

    Attributes:
        dropped: Number of events, per (channel, cause); causes are ``conflated`` and ``overflow``.
        bars: The bars among them, in order; each is a hole in a series and is reported as a gap.
    """

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    bars: list[MarketEvent] = field(default_factory=list)


def compact(frames: Sequence[Frame], target: int) -> Overflow:
    """Shorten ``frames`` in place to at most ``target`` events, giving up the least valuable.

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
    return overflow


def _conflate_quotes(frames: Sequence[Frame], overflow: Overflow) -> None:
    seen: set[str] = set()
    for frame in reversed(frames):
        kept: list[MarketEvent] = []
        for event in reversed(frame.events):
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
                if event.channel in _BARS:
                    overflow.bars.append(event)
            else:
                kept.append(event)
        frame.events = kept
    return excess
