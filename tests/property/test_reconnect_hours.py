"""Breaker, policy and supervisor together, through thousands of hours of bad weather.

Time is a fake clock's, the server a script behind the provider's seam; the rest is the real thing.
Each example is a day, and each claim has days of its own: 220 days, 5,280 hours. In each wait and
in each session the status is compared with a model of the rules: failures in a row,
``next_attempt_in``, the state of the connection, and the breaker's state, failures, openings and
remainder.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime_stream import BreakerPolicy, FailureKind, ReconnectPolicy, StreamConfig
from tests.property.support_weather import (
    MOMENT,
    Kind,
    Phase,
    Simulation,
    allowance,
    ceiling,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOUR = 3600.0
DAY = 24 * HOUR
DEADLINE = 30.0  # seconds after which an attempt in this weather has failed at the latest
WINDOWS = (0.0, 1.0, 10.0, 60.0, 300.0, 900.0, HOUR, 6 * HOUR, DAY)
BAD: tuple[Kind, ...] = ("down", "flapping", "restless", "busy", "occupied")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """A hundred thousand records of lost connections are not kept."""
    logger = logging.getLogger("realtime_stream")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def configured(**fields: Any) -> StreamConfig:
    return StreamConfig(api_key="key", secret_key="secret", watchlist=("A",), **fields)


policies = st.builds(
    ReconnectPolicy,
    initial=st.floats(0.5, 10),
    multiplier=st.floats(1, 4),
    maximum=st.floats(10, 600),
    jitter=st.booleans(),
)
breakers = st.builds(
    BreakerPolicy,
    failure_threshold=st.integers(1, 8),
    reset_timeout=st.floats(30, 600),
    success_threshold=st.integers(1, 2),
)
configs = st.builds(
    configured, reconnect=policies, breaker=breakers, stable_after=st.floats(30, 120)
)
seeds = st.integers(0, 2**32)


def phases(kind: Kind, config: StreamConfig) -> st.SearchStrategy[Phase]:
    takes: dict[str, st.SearchStrategy[float]] = {
        "down": st.sampled_from((0.0, 3.0, DEADLINE)),
        "flapping": st.floats(0, 0.99).map(lambda part: part * config.stable_after),
        "restless": st.floats(0, 300),
    }
    retry_after = st.none() | st.floats(0, 900) | st.just(9999.0)
    return st.builds(
        Phase,
        kind=st.just(kind),
        lasts=st.floats(60, 8 * HOUR if kind == "up" else 2 * HOUR),
        takes=takes.get(kind, st.just(0.0)),
        retry_after=retry_after if kind == "busy" else st.none(),
    )


@st.composite
def days(draw: st.DrawFn, kinds: tuple[Kind, ...] = ("up", *BAD)) -> Simulation:
    config = draw(configs)
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8))
    weather = [draw(phases(kind, config)) for kind in chosen]
    return Simulation(config, weather, DAY, draw(seeds))


def examples(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=count,
        deadline=None,  # a busy machine is no failure
        suppress_health_check=[HealthCheck.too_slow],
    )


def most_in(window: float, moments: Sequence[float]) -> int:
    """How many moments lie in the fullest window of so many seconds."""
    first = most = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


@examples(40)
@given(days())
def test_attempts_never_exceed_the_allowance(day: Simulation) -> None:
    """See :func:`allowance` for the bound and where it comes from."""
    begins = day.run().begins()
    for window in WINDOWS:
        assert most_in(window, begins) <= allowance(day.config, window)


@pytest.mark.parametrize(("window", "most"), [(0, 5), (59, 5), (60, 6), (300, 10), (HOUR, 65)])
def test_the_allowance_while_a_server_is_down_is_what_the_docs_say(
    window: float, most: int
) -> None:
    """Five attempts within some seconds, then one a minute: no session is ever stable."""
    assert allowance(configured(stable_after=DAY), window) == most


@pytest.mark.parametrize(("threshold", "window"), [(1, 1800.0), (3, 2.0), (3, 122.0), (4, 602.0)])
def test_a_server_that_is_down_takes_the_allowance_to_its_last_attempt(
    threshold: int, window: float
) -> None:
    config = configured(
        reconnect={"initial": 1, "multiplier": 1, "jitter": False},
        breaker={"failure_threshold": threshold},
        stable_after=DAY,
    )
    begins = Simulation(config, [Phase("down", HOUR)], HOUR).run().begins()
    assert most_in(window, begins) == allowance(config, window)


@examples(40)
@given(days())
def test_a_server_that_recovers_is_found_again_in_time(day: Simulation) -> None:
    """Within the longest allowed wait plus one handshake deadline.

    An attempt that is under way when the server recovers ends within its deadline. The wait after
    it is at most the longest of the policy's maximum, the breaker's timeout, and what the server
    asked for. The attempt after that finds the server.
    """
    day.run()
    for begin, end, phase in day.spans():
        before = [attempt for attempt in day.attempts if attempt.begin < begin]
        if phase.kind != "up" or not before:
            continue
        last = before[-1]
        assert last.end <= begin + DEADLINE or last.connected
        latest = max(begin + DEADLINE, last.end) + max(
            day.config.reconnect.maximum, day.config.breaker.reset_timeout, last.server_wait
        )
        if latest < end:
            found = day.attempts[len(before)]
            assert found.connected
            assert found.begin <= latest + MOMENT


@examples(40)
@given(days())
def test_no_attempt_comes_before_its_time(day: Simulation) -> None:
    """Each wait is the longest of the three: policy, server, breaker; no more and no less."""
    day.run()
    for attempt, following in pairwise(day.attempts):
        waited = following.begin - attempt.end
        assert waited >= attempt.policy_wait - MOMENT
        assert waited >= attempt.server_wait - MOMENT
        assert waited >= attempt.breaker_wait - MOMENT
        assert waited <= attempt.wait + MOMENT


@examples(20)
@given(days(("flapping",)))
def test_a_flapping_server_opens_the_breaker(day: Simulation) -> None:
    """After ``failure_threshold`` sessions that were connected and died young; then each time."""
    young = day.run().attempts
    threshold = day.config.breaker.failure_threshold
    assert all(attempt.connected and not attempt.stable for attempt in young)
    opened = [attempt.breaker_wait > 0 for attempt in young]
    assert opened == [place + 1 >= threshold for place in range(len(young))]
    info = day.status().breaker
    assert info is not None
    assert info.opened == max(len(young) - threshold + 1, 0)


@examples(40)
@given(days(("up", "restless", "down", "flapping")))
def test_after_a_stable_session_everything_starts_anew(day: Simulation) -> None:
    """The wait is that after a first failure, and a closed breaker needs all its failures again."""
    attempts = day.run().attempts
    policy, breaker = day.config.reconnect, day.config.breaker
    stable_in_a_row = 0
    for place, attempt in enumerate(attempts):
        stable_in_a_row = stable_in_a_row + 1 if attempt.stable else 0
        if attempt.stable:
            assert attempt.failures == 1
            assert attempt.policy_wait <= ceiling(policy, 1)
            assert attempt.breaker_wait == 0
        if stable_in_a_row >= breaker.success_threshold:
            following = attempts[place + 1 : place + breaker.failure_threshold]
            assert not any(later.breaker_wait for later in following)


@examples(40)
@given(days())
def test_everything_that_happened_is_told(day: Simulation) -> None:
    attempts = day.run().attempts
    assert day.failure is None
    assert day.looks >= 2 * len(attempts)  # in each session, and in the wait after it
    status = day.status()
    assert status.attempts == len(attempts) + 1  # the last one was stopped
    assert status.sessions == sum(attempt.connected for attempt in attempts)
    assert [error.source for error in day.errors] == ["session"] * len(attempts)


# --- one outage of an hour ---

BEFORE = 600.0  # seconds of a good session before it
PRESETS = {  # those of docs/how-to/reconnect-presets.md; the first is the default
    "steady": ReconnectPolicy(),
    "patient": ReconnectPolicy(initial=5, maximum=300, max_attempts=10),
    "eager": ReconnectPolicy(initial=1, maximum=16, jitter=False),
    "brief": ReconnectPolicy(initial=1, maximum=30, max_attempts=5),
}
# When an attempt is made, in seconds from the loss of the good session, with random.Random(7).
TIMES = {
    "steady": [0.324, 0.626, 3.229, 3.809, *(12.383 + 60 * n for n in range(61))],
    "patient": [1.619, 3.128, 16.146, 19.044, 61.914, 121.914, 181.914, 334.145, 394.145],
    "eager": [1, 3, 7, 15, *(31 + 60 * n for n in range(61))],
    "brief": [0.324, 0.626, 3.229, 3.809],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_one_hour_outage(preset: str, record_property: Callable[[str, object], None]) -> None:
    """The number of attempts, their times, and that each wait lies where the formula says.

    The loss of the good session is the policy's failure 1 and none of the breaker's. After failure
    n in a row the policy's delay d lies in [0, ceiling(n)] with jitter and is ceiling(n) without;
    the breaker's remainder b is ``reset_timeout`` once ``failure_threshold`` attempts have failed,
    and 0 before. The wait is max(d, b), so it lies in [b, max(ceiling(n), b)].
    """
    config = configured(reconnect=PRESETS[preset])
    weather = [Phase("up", BEFORE), Phase("down", HOUR), Phase("up", DAY)]
    outage = Simulation(config, weather, BEFORE + 2 * HOUR, seed=7).run()
    times = [attempt.begin - BEFORE for attempt in outage.attempts[1:]]
    record_property("attempts", sum(moment < HOUR for moment in times))
    record_property("times", [round(moment, 3) for moment in times])
    assert times == pytest.approx(TIMES[preset], abs=0.001)
    for n, (attempt, following) in enumerate(pairwise(outage.attempts), 1):
        wait = following.begin - attempt.end
        top = ceiling(config.reconnect, n)
        remainder = config.breaker.reset_timeout if n > config.breaker.failure_threshold else 0.0
        least = remainder if config.reconnect.jitter else max(top, remainder)
        assert least - MOMENT <= wait <= max(top, remainder) + MOMENT


def test_an_outage_ends_with_the_session_after_it_or_with_the_last_attempt_allowed() -> None:
    """64 attempts in the hour, and the one that finds the server; or as many as the preset has."""
    weather = [Phase("up", BEFORE), Phase("down", HOUR), Phase("up", DAY)]
    for preset, policy in PRESETS.items():
        config = configured(reconnect=policy)
        outage = Simulation(config, weather, BEFORE + 2 * HOUR, seed=7).run()
        in_vain = [attempt for attempt in outage.attempts[1:] if not attempt.connected]
        if policy.max_attempts is None:
            assert len(in_vain) == 64, preset
            assert outage.attempts[-1].connected
            assert outage.attempts[-1].begin - BEFORE - HOUR <= config.breaker.reset_timeout
            assert outage.failure is None
        else:
            assert len(in_vain) == policy.max_attempts - 1, preset  # the loss is the first failure
            assert outage.failure is not None
            assert outage.failure.kind is FailureKind.CONNECTION
