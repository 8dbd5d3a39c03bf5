"""Which faults of the REST side are switched on: what it asks before it answers."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from realtime_stream.simulator.fault_rules import Countdown, next_of
from realtime_stream.simulator.wire import SECOND

if TYPE_CHECKING:
    from collections.abc import Collection
    from http import HTTPStatus

__all__ = ["BodyFault", "Quota", "RestErrorRule", "RestFaultState", "check_body"]

BodyFault = Literal["text", "cut"]

_PLAN: Final = 10_000  # requests a minute of Alpaca's larger plan, shown and not enforced
_MINUTE: Final = 60.0


@dataclass(slots=True)
class RestErrorRule(Countdown):
    """An HTTP error instead of history, with the seconds of its Retry-After header."""

    status: HTTPStatus
    retry_after: float | None
    message: str | None


@dataclass(slots=True)
class _BodyRule(Countdown):
    kind: BodyFault


@dataclass(frozen=True, slots=True)
class Quota:
    """How a request stands to the rate limit.

    Attributes:
        limit: Requests a minute.
        remaining: How many of them are left.
        reset: When the next minute begins, seconds since the epoch.
        exceeded: Whether this one was too many.
    """

    limit: int
    remaining: int
    reset: int
    exceeded: bool


class RestFaultState:
    """The faults of the REST side as they stand.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        """Without faults."""
        self._lock = threading.Lock()  # guards everything below
        self.reset()

    def reset(self) -> None:
        """No faults any more."""
        with self._lock:
            self._errors: list[RestErrorRule] = []
            self._silences = Countdown(0)
            self._drops = Countdown(0)
            self._body = _BodyRule(0, "text")
            self._delay = 0.0
            self._outdated = False
            self._lag_ns = 0
            self._recent_ns = 0
            self._recent_feeds: frozenset[str] | None = None
            self._limit: int | None = None
            self._minute = _MINUTE
            self._used = 0
            self._window_ends = -math.inf

    @property
    def delay(self) -> float:
        """Seconds by which answers come later."""
        with self._lock:
            return self._delay

    @property
    def outdated(self) -> bool:
        """Whether an answer that is delayed says what was known before."""
        with self._lock:
            return self._outdated

    @property
    def lag_ns(self) -> int:
        """Nanoseconds of data time by which history is late."""
        with self._lock:
            return self._lag_ns

    def recent_ns(self, feed: str | None) -> int:
        """Nanoseconds of data time before now that this feed's history may not be asked for."""
        with self._lock:
            about = self._recent_feeds is None or feed in self._recent_feeds
            return self._recent_ns if about else 0

    def next_error(self) -> RestErrorRule | None:
        """The error to answer with, if any; uses the fault up once."""
        with self._lock:
            return next_of(self._errors)

    def next_silence(self) -> bool:
        """Whether this request is not answered; uses the fault up once."""
        with self._lock:
            return self._silences.use()

    def next_drop(self) -> bool:
        """Whether this answer is cut off; uses the fault up once."""
        with self._lock:
            return self._drops.use()

    def next_garbage(self) -> BodyFault | None:
        """What is wrong with the body of this answer; uses the fault up once."""
        with self._lock:
            return self._body.kind if self._body.use() else None

    def next_quota(self) -> Quota:
        """Count a request, and tell how that stands to the rate limit."""
        with self._lock:
            now = time.time()
            if now >= self._window_ends:
                self._used, self._window_ends = 0, now + self._minute
            self._used += 1
            limit = _PLAN if self._limit is None else self._limit
            exceeded = self._limit is not None and self._used > limit
            remaining = max(limit - self._used, 0)
            return Quota(limit, remaining, math.ceil(self._window_ends), exceeded)

    def add_error(self, rule: RestErrorRule) -> None:
        """Answer with this error, after those that wait already."""
        with self._lock:
            self._errors.append(rule)

    def set_silent(self, times: int | None) -> None:
        """Leave so many requests unanswered."""
        with self._lock:
            self._silences = Countdown(times)

    def set_drop(self, times: int | None) -> None:
        """Cut so many answers off."""
        with self._lock:
            self._drops = Countdown(times)

    def set_garbage(self, kind: BodyFault, times: int | None) -> None:
        """Spoil the body of so many answers."""
        with self._lock:
            self._body = _BodyRule(times, kind)

    def set_delay(self, seconds: float, *, outdated: bool) -> None:
        """Answer so much later, with what is known then or was known before."""
        with self._lock:
            self._delay, self._outdated = seconds, outdated

    def set_lag(self, seconds: float) -> None:
        """Let history be so late."""
        with self._lock:
            self._lag_ns = round(seconds * SECOND)

    def set_recent(self, seconds: float, feeds: Collection[str] | None) -> None:
        """Refuse the history of so much time before now; of these feeds, or of all."""
        with self._lock:
            self._recent_ns = round(seconds * SECOND)
            self._recent_feeds = None if feeds is None else frozenset(feeds)

    def set_limit(self, per_minute: int | None, minute: float) -> None:
        """Allow so many requests a minute, which has so many seconds; count from now."""
        with self._lock:
            self._limit, self._minute = per_minute, minute
            self._used, self._window_ends = 0, -math.inf


def check_body(kind: str) -> None:
    """Raises: ``ValueError`` if a body cannot be spoilt like this."""
    allowed = get_args(BodyFault)
    if kind not in allowed:
        msg = f"unknown kind {kind!r}; allowed are {', '.join(allowed)}"
        raise ValueError(msg)
