"""Every exception this library raises, in one tree.

::

    StreamingError
    +-- ConfigurationError (ValueError)     a setting, symbol or callback is not acceptable
    |   +-- InvalidSymbolError
    |   +-- UnsupportedChannelError         the market, or the installed SDK, lacks the channel
    +-- LifecycleError                      the call is not legal in the current state
    |   +-- ForkedProcessError              the manager belongs to the process that made it
    |   +-- CallbackContextError            start/restart called from a callback
    |   +-- IllegalTransitionError          a state machine was asked for a move it does not have
    |   +-- StreamStoppedError              stopped while somebody waited for a connection
    |   +-- StreamFailedError               the manager has failed; the cause is chained
    +-- StartTimeoutError (TimeoutError)
    +-- StopTimeoutError (TimeoutError)     names the callback that is stuck
    +-- CallbackExitError                   a callback raised SystemExit, KeyboardInterrupt, ...
    +-- DataProviderError                   the provider refused, by its own protocol
    |   +-- AuthenticationError             bad keys (402, HTTP 401/403)
    |   +-- InsufficientSubscriptionError   the plan lacks the feed (409) or the scope (411)
    |   +-- ConnectionLimitError            another connection holds the slot (406)
    |   +-- RateLimitError                  HTTP 429
    |   +-- SlowClientError                 407
    |   +-- SubscriptionRefusedError        400, 405, 410, 413; or never acknowledged
    |   +-- ServerError                     500, auth timeout and every other server-side failure
    +-- HistoryError                        history could not be fetched; worth another try
    |   +-- HistoryUnavailableError         not now, and not before a time that it names
    |   +-- HistoryRefusedError             never: the request itself is refused
    +-- SinkError                           a sink could not store; worth another try
    |   +-- SinkRejectedError               these bars can never be stored
    +-- RecordingError                      a recording cannot be written or read
    +-- WebSocketError                      the transport failed
        +-- WSConnectionError               refused, reset, unreachable, TLS
        |   +-- NameResolutionError
        +-- HandshakeError                  the HTTP upgrade was refused
        +-- HandshakeTimeoutError           the server went silent before the session was ready
        +-- SessionClosedError              the WebSocket was closed
        +-- StaleDataError                  connected, but no data came
        +-- ProtocolError                   the peer does not speak the protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AuthenticationError",
    "CallbackContextError",
    "CallbackExitError",
    "ConfigurationError",
    "ConnectionLimitError",
    "DataProviderError",
    "ForkedProcessError",
    "HandshakeError",
    "HandshakeTimeoutError",
    "HistoryError",
    "HistoryRefusedError",
    "HistoryUnavailableError",
    "IllegalTransitionError",
    "InsufficientSubscriptionError",
    "InvalidSymbolError",
    "LifecycleError",
    "NameResolutionError",
    "ProtocolError",
    "RateLimitError",
    "RecordingError",
    "ServerError",
    "SessionClosedError",
    "SinkError",
    "SinkRejectedError",
    "SlowClientError",
    "StaleDataError",
    "StartTimeoutError",
    "StopTimeoutError",
    "StreamFailedError",
    "StreamStoppedError",
    "StreamingError",
    "SubscriptionRefusedError",
    "UnsupportedChannelError",
    "WSConnectionError",
    "WebSocketError",
]


class StreamingError(Exception):
    """Root of all errors raised by this library."""


class ConfigurationError(StreamingError, ValueError):
    """A setting, symbol or callback is not acceptable; the message names it and what is allowed."""


class InvalidSymbolError(ConfigurationError):
    """A symbol does not have the form its market uses."""


class UnsupportedChannelError(ConfigurationError):
    """The market, or the installed SDK, does not offer the channel."""


class LifecycleError(StreamingError):
    """The call is not legal in the manager's current state."""


class CallbackContextError(LifecycleError):
    """``start()``, ``restart()`` or a blocking wait was called from a callback."""


class ForkedProcessError(LifecycleError):
    """Used in a child process that was forked: threads and connection stay with the parent."""


class IllegalTransitionError(LifecycleError):
    """A state machine was asked for a move that its table does not have."""


class StreamStoppedError(LifecycleError):
    """The manager was stopped while somebody waited for it to connect."""


class StreamFailedError(LifecycleError):
    """The manager failed for good; ``__cause__`` is the first cause."""


class StartTimeoutError(StreamingError, TimeoutError):
    """No connection within the timeout of ``start()``; the last failure, if any, is chained."""


class StopTimeoutError(StreamingError, TimeoutError):
    """A thread did not end within the timeout of ``stop()``.

    Attributes:
        callback: Name of the user callback that is still running, or ``None``.
        threads: Names of the threads that are still alive.
    """

    def __init__(self, message: str, *, callback: str | None, threads: tuple[str, ...]) -> None:
        """Keep the stuck callback's name and the threads beside the message."""
        super().__init__(message)
        self.callback = callback
        self.threads = threads


class CallbackExitError(StreamingError):
    """A callback raised what must not be survived, such as ``SystemExit`` or ``MemoryError``."""


class DataProviderError(StreamingError):
    """The provider refused a request, by its own protocol.

    Attributes:
        code: The provider's numeric code, or ``None``.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        """Keep the provider's code beside the message."""
        super().__init__(message)
        self.code = code


class AuthenticationError(DataProviderError):
    """The provider does not accept the keys."""


class InsufficientSubscriptionError(DataProviderError):
    """The account's plan or token scope does not include the feed."""


class ConnectionLimitError(DataProviderError):
    """Another connection of the same account holds the only slot."""


class RateLimitError(DataProviderError):
    """The provider asks to slow down."""


class SlowClientError(DataProviderError):
    """The provider dropped the connection because it was not read fast enough."""


class SubscriptionRefusedError(DataProviderError):
    """A subscription was refused or never acknowledged."""


class ServerError(DataProviderError):
    """The provider reports a failure of its own."""


class HistoryError(StreamingError):
    """History could not be fetched this time; another try may do."""


class HistoryUnavailableError(HistoryError):
    """What was asked for is not to be had before a time.

    Attributes:
        available_ns: That time, nanoseconds since the epoch.
    """

    def __init__(self, message: str, *, available_ns: int) -> None:
        """Keep the time."""
        super().__init__(message)
        self.available_ns = available_ns


class HistoryRefusedError(HistoryError):
    """The request is refused for good: keys, plan, or a parameter."""


class SinkError(StreamingError):
    """A sink could not store this time; another try may do."""


class SinkRejectedError(SinkError):
    """Some bars can never be stored, whatever is tried.

    Attributes:
        rejected: Positions, in the batch that was given, of the bars that cannot be stored, and
            why. None of the batch was stored.
    """

    def __init__(self, message: str, *, rejected: Mapping[int, str]) -> None:
        """Keep which ones."""
        super().__init__(message)
        self.rejected = dict(rejected)


class RecordingError(StreamingError):
    """A recording cannot be written, or is not one."""


class WebSocketError(StreamingError):
    """The transport failed."""


class WSConnectionError(WebSocketError):
    """No TCP or TLS connection could be made or kept."""


class NameResolutionError(WSConnectionError):
    """The host name could not be resolved."""


class HandshakeError(WebSocketError):
    """The WebSocket upgrade was answered with another HTTP status.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the HTTP status beside the message."""
        super().__init__(message)
        self.status = status


class HandshakeTimeoutError(WebSocketError):
    """The server went silent before the session was ready."""


class SessionClosedError(WebSocketError):
    """The WebSocket was closed.

    Attributes:
        code: The close code; 1006 when the connection vanished without a close frame.
    """

    def __init__(self, message: str, *, code: int) -> None:
        """Keep the close code beside the message."""
        super().__init__(message)
        self.code = code


class StaleDataError(WebSocketError):
    """The session looked alive, but no data came while the market was open."""


class ProtocolError(WebSocketError):
    """The peer sent something that is not the protocol."""
