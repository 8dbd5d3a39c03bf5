"""The breaker against a model that says the same in the simplest way."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from realtime_stream.clock import FakeClock
from realtime_stream.resilience.circuit_breaker import (
    BreakerPolicy,
    BreakerState,
    ConnectionCircuitBreaker,
)


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        failure_threshold=st.integers(1, 4),
        success_threshold=st.integers(1, 3),
        half_open_max_calls=st.integers(1, 3),
    )
    def build(
        self, failure_threshold: int, success_threshold: int, half_open_max_calls: int
    ) -> None:
        self.policy = BreakerPolicy(
            failure_threshold=failure_threshold,
            reset_timeout=10,
            success_threshold=success_threshold,
            half_open_max_calls=half_open_max_calls,
        )
        self.clock = FakeClock()
        self.breaker = ConnectionCircuitBreaker(self.policy, clock=self.clock)
        self.state = BreakerState.CLOSED
        self.failures = self.successes = self.permits = 0
        self.open_until = 0.0

    @rule(seconds=st.integers(0, 15))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def an_attempt_is_asked_for(self) -> None:
        if self.state is BreakerState.OPEN and self.clock.monotonic() >= self.open_until:
            self.state, self.permits, self.successes = BreakerState.HALF_OPEN, 0, 0
        allowed = self.state is BreakerState.CLOSED
        if self.state is BreakerState.HALF_OPEN and self.permits < self.policy.half_open_max_calls:
            self.permits += 1
            allowed = True
        assert self.breaker.can_attempt_connection() is allowed

    @rule()
    def an_attempt_fails(self) -> None:
        self.breaker.record_failure()
        self.failures += 1
        if self.state is BreakerState.HALF_OPEN or self.failures >= self.policy.failure_threshold:
            self.state = BreakerState.OPEN
            self.open_until = self.clock.monotonic() + 10

    @rule()
    def an_attempt_succeeds(self) -> None:
        self.breaker.record_success()
        self.failures = 0
        if self.state is BreakerState.HALF_OPEN:
            self.permits = max(self.permits - 1, 0)
            self.successes += 1
            if self.successes >= self.policy.success_threshold:
                self.state = BreakerState.CLOSED

    @rule()
    def a_permit_is_given_back(self) -> None:
        self.breaker.release()
        self.permits = max(self.permits - 1, 0)

    @rule()
    def the_user_starts_anew(self) -> None:
        self.breaker.reset()
        self.state, self.failures = BreakerState.CLOSED, 0

    @invariant()
    def what_is_shown_agrees(self) -> None:
        info = self.breaker.info()
        assert info.state is self.state
        assert info.failures == self.failures
        waiting = self.state is BreakerState.OPEN
        left = max(self.open_until - self.clock.monotonic(), 0.0) if waiting else 0.0
        assert info.retry_in == self.breaker.retry_in() == left


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
