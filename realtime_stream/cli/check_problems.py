"""The kinds of problem that ``realtime-stream check`` can name, each with an exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from realtime_stream.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLimitError,
    DataProviderError,
    HandshakeError,
    HandshakeTimeoutError,
    InsufficientSubscriptionError,
    NameResolutionError,
    RateLimitError,
    ServerError,
    StartTimeoutError,
    StreamingError,
    SubscriptionRefusedError,
    WSConnectionError,
)

__all__ = ["MEANINGS", "CheckFailedError", "Problem", "problem_of", "problem_of_status"]

_FORBIDDEN: Final = 403
_SERVER_ERRORS: Final = 500
_SYMBOL_LIMIT: Final = 405
_SCOPE: Final = 411
_AUTH_TIMEOUT: Final = 404


class Problem(IntEnum):
    """What is wrong; the value is the exit code.

    The codes 1 (the command itself failed), 2 (usage) and 130 (interrupted) mean the same for all
    commands, so they are not used here.
    """

    NONE = 0
    VERSIONS = 3
    CONFIGURATION = 4
    KEYS_MISSING = 5
    NAME = 6
    NETWORK = 7
    TLS = 8
    UPGRADE = 9
    PATH = 10
    RATE_LIMIT = 11
    SERVER = 12
    KEYS_REFUSED = 13
    FORBIDDEN = 14
    PLAN = 15
    SCOPE = 16
    AUTH_TIMEOUT = 17
    CONNECTION_TAKEN = 18
    SUBSCRIPTION = 19
    SYMBOL_LIMIT = 20
    SESSION = 21
    CLOCK = 22


MEANINGS: Final[dict[Problem, str]] = {
    Problem.NONE: "all well",
    Problem.VERSIONS: "versions, or the SDK",
    Problem.CONFIGURATION: "configuration",
    Problem.KEYS_MISSING: "keys missing",
    Problem.NAME: "name resolution",
    Problem.NETWORK: "network",
    Problem.TLS: "TLS",
    Problem.UPGRADE: "no WebSocket there",
    Problem.PATH: "wrong path or feed (HTTP 404)",
    Problem.RATE_LIMIT: "too many connections (HTTP 429)",
    Problem.SERVER: "server trouble (HTTP 5xx, error 500)",
    Problem.KEYS_REFUSED: "keys refused (402, HTTP 401)",
    Problem.FORBIDDEN: "forbidden (HTTP 403)",
    Problem.PLAN: "feed not in the plan (409)",
    Problem.SCOPE: "token scope (411)",
    Problem.AUTH_TIMEOUT: "silence at the greeting or the authentication (404)",
    Problem.CONNECTION_TAKEN: "connection already taken (406)",
    Problem.SUBSCRIPTION: "subscription refused (400, 410, 413)",
    Problem.SYMBOL_LIMIT: "symbol limit (405)",
    Problem.SESSION: "session lost",
    Problem.CLOCK: "clock",
}


class CheckFailedError(StreamingError):
    """A check found something wrong.

    Attributes:
        problem: What.
    """

    def __init__(self, problem: Problem, message: str) -> None:
        """Keep the kind of problem beside the message."""
        super().__init__(message)
        self.problem = problem


_OF_STATUS: Final = {
    401: Problem.KEYS_REFUSED,
    403: Problem.FORBIDDEN,
    404: Problem.PATH,
    429: Problem.RATE_LIMIT,
}
# First match wins, so subclasses stand before their bases.
_OF_TYPE: Final[tuple[tuple[type[StreamingError], Problem], ...]] = (
    (AuthenticationError, Problem.KEYS_REFUSED),
    (InsufficientSubscriptionError, Problem.PLAN),
    (ConnectionLimitError, Problem.CONNECTION_TAKEN),
    (RateLimitError, Problem.RATE_LIMIT),
    (SubscriptionRefusedError, Problem.SUBSCRIPTION),
    (ServerError, Problem.SERVER),
    (HandshakeTimeoutError, Problem.AUTH_TIMEOUT),
    (StartTimeoutError, Problem.AUTH_TIMEOUT),
    (NameResolutionError, Problem.NAME),
    (WSConnectionError, Problem.NETWORK),
    (ConfigurationError, Problem.CONFIGURATION),
    (StreamingError, Problem.SESSION),
)


def problem_of_status(status: int) -> Problem:
    """What an upgrade that was answered with this HTTP status has run into."""
    found = _OF_STATUS.get(status)
    if found is not None:
        return found
    return Problem.SERVER if status >= _SERVER_ERRORS else Problem.UPGRADE


def problem_of(error: StreamingError) -> Problem:
    """What a session that ended with this error has run into."""
    if isinstance(error, HandshakeError):
        return problem_of_status(error.status)
    found = next(problem for expected, problem in _OF_TYPE if isinstance(error, expected))
    code = error.code if isinstance(error, DataProviderError) else None
    special = {
        (Problem.KEYS_REFUSED, _FORBIDDEN): Problem.FORBIDDEN,
        (Problem.PLAN, _SCOPE): Problem.SCOPE,
        (Problem.SERVER, _AUTH_TIMEOUT): Problem.AUTH_TIMEOUT,
        (Problem.SUBSCRIPTION, _SYMBOL_LIMIT): Problem.SYMBOL_LIMIT,
    }
    return found if code is None else special.get((found, code), found)
