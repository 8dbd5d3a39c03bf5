"""The checks of a session: the bot's own manager connects once, and says how far it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realtime_stream.cli.check_problems import CheckFailedError, Problem, problem_of
from realtime_stream.cli.check_report import CheckSkippedError, Finding
from realtime_stream.errors import (
    ConnectionLimitError,
    StartTimeoutError,
    StreamFailedError,
    StreamingError,
    SubscriptionRefusedError,
)
from realtime_stream.manager import RealTimeStreamManager

if TYPE_CHECKING:
    from realtime_stream.cli.check_budget import Budget
    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import ErrorEvent

__all__ = ["SessionChecks"]

_CONNECT_STEPS: Final = 2.0  # steps' worth of time to become connected
_DATA_STEPS: Final = 0.5  # steps' worth of time for the first event
_STOP: Final = 1.5  # seconds
_SHOWN: Final = 3  # refusals

_ADVICE: Final = {
    Problem.KEYS_REFUSED: "key and secret do not belong together, are revoked, or are for "
    "another environment",
    Problem.FORBIDDEN: "the server, or a firewall before it, lets nobody in from here",
    Problem.PLAN: "the account's plan does not include this feed; choose another with --feed",
    Problem.SCOPE: "the token was made without the right to market data",
    Problem.AUTH_TIMEOUT: "the server is there, but does not answer as it should",
    Problem.RATE_LIMIT: "too many connections from here: wait before the next",
    Problem.SERVER: "the server is in trouble: try again later",
}


class SessionChecks:
    """One session and what can be said about it; :meth:`authentication` comes first.

    Used by one thread.
    """

    def __init__(self, config: StreamConfig, budget: Budget, *, tapped: bool) -> None:
        """Nothing connects yet.

        Args:
            config: What a bot would use, but for patience.
            budget: How long each step may take.
            tapped: Whether the SDK accepts the frame tap, without which less can be seen.
        """
        self._config = config
        self._budget = budget
        self._tapped = tapped
        self._manager = RealTimeStreamManager(config)
        self._manager.on_error(self._note)
        self._refusals: list[SubscriptionRefusedError] = []
        self._error: StreamingError | None = None
        self._connected = False
        self._waited = 0.0

    def authentication(self) -> Finding[None]:
        """Run the session, and say whether the server accepts the keys.

        Raises:
            CheckFailedError: It does not, or the session did not get beyond this.
            CheckSkippedError: That cannot be seen.
        """
        self._run()
        error = self._error
        if self._connected or isinstance(error, SubscriptionRefusedError):
            return Finding("the server accepts the keys", None)
        if isinstance(error, ConnectionLimitError):
            return Finding("the server does not refuse the keys", None)
        if error is None or (isinstance(error, StartTimeoutError) and not self._tapped):
            msg = "without the frame tap a session shows itself by its first message; none came"
            raise CheckSkippedError(msg)
        problem = problem_of(error)
        advice = _ADVICE.get(problem)
        raise CheckFailedError(problem, f"{error}; {advice}" if advice else str(error))

    def feed(self) -> Finding[None]:
        """Say whether the feed takes one more connection.

        Raises:
            CheckFailedError: Another holds its place.
        """
        if isinstance(self._error, ConnectionLimitError):
            text = (
                "another program holds the one connection that this account may have here "
                f"({self._error}); stop that one, or let it pass the data on"
            )
            raise CheckFailedError(Problem.CONNECTION_TAKEN, text)
        name = "the feed of the URL" if self._config.url else f"feed {self._config.feed}"
        return Finding(f"{name} takes the connection", None)

    def subscription(self) -> Finding[None]:
        """Say whether everything wanted is served.

        Raises:
            CheckFailedError: Something is not.
        """
        status = self._manager.status()
        wanted, refused = len(status.wanted), len(status.refused)
        if self._refusals:
            words = "; ".join(str(refusal) for refusal in self._refusals[:_SHOWN])
            text = f"{wanted - refused} of {wanted} served; {words}"
            raise CheckFailedError(problem_of(self._refusals[0]), text)
        if isinstance(self._error, SubscriptionRefusedError):
            raise CheckFailedError(problem_of(self._error), str(self._error))
        return Finding(f"{wanted} of {wanted} served", None)

    def data(self) -> Finding[None]:
        """Say whether something comes; nothing is no failure.

        Raises:
            CheckFailedError: What comes cannot be understood, or the session ended meanwhile.
        """
        if self._error is not None:
            text = f"the session ended early: {self._error}"
            raise CheckFailedError(problem_of(self._error), text)
        status = self._manager.status()
        if status.rejected:
            text = f"{status.rejected} message(s) came that cannot be understood"
            raise CheckFailedError(Problem.SESSION, text)
        if status.received:
            return Finding("it comes", None)
        text = f"nothing came within {self._waited:.1f} s: no error in a quiet or closed market"
        return Finding(text, None)

    def _note(self, event: ErrorEvent) -> None:
        if event.source == "subscription" and isinstance(event.error, SubscriptionRefusedError):
            self._refusals.append(event.error)

    def _run(self) -> None:
        """Connect as a bot does, but once; wait for the first event; stop."""
        manager = self._manager
        try:
            try:
                manager.start(self._budget.step(_CONNECT_STEPS))
                self._connected = True
                self._waited = self._budget.step(_DATA_STEPS)
                events = manager.events(self._waited)
                if not manager.status().received:  # else it came before somebody listened
                    next(events, None)
            finally:
                manager.stop(_STOP)
        except StreamingError as exc:
            self._error = _innermost(exc)


def _innermost(error: StreamingError) -> StreamingError:
    """What went wrong, where the error only says that the manager has failed or waited."""
    cause = error.__cause__
    if isinstance(error, (StreamFailedError, StartTimeoutError)) and isinstance(
        cause, StreamingError
    ):
        return cause
    return error
