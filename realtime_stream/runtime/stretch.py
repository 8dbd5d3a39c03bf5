"""Stretches of time that history is to fill, and the jobs that fetch them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from realtime_stream.clock import Clock
    from realtime_stream.runtime.history_worker import HistoryJob

__all__ = [
    "CLOCKS_DIFFER_NS",
    "MINUTE_NS",
    "NOT_IN_TIME",
    "UPDATED_AFTER_NS",
    "BackfillSettings",
    "HistoryMemory",
    "Missing",
    "Stretch",
    "minute_of",
    "real_seconds",
    "retry_pause",
]

MINUTE_NS: Final = 60 * 10**9
CLOCKS_DIFFER_NS: Final = 5 * 10**9  # at most, or validation would reject everything
# An updated bar comes half a minute after its minute's end.
UPDATED_AFTER_NS: Final = 30 * 10**9
# A bar is sent a moment after its minute's end, which is by our clock.
_ON_ITS_WAY_NS: Final = CLOCKS_DIFFER_NS + 10**9
# How much earlier than the last frame something may have happened that was lost with the
# connection: a bar's minute, or a trade that was reported 10 s late.
_BARS_BEFORE_NS: Final = MINUTE_NS + UPDATED_AFTER_NS + CLOCKS_DIFFER_NS
_TRADES_BEFORE_NS: Final = 10 * 10**9 + CLOCKS_DIFFER_NS
NOT_IN_TIME: Final = "history did not have it in time"
_FIRST_RETRY: Final = 0.5  # seconds
_LONGEST_RETRY: Final = 30.0


def minute_of(timestamp_ns: int) -> int:
    """The start of the minute that a moment is in."""
    return timestamp_ns - timestamp_ns % MINUTE_NS


def retry_pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(_FIRST_RETRY * 2.0 ** (failures - 1), _LONGEST_RETRY)


def real_seconds(data_clock: Clock, data_ns: int) -> float:
    """Real seconds that so many nanoseconds of data time take; 0 if they are over."""
    return max(data_clock.real_seconds(data_ns / 1e9), 0.0)


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """What is filled, and how long is waited for it.

    Attributes:
        channels: Channels that are filled.
        hold: Seconds of real time that live bars wait for older ones.
        hold_bars: How many of a symbol may wait.
        deadline: Seconds of real time after which a stretch is given up.
        lag_ns: Data time by which history has what the stream has sent.
    """

    channels: frozenset[str]
    hold: float
    hold_bars: int
    deadline: float
    lag_ns: int


@dataclass(frozen=True, slots=True)
class Missing:
    """What history has to bring, and how one sees that it has.

    Attributes:
        last_ns: Start of the last bar; ``None`` for trades, of which none is the last: clocks
            differ.
        sent_ns: By when all of it had been sent over the stream.
        is_updated: Whether an update of the last bar may be among it.
    """

    last_ns: int | None
    sent_ns: int
    is_updated: bool = False

    def is_there(self, newest_ns: int, asked_ns: int, lag_ns: int) -> bool:
        """Whether an answer has all there will be.

        Args:
            newest_ns: Start of the newest bar that history has had.
            asked_ns: When it was asked for.
            lag_ns: By when history has what was sent.
        """
        return asked_ns >= self.sent_ns + lag_ns or (not self.is_updated and self.shows(newest_ns))

    def shows(self, newest_ns: int) -> bool:
        """Whether history has had the last bar: an update of it may still be missing."""
        return self.last_ns is not None and newest_ns >= self.last_ns


@dataclass(slots=True, eq=False)
class Stretch:
    """A gap of one (channel, symbol).

    Attributes:
        channel: ``bars`` or ``trades``.
        symbol: Symbol.
        lost_ns: From when on something may be missing.
        start_ns: From when on history has to fill it.
        ask_from_ns: From when on it is asked next: what it has brought is not asked for again.
        whole_ns: When the connection was whole again; ``None`` before.
        until_ns: Until when events were dropped.
        sent_ns: By when what is missing had been sent.
        held_until: Until when live bars wait, monotonic seconds.
        holding: Whether they do.
        give_up_at: When it is given up, monotonic seconds.
        job: The fetch whose end decides.
        newest_ns: Start of the newest bar that history has had; a minute before the stretch at
            first, as nothing older is wanted.
        fetched: How many events it has had.
        delivered: How many of them were news.
        failures: Failed fetches in a row.
        problem: Why the last one failed.
        fetches: Answers it has had.
        known: Starts of the bars, or ids of the trades, that history has brought for it.
    """

    channel: Literal["bars", "trades"]
    symbol: str
    lost_ns: int
    start_ns: int
    ask_from_ns: int = field(init=False)
    whole_ns: int | None = None
    until_ns: int = 0
    sent_ns: int = 0
    held_until: float = math.inf
    holding: bool = True
    give_up_at: float = math.inf
    job: HistoryJob | None = None
    newest_ns: int = field(init=False)
    fetched: int = 0
    delivered: int = 0
    failures: int = 0
    problem: str = ""
    fetches: int = 0
    known: set[object] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Nothing has been asked for."""
        self.ask_from_ns = self.start_ns
        self.newest_ns = self.start_ns - MINUTE_NS

    @classmethod
    def lost_at(
        cls, channel: Literal["bars", "trades"], symbol: str, at_ns: int, *, watched: bool
    ) -> Stretch:
        """A stretch that begins with the loss of a connection.

        Args:
            channel: ``bars`` or ``trades``.
            symbol: Symbol.
            at_ns: When the last frame was received.
            watched: Whether events of it had come before; otherwise nothing older is wanted.
        """
        if channel == "trades":
            before_ns = _TRADES_BEFORE_NS if watched else _ON_ITS_WAY_NS
            return cls(channel, symbol, at_ns, at_ns - before_ns)
        before_ns = _BARS_BEFORE_NS if watched else _ON_ITS_WAY_NS
        return cls(channel, symbol, at_ns, minute_of(at_ns - before_ns))

    @property
    def end_ns(self) -> int:
        """When the connection was whole again, or, before that, when it was lost."""
        return self.lost_ns if self.whole_ns is None else self.whole_ns

    @property
    def needed_until_ns(self) -> int:
        """What happened before comes from history; what comes after it, live."""
        end_ns = self.end_ns
        return minute_of(end_ns + CLOCKS_DIFFER_NS) if self.channel == "bars" else end_ns

    def missing(self, first_live_ns: int | None) -> Missing:
        """What has to come from history.

        Args:
            first_live_ns: Start of the oldest live bar that waits, if one does: what is newer comes
                live as well.
        """
        sent_ns = self.sent_ns
        if self.channel == "trades":
            return Missing(None, sent_ns)
        past_ns = self.needed_until_ns
        if first_live_ns is not None:
            past_ns = min(past_ns, first_live_ns)
        # The bar of the last minute was sent at its end, and its update half a minute later, which
        # may have been before the connection was whole.
        updated_ns = past_ns + UPDATED_AFTER_NS - CLOCKS_DIFFER_NS
        is_updated = sent_ns >= updated_ns and past_ns > self.start_ns
        latest_ns = past_ns + _ON_ITS_WAY_NS + (UPDATED_AFTER_NS if is_updated else 0)
        last_ns = past_ns - MINUTE_NS
        return Missing(last_ns, min(sent_ns, latest_ns), is_updated=is_updated)

    def has_until(self, sent_ns: int) -> None:
        """All that was sent before ``sent_ns`` is there: ask from a little before it."""
        if self.channel == "trades":
            next_ns = sent_ns - _TRADES_BEFORE_NS
        else:
            next_ns = minute_of(sent_ns - _BARS_BEFORE_NS)
        self.ask_from_ns = max(self.ask_from_ns, next_ns)

    def dropped(self, start_ns: int, end_ns: int, sent_ns: int) -> None:
        """Events from ``start_ns`` to ``end_ns`` are missing too, which had come by ``sent_ns``."""
        self._reach_back(start_ns, start_ns)
        self.until_ns = max(self.until_ns, end_ns)
        self.sent_ns = max(self.sent_ns, sent_ns)
        if self.whole_ns is not None:
            self.whole_ns = max(self.whole_ns, end_ns)

    def lost_again(self, since: Stretch) -> None:
        """The connection was lost while the stretch was open.

        What answers have brought goes on to count: all that was sent before they were asked for,
        whether or not the stream has told of it since.
        """
        if since.start_ns < self.start_ns:  # only what was dropped later was missing so far
            self._reach_back(since.lost_ns, since.start_ns)

    def whole(self, at_ns: int) -> None:
        """The connection is whole again."""
        self.whole_ns = max(at_ns, self.until_ns)
        self.sent_ns = max(at_ns, self.sent_ns)

    def _reach_back(self, lost_ns: int, start_ns: int) -> None:
        self.lost_ns = min(self.lost_ns, lost_ns)
        self.start_ns = min(self.start_ns, start_ns)
        self.ask_from_ns = min(self.ask_from_ns, start_ns)
        self.newest_ns = min(self.newest_ns, start_ns - MINUTE_NS)


@dataclass(slots=True)
class HistoryMemory:
    """What outlives a run: kept over a restart, forgotten at a fresh start.

    Attributes:
        stretches: What is still to be filled, by channel and symbol.
        warmed: Which (registration, symbol) have had their look-back.
        answered_ns: When history last said something of a gap.
    """

    stretches: dict[tuple[str, str], Stretch] = field(default_factory=dict)
    warmed: set[tuple[int, str]] = field(default_factory=set)
    answered_ns: int = 0
