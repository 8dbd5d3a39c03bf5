"""The soak's book-keeping: every message of the exchange's ledger is explained, one by one."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.soak_server import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.soak_bot import Key, Totals
    from benchmarks.soak_scene import Period, Window
    from realtime_stream import GapEntry

__all__ = ["KINDS", "Accounts", "Entry", "Evidence", "explain", "read_ledger"]

# Where a message can have gone, in the order in which the explanations are tried.
KINDS: Final = (
    "delivered",
    "unheard",
    "in gaps",
    "muted",
    "rejected",
    "stopped",
    "unsubscribed",
    "dropped",
    "unaccounted",
)

_AWAY: Final = ("stopped", "unsubscribed")
_EVER: Final = float("inf")
_Interval = tuple[float, float]  # both ends are outside


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the ledger.

    Attributes:
        delivered: Times of the events that callbacks got, in their order.
        periods: The starts and stops, with the gaps the manager reported.
        windows: When what was to be expected.
        totals: The manager's own counters.
        garbage: Frames without any message that were sent; each is one reject.
        undelivered_at_restarts: Of the manager's undelivered ones, those that a restart left: they
            lie in the gap it made.
    """

    delivered: Mapping[Key, Sequence[int]]
    periods: Sequence[Period]
    windows: Sequence[Window]
    totals: Totals
    garbage: int
    undelivered_at_restarts: int = 0


@dataclass(slots=True)
class Accounts:
    """Where every message has gone.

    Attributes:
        published: Messages in the ledger, of the channels that are watched.
        kinds: How many of them went where, by the names in KINDS.
        by_key: The same per (channel, symbol).
        undelivered: Of those under "stopped": received, but left in the inbox when the time for
            delivery was over.
        lost_with_session: Of those in gaps: written to a session, and lost with it.
        dropped_in_gaps: Of those in gaps: counted as dropped by the manager as well.
        lost: The messages that are unaccounted.
        problems: Everything that contradicts what the library promises, in words.
    """

    published: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    by_key: dict[Key, Counter[str]] = field(default_factory=dict)
    undelivered: int = 0
    lost_with_session: int = 0
    dropped_in_gaps: int = 0
    lost: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def not_asked_for(self) -> int:
        """Published while the bot was stopped, had not subscribed, or the exchange was mute."""
        unwanted = ("muted", "stopped", "unsubscribed")
        return sum(self.kinds[kind] for kind in unwanted) - self.undelivered

    @property
    def sent(self) -> int:
        """What has to be accounted for."""
        return self.published - self.not_asked_for

    @property
    def unaccounted(self) -> dict[Key, int]:
        """The difference per (channel, symbol), where there is one."""
        lost = {key: kinds["unaccounted"] for key, kinds in self.by_key.items()}
        return {key: count for key, count in lost.items() if count}

    @property
    def add_up(self) -> bool:
        """Whether every message is explained, and nothing contradicts the explanation."""
        return not self.unaccounted and not self.problems


def read_ledger(path: Path, channels: Sequence[str]) -> list[Entry]:
    """The messages of these channels, oldest first."""
    entries = (msgspec.json.decode(line, type=Entry) for line in path.read_bytes().splitlines())
    return [entry for entry in entries if entry.channel in channels]


def explain(ledger: Iterable[Entry], evidence: Evidence) -> Accounts:
    """Enter every message of the ledger."""
    left = evidence.totals.undelivered - evidence.undelivered_at_restarts
    accounts = Accounts(undelivered=left)
    by_key: dict[Key, list[Entry]] = {key: [] for key in evidence.delivered}
    for entry in ledger:
        by_key.setdefault((entry.channel, entry.symbol), []).append(entry)
        accounts.published += 1
    leeway = _Leeway()
    for key, entries in by_key.items():
        book = _Book(key, entries, evidence)
        accounts.by_key[key] = book.kinds
        accounts.kinds.update(book.kinds)
        accounts.problems += book.problems
        accounts.lost += book.lost
        accounts.lost_with_session += book.lost_with_session
        leeway.lost_behind[key[0]] += book.lost_behind
        leeway.without_callback[key[0]] += book.without_callback
        leeway.stopped += book.stopped
    _compare(accounts, evidence, leeway)
    return accounts


@dataclass(slots=True)
class _Leeway:
    """What may stand in the manager's counters and nevertheless be explained otherwise, by channel.

    Attributes:
        lost_behind: In gaps, written, while callbacks were too slow: they may be counted as
            dropped too.
        without_callback: Written while they were not wanted any more: what was on its way when the
            callback was removed counts as delivered.
        stopped: Written, but not delivered before a stop, of all channels: as many may be counted
            as undelivered.
    """

    lost_behind: Counter[str] = field(default_factory=Counter)
    without_callback: Counter[str] = field(default_factory=Counter)
    stopped: int = 0


class _Book:
    """The messages of one (channel, symbol)."""

    def __init__(self, key: Key, entries: Sequence[Entry], evidence: Evidence) -> None:
        self.key = key
        self.kinds: Counter[str] = Counter()
        self.problems: list[str] = []
        self.lost: list[Entry] = []
        self.lost_with_session = 0
        self.lost_behind = 0  # of these: while callbacks were too slow
        self.stopped = 0  # written, but not delivered before a stop
        self.without_callback = 0  # at most so many were delivered with nobody registered
        self._entries = entries
        self._got = evidence.delivered.get(key, ())
        self._windows = [w for w in evidence.windows if w.keys is None or key in w.keys]
        self._check_order()
        delivered = set(self._got)
        self._numbers = [entry.sequence for entry in entries if entry.t_ns in delivered]
        self._gaps = self._intervals(evidence.periods)
        for entry in entries:
            kind = "delivered" if entry.t_ns in delivered else self._why(entry)
            self.kinds[kind] += 1
            if kind == "unaccounted":
                self.lost.append(entry)

    def _problem(self, count: int, what: str) -> None:
        if count:
            self.problems.append(f"{self.key[0]} {self.key[1]}: {count} {what}")

    def _check_order(self) -> None:
        got = self._got
        self._problem(len(got) - len(set(got)), "delivered more than once")
        self._problem(sum(b < a for a, b in itertools.pairwise(got)), "delivered out of order")
        times = [entry.t_ns for entry in self._entries]
        self._problem(sum(b <= a for a, b in itertools.pairwise(times)), "published out of order")
        self._problem(len(set(got) - set(times)), "delivered, but never published")

    def _intervals(self, periods: Sequence[Period]) -> list[_Interval]:
        """The gaps, each an open interval of time; no event may have been delivered within one."""
        found: list[_Interval] = []
        for period in periods:
            for gap in period.gaps.values():
                # Dropped bars are counted as dropped, like all that the inbox gives up.
                if gap.cause == "reconnect":
                    own = (e for e in gap.entries if (e.channel, e.symbol) == self.key)
                    found += [self._interval(entry, period) for entry in own]
        got = sorted(self._got)
        inside = sum(
            max(bisect.bisect_left(got, first) - bisect.bisect_right(got, last), 0)
            for last, first in found
        )
        self._problem(inside, "delivered, but also within a reported gap")
        return found

    def _interval(self, gap: GapEntry, period: Period) -> _Interval:
        """A gap's ends, as narrow as they can be meant where the manager left them open."""
        before, after = self._times_around(period)
        last = before if gap.last_event_ns is None else gap.last_event_ns
        first: float = _EVER if gap.first_event_ns is None else gap.first_event_ns
        if gap.first_event_ns is None:  # nothing came, or it is no longer wanted
            later = bisect.bisect_right(self._got, last)
            first = self._got[later] if later < len(self._got) else _EVER
        return last, min(first, after)

    def _times_around(self, period: Period) -> tuple[float, float]:
        """The times of the last message before and of the first one after the period."""
        begin = bisect.bisect_right(self._entries, period.begin, key=lambda e: e.sequence)
        before = self._entries[begin - 1].t_ns if begin else -_EVER
        if period.end is None:
            return before, _EVER
        end = bisect.bisect_right(self._entries, period.end, key=lambda e: e.sequence)
        return before, self._entries[end].t_ns if end < len(self._entries) else _EVER

    def _why(self, entry: Entry) -> str:
        """Why it was not delivered."""
        written = entry.sessions > 0
        if self.key[1] == MALFORMED and written:
            return "rejected"
        if any(last < entry.t_ns < first for last, first in self._gaps):
            self.lost_with_session += written
            self.lost_behind += written and self._within(entry, "behind")
            return "in gaps"
        kinds = ("unheard", *_AWAY) if written else ("muted", *_AWAY)
        for kind in kinds:
            if self._within(entry, kind):
                self.stopped += written and kind == "stopped"
                self.without_callback += written and kind == "unsubscribed"
                return kind
        return "dropped" if written and self._within(entry, "behind") else "unaccounted"

    def _within(self, entry: Entry, kind: str) -> bool:
        return any(
            self._lies_in(window, entry.sequence) for window in self._windows if window.kind == kind
        )

    def _lies_in(self, window: Window, number: int) -> bool:
        if window.end is not None and number > window.end:
            return False
        if number > window.begin:
            return True
        # On its way when the window began: nothing after it has been delivered before.
        later = bisect.bisect_right(self._numbers, number)
        return window.reaches_back and (
            later == len(self._numbers) or self._numbers[later] > window.begin
        )


def _compare(accounts: Accounts, evidence: Evidence, leeway: _Leeway) -> None:
    """What the manager counted must be what was found."""
    totals, problems = evidence.totals, accounts.problems
    counted: Counter[str] = Counter()
    for (channel, _), number in totals.dropped.items():
        counted[channel] += number
    for channel in sorted({channel for channel, _ in accounts.by_key}):
        books = [kinds for key, kinds in accounts.by_key.items() if key[0] == channel]
        # What was on its way when its callback was removed has been delivered, to nobody: each of
        # these must be in the manager's count, or it was lost.
        delivered = sum(kinds["delivered"] + kinds["unheard"] for kinds in books)
        most = leeway.without_callback[channel]
        _agree(problems, f"{channel} delivered", totals.delivered[channel], delivered, most=most)
        dropped = sum(kinds["dropped"] for kinds in books)
        accounts.dropped_in_gaps += max(counted[channel] - dropped, 0)
        most = leeway.lost_behind[channel]
        _agree(problems, f"{channel} dropped", counted[channel], dropped, most=most)
    rejected = accounts.kinds["rejected"] + evidence.garbage
    _agree(problems, "messages rejected", totals.rejected, rejected)
    parts = totals.delivered.total() + totals.dropped.total() + totals.undelivered + totals.in_inbox
    _agree(problems, "events received", totals.received, parts)
    _agree(problems, "events undelivered at a stop", accounts.undelivered, 0, most=leeway.stopped)
    if accounts.published and not accounts.kinds["delivered"]:
        problems.append("nothing was delivered at all")
    if totals.in_inbox:
        problems.append(f"{totals.in_inbox} events were in the inbox after the end")


def _agree(problems: list[str], what: str, counted: int, found: int, *, most: int = 0) -> None:
    """The counter and what was found must be equal, but that ``most`` more may be counted."""
    if not found <= counted <= found + most:
        problems.append(f"{what}: the manager counted {counted}, but there were {found}")
