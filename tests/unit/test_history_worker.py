"""The thread that fetches history: what it hands over, what stops it, what it survives."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import FakeClock, SystemClock
from realtime_stream.config import Credentials
from realtime_stream.errors import (
    AuthenticationError,
    ConfigurationError,
    HistoryError,
    HistoryRefusedError,
    HistoryUnavailableError,
)
from realtime_stream.ports import HistoryPage, HistoryRequest
from realtime_stream.runtime.history_worker import (
    HistoryDone,
    HistoryJob,
    HistoryPart,
    HistoryWorker,
)
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream.clock import Clock
    from realtime_stream.ports import HistoryProvider

KEYS = Credentials(key="key", secret="secret")
WAIT = 10.0


def request(number: int = 0) -> HistoryRequest:
    return HistoryRequest("bars", ("AAPL",), number, number + 1)


class Source:
    """A source of history that yields so many pages for each request, and then does ``behave``."""

    def __init__(
        self, pages: int = 0, behave: Callable[[HistoryRequest], object] | None = None
    ) -> None:
        self._pages = pages
        self._behave = behave
        self.asked: list[tuple[HistoryRequest, str]] = []
        self.yielded = 0
        self.closed = 0

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        self.asked.append((request, credentials.key.get_secret_value()))
        for _ in range(self._pages):
            self.yielded += 1
            yield HistoryPage()
        if self._behave is not None:
            self._behave(request)

    def close(self) -> None:
        self.closed += 1


def new_worker(
    source: HistoryProvider | Callable[[], HistoryProvider],
    inbox: Inbox,
    clock: Clock,
    credentials: Callable[[], Credentials] = lambda: KEYS,
) -> HistoryWorker:
    factory: Callable[[], Any] = source if callable(source) else lambda: source
    return HistoryWorker(
        new_history=factory,
        credentials=credentials,
        inbox=inbox,
        clock=clock,
        data_clock=clock,
        log=EventLog("test"),
    )


@contextmanager
def running(worker: HistoryWorker) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=worker.run, name="realtime-stream/test/backfill")
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(WAIT)
        assert not thread.is_alive()


def next_done(inbox: Inbox) -> HistoryDone:
    """The next end; pages before it are taken."""
    while True:
        notice = inbox.get(WAIT)
        assert notice is not None
        if isinstance(notice, HistoryDone):
            return notice
        assert isinstance(notice, HistoryPart)
        notice.taken()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(100, SystemClock())


def test_pages_and_the_end_go_into_the_inbox(inbox: Inbox) -> None:
    clock = FakeClock()
    clock.advance(3)
    source = Source(2, lambda _: worker.stop())
    worker = new_worker(source, inbox, clock)
    job = HistoryJob(request())
    worker.ask(job)
    worker.run()
    notices = [inbox.get(0) for _ in range(3)]
    assert [type(notice) for notice in notices] == [HistoryPart, HistoryPart, HistoryDone]
    assert notices[2] == HistoryDone(job, 3 * 10**9)
    assert source.asked == [(request(), "key")]
    assert source.closed > 0


def test_jobs_wait_for_their_time_and_the_first_that_is_due_goes_first(inbox: Inbox) -> None:
    clock = FakeClock()
    source = Source(behave=lambda each: worker.stop() if each.start_ns == 3 else None)
    worker = new_worker(source, inbox, clock)
    for number, not_before in ((3, 9.0), (1, 0.0), (2, 4.0)):
        worker.ask(HistoryJob(request(number), not_before))
    worker.run()
    assert [each.start_ns for each, _ in source.asked] == [1, 2, 3]
    assert clock.waits() == (4.0, 5.0)


def test_a_job_that_is_cancelled_before_its_turn_is_not_fetched(inbox: Inbox) -> None:
    source = Source(behave=lambda _: worker.stop())
    worker = new_worker(source, inbox, FakeClock())
    first, second = HistoryJob(request(1)), HistoryJob(request(2))
    worker.ask(first)
    worker.ask(second)
    first.cancelled.set()
    worker.run()
    assert [each.start_ns for each, _ in source.asked] == [2]


_NOTICES = (HistoryPart, HistoryDone)


def test_a_job_that_is_cancelled_while_it_is_fetched_goes_on(inbox: Inbox) -> None:
    """What it brings is of use all the same, and so is that it has come to its end."""
    job, last = HistoryJob(request(1)), HistoryJob(request(2))

    def behave(each: HistoryRequest) -> None:
        if each.start_ns == 2:
            worker.stop()

    class Cancelled(Source):
        def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
            if request.start_ns == 1:
                job.cancelled.set()
            return super().fetch(request, credentials)

    source = Cancelled(1, behave)
    worker = new_worker(source, inbox, FakeClock())
    worker.ask(job)
    worker.ask(last)
    worker.run()
    notices = [inbox.get(0) for _ in range(4)]
    kinds = [(type(each), each.job) for each in notices if isinstance(each, _NOTICES)]
    assert kinds == [
        (HistoryPart, job),
        (HistoryDone, job),
        (HistoryPart, last),
        (HistoryDone, last),
    ]
    assert inbox.get(0) is None


def test_two_pages_wait_in_the_inbox_at_a_time(inbox: Inbox) -> None:
    source = Source(5)
    worker = new_worker(source, inbox, SystemClock())
    with running(worker):
        worker.ask(HistoryJob(request()))
        first, second = inbox.get(WAIT), inbox.get(WAIT)
        assert isinstance(first, HistoryPart)
        assert isinstance(second, HistoryPart)
        assert inbox.get(0.05) is None
        assert source.yielded <= 3
        first.taken()
        assert isinstance(inbox.get(WAIT), HistoryPart)
        assert inbox.get(0.05) is None


def test_a_stop_ends_a_worker_that_waits_for_room(inbox: Inbox) -> None:
    worker = new_worker(Source(5), inbox, SystemClock())
    with running(worker):
        worker.ask(HistoryJob(request()))
        assert inbox.get(WAIT) is not None
        assert inbox.get(WAIT) is not None
    assert inbox.get(0) is None


def test_a_stop_closes_a_source_that_is_silent(inbox: Inbox) -> None:
    fetching, closed = threading.Event(), threading.Event()

    def behave(_: HistoryRequest) -> None:
        fetching.set()
        assert closed.wait(WAIT)
        raise HistoryError("closed")

    class Silent(Source):
        def close(self) -> None:
            closed.set()

    worker = new_worker(Silent(behave=behave), inbox, SystemClock())
    with running(worker):
        worker.ask(HistoryJob(request()))
        assert fetching.wait(WAIT)
    assert closed.is_set()


def test_a_stop_ends_a_worker_that_waits_for_a_time(inbox: Inbox) -> None:
    source = Source()
    worker = new_worker(source, inbox, SystemClock())
    with running(worker):
        worker.ask(HistoryJob(request(), SystemClock().monotonic() + 3600))
    assert source.asked == []


def test_a_source_that_is_made_while_the_run_ends_is_closed(inbox: Inbox) -> None:
    source = Source()

    def make() -> Source:
        worker.stop()
        return source

    worker = new_worker(make, inbox, FakeClock())
    worker.ask(HistoryJob(request()))
    worker.run()
    assert source.closed > 0


def test_a_worker_that_was_stopped_before_it_began_does_nothing(inbox: Inbox) -> None:
    source = Source()
    worker = new_worker(source, inbox, FakeClock())
    worker.ask(HistoryJob(request()))
    worker.stop()
    worker.run()
    assert source.asked == []


def test_one_source_serves_all_jobs(inbox: Inbox) -> None:
    made = []

    def make() -> Source:
        made.append(Source())
        return made[-1]

    worker = new_worker(make, inbox, SystemClock())
    with running(worker):
        for number in range(3):
            worker.ask(HistoryJob(request(number)))
            assert next_done(inbox).error is None
    assert len(made) == 1


@pytest.mark.parametrize(
    "error",
    [
        HistoryError("reset"),
        HistoryRefusedError("no"),
        HistoryUnavailableError("later", available_ns=5),
    ],
)
def test_what_the_source_says_is_told_as_it_is(inbox: Inbox, error: HistoryError) -> None:
    def behave(_: HistoryRequest) -> None:
        raise error

    worker = new_worker(Source(1, behave), inbox, SystemClock())
    with running(worker):
        worker.ask(HistoryJob(request()))
        assert next_done(inbox).error is error


@pytest.mark.parametrize("error", [ConfigurationError("no keys"), AuthenticationError("none yet")])
def test_missing_credentials_are_told(inbox: Inbox, error: ConfigurationError) -> None:
    def credentials() -> Credentials:
        raise error

    worker = new_worker(Source(), inbox, SystemClock(), credentials)
    with running(worker):
        worker.ask(HistoryJob(request()))
        assert next_done(inbox).error is error


# --- a source of the user's own may do anything ---


class Eager:
    """Its ``fetch`` is no generator: it raises, or returns something, at once."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def close(self) -> None:
        """Nothing is open."""


def fails_with(inbox: Inbox, source: Any) -> HistoryDone:
    """The end of a job; afterwards the worker is there for another."""
    worker = new_worker(source, inbox, SystemClock())
    with running(worker) as thread:
        worker.ask(HistoryJob(request(1)))
        done = next_done(inbox)
        worker.ask(HistoryJob(request(2)))
        assert next_done(inbox).job.request == request(2)
        assert thread.is_alive()
    return done


def test_whatever_a_source_raises_while_it_is_read_is_a_failure(inbox: Inbox) -> None:
    def behave(_: HistoryRequest) -> None:
        raise KeyError("bars")

    error = fails_with(inbox, Source(1, behave)).error
    assert isinstance(error, HistoryError)
    assert str(error) == "history: KeyError"
    assert isinstance(error.__cause__, KeyError)


def test_whatever_a_source_raises_when_it_is_asked_is_a_failure(inbox: Inbox) -> None:
    error = fails_with(inbox, Eager(ValueError("bad"))).error
    assert isinstance(error, HistoryError)
    assert isinstance(error.__cause__, ValueError)


def test_an_answer_may_be_a_list_of_pages(inbox: Inbox) -> None:
    assert fails_with(inbox, Eager([HistoryPage()])).error is None


@pytest.mark.parametrize("answer", [None, 3])
def test_an_answer_that_is_no_iterator_is_a_failure(inbox: Inbox, answer: object) -> None:
    assert isinstance(fails_with(inbox, Eager(answer)).error, HistoryError)


@pytest.mark.parametrize("page", [{"bars": []}, [], "page", 3, object()])
def test_something_that_is_no_page_is_a_failure(inbox: Inbox, page: object) -> None:
    assert isinstance(fails_with(inbox, Eager(iter([page]))).error, HistoryError)


def test_a_source_that_cannot_be_made_is_a_failure(inbox: Inbox) -> None:
    def make() -> Source:
        raise FileNotFoundError

    error = fails_with(inbox, make).error
    assert isinstance(error, HistoryError)
    assert isinstance(error.__cause__, OSError)


def test_a_source_that_cannot_be_closed_disturbs_no_stop(inbox: Inbox) -> None:
    class Stuck(Source):
        def close(self) -> None:
            raise OSError("busy")

    worker = new_worker(Stuck(1), inbox, SystemClock())
    thread = threading.Thread(target=worker.run, name="realtime-stream/test/backfill")
    thread.start()
    try:
        worker.ask(HistoryJob(request()))
        assert next_done(inbox).error is None
    finally:
        worker.stop()
        thread.join(WAIT)
    assert not thread.is_alive()
