from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidMessage
from websockets.frames import Close
from websockets.legacy.exceptions import InvalidStatusCode

from realtime_stream.errors import ProtocolError
from realtime_stream.providers.alpaca.facts import SessionFacts, code_of_text
from realtime_stream.resilience.failures import SessionEnd

NOW_NS = int(datetime(2024, 3, 4, 14, 30, tzinfo=UTC).timestamp()) * 10**9


def facts(error: BaseException | None, **known: Any) -> SessionEnd:
    return SessionFacts(error=error, **known).session_end(NOW_NS)


def refused(status: int, *retry_after: str) -> InvalidStatusCode:
    headers = Headers()
    for value in retry_after:
        headers["Retry-After"] = value
    return InvalidStatusCode(status, headers)


def chained(error: Exception, cause: Exception | None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("auth failed", 402),
        ("connection limit exceeded", 406),
        ("insufficient subscription", 409),
        ("something else", None),
        ("", None),
    ],
)
def test_a_code_is_found_again_by_its_text(text: str, code: int | None) -> None:
    assert code_of_text(text) == code


def test_the_first_exception_is_kept() -> None:
    kept = SessionFacts()
    first = OSError("first")
    kept.note(None)
    kept.note(first)
    kept.note(OSError("second"))
    assert kept.error is first


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ConnectionClosedOK(Close(1000, "bye"), None), 1000, "bye"),
        (
            ConnectionClosedError(Close(1008, "policy"), Close(1008, ""), rcvd_then_sent=True),
            1008,
            "policy",
        ),
        (ConnectionClosedError(None, None), 1006, ""),
        (
            ConnectionClosedError(None, Close(1011, "keepalive ping timeout")),
            1006,
            "keepalive ping timeout",
        ),
    ],
)
def test_a_closed_connection_gives_its_code_and_reason(
    error: Exception, code: int, reason: str
) -> None:
    assert facts(error) == SessionEnd(close_code=code, close_reason=reason)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 30 ", 30.0),
        ("9" * 400, float("inf")),
        ("Mon, 04 Mar 2024 14:31:30 GMT", 90.0),
        ("Mon, 04 Mar 2024 14:31:30 -0000", 90.0),
        ("Mon, 04 Mar 2024 14:29:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u00b2", None),
        ("Mon, 04 Mar 99999999999999999999 14:31:30 GMT", None),
        ("Mon, 99 Mar 2024 14:31:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms(header: str, seconds: float | None) -> None:
    end = facts(refused(429, header) if header else refused(429))
    assert end == SessionEnd(http_status=429, retry_after=seconds)


def test_a_header_that_comes_twice_is_no_reason_to_fail() -> None:
    end = facts(refused(429, "30", "60"))
    assert end.http_status == 429
    assert end.retry_after in {None, 30.0, 60.0}


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502])
def test_a_refused_upgrade_gives_its_status(status: int) -> None:
    assert facts(refused(status)) == SessionEnd(http_status=status)


def test_a_broken_upgrade_is_taken_for_what_broke_it() -> None:
    reset = ConnectionResetError(104, "reset")
    assert facts(chained(InvalidMessage("bad"), reset)).error is reset
    ended = facts(chained(InvalidMessage("bad"), EOFError())).error
    assert isinstance(ended, ConnectionResetError)
    garbage = chained(InvalidMessage("bad"), ValueError("no HTTP"))
    assert facts(garbage).error is garbage
    bare = InvalidMessage("bad")
    assert facts(bare).error is bare


@pytest.mark.parametrize("error", [OSError("x"), ProtocolError("y"), ValueError("z")])
def test_other_exceptions_are_passed_on(error: Exception) -> None:
    assert facts(error) == SessionEnd(error=error)


def test_the_servers_own_error_counts_more_than_the_exception_it_caused() -> None:
    end = facts(ValueError("auth failed"), server_error=(402, "auth failed"))
    assert end == SessionEnd(server_code=402, server_message="auth failed")
    closed = facts(ConnectionClosedError(Close(1008, ""), None), server_error=(407, "slow client"))
    assert (closed.server_code, closed.close_code, closed.error) == (407, 1008, None)


def test_the_other_facts_are_passed_on() -> None:
    assert facts(None) == SessionEnd()
    assert facts(None, requested=True) == SessionEnd(requested=True)
    assert facts(None, unacknowledged=3) == SessionEnd(unacknowledged=3)
    assert facts(None, all_refused=True) == SessionEnd(all_refused=True)
