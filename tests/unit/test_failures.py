from __future__ import annotations

import socket
import ssl

import pytest

from realtime_stream import errors
from realtime_stream.resilience.failures import (
    Failure,
    FailureKind,
    SessionEnd,
    classify,
    server_error,
)

K = FailureKind
FATAL, TRANSIENT = False, True


def facts(failure: Failure) -> tuple[FailureKind, bool, float, int | None, type[Exception]]:
    return (
        failure.kind,
        failure.retryable,
        failure.min_wait,
        failure.code,
        type(failure.error),
    )


@pytest.mark.parametrize(
    ("code", "message", "kind", "retryable", "min_wait", "error"),
    [
        (400, "invalid syntax", K.SUBSCRIPTION_REFUSED, TRANSIENT, 0, "SubscriptionRefusedError"),
        (401, "not authenticated", K.SERVER_ERROR, TRANSIENT, 0, "ServerError"),
        (402, "auth failed", K.AUTHENTICATION, FATAL, 0, "AuthenticationError"),
        (403, "already authenticated", K.SERVER_ERROR, TRANSIENT, 0, "ServerError"),
        (404, "auth timeout", K.SERVER_ERROR, TRANSIENT, 0, "ServerError"),
        (
            405, "symbol limit exceeded",
            K.SUBSCRIPTION_REFUSED, TRANSIENT, 0, "SubscriptionRefusedError",
        ),
        (
            406, "connection limit exceeded",
            K.CONNECTION_LIMIT, TRANSIENT, 5, "ConnectionLimitError",
        ),
        (407, "slow client", K.SLOW_CLIENT, TRANSIENT, 0, "SlowClientError"),
        (
            408, "v2 not enabled",
            K.INSUFFICIENT_SUBSCRIPTION, FATAL, 0, "InsufficientSubscriptionError",
        ),
        (
            409, "insufficient subscription",
            K.INSUFFICIENT_SUBSCRIPTION, FATAL, 0, "InsufficientSubscriptionError",
        ),
        (
            410, "invalid subscribe action for this feed",
            K.SUBSCRIPTION_REFUSED, TRANSIENT, 0, "SubscriptionRefusedError",
        ),
        (
            411, "insufficient scope",
            K.INSUFFICIENT_SUBSCRIPTION, FATAL, 0, "InsufficientSubscriptionError",
        ),
        (
            412, "option messages are only available in MsgPack format",
            K.SUBSCRIPTION_REFUSED, FATAL, 0, "SubscriptionRefusedError",
        ),
        (
            413, "star subscription is not allowed for option quotes",
            K.SUBSCRIPTION_REFUSED, TRANSIENT, 0, "SubscriptionRefusedError",
        ),
        (500, "internal error", K.SERVER_ERROR, TRANSIENT, 0, "ServerError"),
        (999, "something new", K.SERVER_ERROR, TRANSIENT, 0, "ServerError"),
    ],
)  # fmt: skip
def test_every_code_of_the_server_has_its_verdict(
    code: int, message: str, kind: FailureKind, retryable: bool, min_wait: float, error: str
) -> None:
    failure = classify(SessionEnd(server_code=code, server_message=message))
    expected = getattr(errors, error)
    assert facts(failure) == (kind, retryable, min_wait, code, expected)
    assert failure.text == str(failure.error) == f"the server reports error {code}: {message}"
    assert isinstance(failure.error, errors.DataProviderError)
    assert failure.error.code == code
    assert type(server_error(code, message)) is expected


@pytest.mark.parametrize(
    ("consecutive", "wait"),
    [(0, 5), (1, 5), (2, 10), (3, 15), (11, 55), (12, 60), (13, 60), (10**6, 60)],
)
def test_the_wait_after_a_connection_limit_grows_to_a_minute(consecutive: int, wait: float) -> None:
    end = SessionEnd(server_code=406, server_message="connection limit exceeded")
    assert classify(end, consecutive=consecutive).min_wait == wait


@pytest.mark.parametrize("consecutive", [1, 7])
@pytest.mark.parametrize("code", [400, 402, 404, 405, 407, 409, 500])
def test_no_other_code_asks_for_a_wait(code: int, consecutive: int) -> None:
    assert classify(SessionEnd(server_code=code), consecutive=consecutive).min_wait == 0


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "error"),
    [
        (400, K.HANDSHAKE, TRANSIENT, errors.HandshakeError),
        (401, K.AUTHENTICATION, FATAL, errors.AuthenticationError),
        (403, K.AUTHENTICATION, FATAL, errors.AuthenticationError),
        (404, K.HANDSHAKE, TRANSIENT, errors.HandshakeError),
        (500, K.HANDSHAKE, TRANSIENT, errors.HandshakeError),
        (502, K.HANDSHAKE, TRANSIENT, errors.HandshakeError),
        (503, K.HANDSHAKE, TRANSIENT, errors.HandshakeError),
    ],
)
def test_a_refused_upgrade_is_judged_by_its_status(
    status: int, kind: FailureKind, retryable: bool, error: type[Exception]
) -> None:
    failure = classify(SessionEnd(http_status=status))
    assert facts(failure) == (kind, retryable, 0, status, error)
    assert f"HTTP {status}" in failure.text


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        (None, 10.0),
        (0.0, 0.0),
        (2.5, 2.5),
        (120.0, 120.0),
        (3600.0, 3600.0),
        (-5.0, 0.0),
        (1e9, 3600.0),
        (float("inf"), 3600.0),
    ],
)
def test_too_many_requests_waits_as_long_as_the_server_asks_up_to_an_hour(
    retry_after: float | None, wait: float
) -> None:
    failure = classify(SessionEnd(http_status=429, retry_after=retry_after))
    assert facts(failure) == (K.RATE_LIMIT, TRANSIENT, wait, 429, errors.RateLimitError)


@pytest.mark.parametrize(
    ("code", "shown"), [(1000, 1000), (1001, 1001), (1006, 1006), (1008, 1008), (1011, 1011)]
)
def test_every_close_of_the_connection_is_worth_another_try(code: int, shown: int) -> None:
    failure = classify(SessionEnd(close_code=code, close_reason="going away"))
    assert facts(failure) == (K.CLOSED, TRANSIENT, 0, shown, errors.SessionClosedError)
    assert failure.text == f"the connection was closed with code {code}: going away"


def test_a_connection_that_vanished_counts_as_1006() -> None:
    failure = classify(SessionEnd())
    assert facts(failure) == (K.CLOSED, TRANSIENT, 0, 1006, errors.SessionClosedError)
    assert failure.text == "the connection was closed with code 1006"


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            K.NAME_RESOLUTION,
            errors.NameResolutionError,
        ),
        (ConnectionRefusedError(111, "refused"), K.CONNECTION, errors.WSConnectionError),
        (ConnectionResetError(104, "reset"), K.CONNECTION, errors.WSConnectionError),
        (BrokenPipeError(32, "broken"), K.CONNECTION, errors.WSConnectionError),
        (OSError(113, "no route"), K.CONNECTION, errors.WSConnectionError),
        (OSError(), K.CONNECTION, errors.WSConnectionError),
        (ssl.SSLCertVerificationError(1, "self-signed"), K.TLS, errors.WSConnectionError),
        (ssl.SSLError(1, "wrong version"), K.TLS, errors.WSConnectionError),
        (TimeoutError(), K.TIMEOUT, errors.HandshakeTimeoutError),
        (TimeoutError(110, "timed out"), K.TIMEOUT, errors.HandshakeTimeoutError),
        (ValueError("garbage"), K.PROTOCOL, errors.ProtocolError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), K.PROTOCOL, errors.ProtocolError),
        (KeyError("T"), K.PROTOCOL, errors.ProtocolError),
    ],
)
def test_what_the_transport_raised_is_told_apart_and_chained(
    error: Exception, kind: FailureKind, expected: type[Exception]
) -> None:
    failure = classify(SessionEnd(error=error))
    assert facts(failure) == (kind, TRANSIENT, 0, None, expected)
    assert failure.error.__cause__ is error
    assert failure.text == str(failure.error)


def test_the_systems_own_words_are_kept_but_the_peers_are_not() -> None:
    refused = classify(SessionEnd(error=ConnectionRefusedError(111, "Connection refused")))
    assert refused.text == "the connection was refused (Connection refused)"
    garbage = classify(SessionEnd(error=ValueError("secret \n bytes")))
    assert garbage.text == "the server does not speak the protocol (ValueError)"


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (errors.HandshakeTimeoutError("silent"), K.TIMEOUT, TRANSIENT),
        (errors.NameResolutionError("unknown"), K.NAME_RESOLUTION, TRANSIENT),
        (errors.WSConnectionError("unreachable"), K.CONNECTION, TRANSIENT),
        (errors.ConfigurationError("wrong"), K.CONFIGURATION, FATAL),
        (errors.UnsupportedChannelError("no lulds"), K.CONFIGURATION, FATAL),
        (errors.AuthenticationError("no keys today"), K.AUTHENTICATION, TRANSIENT),
        (errors.ProtocolError("nonsense"), K.PROTOCOL, TRANSIENT),
        (errors.StreamingError("something"), K.PROTOCOL, TRANSIENT),
    ],
)
def test_an_error_that_is_already_typed_is_kept_as_it_is(
    error: errors.StreamingError, kind: FailureKind, retryable: bool
) -> None:
    failure = classify(SessionEnd(error=error))
    assert facts(failure) == (kind, retryable, 0, None, type(error))
    assert failure.error is error
    assert failure.error.__cause__ is None


def test_a_session_in_which_everything_was_refused_is_not_repeated() -> None:
    failure = classify(SessionEnd(all_refused=True, close_code=1000))
    assert facts(failure) == (
        K.SUBSCRIPTION_REFUSED, FATAL, 0, None, errors.SubscriptionRefusedError,
    )  # fmt: skip


def test_subscriptions_never_acknowledged_are_worth_another_try() -> None:
    failure = classify(SessionEnd(unacknowledged=3))
    assert facts(failure) == (
        K.NOT_ACKNOWLEDGED, TRANSIENT, 0, None, errors.SubscriptionRefusedError,
    )  # fmt: skip
    assert "3 subscription" in failure.text


def test_the_servers_own_words_count_most() -> None:
    reset = ConnectionResetError(104, "reset")
    everything = SessionEnd(
        server_code=402,
        server_message="auth failed",
        http_status=429,
        all_refused=True,
        unacknowledged=2,
        close_code=1008,
        error=reset,
    )
    failure = classify(everything)
    assert failure.kind is K.AUTHENTICATION
    assert failure.error.__cause__ is reset
    assert classify(SessionEnd(http_status=429, close_code=1008)).kind is K.RATE_LIMIT
    assert classify(SessionEnd(error=reset, close_code=1008)).kind is K.CONNECTION


@pytest.mark.parametrize(
    "hostile",
    [
        "line one\nline two",
        "a\r\nERROR forged record",
        "\x1b[2J\x1b[31mred",
        "nul\x00byte",
        "right\u202eto left",
        "\ud800 lone surrogate",
        "'quoted\" and \\ slashed",
        "x" * 100_000,
    ],
)
def test_the_servers_words_are_harmless_in_a_log_line(hostile: str) -> None:
    for failure in (
        classify(SessionEnd(server_code=500, server_message=hostile)),
        classify(SessionEnd(close_code=1008, close_reason=hostile)),
    ):
        assert failure.text.isascii()
        assert failure.text.isprintable()
        assert len(failure.text) < 300
        assert str(failure.error) == failure.text
