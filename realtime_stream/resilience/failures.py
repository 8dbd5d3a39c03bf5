"""Why a session ended, and what that means: one pure function decides, once per session.

:class:`SessionEnd` holds the bare facts a provider observed. :func:`classify` turns them into a
:class:`Failure`: which kind, retryable or fatal, the least wait the server asks for, and the typed
exception that a caller will see.

Server codes are those of Alpaca's stream protocol; other providers report only what they know.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
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
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    SlowClientError,
    StaleDataError,
    StreamingError,
    SubscriptionRefusedError,
    WSConnectionError,
)

__all__ = ["Failure", "FailureKind", "SessionEnd", "classify", "harmless", "server_error"]

_CONNECTION_LIMIT_WAIT: Final = 5.0  # seconds; a dropped holder's slot was free within 0.4 s
_CONNECTION_LIMIT_WAIT_MAX: Final = 60.0
_RATE_LIMIT_WAIT: Final = 10.0  # seconds, when a 429 brings no Retry-After
_RATE_LIMIT_WAIT_MAX: Final = 3600.0  # a Retry-After beyond an hour is taken as an hour
_ABNORMAL_CLOSURE: Final = 1006


class FailureKind(StrEnum):
    """What sort of failure ended a session."""

    AUTHENTICATION = "authentication"
    INSUFFICIENT_SUBSCRIPTION = "insufficient_subscription"
    CONNECTION_LIMIT = "connection_limit"
    RATE_LIMIT = "rate_limit"
    SLOW_CLIENT = "slow_client"
    SUBSCRIPTION_REFUSED = "subscription_refused"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    SERVER_ERROR = "server_error"
    HANDSHAKE = "handshake"
    TIMEOUT = "timeout"
    NAME_RESOLUTION = "name_resolution"
    CONNECTION = "connection"
    TLS = "tls"
    PROTOCOL = "protocol"
    STALE = "stale"
    CLOSED = "closed"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """The facts about the end of one session, as the provider observed them.

    Attributes:
        requested: We ended it ourselves (stop, or nothing wanted any more); never a failure.
        server_code: Code of the provider's error message, if one came.
        server_message: Its text.
        http_status: HTTP status of a refused upgrade.
        retry_after: Seconds, from the refusal's Retry-After header.
        close_code: WebSocket close code; 1006 if the connection vanished.
        close_reason: The server's close reason.
        unacknowledged: Subscriptions the server never acknowledged, after all repeats.
        all_refused: Every wanted subscription was refused before the session was ready.
        error: The exception that ended it, if any (stdlib or :class:`StreamingError`).
    """

    requested: bool = False
    server_code: int | None = None
    server_message: str = ""
    http_status: int | None = None
    retry_after: float | None = None
    close_code: int | None = None
    close_reason: str = ""
    unacknowledged: int = 0
    all_refused: bool = False
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A classified end of a session.

    Attributes:
        kind: What sort of failure.
        retryable: ``False`` means trying again cannot help.
        min_wait: Least seconds to wait before the next attempt.
        code: The server, HTTP or close code, if there is one.
        text: What happened, in words, without secrets.
        error: The typed exception for callers.
    """

    kind: FailureKind
    retryable: bool
    min_wait: float
    code: int | None
    text: str
    error: StreamingError


_FATAL: Final = False
_TRANSIENT: Final = True
_ServerRow = tuple[FailureKind, bool, type[DataProviderError]]
_SERVER_ERROR_ROW: Final[_ServerRow] = (FailureKind.SERVER_ERROR, _TRANSIENT, ServerError)

# Codes of Alpaca's error messages that end a session. The others (400, 405, 410, 413) answer one
# subscription and leave the session alive; they count here only if the server closes right after.
_SERVER_CODES: Final[dict[int, _ServerRow]] = {
    400: (FailureKind.SUBSCRIPTION_REFUSED, _TRANSIENT, SubscriptionRefusedError),
    401: _SERVER_ERROR_ROW,  # not authenticated: also the reply on a socket refused with 406
    402: (FailureKind.AUTHENTICATION, _FATAL, AuthenticationError),
    403: _SERVER_ERROR_ROW,  # already authenticated
    404: _SERVER_ERROR_ROW,  # auth timeout
    405: (FailureKind.SUBSCRIPTION_REFUSED, _TRANSIENT, SubscriptionRefusedError),
    406: (FailureKind.CONNECTION_LIMIT, _TRANSIENT, ConnectionLimitError),
    407: (FailureKind.SLOW_CLIENT, _TRANSIENT, SlowClientError),
    408: (FailureKind.INSUFFICIENT_SUBSCRIPTION, _FATAL, InsufficientSubscriptionError),
    409: (FailureKind.INSUFFICIENT_SUBSCRIPTION, _FATAL, InsufficientSubscriptionError),
    410: (FailureKind.SUBSCRIPTION_REFUSED, _TRANSIENT, SubscriptionRefusedError),
    411: (FailureKind.INSUFFICIENT_SUBSCRIPTION, _FATAL, InsufficientSubscriptionError),
    412: (FailureKind.SUBSCRIPTION_REFUSED, _FATAL, SubscriptionRefusedError),
    413: (FailureKind.SUBSCRIPTION_REFUSED, _TRANSIENT, SubscriptionRefusedError),
    500: _SERVER_ERROR_ROW,
}


def server_error(code: int, message: str) -> DataProviderError:
    """The typed exception for an error message of the server."""
    _, _, error_type = _SERVER_CODES.get(code, _SERVER_ERROR_ROW)
    return error_type(f"the server reports error {code}: {harmless(message)}", code=code)


def classify(end: SessionEnd, *, consecutive: int = 1) -> Failure:
    """Decide what the end of a session means.

    The server's own error message counts most, then a refused upgrade, then the exception, then
    the close code.

    Args:
        end: The facts. ``end.requested`` must be ``False``: a wanted end is no failure.
        consecutive: How many sessions in a row ended this way (1 for the first); the wait that a
            406 demands grows with it.

    Returns:
        The verdict.
    """
    if end.server_code is not None:
        failure = _of_server_code(end.server_code, end.server_message, consecutive)
    elif end.http_status is not None:
        failure = _of_http_status(end.http_status, end.retry_after)
    elif end.all_refused:
        failure = _fixed(
            FailureKind.SUBSCRIPTION_REFUSED,
            SubscriptionRefusedError("every wanted subscription was refused"),
            retryable=_FATAL,
        )
    elif end.unacknowledged:
        text = f"the server did not acknowledge {end.unacknowledged} subscription(s)"
        failure = _fixed(FailureKind.NOT_ACKNOWLEDGED, SubscriptionRefusedError(text))
    elif end.error is not None:
        failure = _of_exception(end.error)
    else:
        failure = _of_close_code(end.close_code, end.close_reason)
    if end.error is not None and failure.error is not end.error:
        failure.error.__cause__ = end.error
    return failure


def _of_server_code(code: int, message: str, consecutive: int) -> Failure:
    kind, retryable, _ = _SERVER_CODES.get(code, _SERVER_ERROR_ROW)
    min_wait = 0.0
    if kind is FailureKind.CONNECTION_LIMIT:
        min_wait = min(_CONNECTION_LIMIT_WAIT * max(consecutive, 1), _CONNECTION_LIMIT_WAIT_MAX)
    error = server_error(code, message)
    return Failure(kind, retryable, min_wait, code, str(error), error)


def _of_http_status(status: int, retry_after: float | None) -> Failure:
    error: StreamingError
    if status in {401, 403}:
        text = f"the server refused the keys with HTTP {status}"
        error = AuthenticationError(text, code=status)
        return Failure(FailureKind.AUTHENTICATION, _FATAL, 0.0, status, text, error)
    if status == 429:  # noqa: PLR2004  # an HTTP status is its own name
        wait = _RATE_LIMIT_WAIT if retry_after is None else max(retry_after, 0.0)
        text = "the server refused the connection with HTTP 429 (too many requests)"
        error = RateLimitError(text, code=status)
        wait = min(wait, _RATE_LIMIT_WAIT_MAX)
        return Failure(FailureKind.RATE_LIMIT, _TRANSIENT, wait, status, text, error)
    text = f"the server refused the connection with HTTP {status}"
    error = HandshakeError(text, status=status)
    return Failure(FailureKind.HANDSHAKE, _TRANSIENT, 0.0, status, text, error)


def _of_close_code(code: int | None, reason: str) -> Failure:
    code = _ABNORMAL_CLOSURE if code is None else code
    said = f": {harmless(reason)}" if reason else ""
    text = f"the connection was closed with code {code}{said}"
    error = SessionClosedError(text, code=code)
    return Failure(FailureKind.CLOSED, _TRANSIENT, 0.0, code, text, error)


_Maker = Callable[[str], StreamingError]
# First match wins, so subclasses of OSError stand before it.
_EXCEPTIONS: Final[tuple[tuple[type[BaseException], FailureKind, str, _Maker], ...]] = (
    (
        socket.gaierror,
        FailureKind.NAME_RESOLUTION,
        "the host name was not found",
        NameResolutionError,
    ),
    (
        ssl.SSLCertVerificationError,
        FailureKind.TLS,
        "the certificate is not trusted",
        WSConnectionError,
    ),
    (ssl.SSLError, FailureKind.TLS, "TLS failed", WSConnectionError),
    (
        ConnectionRefusedError,
        FailureKind.CONNECTION,
        "the connection was refused",
        WSConnectionError,
    ),
    (ConnectionResetError, FailureKind.CONNECTION, "the connection was reset", WSConnectionError),
    (TimeoutError, FailureKind.TIMEOUT, "the server did not answer in time", HandshakeTimeoutError),
    (OSError, FailureKind.CONNECTION, "the connection failed", WSConnectionError),
)

_TYPED: Final[tuple[tuple[type[StreamingError], FailureKind, bool], ...]] = (
    (HandshakeTimeoutError, FailureKind.TIMEOUT, _TRANSIENT),
    (HandshakeError, FailureKind.HANDSHAKE, _TRANSIENT),
    (SessionClosedError, FailureKind.CLOSED, _TRANSIENT),
    (StaleDataError, FailureKind.STALE, _TRANSIENT),
    (NameResolutionError, FailureKind.NAME_RESOLUTION, _TRANSIENT),
    (WSConnectionError, FailureKind.CONNECTION, _TRANSIENT),
    (ConfigurationError, FailureKind.CONFIGURATION, _FATAL),
    # Not the server's verdict but a credentials source that failed: it may work next time.
    (AuthenticationError, FailureKind.AUTHENTICATION, _TRANSIENT),
    (StreamingError, FailureKind.PROTOCOL, _TRANSIENT),
)


def _of_exception(error: BaseException) -> Failure:
    if isinstance(error, StreamingError):
        kind, retryable = next((k, r) for t, k, r in _TYPED if isinstance(error, t))
        return _fixed(kind, error, retryable=retryable)
    for expected, kind, text, make in _EXCEPTIONS:
        if isinstance(error, expected):
            detail = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
            return _fixed(kind, make(f"{text}{detail}"))
    text = f"the server does not speak the protocol ({type(error).__name__})"
    return _fixed(FailureKind.PROTOCOL, ProtocolError(text))


def _fixed(kind: FailureKind, error: StreamingError, *, retryable: bool = _TRANSIENT) -> Failure:
    return Failure(kind, retryable, 0.0, None, str(error), error)


def harmless(text: str) -> str:
    """A server's words fit for a log line: ASCII, one line, at most 200 characters."""
    return ascii(text)[1:-1][:200]
