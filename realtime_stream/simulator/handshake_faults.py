"""Faults of the steps from the HTTP upgrade to the acknowledged subscription."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from realtime_stream.simulator.fault_rules import (
    Countdown,
    ErrorRule,
    HttpRefusal,
    SubscriptionRefusal,
    check_error_stage,
    check_stage,
    names,
)
from realtime_stream.simulator.fault_state import FaultState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from realtime_stream.simulator.fault_rules import ErrorStage, Stage

__all__ = ["HandshakeFaults", "check_seconds"]


def check_seconds(seconds: float) -> None:
    """Raises: ``ValueError`` if it is no time to wait."""
    if not 0 <= seconds < float("inf"):
        msg = f"seconds must be zero or more, and not {seconds!r}"
        raise ValueError(msg)


class HandshakeFaults(FaultState):
    """See :class:`~realtime_stream.simulator.faults.Faults`."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """Args: ``on_change`` is told when something that waits may wait no longer."""
        super().__init__()
        self._on_change = on_change

    def refuse_http(
        self, status: int, *, retry_after: float | None = None, times: int | None = None
    ) -> None:
        """Answer the HTTP upgrade with this status.

        Args:
            status: HTTP status, for example 429 or 503.
            retry_after: Seconds for a Retry-After header.
            times: How often.

        Raises:
            ValueError: It is not an HTTP status.
        """
        refusal = HttpRefusal(times, HTTPStatus(status), retry_after)
        with self._lock:
            self._http = refusal

    def refuse_auth(
        self, code: int, message: str | None = None, *, times: int | None = None
    ) -> None:
        """Answer authentication with this error; the connection stays open."""
        with self._lock:
            self._auth = ErrorRule(times, code, message)

    def silent_at(self, stage: Stage | None) -> None:
        """Never answer at this step; ``None`` ends that.

        Args:
            stage: "http": the connection is accepted and the upgrade is not answered;
                "greeting": no "connected"; "auth", "subscription": such requests are ignored.

        Raises:
            ValueError: There is no such step.
        """
        if stage is not None:
            check_stage(stage)
        with self._lock:
            self._silent = stage

    def delay_at(self, stage: Stage, seconds: float) -> None:
        """Answer at this step so many seconds later; 0 ends that.

        What waits is answered once no step is delayed any more. A request takes effect when it is
        answered. Requests of one session are answered in their order, so those behind wait, too.

        Args:
            stage: As for :meth:`silent_at`.
            seconds: From the request, or for "greeting" from the upgrade.

        Raises:
            ValueError: There is no such step, or the figure is negative.
        """
        check_stage(stage)
        check_seconds(seconds)
        with self._lock:
            self._answer_delays.pop(stage, None)
            if seconds > 0:
                self._answer_delays[stage] = seconds
        self._on_change()

    def garbage_greeting(self, data: bytes) -> None:
        """Send these bytes as the first frame, instead of "connected"."""
        with self._lock:
            self._garbage = data

    def error_at(
        self, stage: ErrorStage, code: int, text: str | None = None, times: int | None = 1
    ) -> None:
        """Send an error at this point of a session; the connection stays open.

        Errors for one point that are asked for while others wait come after them.

        Args:
            stage: "greeting": instead of "connected"; "auth": instead of "authenticated", and the
                session is not; "subscription": after the acknowledgement of a subscribe request;
                "data": before the next frame of data.
            code: Error code.
            text: Text; by default Alpaca's for the code.
            times: How often, over all sessions; ``None`` is each time.

        Raises:
            ValueError: There is no such point.
        """
        check_error_stage(stage)
        with self._lock:
            self._errors.setdefault(stage, []).append(ErrorRule(times, code, text))

    def refuse_subscription(
        self,
        code: int,
        *,
        channels: Collection[str] | None = None,
        symbols: Collection[str] | None = None,
        times: int | None = None,
    ) -> None:
        """Answer a subscribe request with this error and leave the subscriptions as they are.

        Args:
            code: Error code.
            channels: Only requests that name one of these; ``None`` means any.
            symbols: Only requests that name one of these, in such a channel; ``None`` means any.
            times: How often.

        Raises:
            ValueError: One text stands where a collection should.
        """
        rule = SubscriptionRefusal(
            times, code, names("channels", channels), names("symbols", symbols)
        )
        with self._lock:
            self._subscriptions.append(rule)

    def partial_acknowledgement(self, symbols: Iterable[str]) -> None:
        """Leave these symbols out: neither subscribed nor acknowledged, without an error.

        Raises:
            ValueError: One text stands where a collection should.
        """
        left_out = names("symbols", symbols)
        with self._lock:
            self._unacknowledged = left_out or frozenset()

    def lose_acknowledgement(self, times: int | None = 1) -> None:
        """Carry a subscribe request out, and do not say so.

        Args:
            times: How often; ``None`` is each time.
        """
        with self._lock:
            self._lost_acknowledgements = Countdown(times)

    def hold_slot(self, seconds: float) -> None:
        """Count a session that has ended as open for so many seconds more; 0 ends that.

        With the default ``connection_limit`` of 1, the next session is refused with 406 meanwhile.

        Raises:
            ValueError: The figure is negative.
        """
        check_seconds(seconds)
        with self._lock:
            self._slot_hold = seconds
