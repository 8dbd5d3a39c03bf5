"""One page of history, tried again for a bounded time; secrets stay out of every error."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Final

from alpaca.common.utils import get_default_user_agent

from realtime_stream.errors import HistoryError, HistoryRefusedError, HistoryUnavailableError
from realtime_stream.providers.alpaca.rest_stream import Answer, BodyError, RestTimeouts
from realtime_stream.providers.alpaca.rest_verdict import (
    Verdict,
    message_of,
    verdict_of,
    wait_asked_for,
)
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.resilience.failures import SessionEnd, classify

if TYPE_CHECKING:
    import random

    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials
    from realtime_stream.providers.alpaca.rest_line import RestLine

__all__ = ["KEY_HEADER", "SECRET_HEADER", "RestExchange", "RestPolicy"]

_LOGGER: Final = logging.getLogger("realtime_stream")
KEY_HEADER: Final = "APCA-API-KEY-ID"
SECRET_HEADER: Final = "APCA-API-SECRET-KEY"  # noqa: S105  # a header's name
_DELAY_NS: Final = 15 * 60 * 1_000_000_000  # what a plan without recent data has to wait


@dataclass(frozen=True, slots=True)
class RestPolicy:
    """How long and how often.

    Attributes:
        tries: Attempts at one page, the first included.
        backoff: Waits between them.
        longest_wait: Most seconds that a server's own demand makes us wait; its limits are counted
            by the minute.
        timeouts: Bounds on the waits of one attempt.
    """

    tries: int = 4
    backoff: ReconnectPolicy = field(
        default_factory=lambda: ReconnectPolicy(initial=0.5, maximum=10.0)
    )
    longest_wait: float = 60.0
    timeouts: RestTimeouts = field(default_factory=RestTimeouts)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why an attempt brought no usable answer, in words that give nothing away."""

    text: str
    min_wait: float = 0.0
    cause: OSError | None = None


class RestExchange:
    """Sends GET requests over one kept connection, and tries again what may yet work.

    Thread safety: :meth:`get` is called by one thread at a time, the rest by any.
    """

    def __init__(
        self, line: RestLine, *, clock: Clock, rng: random.Random, policy: RestPolicy, owner: str
    ) -> None:
        """Nothing is sent yet.

        Args:
            line: The connection; closed with this object.
            clock: Waits between attempts, and the server's dates.
            rng: Draws the jitter.
            policy: How long and how often.
            owner: The manager's name, for log records.
        """
        self._line = line
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._owner = owner
        self._closed = threading.Event()

    def close(self) -> None:
        """End the running request or wait, and every later one at once. Never blocks."""
        self._closed.set()
        self._line.close()

    def check_open(self) -> None:
        """Raise :class:`HistoryError` once :meth:`close` was called."""
        if self._closed.is_set():
            msg = "the history was closed"
            raise HistoryError(msg)

    def get(self, target: str, credentials: Credentials, *, end_ns: int) -> bytes:
        """The body of the answer.

        Args:
            target: Path and query.
            credentials: The key pair.
            end_ns: End of what is asked for; if it is too recent, it says when it will be there.

        Raises:
            HistoryUnavailableError: The plan has it only after a delay.
            HistoryRefusedError: The server refuses the keys or the request.
            HistoryError: No attempt worked, or :meth:`close` was called.
        """
        attempt = 1
        while True:
            self.check_open()
            result = self._attempt(target, credentials)
            self.check_open()
            if isinstance(result, Answer):
                return _body(result, credentials, end_ns)
            if attempt >= self._policy.tries:
                msg = f"the history could not be fetched in {attempt} attempts: {result.text}"
                raise HistoryError(msg) from result.cause
            self._pause(attempt, result)
            attempt += 1

    def _attempt(self, target: str, credentials: Credentials) -> Answer | _Trouble:
        try:
            answer = self._line.get(
                target,
                {
                    KEY_HEADER: credentials.key,
                    SECRET_HEADER: credentials.secret,
                    "User-Agent": get_default_user_agent(),
                },
            )
        except OSError as exc:
            # Its frames hold the request, and so the keys; a report of the error may show them.
            cause = exc.with_traceback(None)
            return _Trouble(classify(SessionEnd(error=cause)).text, cause=cause)
        except HTTPException as exc:  # some quote what the server sent: not chained
            return _Trouble(_words(exc))
        if verdict_of(answer) is not Verdict.AGAIN:
            return answer
        wait = wait_asked_for(answer, self._clock.utc_now_ns())
        return _Trouble(_refusal(answer, credentials), min(wait, self._policy.longest_wait))

    def _pause(self, attempt: int, trouble: _Trouble) -> None:
        delay = max(self._policy.backoff.delay(attempt, self._rng), trouble.min_wait)
        _LOGGER.info(
            "realtime_history_retry",
            extra={
                "manager": self._owner,
                "attempt": attempt,
                "delay": delay,
                "reason": trouble.text,
            },
        )
        self._clock.wait(self._closed, delay)


def _body(answer: Answer, credentials: Credentials, end_ns: int) -> bytes:
    verdict = verdict_of(answer)
    if verdict is Verdict.GOOD:
        return answer.body
    text = _refusal(answer, credentials)
    if verdict is Verdict.LATER:
        raise HistoryUnavailableError(text, available_ns=end_ns + _DELAY_NS)
    raise HistoryRefusedError(text)


def _refusal(answer: Answer, credentials: Credentials) -> str:
    keys = (credentials.secret, credentials.key)  # a server may quote what it was sent
    said = message_of(answer, keys)
    text = f"the server refused the request for history with HTTP {answer.status}"
    return f"{text}: {said}" if said else text


def _words(exc: HTTPException) -> str:
    if isinstance(exc, BodyError):
        return str(exc)
    if isinstance(exc, IncompleteRead):
        return "the answer was cut short"
    return f"the server does not speak HTTP ({type(exc).__name__})"
