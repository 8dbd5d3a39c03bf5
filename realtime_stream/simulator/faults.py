"""Faults on demand: what the simulator is told to do wrong, while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["Faults", "HttpRefusal", "Stage"]

Stage = Literal["http", "greeting", "auth", "subscription"]

_STAGES: Final = get_args(Stage)


@dataclass(slots=True)
class _Rule:
    """One refusal; ``times`` counts down, ``None`` is for ever."""

    times: int | None

    def use(self) -> bool:
        """Whether it still applies; uses it up once."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(slots=True)
class HttpRefusal(_Rule):
    """An HTTP status instead of the upgrade, with the seconds of its Retry-After header."""

    status: HTTPStatus
    retry_after: float | None


@dataclass(slots=True)
class _AuthRefusal(_Rule):
    code: int
    message: str | None


@dataclass(slots=True)
class _SubscriptionRefusal(_Rule):
    code: int
    channels: frozenset[str] | None
    symbols: frozenset[str] | None

    def matches(self, wanted: Iterable[tuple[str, str]]) -> bool:
        return any(
            (self.channels is None or channel in self.channels)
            and (self.symbols is None or symbol in self.symbols)
            for channel, symbol in wanted
        )


def _ignore(_on: bool) -> None:
    """Nothing runs yet that could be told."""


class Faults:
    """What to do wrong from now on; what has happened already is not undone.

    Faults are independent of each other. ``times`` limits how often one applies; without it, it
    applies until :meth:`clear`.

    Thread safety: every method may be called from any thread but the simulator's own.
    """

    def __init__(
        self,
        *,
        on_refuse_connections: Callable[[bool], None] = _ignore,
        on_stop_reading: Callable[[bool], None] = _ignore,
    ) -> None:
        """Made by the simulator, which passes what it does about its sockets."""
        self._on_refuse_connections = on_refuse_connections
        self._on_stop_reading = on_stop_reading
        self._lock = threading.Lock()  # guards everything below
        self._reset()

    def _reset(self) -> None:
        self._http: HttpRefusal | None = None
        self._auth: _AuthRefusal | None = None
        self._subscriptions: list[_SubscriptionRefusal] = []
        self._silent: Stage | None = None
        self._muted = False
        self._refusing = False
        self._garbage: bytes | None = None
        self._unacknowledged: frozenset[str] = frozenset()

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
            self._auth = _AuthRefusal(times, code, message)

    def silent_at(self, stage: Stage | None) -> None:
        """Never answer at this step; ``None`` ends that.

        Args:
            stage: "http": the connection is accepted and the upgrade is not answered;
                "greeting": no "connected"; "auth", "subscription": such requests are ignored.

        Raises:
            ValueError: There is no such step.
        """
        if stage is not None and stage not in _STAGES:
            msg = f"unknown stage {stage!r}; allowed are {', '.join(_STAGES)}"
            raise ValueError(msg)
        with self._lock:
            self._silent = stage

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
        """
        rule = _SubscriptionRefusal(
            times,
            code,
            None if channels is None else frozenset(channels),
            None if symbols is None else frozenset(symbols),
        )
        with self._lock:
            self._subscriptions.append(rule)

    def mute(self, on: bool = True) -> None:
        """Write no data; sessions stay open, requests and pings are answered."""
        with self._lock:
            self._muted = on

    def refuse_connections(self, on: bool = True) -> None:
        """Close the listening socket, so that new connections are refused; open ones live on.

        Has happened when it returns. Turned off, the simulator listens on the same port again.
        """
        with self._lock:
            self._refusing = on
        self._on_refuse_connections(on)

    def garbage_greeting(self, data: bytes) -> None:
        """Send these bytes as the first frame, instead of "connected"."""
        with self._lock:
            self._garbage = data

    def stop_reading(self, on: bool = True) -> None:
        """Be a dead peer: neither read from nor write to the connections that are open now.

        Connections that come later are served. Turned off, the connections are read from again.
        """
        self._on_stop_reading(on)

    def partial_acknowledgement(self, symbols: Iterable[str]) -> None:
        """Leave these symbols out: neither subscribed nor acknowledged, without an error."""
        with self._lock:
            self._unacknowledged = frozenset(symbols)

    def clear(self) -> None:
        """No faults any more."""
        with self._lock:
            self._reset()
        self._on_refuse_connections(False)
        self._on_stop_reading(False)

    def is_silent_at(self, stage: Stage) -> bool:
        """Whether this step is not answered."""
        with self._lock:
            return self._silent == stage

    @property
    def muted(self) -> bool:
        """Whether no data is written."""
        with self._lock:
            return self._muted

    @property
    def refusing_connections(self) -> bool:
        """Whether new connections are refused."""
        with self._lock:
            return self._refusing

    @property
    def greeting(self) -> bytes | None:
        """What to send instead of "connected"."""
        with self._lock:
            return self._garbage

    @property
    def unacknowledged(self) -> frozenset[str]:
        """Symbols to leave out."""
        with self._lock:
            return self._unacknowledged

    def next_http_refusal(self) -> HttpRefusal | None:
        """How to refuse this upgrade, if at all; uses the fault up once."""
        with self._lock:
            return self._http if self._http is not None and self._http.use() else None

    def next_auth_refusal(self) -> tuple[int, str | None] | None:
        """Code and text to refuse this authentication with; uses the fault up once."""
        with self._lock:
            if self._auth is not None and self._auth.use():
                return self._auth.code, self._auth.message
            return None

    def next_subscription_refusal(self, wanted: Collection[tuple[str, str]]) -> int | None:
        """Code to refuse this request with; uses the fault up once."""
        with self._lock:
            for rule in self._subscriptions:
                if rule.matches(wanted) and rule.use():
                    return rule.code
            return None
