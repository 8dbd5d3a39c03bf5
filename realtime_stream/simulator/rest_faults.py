"""Faults of history over REST."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from realtime_stream.simulator.fault_rules import names
from realtime_stream.simulator.handshake_faults import HandshakeFaults, check_seconds
from realtime_stream.simulator.rest_fault_state import RestErrorRule, check_body

if TYPE_CHECKING:
    from collections.abc import Collection

    from realtime_stream.simulator.rest_fault_state import BodyFault

__all__ = ["RestFaults"]

_FIRST_ERROR: Final = 400
_MINUTE: Final = 60.0  # seconds


class RestFaults(HandshakeFaults):
    """See :class:`~realtime_stream.simulator.faults.Faults`."""

    def rest_error(
        self,
        status: int,
        times: int | None = 1,
        *,
        retry_after: float | None = None,
        message: str | None = None,
    ) -> None:
        """Answer requests for history with this status.

        Errors that are asked for while others wait come after them.

        Args:
            status: HTTP status, for example 429, 500 or 504.
            times: How often, over all clients; ``None`` is each time.
            retry_after: Seconds for a Retry-After header.
            message: Text of the answer; by default what the status means.

        Raises:
            ValueError: It is no HTTP status of an error.
        """
        wanted = HTTPStatus(status)
        if wanted < _FIRST_ERROR:
            msg = f"{status} is not the status of an error"
            raise ValueError(msg)
        self.rest.add_error(RestErrorRule(times, wanted, retry_after, message))

    def rest_delay(self, seconds: float, *, outdated: bool = False) -> None:
        """Answer requests for history so many seconds later; 0 ends that, and all are answered.

        The streams go on meanwhile.

        Args:
            seconds: How much later.
            outdated: An answer says what was known when it was asked for, as one does that is long
                on its way; by default what is known when it is sent.

        Raises:
            ValueError: The figure is negative.
        """
        check_seconds(seconds)
        self.rest.set_delay(seconds, outdated=outdated)
        self._on_change()

    def rest_silent(self, times: int | None = None) -> None:
        """Take requests for history and never answer them; the connection stays open.

        Args:
            times: How often; 0 ends it for later requests.
        """
        self.rest.set_silent(times)

    def rest_garbage(self, kind: BodyFault = "text", times: int | None = None) -> None:
        """Answer with status 200 and a body that is not JSON.

        Args:
            kind: "text": a page for people; "cut": the first half of what would be right.
            times: How often; 0 ends it.

        Raises:
            ValueError: There is no such kind.
        """
        check_body(kind)
        self.rest.set_garbage(kind, times)

    def rest_drop(self, times: int | None = None) -> None:
        """End the connection in the middle of an answer's body.

        Args:
            times: How often; 0 ends it.
        """
        self.rest.set_drop(times)

    def rest_recent_forbidden(
        self, minutes: float = 15, *, feeds: Collection[str] | None = None
    ) -> None:
        """Refuse requests for the newest history of stocks with 403, as Alpaca's free plan does.

        A request that names no end gets what is old enough.

        Args:
            minutes: How old history must be, in data time; 0 ends that.
            feeds: Only requests that name one of these feeds; ``None`` means any or none.

        Raises:
            ValueError: The figure is negative, or one text stands where a collection should.
        """
        check_seconds(minutes)
        self.rest.set_recent(minutes * _MINUTE, names("feeds", feeds))

    def rest_rate_limit(self, per_minute: int | None, *, minute: float = _MINUTE) -> None:
        """Answer with 429 beyond so many requests a minute, over all clients.

        A minute begins with the first request after the one before is over.

        Args:
            per_minute: How many; ``None`` ends the limit. Without one, answers show that of
                Alpaca's larger plan and nothing is refused.
            minute: Seconds that a minute has: fewer for a test that cannot wait so long.

        Raises:
            ValueError: A figure is negative.
        """
        check_seconds(minute)
        if per_minute is not None and per_minute < 0:
            msg = f"per_minute must be zero or more, and not {per_minute!r}"
            raise ValueError(msg)
        self.rest.set_limit(per_minute, minute)

    def history_lag(self, seconds: float) -> None:
        """Let history know trades and bars only so long after their time, or end; 0 ends that.

        Of late trades and updated bars that are played, so long after they were published.

        Args:
            seconds: Of data time: that of the newest message published, or of the playback.

        Raises:
            ValueError: The figure is negative.
        """
        check_seconds(seconds)
        self.rest.set_lag(seconds)
