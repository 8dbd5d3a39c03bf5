"""What a provider that is recorded calls, beside its listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from realtime_stream.clock import Clock
    from realtime_stream.market.channels import Subscription
    from realtime_stream.market.models import MarketEvent
    from realtime_stream.ports import Control, SessionListener
    from realtime_stream.resilience.failures import SessionEnd

__all__ = ["SessionTap", "TappedListener"]


class SessionTap(Protocol):
    """Takes what is received, as it is received, on the thread that runs the session.

    No method blocks or raises. Times are nanoseconds since the epoch, on the data clock.
    """

    def session_begun(self, wanted: Collection[Subscription], at_ns: int) -> None:
        """An attempt to connect begins, with these subscriptions wanted."""

    def frame(self, data: bytes | str, received_ns: int) -> None:
        """A frame came, after authentication: never one of the handshake, never one of ours."""

    def control(self, control: Control, at_ns: int) -> None:
        """The listener is told something that is not market data."""

    def session_ended(self, end: SessionEnd, at_ns: int) -> None:
        """The session, or the attempt, is over."""


class TappedListener:
    """A :class:`~realtime_stream.ports.SessionListener` that lets a tap hear what another is told.

    Thread safety: as the listener it passes everything on to.

    Attributes:
        on_frame: The other listener's own: frames come to the tap as bytes, by another way.
    """

    def __init__(self, listener: SessionListener, tap: SessionTap, data_clock: Clock) -> None:
        """Pass everything on to ``listener``."""
        self.on_frame: Callable[[Collection[MarketEvent], int], None] = listener.on_frame
        self._listener = listener
        self._tap = tap
        self._data_clock = data_clock

    def on_control(self, control: Control) -> None:
        """See :class:`~realtime_stream.ports.SessionListener`."""
        self._tap.control(control, self._data_clock.utc_now_ns())
        self._listener.on_control(control)
