"""Stop trying for a while when trying does not help."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from realtime_stream.clock import Clock, SystemClock

__all__ = ["BreakerInfo", "BreakerPolicy", "BreakerState", "ConnectionCircuitBreaker"]


class BreakerState(StrEnum):
    """The three states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerPolicy(BaseModel):
    """When the breaker opens and how it closes again.

    Attributes:
        failure_threshold: Failures in a row that open it.
        reset_timeout: Seconds it stays open before attempts are allowed on trial.
        success_threshold: Successes on trial that close it.
        half_open_max_calls: Trials allowed at the same time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failure_threshold: int = Field(default=5, ge=1)
    reset_timeout: float = Field(default=60.0, gt=0, le=86_400)
    success_threshold: int = Field(default=1, ge=1)
    half_open_max_calls: int = Field(default=1, ge=1)


@dataclass(frozen=True, slots=True)
class BreakerInfo:
    """A snapshot of the breaker.

    Attributes:
        state: Where it stands; ``open`` until an attempt is asked for after the timeout.
        failures: Failures in a row.
        opened: How often it has opened since construction.
        retry_in: Seconds until an attempt is allowed; 0 when one is.
    """

    state: BreakerState
    failures: int
    opened: int
    retry_in: float


class ConnectionCircuitBreaker:
    """Counts failed connections and forbids attempts while there have been too many.

    Closed: attempts are allowed; ``failure_threshold`` failures in a row open it. Open: none is
    allowed for ``reset_timeout`` seconds. Half-open: ``half_open_max_calls`` trials are allowed;
    ``success_threshold`` successes close it, one failure opens it again.

    An attempt that is allowed in the half-open state holds a permit until it is followed by
    :meth:`record_success`, :meth:`record_failure` or :meth:`release`.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, policy: BreakerPolicy | None = None, *, clock: Clock | None = None) -> None:
        """Start closed.

        Args:
            policy: Thresholds and timeout.
            clock: Only its monotonic time is used.
        """
        self._policy = policy or BreakerPolicy()
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()  # guards every attribute below
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._successes = 0
        self._permits = 0
        self._opened = 0
        self._opened_at = 0.0

    def can_attempt_connection(self) -> bool:
        """Whether a connection may be attempted now; takes a permit in the half-open state."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return True
            if self._state is BreakerState.OPEN:
                if self._retry_in() > 0:
                    return False
                self._state = BreakerState.HALF_OPEN
                self._successes = 0
                self._permits = 0
            if self._permits >= self._policy.half_open_max_calls:
                return False
            self._permits += 1
            return True

    def record_success(self) -> None:
        """An attempt led to a connection that has proved stable."""
        with self._lock:
            self._failures = 0
            if self._state is not BreakerState.HALF_OPEN:
                return
            self._permits = max(self._permits - 1, 0)
            self._successes += 1
            if self._successes >= self._policy.success_threshold:
                self._close()

    def record_failure(self) -> None:
        """An attempt failed, or its connection died before it was stable."""
        with self._lock:
            self._failures += 1
            if (
                self._state is BreakerState.HALF_OPEN
                or self._failures >= self._policy.failure_threshold
            ):
                self._open()

    def release(self) -> None:
        """Give a permit back: the attempt was ended by us and proves nothing."""
        with self._lock:
            self._permits = max(self._permits - 1, 0)

    def reset(self) -> None:
        """Forget everything and close; a user's explicit start does this."""
        with self._lock:
            self._failures = 0
            self._close()

    def retry_in(self) -> float:
        """Seconds until an attempt is allowed by time alone; 0 when it is."""
        with self._lock:
            return self._retry_in()

    def info(self) -> BreakerInfo:
        """A consistent snapshot."""
        with self._lock:
            return BreakerInfo(self._state, self._failures, self._opened, self._retry_in())

    def _retry_in(self) -> float:
        if self._state is not BreakerState.OPEN:
            return 0.0
        return max(self._opened_at + self._policy.reset_timeout - self._clock.monotonic(), 0.0)

    def _open(self) -> None:
        if self._state is not BreakerState.OPEN:
            self._opened += 1
        self._state = BreakerState.OPEN
        self._opened_at = self._clock.monotonic()
        self._permits = 0

    def _close(self) -> None:
        self._state = BreakerState.CLOSED
        self._successes = 0
        self._permits = 0
