"""A manager under changing server weather, on a clock that jumps from one event to the next.

Everything but the server and the clock is the real thing: settings, supervisor, recorder, breaker,
policy, status. It all runs on the test's own thread, and is compared with a model of the rules at
every turn.
"""

from __future__ import annotations

import bisect
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from realtime_stream import ErrorEvent, RealTimeStreamManager, StreamConfig
from realtime_stream.clock import FakeClock
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import Acknowledged, SessionListener, Settled
from realtime_stream.resilience.failures import SessionEnd
from realtime_stream.runtime.run import Run

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from realtime_stream import Status
    from realtime_stream.config import Credentials
    from realtime_stream.resilience.backoff import ReconnectPolicy
    from realtime_stream.resilience.failures import Failure

__all__ = ["MOMENT", "Attempt", "Kind", "Phase", "Simulation", "allowance", "ceiling"]

Kind = Literal["up", "down", "flapping", "restless", "busy", "occupied"]

MOMENT = 1e-6  # seconds; more than the rounding of any sum of times here

_WANTED = Subscription("bars", "A")


@dataclass(frozen=True)
class Phase:
    """What the server does for ``lasts`` seconds.

    ``up`` holds a session until the phase ends. ``down`` lets an attempt fail after ``takes``
    seconds. ``flapping`` connects and drops after ``takes`` seconds, less than ``stable_after``;
    ``restless`` drops ``takes`` seconds later than that. ``busy`` answers HTTP 429 with
    ``retry_after``, ``occupied`` answers 406.
    """

    kind: Kind
    lasts: float
    takes: float = 0.0
    retry_after: float | None = None


@dataclass
class Attempt:
    """One session, and the waits that the model expects after it."""

    begin: float
    phase: Phase
    end: float = 0.0
    connected: bool = False
    stable: bool = False
    failures: int = 0  # in a row, this one included
    policy_wait: float = 0.0  # by the policy's formula, drawn from a twin of the generator
    server_wait: float = 0.0
    breaker_wait: float = 0.0

    @property
    def wait(self) -> float:
        """The longest of the three."""
        return max(self.policy_wait, self.server_wait, self.breaker_wait)


def ceiling(policy: ReconnectPolicy, failures: int) -> float:
    """The documented formula: the longest wait after so many failures in a row."""
    try:
        return min(policy.initial * policy.multiplier ** (failures - 1), policy.maximum)
    except OverflowError:
        return policy.maximum


def allowance(config: StreamConfig, window: float) -> int:
    """Most attempts that may begin within ``window`` seconds, whatever the server does.

    Let N attempts begin within W seconds. Each of the first N - 1 is of one of three sorts, and
    takes, to the beginning of the next, a time that no other shares:

    * s were stable: such a session lasted at least S = ``stable_after``, and after it comes the
      policy's wait after a first failure, at least L (``ceiling(1)`` without jitter, 0 with it);
    * o opened the breaker: the next attempt is at least R = ``reset_timeout`` away;
    * f failed and left the breaker closed: the next is at least L away. T =
      ``failure_threshold`` failures in a row open it, and only a stable session begins that count
      anew, so f <= (T - 1)(s + 1).

    So s(S + L) + oR + fL <= W, and the allowance is 1 + max(s + o + f) under these two conditions.
    With full jitter and no stable session that is T + floor(W / R).
    """
    breaker, policy = config.breaker, config.reconnect
    least = 0.0 if policy.jitter else ceiling(policy, 1)
    most = 0
    for stable in itertools.count():
        left = window + MOMENT - stable * (config.stable_after + least)
        if left < 0:
            return 1 + most
        closed = (breaker.failure_threshold - 1) * (stable + 1)
        if least > breaker.reset_timeout:  # then opening the breaker each time is the faster way
            closed = 0
        elif least:
            closed = min(closed, int(left / least))
        opening = int((left - closed * least) / breaker.reset_timeout)
        most = max(most, stable + opening + closed)
    raise AssertionError


@dataclass
class Model:
    """What is expected of supervisor, policy and breaker, in the simplest words."""

    config: StreamConfig
    twin: random.Random
    consecutive: int = 0  # failures in a row, as the status counts them
    failures: int = 0  # failures in a row, as the breaker counts them
    successes: int = 0  # on trial
    state: Literal["closed", "open", "half_open"] = "closed"
    open_until: float = 0.0
    opened: int = 0
    occupied: int = 0

    def began(self) -> None:
        if self.state == "open":
            self.state, self.successes = "half_open", 0

    def proved_stable(self) -> None:
        self.consecutive = self.failures = 0
        self.successes += 1
        if self.state == "half_open" and self.successes >= self.config.breaker.success_threshold:
            self.state = "closed"

    def ended(self, attempt: Attempt) -> None:
        policy, breaker = self.config.reconnect, self.config.breaker
        self.consecutive += 1
        attempt.failures = self.consecutive
        if not attempt.stable:
            self.failures += 1
            if self.state == "half_open" or self.failures >= breaker.failure_threshold:
                self.state, self.open_until = "open", attempt.end + breaker.reset_timeout
                self.opened += 1
                attempt.breaker_wait = breaker.reset_timeout
        top = ceiling(policy, self.consecutive)
        attempt.policy_wait = self.twin.uniform(0.0, top) if policy.jitter else top
        attempt.server_wait = self._server_wait(attempt.phase)

    def _server_wait(self, phase: Phase) -> float:
        self.occupied = self.occupied + 1 if phase.kind == "occupied" else 0
        if phase.kind == "busy":
            return 10.0 if phase.retry_after is None else min(phase.retry_after, 3600.0)
        return min(5.0 * self.occupied, 60.0)


class _Clock(FakeClock):
    """Stops once within each wait, so that somebody can look."""

    on_wait: Callable[[float], float]

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        assert timeout is not None, "nothing here waits for ever"
        return super().wait(event, timeout - self.on_wait(timeout))


class _Provider:
    """The server behind the provider's seam."""

    def __init__(self, session: Callable[[SessionListener], SessionEnd]) -> None:
        self._session = session

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        return self._session(listener)

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        """What is wanted never changes here."""

    def end_session(self) -> None:
        """Nobody asks for that here."""

    def disconnect(self) -> None:
        """Sessions here end by themselves."""

    def lingering_threads(self) -> tuple[str, ...]:
        return ()


class _Manager(RealTimeStreamManager):
    """A manager whose io thread is the caller's."""

    def prepare(self, provider: _Provider) -> Run:
        self._engine.run = run = Run(self._around, self._engine.memory, provider)
        self._around.board.begin(run.inbox.put, run.log)
        for trigger in ("start", "ready"):
            self._around.board.move_lifecycle(trigger, run.log)
        return run


@dataclass
class Simulation:
    """One run of a manager through the weather.

    Attributes:
        config: Its settings.
        weather: Phases, one after the other, and again from the first.
        until: When it is stopped, seconds.
        seed: Of the jitter, and of where in each wait somebody looks.
        attempts: What happened, once it has run.
        errors: What ``on_error`` was told.
        failure: What ended it early, if anything did.
        looks: How often the status was compared with the model.
    """

    config: StreamConfig
    weather: Sequence[Phase]
    until: float
    seed: int = 0
    attempts: list[Attempt] = field(default_factory=list, repr=False)
    errors: list[ErrorEvent] = field(default_factory=list, repr=False)
    failure: Failure | None = field(default=None, repr=False)
    looks: int = field(default=0, repr=False)

    def run(self) -> Simulation:
        """Let it all happen."""
        self._lay_out()
        self._clock = _Clock()
        self._clock.on_wait = self._look
        self._places = random.Random(self.seed + 1)  # noqa: S311  # repeatable
        jitter, twin = random.Random(self.seed), random.Random(self.seed)  # noqa: S311  # as above
        self._model = Model(self.config, twin)
        self._manager = _Manager(self.config, clock=self._clock, rng=jitter)
        self._manager.on_error(self.errors.append)
        self._run = self._manager.prepare(_Provider(self._session))
        self.failure = self._run.supervisor.run()
        self._run.dispatcher.deliver_waiting()
        return self

    def status(self) -> Status:
        """The manager's."""
        return self._manager.status()

    def begins(self) -> list[float]:
        """When each attempt began, seconds."""
        return [attempt.begin for attempt in self.attempts]

    def spans(self) -> list[tuple[float, float, Phase]]:
        """Beginning, end and phase; neighbours of one kind that hold sessions are one."""
        return list(zip(self._begins, [*self._begins[1:], self.until], self._phases, strict=True))

    def _lay_out(self) -> None:
        self._begins: list[float] = []
        self._phases: list[Phase] = []
        begin = 0.0
        for phase in itertools.cycle(self.weather):
            if begin >= self.until:
                break
            if not (self._phases and self._phases[-1].kind == phase.kind == "up"):
                self._begins.append(begin)
                self._phases.append(phase)
            begin += phase.lasts

    def _session(self, listener: SessionListener) -> SessionEnd:
        """One attempt, as the server sees it."""
        now = self._clock.monotonic()
        if now >= self.until:
            self._run.supervisor.stop()
            return SessionEnd(requested=True)
        place = bisect.bisect_right(self._begins, now) - 1
        attempt = Attempt(now, self._phases[place])
        self.attempts.append(attempt)
        self._model.began()
        self._compare("connecting")
        end = self._answer(attempt, self._phase_end(place), listener)
        attempt.end = self._clock.monotonic()
        self._model.ended(attempt)
        return end

    def _phase_end(self, place: int) -> float:
        return self._begins[place + 1] if place + 1 < len(self._begins) else self.until

    def _answer(self, attempt: Attempt, until: float, listener: SessionListener) -> SessionEnd:
        phase, stable_after = attempt.phase, self.config.stable_after
        match phase.kind:
            case "busy":
                return SessionEnd(http_status=429, retry_after=phase.retry_after)
            case "occupied":
                return SessionEnd(server_code=406, server_message="connection limit exceeded")
            case "down":
                self._clock.advance(phase.takes)
                return SessionEnd(error=TimeoutError() if phase.takes else ConnectionRefusedError())
            case "up":
                lasts = max(until - attempt.begin, MOMENT)
            case "flapping":
                lasts = phase.takes
            case "restless":
                lasts = stable_after + phase.takes
        listener.on_control(Acknowledged(frozenset({_WANTED})))
        listener.on_control(Settled())
        attempt.connected = True
        self._hold(attempt, lasts)
        return SessionEnd(close_code=1006)

    def _hold(self, attempt: Attempt, lasts: float) -> None:
        """A session that stands for so long; the counters begin anew when it is stable."""
        young = min(lasts, self.config.stable_after - 2 * MOMENT)
        self._clock.advance(young)
        self._compare("connected")
        if lasts > self.config.stable_after - 2 * MOMENT:
            self._clock.advance(3 * MOMENT)
            attempt.stable = True
            self._model.proved_stable()
            self._compare("connected")
            self._clock.advance(max(lasts - young - 3 * MOMENT, 0.0))

    def _look(self, timeout: float) -> float:
        """Somebody waits ``timeout`` seconds: let some of it pass, and compare."""
        if timeout < MOMENT:  # what rounding has left of a wait
            return 0.0
        self._run.dispatcher.deliver_waiting()
        passed = timeout * self._places.random()
        self._clock.advance(passed)
        waits_for_breaker = self._model.open_until > self.attempts[-1].end
        self._compare("circuit_open" if waits_for_breaker else "reconnecting", timeout - passed)
        return passed

    def _compare(self, connection: str, left: float = 0.0) -> None:
        """The status says what the model says."""
        self.looks += 1
        status, model = self.status(), self._model
        breaker = status.breaker
        assert status.connection.value == connection
        assert abs(status.next_attempt_in - left) < MOMENT
        assert status.consecutive_failures == model.consecutive
        assert status.attempts == len(self.attempts)
        assert breaker is not None
        remainder = max(model.open_until - self._clock.monotonic(), 0.0)
        remainder = remainder if model.state == "open" else 0.0
        assert (breaker.state.value, breaker.failures) == (model.state, model.failures)
        assert breaker.opened == model.opened
        assert abs(breaker.retry_in - remainder) < MOMENT
        assert breaker.retry_in <= status.next_attempt_in + MOMENT
