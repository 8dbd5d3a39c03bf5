"""What a recording holds, record by record, and how it stands for the provider's own words.

Times are nanoseconds since the epoch, on the data clock of the session that was recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec import Struct

from realtime_stream import errors
from realtime_stream.errors import DataProviderError, HandshakeError, SessionClosedError
from realtime_stream.market.channels import Subscription  # msgspec reads it
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Connected,
    Refused,
    ServerReport,
    Settled,
)
from realtime_stream.resilience.failures import SessionEnd, classify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.errors import StreamingError
    from realtime_stream.ports import Control

__all__ = [
    "FORMAT_VERSION",
    "FrameReceived",
    "Header",
    "Lost",
    "Note",
    "Record",
    "ServerReported",
    "SessionBegun",
    "SessionEnded",
    "Step",
    "SubscriptionsRefused",
    "SubscriptionsServed",
    "control_of",
    "ended",
    "frame_received",
    "note_of",
    "session_begun",
    "session_end",
]

FORMAT_VERSION: Final = 1
_TEXT_KEPT: Final = 500  # characters of what a server said

_STEPS: Final[dict[type, Literal["connected", "authenticated", "settled"]]] = {
    Connected: "connected",
    Authenticated: "authenticated",
    Settled: "settled",
}
_OF_STEP: Final[dict[str, Connected | Authenticated | Settled]] = {
    name: kind() for kind, name in _STEPS.items()
}


class Header(Struct, frozen=True, array_like=True, tag=0):
    """The first record of every segment.

    Attributes:
        version: Of the format; a reader refuses what is newer than itself.
        provider: Whose frames these are, such as ``alpaca``: it decides who can decode them.
        market: Market of the recorded endpoint.
        feed: Feed of the market.
        segment: Number of this segment, from 1.
        begun_ns: When the segment was begun.
    """

    version: int
    provider: str
    market: str
    feed: str
    segment: int
    begun_ns: int


class SessionBegun(Struct, frozen=True, array_like=True, tag=1):
    """An attempt to connect began, with these subscriptions wanted."""

    session: int
    at_ns: int
    wanted: tuple[Subscription, ...]


class FrameReceived(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A frame as it came.

    Attributes:
        received_ns: When it was read from the socket.
        data: Its payload.
        is_text: Whether it was a text frame; ``data`` is then UTF-8.
    """

    received_ns: int
    data: bytes
    is_text: bool = False

    @property
    def payload(self) -> bytes | str:
        """What the WebSocket gave."""
        return self.data.decode("utf-8", "replace") if self.is_text else self.data


class Step(Struct, frozen=True, array_like=True, tag=3):
    """A session came a step further."""

    at_ns: int
    step: Literal["connected", "authenticated", "settled"]


class SubscriptionsServed(Struct, frozen=True, array_like=True, tag=4):
    """The complete set of what is served of what was wanted."""

    at_ns: int
    subscriptions: tuple[Subscription, ...]


class SubscriptionsRefused(Struct, frozen=True, array_like=True, tag=5):
    """These were refused for good."""

    at_ns: int
    subscriptions: tuple[Subscription, ...]
    code: int
    text: str


class ServerReported(Struct, frozen=True, array_like=True, tag=6):
    """An error message that belongs to no subscription."""

    at_ns: int
    code: int
    text: str


class SessionEnded(Struct, frozen=True, array_like=True, tag=7):
    """A session ended; the facts of :class:`~realtime_stream.resilience.failures.SessionEnd`.

    Attributes:
        error: Class name and text of the exception that ended it, in the words of this library;
            empty without one.
        error_code: Its code or HTTP status.
    """

    session: int
    at_ns: int
    requested: bool = False
    server_code: int | None = None
    server_message: str = ""
    http_status: int | None = None
    retry_after: float | None = None
    close_code: int | None = None
    close_reason: str = ""
    unacknowledged: int = 0
    all_refused: bool = False
    error: tuple[str, str] = ("", "")
    error_code: int | None = None


class Lost(Struct, frozen=True, array_like=True, tag=8):
    """Here something is missing: the recorder could not keep up, or the disk was full.

    Attributes:
        at_ns: When the first of it was received.
        frames: How many frames are missing.
        size: How many bytes of them.
        notes: How many records about sessions are missing.
    """

    at_ns: int
    frames: int
    size: int
    notes: int


Note: TypeAlias = (
    SessionBegun | Step | SubscriptionsServed | SubscriptionsRefused | ServerReported | SessionEnded
)
Record: TypeAlias = Header | FrameReceived | Lost | Note


def frame_received(data: bytes | str, received_ns: int) -> FrameReceived:
    """The record of a frame."""
    if isinstance(data, str):
        return FrameReceived(received_ns, data.encode("utf-8", "replace"), is_text=True)
    return FrameReceived(received_ns, data)


def session_begun(session: int, wanted: Iterable[Subscription], at_ns: int) -> SessionBegun:
    """The record of a session's beginning."""
    return SessionBegun(session, at_ns, tuple(sorted(wanted)))


def note_of(control: Control, at_ns: int) -> Note | None:
    """The record of what a provider told; ``None`` for malformed messages, which are in frames."""
    if isinstance(control, Connected | Authenticated | Settled):
        return Step(at_ns, _STEPS[type(control)])
    if isinstance(control, Acknowledged):
        return SubscriptionsServed(at_ns, tuple(sorted(control.subscriptions)))
    if isinstance(control, Refused):
        refused = tuple(sorted(control.subscriptions))
        return SubscriptionsRefused(at_ns, refused, control.code, _kept(control.text))
    if isinstance(control, ServerReport):
        return ServerReported(at_ns, control.code, _kept(control.text))
    return None


def control_of(note: Step | SubscriptionsServed | SubscriptionsRefused | ServerReported) -> Control:
    """What a provider told."""
    match note:
        case Step():
            return _OF_STEP[note.step]
        case SubscriptionsServed():
            return Acknowledged(frozenset(note.subscriptions))
        case SubscriptionsRefused():
            return Refused(frozenset(note.subscriptions), note.code, note.text)
        case ServerReported():
            return ServerReport(note.code, note.text)


def ended(session: int, end: SessionEnd, at_ns: int) -> SessionEnded:
    """The record of a session's end.

    Of an exception only class and text of this library's own verdict are kept: what a foreign one
    says may hold anything.
    """
    name, text, code = "", "", None
    if end.error is not None:
        error = classify(SessionEnd(error=end.error)).error
        name, text = type(error).__name__, _kept(str(error))
        code = getattr(error, "status", None) or getattr(error, "code", None)
    return SessionEnded(
        session,
        at_ns,
        requested=end.requested,
        server_code=end.server_code,
        server_message=_kept(end.server_message),
        http_status=end.http_status,
        retry_after=end.retry_after,
        close_code=end.close_code,
        close_reason=_kept(end.close_reason),
        unacknowledged=end.unacknowledged,
        all_refused=end.all_refused,
        error=(name, text),
        error_code=code,
    )


def session_end(record: SessionEnded) -> SessionEnd:
    """The facts of a session's end."""
    return SessionEnd(
        requested=record.requested,
        server_code=record.server_code,
        server_message=record.server_message,
        http_status=record.http_status,
        retry_after=record.retry_after,
        close_code=record.close_code,
        close_reason=record.close_reason,
        unacknowledged=record.unacknowledged,
        all_refused=record.all_refused,
        error=_error(*record.error, record.error_code) if record.error[0] else None,
    )


def _kept(text: str) -> str:
    """As it is, but for its length and what is no text at all."""
    return text[:_TEXT_KEPT].encode("utf-8", "replace").decode()


def _error(name: str, text: str, code: int | None) -> StreamingError:
    kind: type[StreamingError] = errors.StreamingError
    if name in errors.__all__:
        kind = getattr(errors, name)
    if issubclass(kind, DataProviderError):
        return kind(text, code=code)
    if issubclass(kind, SessionClosedError):
        return kind(text, code=code or 0)
    if issubclass(kind, HandshakeError):
        return kind(text, status=code or 0)
    try:
        return kind(text)
    except TypeError:  # one that never ends a session, and wants to know more
        return errors.StreamingError(text)
