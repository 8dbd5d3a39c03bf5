"""Faults on demand: what the simulator does wrong, switched while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Faults", "Stage"]

Stage: TypeAlias = Literal["http", "greeting", "auth", "subscription"]


@dataclass(slots=True)
class _Refusal:
    code: int
    text: str | None = None
    retry_after: float | None = None
    channels: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()
    times: int | None = None

    def matches(self, channels: Collection[str], symbols: Collection[str]) -> bool:
        return (not self.channels or not self.channels.isdisjoint(channels)) and (
            not self.symbols or not self.symbols.isdisjoint(symbols)
        )


@dataclass(slots=True)
class _State:
    http: _Refusal | None = None
    auth: _Refusal | None = None
    subscription: _Refusal | None = None
    silent: Stage | None = None
    muted: bool = False
    deaf: bool = False
    closed: bool = False
    greeting: bytes | None = None
    left_out: frozenset[str] = frozenset()


class Faults:
    """Each fault holds for what happens after the call, until :meth:`clear`.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        """Everything works; ``on_change`` is called, without the lock, after every switch."""
        self._on_change = on_change
        self._lock = threading.Lock()  # guards _state
        self._state = _State()

    def clear(self) -> None:
        """Everything works again."""
        with self._lock:
            self._state = _State()
        self._on_change()

    def refuse_http(
        self, status: int, *, retry_after: float | None = None, times: int | None = None
    ) -> None:
        """Answer the upgrade with this HTTP status, ``times`` times or until cleared."""
        with self._lock:
            self._state.http = _Refusal(status, retry_after=retry_after, times=times)

    def refuse_auth(
        self, code: int, message: str | None = None, *, times: int | None = None
    ) -> None:
        """Answer the authentication with this error."""
        with self._lock:
            self._state.auth = _Refusal(code, message, times=times)

    def refuse_subscription(
        self,
        code: int,
        *,
        channels: Collection[str] = (),
        symbols: Collection[str] = (),
        times: int | None = None,
    ) -> None:
        """Answer subscribes that name one of these (or any) with this error."""
        with self._lock:
            self._state.subscription = _Refusal(
                code, channels=frozenset(channels), symbols=frozenset(symbols), times=times
            )

    def silent_at(self, stage: Stage | None) -> None:
        """Say nothing at this step, and keep the connection open."""
        with self._lock:
            self._state.silent = stage

    def mute(self, on: bool = True) -> None:  # noqa: FBT001, FBT002  # a switch
        """Keep sessions open and answer pings, but send no data."""
        with self._lock:
            self._state.muted = on

    def stop_reading(self, on: bool = True) -> None:  # noqa: FBT001, FBT002  # a switch
        """Neither read from nor write to open connections: a dead TCP peer."""
        with self._lock:
            self._state.deaf = on
        self._on_change()

    def refuse_connections(self, on: bool = True) -> None:  # noqa: FBT001, FBT002  # a switch
        """Close the listening socket (``connection refused``); off opens it on the same port."""
        with self._lock:
            self._state.closed = on
        self._on_change()

    def garbage_greeting(self, data: bytes) -> None:
        """Send these bytes as the first frame."""
        with self._lock:
            self._state.greeting = data

    def partial_acknowledgement(self, symbols: Collection[str]) -> None:
        """Leave these symbols out of subscriptions and acknowledgements."""
        with self._lock:
            self._state.left_out = frozenset(symbols)

    # --- what the server asks ---

    @property
    def muted(self) -> bool:
        """Whether data is held back."""
        return self._state.muted or self._state.deaf

    @property
    def deaf(self) -> bool:
        """Whether open connections are dead."""
        return self._state.deaf

    @property
    def closed(self) -> bool:
        """Whether the listening socket is closed."""
        return self._state.closed

    @property
    def greeting(self) -> bytes | None:
        """What to send instead of the greeting."""
        return self._state.greeting

    @property
    def left_out(self) -> frozenset[str]:
        """Symbols that are never subscribed."""
        return self._state.left_out

    def is_silent(self, stage: Stage) -> bool:
        """Whether to say nothing at this step."""
        return self._state.silent == stage

    def next_http(self) -> tuple[int, float | None] | None:
        """Status and Retry-After of the refusal that is due."""
        refusal = self._due("http")
        return None if refusal is None else (refusal.code, refusal.retry_after)

    def next_auth(self) -> tuple[int, str | None] | None:
        """Code and text of the refusal that is due."""
        refusal = self._due("auth")
        return None if refusal is None else (refusal.code, refusal.text)

    def next_subscription(self, channels: Collection[str], symbols: Collection[str]) -> int | None:
        """Code of the refusal that is due for such a request."""
        refusal = self._due("subscription", channels, symbols)
        return None if refusal is None else refusal.code

    def _due(
        self, name: str, channels: Collection[str] = (), symbols: Collection[str] = ()
    ) -> _Refusal | None:
        with self._lock:
            refusal: _Refusal | None = getattr(self._state, name)
            if refusal is None or not refusal.matches(channels, symbols):
                return None
            if refusal.times is not None:
                refusal.times -= 1
                if refusal.times < 0:
                    return None
            return refusal
