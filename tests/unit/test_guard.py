from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.errors import CallbackExitError
from realtime_stream.ports import DeadLetter, ErrorEvent
from realtime_stream.runtime.guard import CallbackGuard
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.registry import Registration, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTRY = Registry("stocks", (), (), lambda: None)


class Setup:
    """A guard with a clock that stands still, and what it told."""

    def __init__(self, *, dead_letters: int = 3) -> None:
        self.clock = FakeClock()
        self.told: list[ErrorEvent] = []
        self.guard = CallbackGuard(
            clock=self.clock,
            slow=0.1,
            log_interval=60.0,
            dead_letters=dead_letters,
            on_error=self.told.append,
            log=EventLog("test"),
        )

    def deliver(self, registration: Registration, event: object) -> None:
        self.guard.begin(self.clock.monotonic())
        self.guard.deliver((registration,), event)


def registered(function: Callable[[Any], object], channel: str = "trades") -> Registration:
    return Registration(channel, function, frozenset(), REGISTRY)


def failing(event: object) -> None:
    raise KeyError(event)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return [(record.getMessage(), vars(record)["suppressed"]) for record in caplog.records]


def test_a_callback_gets_the_event() -> None:
    setup, seen = Setup(), list[object]()
    setup.deliver(registered(seen.append), "event")
    assert seen == ["event"]
    assert (setup.guard.errors, setup.guard.running) == (0, None)


def test_the_running_callback_is_named() -> None:
    setup, names = Setup(), list[str | None]()
    registration = registered(lambda _: names.append(setup.guard.running))
    setup.deliver(registration, "event")
    assert names == [registration.name]


def test_a_failure_is_counted_told_and_kept() -> None:
    setup = Setup()
    registration = registered(failing)
    setup.deliver(registration, "event")
    (told,) = setup.told
    assert isinstance(told.error, KeyError)
    assert (told.source, told.fatal) == ("callback", False)
    assert list(setup.guard.dead_letters) == [DeadLetter("event", registration.name, told.error)]
    assert (setup.guard.errors, setup.guard.running) == (1, None)


def test_dead_letters_are_bounded_and_the_newest_kept() -> None:
    setup = Setup(dead_letters=3)
    for n in range(5):
        setup.deliver(registered(failing), n)
    assert [letter.event for letter in setup.guard.dead_letters] == [2, 3, 4]
    assert setup.guard.errors == 5


def test_no_dead_letters_may_be_kept_at_all() -> None:
    setup = Setup(dead_letters=0)
    setup.deliver(registered(failing), "event")
    assert not setup.guard.dead_letters
    assert setup.guard.errors == 1


@pytest.mark.parametrize("error", [RecursionError, StopIteration, AssertionError, OSError])
def test_any_exception_is_survived(error: type[Exception]) -> None:
    def fail(_: object) -> None:
        raise error

    setup = Setup()
    setup.deliver(registered(fail), "event")
    assert isinstance(setup.told[0].error, error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit, "raised SystemExit"),
        (KeyboardInterrupt, "raised KeyboardInterrupt"),
        (GeneratorExit, "raised GeneratorExit"),
        (MemoryError, "ran out of memory"),
    ],
)
def test_what_must_not_be_survived_is_raised_with_its_cause(
    error: type[BaseException], said: str
) -> None:
    def leave(*_: object) -> None:
        raise error

    setup = Setup()
    with pytest.raises(CallbackExitError, match=said) as caught:
        setup.deliver(registered(leave), "event")
    assert isinstance(caught.value.__cause__, error)
    assert setup.told == []
    with pytest.raises(CallbackExitError, match=said):
        setup.guard.ask(leave, "leave")


def test_a_callback_that_left_is_not_running_any_more() -> None:
    def leave(*_: object) -> None:
        raise SystemExit

    setup = Setup()
    with pytest.raises(CallbackExitError):
        setup.deliver(registered(leave), "event")
    assert setup.guard.running is None


def test_a_slow_call_is_counted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup()
    slow = registered(lambda seconds: setup.clock.advance(float(str(seconds))))
    with caplog.at_level(logging.WARNING, "realtime_stream"):
        setup.deliver(slow, 0.1)
        setup.deliver(slow, 0.25)
    assert setup.guard.slow_calls == {slow.name: 1}
    assert warnings_of(caplog) == [("realtime_callback_slow", 0)]
    assert vars(caplog.records[0])["seconds"] == 0.25
    assert vars(caplog.records[0])["callback"] == slow.name


def test_records_about_the_same_callback_are_rate_limited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()

    def other(event: object) -> None:
        failing(event)

    with caplog.at_level(logging.WARNING, "realtime_stream"):
        for _ in range(4):
            setup.deliver(registered(failing), "event")
        setup.deliver(registered(other), "event")
        setup.clock.advance(59.9)
        setup.deliver(registered(failing), "event")
        setup.clock.advance(0.1)
        setup.deliver(registered(failing), "event")
        setup.clock.advance(60)
        setup.deliver(registered(failing), "event")
    assert warnings_of(caplog) == [("realtime_callback_failed", n) for n in (0, 0, 4, 0)]
    assert vars(caplog.records[0])["error"] == "KeyError"
    assert len(setup.told) == 8  # only the records are limited


def test_a_failing_error_listener_is_not_told_of_itself() -> None:
    setup = Setup()
    setup.deliver(registered(failing, "error"), "event")
    assert setup.told == []
    assert setup.guard.errors == 1
    assert len(setup.guard.dead_letters) == 1


@pytest.mark.parametrize("kind", ["connect", "disconnect", "gap", "state_change", "bars"])
def test_any_other_failing_listener_is_told_of(kind: str) -> None:
    setup = Setup()
    setup.deliver(registered(failing, kind), "event")
    assert len(setup.told) == 1


def test_asking_gives_the_answer_or_the_exception() -> None:
    setup = Setup()
    error = ValueError("no")

    def fail() -> str:
        raise error

    assert setup.guard.ask(lambda: ["A"], "symbols") == ["A"]
    assert setup.guard.ask(fail, "fail") is error
    assert setup.guard.running is None
    assert setup.guard.errors == 0


def test_the_function_asked_is_named_while_it_runs() -> None:
    setup = Setup()
    answer = setup.guard.ask(lambda: setup.guard.running, "me")
    assert isinstance(answer, str)
    assert answer == "me"
