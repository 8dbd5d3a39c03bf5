from __future__ import annotations

import threading

import pytest
from pydantic import ValidationError

from realtime_stream.clock import FakeClock
from realtime_stream.resilience.circuit_breaker import (
    BreakerInfo,
    BreakerPolicy,
    BreakerState,
    ConnectionCircuitBreaker,
)


def breaker(
    clock: FakeClock, *, failures: int = 0, success_threshold: int = 1, half_open_max_calls: int = 1
) -> ConnectionCircuitBreaker:
    policy = BreakerPolicy(
        failure_threshold=3,
        reset_timeout=60,
        success_threshold=success_threshold,
        half_open_max_calls=half_open_max_calls,
    )
    made = ConnectionCircuitBreaker(policy, clock=clock)
    for _ in range(failures):
        assert made.can_attempt_connection()
        made.record_failure()
    return made


def test_the_defaults_are_the_documented_ones() -> None:
    policy = BreakerPolicy()
    assert policy.failure_threshold == 5
    assert policy.reset_timeout == 60
    assert policy.success_threshold == 1
    assert policy.half_open_max_calls == 1
    assert ConnectionCircuitBreaker().info() == BreakerInfo(BreakerState.CLOSED, 0, 0, 0.0)


def test_it_stays_closed_below_the_threshold() -> None:
    tested = breaker(FakeClock(), failures=2)
    assert tested.info() == BreakerInfo(BreakerState.CLOSED, 2, 0, 0.0)
    assert tested.can_attempt_connection()
    assert tested.retry_in() == 0


def test_it_opens_at_the_threshold_and_forbids_attempts() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    assert tested.info() == BreakerInfo(BreakerState.OPEN, 3, 1, 60.0)
    assert not tested.can_attempt_connection()
    clock.advance(59.5)
    assert not tested.can_attempt_connection()
    assert tested.retry_in() == 0.5


def test_failures_must_be_in_a_row() -> None:
    tested = breaker(FakeClock(), failures=2)
    tested.record_success()
    tested.record_failure()
    tested.record_failure()
    assert tested.info().state is BreakerState.CLOSED


def test_it_shows_open_until_an_attempt_is_asked_for() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    clock.advance(60)
    assert tested.info() == BreakerInfo(BreakerState.OPEN, 3, 1, 0.0)
    assert tested.can_attempt_connection()
    assert tested.info().state is BreakerState.HALF_OPEN


def test_half_open_lets_only_its_permits_through() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3, half_open_max_calls=2)
    clock.advance(60)
    assert [tested.can_attempt_connection() for _ in range(4)] == [True, True, False, False]


def test_a_failure_on_trial_opens_it_again_for_the_whole_timeout() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    clock.advance(61)
    assert tested.can_attempt_connection()
    tested.record_failure()
    assert tested.info() == BreakerInfo(BreakerState.OPEN, 4, 2, 60.0)
    assert not tested.can_attempt_connection()


def test_a_success_on_trial_closes_it() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    clock.advance(60)
    assert tested.can_attempt_connection()
    tested.record_success()
    assert tested.info() == BreakerInfo(BreakerState.CLOSED, 0, 1, 0.0)
    assert all(tested.can_attempt_connection() for _ in range(5))


def test_several_successes_can_be_asked_for() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3, success_threshold=2)
    clock.advance(60)
    assert tested.can_attempt_connection()
    tested.record_success()
    assert tested.info().state is BreakerState.HALF_OPEN
    assert tested.can_attempt_connection()
    tested.record_success()
    assert tested.info().state is BreakerState.CLOSED


def test_successes_of_an_earlier_trial_do_not_count() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3, success_threshold=2)
    clock.advance(60)
    assert tested.can_attempt_connection()
    tested.record_success()
    assert tested.can_attempt_connection()
    tested.record_failure()
    clock.advance(60)
    assert tested.can_attempt_connection()
    tested.record_success()
    assert tested.info().state is BreakerState.HALF_OPEN


def test_a_permit_given_back_proves_nothing_and_may_be_taken_again() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    clock.advance(60)
    assert tested.can_attempt_connection()
    tested.release()
    assert tested.info() == BreakerInfo(BreakerState.HALF_OPEN, 3, 1, 0.0)
    assert tested.can_attempt_connection()
    assert not tested.can_attempt_connection()


def test_giving_back_too_often_makes_no_extra_permits() -> None:
    clock = FakeClock()
    tested = breaker(clock, failures=3)
    tested.release()
    clock.advance(60)
    tested.release()
    assert tested.can_attempt_connection()
    tested.release()
    tested.release()
    assert [tested.can_attempt_connection() for _ in range(2)] == [True, False]


def test_reset_forgets_everything() -> None:
    tested = breaker(FakeClock(), failures=3)
    tested.reset()
    assert tested.info() == BreakerInfo(BreakerState.CLOSED, 0, 1, 0.0)
    assert tested.can_attempt_connection()


@pytest.mark.parametrize("permits", [1, 3])
def test_threads_that_ask_at_once_get_exactly_the_permits(permits: int) -> None:
    clock, count = FakeClock(), 16
    tested = breaker(clock, failures=3, half_open_max_calls=permits)
    clock.advance(60)
    barrier, lock = threading.Barrier(count), threading.Lock()
    answers: list[bool] = []

    def ask() -> None:
        barrier.wait(10)
        answer = tested.can_attempt_connection()
        with lock:
            answers.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(answers) == count
    assert answers.count(True) == permits


def test_failures_of_several_threads_are_all_counted() -> None:
    tested = ConnectionCircuitBreaker(BreakerPolicy(failure_threshold=10_000), clock=FakeClock())
    barrier = threading.Barrier(8)

    def fail() -> None:
        barrier.wait(10)
        for _ in range(200):
            tested.record_failure()

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert tested.info().failures == 1600


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", 0),
        ("reset_timeout", 0),
        ("success_threshold", 0),
        ("half_open_max_calls", 0),
        ("threshold", 5),
    ],
)
def test_a_bad_setting_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        BreakerPolicy.model_validate({field: value})
