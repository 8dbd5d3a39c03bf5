"""The thread that fetches history. It delivers nothing: what it gets goes into the inbox."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from realtime_stream.errors import HistoryError, StreamingError
from realtime_stream.ports import HistoryPage
from realtime_stream.runtime.guard import answer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials
    from realtime_stream.ports import (
        HistoryFactory,
        HistoryProvider,
        HistoryRequest,
    )
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.stretch import Stretch

__all__ = ["HistoryDone", "HistoryJob", "HistoryPart", "HistoryWorker"]

T = TypeVar("T")

_PARTS_WAITING: Final = 2  # pages in the inbox at a time


@dataclass(slots=True, eq=False)
class HistoryJob:
    """One fetch.

    Attributes:
        request: What to fetch.
        not_before: When, monotonic seconds.
        purpose: Whether it is for a gap or for look-back.
        begins: From when on it is to bring what is missing, for each of those that asked.
        cancelled: Set when nobody waits for its end any more: it is not begun then. One that has
            begun goes on, as what it brings is of use.
    """

    request: HistoryRequest
    not_before: float = 0.0
    purpose: Literal["gap", "look_back"] = "gap"
    begins: Mapping[Stretch, int] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Notice: a page of an answer.

    Attributes:
        job: What it answers.
        page: What it brings.
        asked_ns: Data time at which the fetch began.
        taken: Called when it has been dealt with.
    """

    job: HistoryJob
    page: HistoryPage
    asked_ns: int
    taken: Callable[[], None]


@dataclass(frozen=True, slots=True)
class HistoryDone:
    """Notice: a fetch has ended; ``asked_ns`` is the data time at which it began."""

    job: HistoryJob
    asked_ns: int
    error: StreamingError | None = None


class HistoryWorker:
    """Fetches one job after the other.

    Thread safety: :meth:`run` is the backfill thread; the other methods may be called from any.
    """

    def __init__(
        self,
        *,
        new_history: HistoryFactory,
        credentials: Callable[[], Credentials],
        inbox: Inbox,
        clock: Clock,
        data_clock: Clock,
        log: EventLog,
    ) -> None:
        """Nothing is fetched yet.

        Args:
            new_history: Makes the source of history, on the worker's thread.
            credentials: Tells the key pair to use.
            inbox: Where answers go.
            clock: For waits.
            data_clock: Says when a fetch began.
            log: Where records go.
        """
        self._new_history = new_history
        self._credentials = credentials
        self._inbox = inbox
        self._clock = clock
        self._data_clock = data_clock
        self._log = log
        self._lock = threading.Lock()  # guards the three below
        self._jobs: deque[HistoryJob] = deque()
        self._history: HistoryProvider | None = None
        self._stopped = False
        self._wake = threading.Event()
        self._room = threading.Semaphore(_PARTS_WAITING)

    def ask(self, job: HistoryJob) -> None:
        """Fetch this when its time has come. Never blocks."""
        with self._lock:
            self._jobs.append(job)
        self._wake.set()

    def stop(self) -> None:
        """Let the thread end: what is being fetched ends within half a second. Never blocks."""
        with self._lock:
            history = None if self._stopped else self._history
            self._stopped = True
        self._wake.set()
        self._room.release()
        if history is not None:
            self._close(history)

    def run(self) -> None:
        """Fetch until stopped."""
        while not self._stopped:
            job, wait = self._next()
            if job is not None:
                self._perform(job)
            else:
                self._clock.wait(self._wake, wait)
        with self._lock:
            history, self._history = self._history, None
        if history is not None:
            self._close(history)

    def _next(self) -> tuple[HistoryJob | None, float | None]:
        """The next job that is due, or how long to wait for one."""
        now = self._clock.monotonic()
        with self._lock:
            self._wake.clear()
            self._jobs = deque(job for job in self._jobs if not job.cancelled.is_set())
            due = min(self._jobs, key=lambda job: job.not_before, default=None)
            if self._stopped:
                return None, 0.0
            if due is None:
                return None, None
            if due.not_before > now:
                return None, due.not_before - now
            self._jobs.remove(due)
            return due, None

    def _perform(self, job: HistoryJob) -> None:
        asked_ns = self._data_clock.utc_now_ns()
        error: StreamingError | None = None
        try:
            for page in self._pages(job):
                if not self._hand_over(job, page, asked_ns):
                    return
        except StreamingError as exc:
            error = exc
        self._inbox.put(HistoryDone(job, asked_ns, error))

    def _pages(self, job: HistoryJob) -> Iterator[HistoryPage]:
        """The pages of an answer.

        Raises:
            StreamingError: It could not be fetched.
        """
        credentials = self._credentials()
        source = _said(answer_of(self._source))
        pages = _said(answer_of(lambda: iter(source.fetch(job.request, credentials))))
        while True:
            page: object = _said(answer_of(lambda: next(pages, None)))
            if page is None:
                return
            if not isinstance(page, HistoryPage):
                msg = f"history gave {type(page).__name__}, which is no page"
                raise HistoryError(msg)
            yield page

    def _source(self) -> HistoryProvider:
        with self._lock:
            history = self._history
        if history is None:
            history = self._new_history()
            with self._lock:
                self._history = history
                stopped = self._stopped
            if stopped:
                self._close(history)
        return history

    def _close(self, history: HistoryProvider) -> None:
        """Close the source; one that is the user's own may raise anything, which harms nobody."""
        close: Callable[[], object] = history.close
        problem = answer_of(close)
        if isinstance(problem, Exception):
            kind = type(problem).__name__
            self._log.write(logging.WARNING, "realtime_history_close_failed", error=kind)

    def _hand_over(self, job: HistoryJob, page: HistoryPage, asked_ns: int) -> bool:
        """Put a page into the inbox, once those before it are dealt with."""
        self._room.acquire()
        if self._stopped:
            self._room.release()
            return False
        self._inbox.put(HistoryPart(job, page, asked_ns, self._room.release))
        return True


def _said(answer: T | Exception) -> T:
    """What a source said, which may be the user's own and raise anything.

    Raises:
        StreamingError: It raised.
    """
    if isinstance(answer, StreamingError):
        raise answer
    if isinstance(answer, Exception):
        msg = f"history: {type(answer).__name__}"
        raise HistoryError(msg) from answer
    return answer
