from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.config import Credentials, StreamConfig
from realtime_stream.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidSymbolError,
    StreamingError,
    UnsupportedChannelError,
    WSConnectionError,
)
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import (
    Acknowledged,
    ConnectionState,
    ErrorEvent,
    SessionListener,
    Settled,
    StateChange,
)
from realtime_stream.resilience.circuit_breaker import BreakerState, ConnectionCircuitBreaker
from realtime_stream.resilience.failures import Failure, FailureKind, SessionEnd
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.notices import Question, SessionLost
from realtime_stream.runtime.registry import Registry
from realtime_stream.runtime.session import SessionRecorder
from realtime_stream.runtime.states import StateBoard
from realtime_stream.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    import threading
    from pathlib import Path

C = ConnectionState
BARS_A = Subscription("bars", "A")
LOST = SessionEnd(close_code=1006)
LIMIT = SessionEnd(server_code=406, server_message="connection limit exceeded")
BAD_KEYS = SessionEnd(server_code=402, server_message="auth failed")
Step = Callable[["Rig", SessionListener], SessionEnd]


class ScriptedProvider:
    """A provider whose sessions are the steps of a script; after the last one it is stopped."""

    def __init__(self, rig: Rig, script: list[SessionEnd | Step]) -> None:
        self._rig = rig
        self._script = iter(script)
        self.wanted: list[frozenset[Subscription]] = []
        self.keys: list[str] = []
        self.disconnected = 0
        self.ended = 0

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        self._rig.history.append("session")
        self.keys.append(credentials.key.get_secret_value())
        step = next(self._script, None)
        if step is None:
            self._rig.supervisor.stop()
            return SessionEnd(requested=True)
        return step if isinstance(step, SessionEnd) else step(self._rig, listener)

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        self.wanted.append(wanted)

    def end_session(self) -> None:
        self.ended += 1

    def disconnect(self) -> None:
        self.disconnected += 1

    def lingering_threads(self) -> tuple[str, ...]:
        return ()


class WatchedBreaker(ConnectionCircuitBreaker):
    """Writes down when it is asked."""

    history: list[str]

    def can_attempt_connection(self) -> bool:
        allowed = super().can_attempt_connection()
        self.history.append("allowed" if allowed else "forbidden")
        return allowed


class AnsweringInbox(Inbox):
    """Answers questions at once, as a dispatch thread without other work would."""

    answering = True
    seen: list[object]

    def put(self, notice: object) -> None:
        self.seen.append(notice)
        if isinstance(notice, Question) and self.answering:
            try:
                notice.answer = notice.function()
            except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as exc:
                notice.answer = exc
            notice.answered = True
            notice.done()


class HookedClock(FakeClock):
    """Lets a test act while somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.on_wait: Callable[[int, float | None], object] | None = None

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        if self.on_wait is not None:
            self.on_wait(len(self.waits()), timeout)
        elif timeout is None:
            pytest.fail("waits for ever")
        return super().wait(event, timeout)


class Rig:
    """A supervisor with real parts around it, a scripted provider and a clock that jumps."""

    def __init__(
        self,
        script: list[SessionEnd | Step],
        *,
        watchlist: tuple[str, ...] = ("A",),
        get_symbols: Callable[[], Any] | None = None,
        keys: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        settings.setdefault("reconnect", {"jitter": False})
        config = StreamConfig(
            watchlist=watchlist,
            **(keys or {"api_key": "key", "secret_key": "secret"}),
            **settings,
        )
        self.history: list[str] = []
        self.clock = HookedClock()
        self.inbox = AnsweringInbox(1000, self.clock)
        self.inbox.seen = []
        self.board = StateBoard()
        self.changes: list[StateChange] = []
        log = EventLog("test")
        self.board.begin(self.changes.append, log)
        self.breaker = WatchedBreaker(config.breaker, clock=self.clock)
        self.breaker.history = self.history
        self.registry = Registry(
            "stocks", config.watchlist, config.watchlist_channels, lambda: None
        )
        self.recorder = SessionRecorder(
            inbox=self.inbox,
            board=self.board,
            breaker=self.breaker,
            clock=self.clock,
            data_clock=self.clock,
            log=log,
            stable_after=config.stable_after,
            rejects=10,
            log_interval=0,
        )
        self.provider = ScriptedProvider(self, script)
        self.supervisor = Supervisor(
            provider=self.provider,
            config=config,
            registry=self.registry,
            get_symbols=get_symbols,
            inbox=self.inbox,
            board=self.board,
            breaker=self.breaker,
            recorder=self.recorder,
            clock=self.clock,
            data_clock=self.clock,
            log=log,
            rng=random.Random(1),  # noqa: S311  # a test that can be repeated
        )

    def run(self) -> Failure | None:
        failure = self.supervisor.run()
        assert self.board.connection is C.DISCONNECTED
        return failure

    def states(self) -> list[ConnectionState | Any]:
        return [change.current for change in self.changes]

    def errors(self, source: str) -> list[BaseException]:
        return [
            n.error for n in self.inbox.seen if isinstance(n, ErrorEvent) and n.source == source
        ]

    def losses(self) -> list[SessionLost]:
        return [notice for notice in self.inbox.seen if isinstance(notice, SessionLost)]

    @property
    def sessions(self) -> int:
        return self.history.count("session")


def connected_for(seconds: float, end: SessionEnd = LOST) -> Step:
    def step(rig: Rig, listener: SessionListener) -> SessionEnd:
        listener.on_control(Acknowledged(frozenset({BARS_A})))
        listener.on_control(Settled())
        rig.clock.advance(seconds)
        return end

    return step


def raising(error: StreamingError) -> Step:
    def step(rig: Rig, listener: SessionListener) -> SessionEnd:
        raise error

    return step


@pytest.fixture(autouse=True)
def _no_settings_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ALPACA_API_KEY", "ALPACA_SECRET_KEY", "WATCHLIST_SYMBOLS", "ALPACA_STREAM_URL"):
        monkeypatch.delenv(name, raising=False)


# --- the breaker and the waits ---


def test_the_breaker_is_asked_before_each_attempt() -> None:
    rig = Rig([LOST, LOST, LOST])
    assert rig.run() is None
    assert rig.history == ["allowed", "session"] * 4
    assert rig.recorder.view.attempts == 4


def test_waits_follow_the_policy() -> None:
    rig = Rig([LOST] * 4)
    rig.run()
    assert rig.clock.waits() == (1.0, 2.0, 4.0, 8.0)
    assert rig.recorder.view.consecutive == 4
    assert rig.recorder.view.next_attempt_at is None


def test_waits_are_jittered_by_the_injected_generator() -> None:
    one, other = Rig([LOST] * 4, reconnect={}), Rig([LOST] * 4, reconnect={})
    one.run()
    other.run()
    assert one.clock.waits() == other.clock.waits()
    ceilings = (1.0, 2.0, 4.0, 8.0)
    assert all(
        wait is not None and 0 <= wait < top
        for wait, top in zip(one.clock.waits(), ceilings, strict=True)
    )


def test_a_servers_minimum_wait_counts_when_it_is_longer() -> None:
    rig = Rig([LIMIT, LIMIT, LIMIT, SessionEnd(http_status=429, retry_after=90)])
    rig.run()
    assert rig.clock.waits() == (5.0, 10.0, 15.0, 90.0)


def test_a_servers_minimum_wait_does_not_shorten_the_policys() -> None:
    rig = Rig([LIMIT, LIMIT], reconnect={"initial": 30, "jitter": False})
    rig.run()
    assert rig.clock.waits() == (30.0, 60.0)


def test_another_kind_of_failure_restarts_the_servers_growing_wait() -> None:
    policy = {"initial": 0.001, "maximum": 0.001, "jitter": False}
    rig = Rig([LIMIT, LIMIT, LOST, LIMIT], reconnect=policy, breaker={"failure_threshold": 99})
    rig.run()
    assert rig.clock.waits() == pytest.approx((5.0, 10.0, 0.001, 5.0))


def test_an_open_breaker_counts_when_it_is_longest() -> None:
    rig = Rig([LOST] * 4, breaker={"failure_threshold": 3, "reset_timeout": 100})
    rig.run()
    assert rig.clock.waits() == (1.0, 2.0, 100.0, 100.0)
    assert rig.states() == [
        C.CONNECTING, C.RECONNECTING, C.CONNECTING, C.RECONNECTING,
        C.CONNECTING, C.CIRCUIT_OPEN, C.CONNECTING, C.CIRCUIT_OPEN, C.CONNECTING, C.DISCONNECTED,
    ]  # fmt: skip


def test_a_breaker_that_is_open_at_the_start_is_waited_for() -> None:
    rig = Rig([], breaker={"failure_threshold": 1, "reset_timeout": 40})
    rig.breaker.record_failure()
    rig.run()
    assert rig.history == ["forbidden", "allowed", "session"]
    assert rig.clock.waits() == (40.0,)
    assert rig.states()[:2] == [C.CIRCUIT_OPEN, C.CONNECTING]


def test_sessions_that_die_young_open_the_breaker_although_each_was_connected() -> None:
    rig = Rig([connected_for(29)] * 3, breaker={"failure_threshold": 3})
    rig.run()
    assert rig.breaker.info().opened == 1
    assert rig.recorder.view.sessions == 3
    assert C.CIRCUIT_OPEN in rig.states()


def test_stable_sessions_reset_the_policy_and_do_not_open_the_breaker() -> None:
    rig = Rig([LOST, LOST, connected_for(31), connected_for(31)], breaker={"failure_threshold": 3})
    rig.run()
    assert rig.breaker.info().opened == 0
    assert rig.clock.waits() == (1.0, 2.0, 1.0, 1.0)


def test_max_attempts_ends_it_with_the_last_failure() -> None:
    rig = Rig([LOST] * 9, reconnect={"max_attempts": 3, "jitter": False})
    failure = rig.run()
    assert failure is not None
    assert failure.kind is FailureKind.CLOSED
    assert rig.sessions == 3
    assert rig.clock.waits() == (1.0, 2.0)
    assert len(rig.errors("session")) == 2  # the last one is what run() returns


def test_a_stable_session_begins_a_new_count_of_attempts() -> None:
    rig = Rig(
        [LOST, LOST, connected_for(31), LOST, LOST],
        reconnect={"max_attempts": 3, "jitter": False},
    )
    failure = rig.run()
    assert failure is not None
    assert rig.sessions == 5


# --- what ends it ---


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (BAD_KEYS, FailureKind.AUTHENTICATION),
        (SessionEnd(http_status=403), FailureKind.AUTHENTICATION),
        (SessionEnd(server_code=409), FailureKind.INSUFFICIENT_SUBSCRIPTION),
        (SessionEnd(all_refused=True), FailureKind.SUBSCRIPTION_REFUSED),
    ],
)
def test_a_fatal_failure_ends_it_at_once(end: SessionEnd, kind: FailureKind) -> None:
    rig = Rig([end])
    failure = rig.run()
    assert failure is not None
    assert (failure.kind, failure.retryable) == (kind, False)
    assert rig.clock.waits() == ()
    assert rig.recorder.view.last_error is failure


def test_a_configuration_error_of_the_provider_is_fatal() -> None:
    error = UnsupportedChannelError("no lulds")
    failure = Rig([raising(error)]).run()
    assert failure is not None
    assert failure.error is error


def test_another_streaming_error_of_the_provider_is_retried() -> None:
    rig = Rig([raising(WSConnectionError("unreachable"))])
    assert rig.run() is None
    assert rig.sessions == 2


def test_an_error_from_outside_is_not_swallowed() -> None:
    def broken(rig: Rig, listener: SessionListener) -> SessionEnd:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Rig([broken]).supervisor.run()


def test_stopping_before_the_start_makes_no_attempt() -> None:
    rig = Rig([LOST])
    rig.supervisor.stop()
    assert rig.run() is None
    assert (rig.history, rig.provider.disconnected) == ([], 1)


def test_stopping_ends_a_wait() -> None:
    rig = Rig([LOST] * 5)
    rig.clock.on_wait = lambda count, _: rig.supervisor.stop() if count == 1 else None
    rig.run()
    assert rig.sessions == 2
    assert rig.clock.waits() == (1.0, 2.0)
    assert rig.clock.monotonic() == 1.0


@pytest.mark.parametrize("stop", [True, False])
def test_an_end_of_our_own_gives_the_trial_permit_back_and_counts_as_nothing(stop: bool) -> None:
    def end(rig: Rig, listener: SessionListener) -> SessionEnd:
        if stop:
            rig.supervisor.stop()
            return LOST
        return SessionEnd(requested=True)

    rig = Rig([LOST, end], breaker={"failure_threshold": 1, "reset_timeout": 10})
    assert rig.run() is None
    info = rig.breaker.info()
    assert (info.state, info.failures, info.opened) == (BreakerState.HALF_OPEN, 1, 1)
    assert rig.breaker.can_attempt_connection()
    assert rig.recorder.view.consecutive == 1


# --- idleness and wanted subscriptions ---


def test_with_nothing_wanted_it_is_idle_until_something_is() -> None:
    rig = Rig([], watchlist=())

    def act(count: int, timeout: float | None) -> None:
        assert timeout is None
        if count == 1:
            rig.registry.subscribe("bars", ["A"])
        rig.supervisor.wanted_changed()

    rig.clock.on_wait = act
    rig.run()
    assert rig.sessions == 1
    assert rig.states() == [C.IDLE, C.CONNECTING, C.DISCONNECTED]
    assert rig.provider.wanted[-1] == {BARS_A}


def test_it_becomes_idle_when_nothing_is_wanted_any_more() -> None:
    def unwanted(rig: Rig, listener: SessionListener) -> SessionEnd:
        rig.registry.unsubscribe("trades", ["A"])
        rig.supervisor.wanted_changed()
        assert rig.provider.wanted[-1] == frozenset()
        return SessionEnd(requested=True)

    rig = Rig([unwanted], watchlist=())
    rig.registry.subscribe("trades", ["A"])
    rig.clock.on_wait = lambda *_: rig.supervisor.stop()
    rig.run()
    assert rig.states()[-2:] == [C.IDLE, C.DISCONNECTED]


def test_what_is_wanted_again_right_after_an_end_of_our_own_is_connected_again() -> None:
    rig = Rig([connected_for(5, SessionEnd(requested=True)), LOST])
    assert rig.run() is None
    assert rig.sessions == 3


def test_a_wait_ends_early_when_nothing_is_wanted_any_more() -> None:
    rig = Rig([LOST], watchlist=())
    rig.registry.subscribe("trades", ["A"])

    def act(count: int, timeout: float | None) -> None:
        if timeout is None:
            rig.supervisor.stop()
        else:
            rig.registry.unsubscribe("trades", ["A"])
            rig.supervisor.wanted_changed()

    rig.clock.on_wait = act
    rig.run()
    assert rig.clock.monotonic() == 0.0
    assert rig.states() == [C.CONNECTING, C.RECONNECTING, C.IDLE, C.DISCONNECTED]


def test_a_change_of_what_is_wanted_does_not_shorten_a_wait() -> None:
    rig = Rig([LOST])

    def act(count: int, timeout: float | None) -> None:
        if count == 0:
            rig.clock.advance(0.25)
            rig.registry.subscribe("trades", ["B"])
            rig.supervisor.wanted_changed()

    rig.clock.on_wait = act
    rig.run()
    assert rig.clock.waits() == (1.0, 0.75)
    assert rig.clock.monotonic() == 1.0
    assert Subscription("trades", "B") in rig.provider.wanted[-1]


# --- what the dispatch thread is told ---


def test_each_end_of_a_session_is_told_with_what_was_served() -> None:
    rig = Rig([LOST, connected_for(5)])
    rig.run()
    never, lost, ended = rig.losses()
    assert (never.event, never.acknowledged) == (None, frozenset())
    assert lost.acknowledged == {BARS_A}
    assert lost.event is not None
    assert lost.event.failure is not None
    assert lost.event.failure.kind is FailureKind.CLOSED
    assert lost.event.consecutive == 2
    assert ended.event is None


def test_an_end_of_our_own_has_no_failure() -> None:
    rig = Rig([connected_for(5, SessionEnd(requested=True))])
    rig.run()
    event = rig.losses()[0].event
    assert event is not None
    assert event.failure is None
    assert rig.errors("session") == []


# --- get_symbols ---


def test_get_symbols_is_asked_before_each_session() -> None:
    answers = iter([["B"], ("B", "C"), {"D"}])
    rig = Rig([LOST, LOST], get_symbols=lambda: next(answers))
    rig.run()
    symbols = [{entry.symbol for entry in wanted} for wanted in rig.provider.wanted]
    assert symbols == [{"A", "B"}, {"A", "B", "C"}, {"A", "D"}]


def generator() -> Iterator[str]:
    yield "B"
    msg = "no more"
    raise LookupError(msg)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("AAPL", ConfigurationError),  # one string is a mistake, not four symbols
        ("B", ConfigurationError),
        ("", ConfigurationError),
        (["lower"], InvalidSymbolError),
        ([None], InvalidSymbolError),
        (5, TypeError),
        (None, TypeError),
    ],
)
def test_a_bad_answer_of_get_symbols_is_told_and_the_last_one_holds(
    answer: Any, error: type[Exception]
) -> None:
    answers = iter([["B"], answer])
    rig = Rig([LOST], get_symbols=lambda: next(answers))
    assert rig.run() is None
    assert rig.sessions == 2
    assert {entry.symbol for entry in rig.provider.wanted[-1]} == {"A", "B"}
    assert [type(exc) for exc in rig.errors("get_symbols")] == [error]


def test_a_failing_get_symbols_is_told_and_the_last_answer_holds() -> None:
    broken = LookupError("database is away")
    answers: Iterator[Any] = iter([["B"], broken])

    def get_symbols() -> list[str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    rig = Rig([LOST], get_symbols=get_symbols)
    assert rig.run() is None
    assert {entry.symbol for entry in rig.provider.wanted[-1]} == {"A", "B"}
    assert rig.errors("get_symbols") == [broken]
    assert rig.history == ["allowed", "session"] * 2  # the breaker is asked all the same


def test_a_generator_is_run_where_user_code_runs_and_its_failure_is_told() -> None:
    rig = Rig([], get_symbols=generator)
    assert rig.run() is None
    assert rig.sessions == 1
    assert [type(exc) for exc in rig.errors("get_symbols")] == [LookupError]


def test_a_hanging_get_symbols_is_waited_for_no_longer_than_its_timeout() -> None:
    rig = Rig([], get_symbols=lambda: ["B"], symbols_timeout=5.0)
    rig.inbox.answering = False
    assert rig.run() is None
    assert rig.clock.monotonic() == 5.0
    (error,) = rig.errors("get_symbols")
    assert "get_symbols did not answer in time" in str(error)
    assert rig.sessions == 1


def test_stopping_ends_the_wait_for_get_symbols() -> None:
    rig = Rig([], get_symbols=lambda: ["B"])
    rig.inbox.answering = False
    rig.clock.on_wait = lambda *_: rig.supervisor.stop()
    assert rig.run() is None
    assert rig.clock.monotonic() == 0.0
    assert (rig.sessions, rig.errors("get_symbols")) == (0, [])


def test_while_idle_get_symbols_is_asked_again_and_again() -> None:
    answers: Iterator[list[str]] = iter([[], [], ["B"]])
    rig = Rig([], watchlist=(), get_symbols=lambda: next(answers))
    rig.run()
    assert rig.clock.waits() == (30.0, 30.0)
    assert rig.clock.monotonic() == 60.0
    assert rig.states() == [C.IDLE, C.CONNECTING, C.DISCONNECTED]


# --- credentials ---


def test_credentials_are_asked_for_before_each_session() -> None:
    answers = iter([("one", "s"), ("two", "s"), ("three", "s")])
    rig = Rig([LOST, LOST], keys={"credentials": lambda: next(answers)})
    rig.run()
    assert rig.provider.keys == ["one", "two", "three"]


def test_failing_credentials_are_told_counted_and_tried_again() -> None:
    answers: Iterator[Any] = iter([OSError("vault is away"), ("key", "secret")])

    def vault() -> tuple[str, str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return ("key", "secret")

    rig = Rig([], keys={"credentials": vault})
    assert rig.run() is None
    assert [type(exc) for exc in rig.errors("credentials")] == [OSError]
    assert [type(exc) for exc in rig.errors("session")] == [AuthenticationError]
    assert rig.clock.monotonic() == 1.0
    assert rig.breaker.info().failures == 1
    assert (rig.recorder.view.attempts, rig.sessions) == (2, 1)


@pytest.mark.parametrize("answer", [None, "one string", ("", "b"), ("a", None)])
def test_credentials_that_are_no_pair_are_a_configuration_error_that_is_told(answer: Any) -> None:
    answers: Iterator[Any] = iter([answer, ("key", "secret")])
    rig = Rig([], keys={"credentials": lambda: next(answers)})
    assert rig.run() is None
    assert [type(exc) for exc in rig.errors("credentials")] == [ConfigurationError]
    assert rig.sessions == 1


def test_hanging_credentials_are_waited_for_no_longer_than_their_timeout() -> None:
    rig = Rig([], keys={"credentials": lambda: ("key", "secret")}, symbols_timeout=5.0)
    rig.inbox.answering = False

    def act(count: int, timeout: float | None) -> None:
        if count == 2:
            rig.supervisor.stop()

    rig.clock.on_wait = act
    assert rig.run() is None
    assert rig.clock.waits() == (5.0, 1.0, 5.0)
    (error,) = rig.errors("credentials")
    assert "credentials did not answer in time" in str(error)
    assert rig.sessions == 0


def test_missing_keys_are_fatal() -> None:
    rig = Rig([], keys={"api_key": "key"})
    failure = rig.run()
    assert failure is not None
    assert isinstance(failure.error, ConfigurationError)
    assert rig.sessions == 0
