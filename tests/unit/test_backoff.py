from __future__ import annotations

import random
from itertools import pairwise

import pytest
from pydantic import ValidationError

from realtime_stream.resilience.backoff import ReconnectPolicy

RNG = random.Random(1)  # noqa: S311  # a test that can be repeated

DOUBLING_TO_A_MINUTE = ReconnectPolicy()
FIVE_TO_FIVE_MINUTES = ReconnectPolicy(initial=5, maximum=300, max_attempts=10)
DOUBLING_TO_SIXTEEN = ReconnectPolicy(maximum=16)
DOUBLING_TO_THIRTY = ReconnectPolicy(maximum=30, max_attempts=5)


@pytest.mark.parametrize(
    ("policy", "ceilings", "max_attempts"),
    [
        pytest.param(
            DOUBLING_TO_A_MINUTE, [1, 2, 4, 8, 16, 32, 60, 60, 60], None, id="1-60-default"
        ),
        pytest.param(
            FIVE_TO_FIVE_MINUTES, [5, 10, 20, 40, 80, 160, 300, 300, 300, 300], 10, id="5-300-x10"
        ),
        pytest.param(DOUBLING_TO_SIXTEEN, [1, 2, 4, 8, 16, 16, 16], None, id="1-16-for-ever"),
        pytest.param(DOUBLING_TO_THIRTY, [1, 2, 4, 8, 16, 30], 5, id="1-30-x5"),
    ],
)
def test_the_four_known_schedules(
    policy: ReconnectPolicy, ceilings: list[float], max_attempts: int | None
) -> None:
    assert [policy.ceiling(n) for n in range(1, len(ceilings) + 1)] == ceilings
    exact = policy.model_copy(update={"jitter": False})
    assert [exact.delay(n, RNG) for n in range(1, len(ceilings) + 1)] == ceilings
    assert policy.max_attempts == max_attempts


@pytest.mark.parametrize(
    ("policy", "attempts", "exhausted"),
    [
        (DOUBLING_TO_A_MINUTE, 10**9, False),
        (DOUBLING_TO_SIXTEEN, 10**9, False),
        (FIVE_TO_FIVE_MINUTES, 9, False),
        (FIVE_TO_FIVE_MINUTES, 10, True),
        (DOUBLING_TO_THIRTY, 4, False),
        (DOUBLING_TO_THIRTY, 5, True),
        (DOUBLING_TO_THIRTY, 6, True),
    ],
)
def test_attempts_end_when_they_are_used_up(
    policy: ReconnectPolicy, attempts: int, exhausted: bool
) -> None:
    assert policy.exhausted(attempts) is exhausted


@pytest.mark.parametrize("attempt", [1, 3, 7, 50])
def test_the_jitter_is_drawn_from_zero_to_the_ceiling(attempt: int) -> None:
    rng = random.Random(7)  # noqa: S311  # a test that can be repeated
    ceiling = DOUBLING_TO_A_MINUTE.ceiling(attempt)
    drawn = [DOUBLING_TO_A_MINUTE.delay(attempt, rng) for _ in range(500)]
    assert all(0 <= delay <= ceiling for delay in drawn)
    assert min(drawn) < 0.1 * ceiling
    assert max(drawn) > 0.9 * ceiling


def test_the_jitter_can_be_repeated_with_the_same_generator() -> None:
    one, other = random.Random(3), random.Random(3)  # noqa: S311  # as above
    policy = DOUBLING_TO_A_MINUTE
    assert [policy.delay(n, one) for n in range(1, 9)] == [
        policy.delay(n, other) for n in range(1, 9)
    ]


@pytest.mark.parametrize("attempt", [1_000, 100_000, 10**12])
@pytest.mark.parametrize("multiplier", [1.0, 2.0, 100.0])
def test_a_huge_number_of_attempts_does_not_overflow(attempt: int, multiplier: float) -> None:
    policy = ReconnectPolicy(multiplier=multiplier)
    assert policy.ceiling(attempt) == (1.0 if multiplier == 1.0 else 60.0)


def test_ceilings_never_shrink() -> None:
    policy = ReconnectPolicy(initial=0.3, multiplier=1.7, maximum=100)
    ceilings = [policy.ceiling(n) for n in range(1, 60)]
    assert all(earlier <= later for earlier, later in pairwise(ceilings))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initial", 0),
        ("initial", -1),
        ("initial", 3601),
        ("initial", float("nan")),
        ("multiplier", 0.5),
        ("maximum", 0),
        ("maximum", float("inf")),
        ("max_attempts", 0),
        ("jitter", "perhaps"),
        ("cap", 3),
    ],
)
def test_a_bad_setting_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        ReconnectPolicy.model_validate({field: value})
