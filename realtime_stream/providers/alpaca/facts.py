"""What third-party exceptions say about the end of a session, in neutral terms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.legacy.exceptions import InvalidStatusCode

from realtime_stream.clock import datetime_from_ns
from realtime_stream.providers.alpaca.masking import masked
from realtime_stream.resilience.failures import SessionEnd

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["SessionFacts", "code_of_text"]

_ABNORMAL_CLOSURE: Final = 1006
_CODES: Final[dict[str, int]] = {
    "invalid syntax": 400,
    "not authenticated": 401,
    "auth failed": 402,
    "already authenticated": 403,
    "auth timeout": 404,
    "connection limit exceeded": 406,
    "insufficient subscription": 409,
    "insufficient scope": 411,
    "internal error": 500,
}


def code_of_text(text: str) -> int | None:
    """The code of a server error of which only the text survived (the SDK drops the number)."""
    return _CODES.get(text)


@dataclass(slots=True)
class SessionFacts:
    """Filled while a session runs; the first cause of each kind is kept.

    Attributes:
        requested: We ended it because nothing is wanted or a change needs a new session.
        server_error: Code and text of the server's error message, if one came last.
        unacknowledged: Subscriptions never acknowledged.
        all_refused: Everything wanted was refused.
        error: The exception the SDK or our own tap ended with.
        secrets: The session's keys, which must not be in anything that is told.
    """

    requested: bool = False
    server_error: tuple[int, str] | None = None
    unacknowledged: int = 0
    all_refused: bool = False
    error: BaseException | None = None
    secrets: tuple[SecretStr, ...] = ()

    def masked(self, text: str) -> str:
        """A server's words without the keys, which it may quote."""
        return masked(text, self.secrets)

    def note(self, error: BaseException | None) -> None:
        """Keep the first exception."""
        if self.error is None:
            self.error = error

    def session_end(self, now_ns: int) -> SessionEnd:
        """The facts for the classifier."""
        error = _plain(self.error)
        code, message = self.server_error or (None, "")
        closed = error if isinstance(error, ConnectionClosed) else None
        refused = error if isinstance(error, InvalidStatusCode) else None
        known = closed is not None or refused is not None or code is not None
        return SessionEnd(
            requested=self.requested,
            server_code=code,
            server_message=self.masked(message),
            http_status=None if refused is None else refused.status_code,
            retry_after=None if refused is None else _retry_after(refused, now_ns),
            close_code=None if closed is None else _close_code(closed),
            close_reason="" if closed is None else self.masked(_close_reason(closed)),
            unacknowledged=self.unacknowledged,
            all_refused=self.all_refused,
            error=None if known else error,
        )


def _plain(error: BaseException | None) -> BaseException | None:
    """A broken upgrade hides why the connection broke; the reason is its cause."""
    if isinstance(error, InvalidMessage):
        cause = error.__cause__
        if isinstance(cause, EOFError):
            return ConnectionResetError("the connection was closed during the upgrade")
        if isinstance(cause, OSError):
            return cause
    return error


def _close_code(closed: ConnectionClosed) -> int:
    return _ABNORMAL_CLOSURE if closed.rcvd is None else closed.rcvd.code


def _close_reason(closed: ConnectionClosed) -> str:
    if closed.rcvd is not None:
        return closed.rcvd.reason
    # Nothing came: perhaps our side gave up first, such as on a ping without an answer, or on a
    # frame beyond the limit, for which there is a code (1009) but no text.
    if closed.sent is None:
        return ""
    return closed.sent.reason or f"we closed it with code {closed.sent.code}"


def _retry_after(refused: InvalidStatusCode, now_ns: int) -> float | None:
    text = next(iter(refused.headers.get_all("Retry-After")), "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime_from_ns(now_ns)).total_seconds(), 0.0)
