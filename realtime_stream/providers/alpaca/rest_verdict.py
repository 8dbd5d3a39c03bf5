"""What the status of an answer means: pure functions, no waiting and no connection."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_stream.clock import datetime_from_ns
from realtime_stream.providers.alpaca.masking import masked
from realtime_stream.resilience.failures import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from realtime_stream.providers.alpaca.rest_stream import Answer

__all__ = ["Verdict", "message_of", "verdict_of", "wait_asked_for"]

_NS: Final = 1_000_000_000
_OK: Final = 200
_REQUEST_TIMEOUT: Final = 408
_FORBIDDEN: Final = 403
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
# "subscription does not permit querying recent SIP data": the plan has the data, 15 minutes late.
_RECENT: Final = "recent sip"


class Verdict(Enum):
    """What to do about an answer."""

    GOOD = auto()
    AGAIN = auto()
    LATER = auto()
    NEVER = auto()


class _Problem(msgspec.Struct):
    """The body of a refusal; some carry a numeric ``code``, most do not."""

    message: str = ""


def verdict_of(answer: Answer) -> Verdict:
    """Whether an answer is good, worth another try, to be had later, or refused for good."""
    status = answer.status
    if status == _OK:
        return Verdict.GOOD
    if status in {_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS} or status >= _SERVER_ERRORS:
        return Verdict.AGAIN
    if status == _FORBIDDEN and _RECENT in message_of(answer).lower():
        return Verdict.LATER
    return Verdict.NEVER


def message_of(answer: Answer, secrets: Iterable[SecretStr] = ()) -> str:
    """The server's words, fit for a log line; empty if there are none.

    Args:
        answer: What it answered.
        secrets: What it may have quoted, and must not be shown.
    """
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # a proxy's page, or nothing
        return ""
    return harmless(masked(problem.message, secrets))  # before anything is cut or escaped


def wait_asked_for(answer: Answer, now_ns: int) -> float:
    """Seconds that the server wants us to wait: ``Retry-After``, else the end of its rate limit.

    Args:
        answer: A refusal. Every answer tells when the present minute of the rate limit ends, which
            matters only if nothing is left of it.
        now_ns: Nanoseconds since the epoch; both headers may name a moment.

    Returns:
        0 when it says nothing usable.
    """
    after = _header(answer, "Retry-After")
    if after:
        return _seconds(after) if after.isdecimal() else _until_date(after, now_ns)
    reset = _header(answer, "X-RateLimit-Reset")
    exhausted = _header(answer, "X-RateLimit-Remaining") in {"", "0"}
    if answer.status == _TOO_MANY_REQUESTS and exhausted and reset.isdecimal():
        return max(_seconds(reset) - now_ns / _NS, 0.0)
    return 0.0


def _header(answer: Answer, name: str) -> str:
    return str(answer.headers.get(name, "")).strip()


def _seconds(digits: str) -> float:
    seconds = float(digits)
    return seconds if math.isfinite(seconds) else 0.0


def _until_date(text: str, now_ns: int) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime_from_ns(now_ns)).total_seconds(), 0.0)
