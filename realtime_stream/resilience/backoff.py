"""How long to wait before the next attempt: exponential, capped, with full jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field
from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential

if TYPE_CHECKING:
    import random

__all__ = ["ReconnectPolicy"]


class ReconnectPolicy(BaseModel):
    """Waits between attempts: ``min(initial * multiplier**(n-1), maximum)``, jittered.

    Attributes:
        initial: Ceiling of the first wait, seconds.
        multiplier: Growth per further attempt.
        maximum: Highest ceiling, seconds.
        jitter: ``True`` draws each wait evenly from 0 to its ceiling, so that many clients do not
            return in step; ``False`` waits the whole ceiling.
        max_attempts: Failed attempts in a row after which reconnecting ends as failed; ``None``
            never gives up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    initial: float = Field(default=1.0, gt=0, le=3600)
    multiplier: float = Field(default=2.0, ge=1, le=100)
    maximum: float = Field(default=60.0, gt=0, le=86_400)
    jitter: bool = True
    max_attempts: int | None = Field(default=None, ge=1)

    def ceiling(self, attempt: int) -> float:
        """Longest wait after failed attempt number ``attempt`` (1 is the first), seconds."""
        strategy = wait_exponential(
            multiplier=self.initial, exp_base=self.multiplier, max=self.maximum
        )
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        return strategy(state)

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait after failed attempt number ``attempt``, seconds.

        The jitter is drawn from ``rng`` (tenacity's own jitter uses the global generator, which a
        test could not repeat).
        """
        ceiling = self.ceiling(attempt)
        return rng.uniform(0.0, ceiling) if self.jitter else ceiling

    def exhausted(self, attempts: int) -> bool:
        """Whether ``attempts`` failures in a row are all that is allowed."""
        return self.max_attempts is not None and attempts >= self.max_attempts
