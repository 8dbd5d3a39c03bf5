"""What is wanted against what the server acknowledged; pure, one request at a time.

The server answers a subscribe with the complete list, or with an error that names nothing. So one
request is out at a time, an error belongs to it, and a refused request for several entries is
halved until the refused ones stand alone.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from realtime_stream.market.channels import Subscription

__all__ = ["MAX_REPEATS", "SYMBOL_LIMIT", "Request", "SubscriptionPlan"]

MAX_REPEATS: Final = 3  # times an unacknowledged entry is asked for again
_MAX_ENTRIES: Final = 1000  # keeps a request under the 32 KiB that the SDK allows a client frame
SYMBOL_LIMIT: Final = 405


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the server: ``subscribe`` or ``unsubscribe``, and for what."""

    action: str
    entries: frozenset[Subscription]

    def message(self) -> dict[str, object]:
        """The message as the wire has it."""
        channels: dict[str, list[str]] = {}
        for channel, symbol in sorted(self.entries):
            channels.setdefault(channel, []).append(symbol)
        return {"action": self.action, **channels}


class SubscriptionPlan:
    """Decides what to ask for next, from the entries wanted and what the server said.

    Entries are in the wire's channel names. Thread safety: none; the session's loop owns it.
    """

    def __init__(self, wanted: frozenset[Subscription]) -> None:
        """Nothing asked for yet."""
        self.wanted = wanted
        self.acknowledged: frozenset[Subscription] = frozenset()
        self.refused: dict[Subscription, tuple[int, str]] = {}
        self.outstanding: Request | None = None
        self._asked: set[Subscription] = set()
        self._halves: deque[frozenset[Subscription]] = deque()
        self._repeats: Counter[Subscription] = Counter()  # subscribes without an effect
        self._kept: Counter[Subscription] = Counter()  # unsubscribes without an effect

    def want(self, wanted: frozenset[Subscription]) -> None:
        """Replace what is wanted; an entry's past is forgotten with its wish."""
        for entry in self.wanted ^ wanted:
            del self._repeats[entry], self._kept[entry]
        self.wanted = wanted
        self.refused = {e: why for e, why in self.refused.items() if e in wanted}

    @property
    def missing(self) -> frozenset[Subscription]:
        """Wanted, neither acknowledged nor refused."""
        return self.wanted - self.acknowledged - self.refused.keys()

    @property
    def settled(self) -> bool:
        """Whether the server serves what is wanted, but for what it refused."""
        return self.outstanding is None and not self.missing

    @property
    def exhausted(self) -> frozenset[Subscription]:
        """Entries asked for again too often."""
        return frozenset(e for e in self.missing if self._repeats[e] > MAX_REPEATS)

    def next_request(self) -> Request | None:
        """The next message to send, if one is due and none is outstanding."""
        if self.outstanding is not None:
            return None
        surplus = set(self.acknowledged & self._asked - self.wanted)
        surplus = {e for e in surplus if self._kept[e] <= MAX_REPEATS}  # the server will not let go
        if surplus:
            entries = frozenset(sorted(surplus)[:_MAX_ENTRIES])
            self.outstanding = Request("unsubscribe", entries)
        else:
            entries = self._next_entries()
            if not entries:
                return None
            self._asked |= entries
            self.outstanding = Request("subscribe", entries)
        return self.outstanding

    def on_acknowledged(self, served: frozenset[Subscription]) -> None:
        """The server sent its complete list."""
        request, self.outstanding = self.outstanding, None
        freed = self.acknowledged - served
        self.acknowledged = served
        if freed:  # room below the symbol limit: what was refused for it may fit now
            self.refused = {e: why for e, why in self.refused.items() if why[0] != SYMBOL_LIMIT}
        if request is not None and request.action == "subscribe":
            self._repeats.update(request.entries - served)
        elif request is not None:
            self._kept.update(request.entries & served)
        for entry in served:
            del self._repeats[entry]

    def on_no_answer(self) -> None:
        """The outstanding request was not answered in time: it will be made again."""
        request, self.outstanding = self.outstanding, None
        if request is None:
            return
        counter = self._repeats if request.action == "subscribe" else self._kept
        counter.update(request.entries)
        # Whether the server still serves these is not known; they are not asked for either way.
        self.acknowledged -= {e for e in request.entries if self._kept[e] > MAX_REPEATS}

    def on_error(self, code: int, text: str) -> frozenset[Subscription]:
        """The server refused the outstanding request; return what is refused for good by that."""
        request, self.outstanding = self.outstanding, None
        if request is None:
            return frozenset()
        if request.action == "unsubscribe":
            self.acknowledged -= request.entries
            return frozenset()
        if len(request.entries) == 1:
            refused = request.entries & self.wanted
            if code == SYMBOL_LIMIT:  # no other new symbol fits either
                known = {entry.symbol for entry in self.acknowledged}
                refused |= {entry for entry in self.missing if entry.symbol not in known}
            self.refused |= dict.fromkeys(refused, (code, text))
            return refused
        entries = sorted(request.entries)
        middle = len(entries) // 2
        self._halves.extendleft((frozenset(entries[middle:]), frozenset(entries[:middle])))
        return frozenset()

    def _next_entries(self) -> frozenset[Subscription]:
        missing = self.missing
        while self._halves:
            half = self._halves.popleft() & missing
            if half:
                return half
        return frozenset(sorted(missing)[:_MAX_ENTRIES])
