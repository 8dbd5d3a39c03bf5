"""Alpaca's streams as a provider: dial, run the SDK for one session, say why it ended."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import StreamingError
from realtime_stream.providers.alpaca.endpoints import ENDPOINTS, endpoint_url
from realtime_stream.providers.alpaca.facts import SessionFacts
from realtime_stream.providers.alpaca.fallback import FallbackSession
from realtime_stream.providers.alpaca.sdk import new_stream, run_stream
from realtime_stream.providers.alpaca.tap import TapProtocol, TapSession
from realtime_stream.providers.dial import RESOLVER, dial
from realtime_stream.providers.loop_signal import LoopSignal
from realtime_stream.recording.tap import TappedListener
from realtime_stream.resilience.failures import SessionEnd

if TYPE_CHECKING:
    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials, StreamConfig
    from realtime_stream.market.channels import Subscription
    from realtime_stream.ports import SessionListener
    from realtime_stream.recording.tap import SessionTap

__all__ = ["AlpacaAdapter"]

_LOGGER: Final = logging.getLogger("realtime_stream")
_SOCKETS: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()  # every session's

_MAX_QUEUE: Final = 1024  # frames the WebSocket may hold; the SDK's own figure
_CLOSE_TIMEOUT: Final = 0.25  # seconds per step of closing; the SDK's library allows several
# Never enabled: the WebSocket library would write frames, and so the keys, at DEBUG.
_QUIET: Final = logging.Logger("realtime_stream.websocket", logging.CRITICAL + 1)


class AlpacaAdapter:
    """A :class:`~realtime_stream.ports.MarketDataProvider` over the official SDK.

    Stocks (every feed, the test stream too), crypto, options and news differ by one row of a
    table. Each session uses a fresh SDK object on the caller's thread.

    Thread safety: :meth:`run_session` is called by one thread; the rest by any.
    """

    def __init__(
        self,
        config: StreamConfig,
        owner: str,
        data_clock: Clock,
        tap: SessionTap | None = None,
    ) -> None:
        """Nothing connects yet.

        Args:
            config: Endpoint, timeouts and limits.
            owner: The manager's name, for thread names.
            data_clock: Stamps what is received.
            tap: Gets what is received as it came, for a recording.
        """
        self._tap = tap
        self._config = config
        self._owner = owner
        self._data_clock = data_clock
        self._endpoint = ENDPOINTS[config.market]
        self._url = config.url or endpoint_url(config.market, config.feed)
        self._lock = threading.Lock()  # guards the four attributes that follow
        self._wanted: frozenset[Subscription] = frozenset()
        self._disconnected = False
        self._interrupt = LoopSignal()
        self._changed = LoopSignal()
        self._hook_refused = False  # touched by run_session alone

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        with self._lock:
            if wanted == self._wanted:
                return
            self._wanted = wanted
            changed = self._changed
        changed.set()

    def end_session(self) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        with self._lock:
            interrupt = self._interrupt
        interrupt.set()

    def disconnect(self) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        with self._lock:
            self._disconnected = True
            interrupt = self._interrupt
        interrupt.set()

    def lingering_threads(self) -> tuple[str, ...]:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        return RESOLVER.lingering(self._owner)

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        tap = self._tap
        if tap is None:
            return self._run_session(credentials, listener)
        tap.session_begun(self._wanted, self._data_clock.utc_now_ns())
        tapped = TappedListener(listener, tap, self._data_clock)
        try:
            end = self._run_session(credentials, tapped)
        except StreamingError as exc:
            tap.session_ended(SessionEnd(error=exc), self._data_clock.utc_now_ns())
            raise
        tap.session_ended(end, self._data_clock.utc_now_ns())
        return end

    def _run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        interrupt, changed = LoopSignal(), LoopSignal()
        with self._lock:
            if self._disconnected or not self._wanted:
                return SessionEnd(requested=True)
            self._interrupt, self._changed = interrupt, changed
        # While dialling; later the session looks itself.
        changed.arm_direct(lambda: None if self._wanted else interrupt.set())
        secrets = (credentials.secret, credentials.key)
        facts = SessionFacts(secrets=secrets)
        try:
            if not self._hook_refused:
                self._tapped(credentials, listener, facts)
            if self._hook_refused:
                facts = SessionFacts(secrets=secrets)
                self._untapped(credentials, listener, facts)
        except OSError as exc:
            facts.note(exc)
        facts.requested = facts.requested or interrupt.is_set()
        return facts.session_end(self._data_clock.utc_now_ns())

    def _tapped(
        self, credentials: Credentials, listener: SessionListener, facts: SessionFacts
    ) -> None:
        """One session with the frame tap; notes when the SDK refuses it."""
        sock = self._dial()
        if sock is None:
            return
        config = self._config
        session = TapSession(
            endpoint=self._endpoint,
            wanted=lambda: self._wanted,
            listener=listener,
            interrupt=self._interrupt,
            changed=self._changed,
            cut=functools.partial(_shut_down, sock),
            facts=facts,
            data_clock=self._data_clock,
            tap=self._tap,
            handshake_timeout=config.handshake_timeout,
            acknowledge_timeout=config.acknowledge_timeout,
        )
        params = self._websocket_params(sock)
        params["create_protocol"] = functools.partial(TapProtocol, session=session)
        with contextlib.closing(sock):
            stream = new_stream(self._endpoint, self._url, credentials, params, facts.note)
            # The SDK spins when nothing is subscribed. What this primes is never sent: the tap
            # swallows the SDK's own subscribe message and sends the wanted one.
            getattr(stream, self._endpoint.primer)(_never_called, "A")
            run_stream(stream)
        if isinstance(facts.error, TypeError) and not session.hooked:
            self._hook_refused = True
            _LOGGER.warning("realtime_sdk_hook_refused", extra={"manager": self._owner})

    def _untapped(
        self, credentials: Credentials, listener: SessionListener, facts: SessionFacts
    ) -> None:
        """One session without the tap."""
        sock = self._dial()
        if sock is None:
            return
        session = FallbackSession(
            endpoint=self._endpoint,
            wanted=self._wanted,
            listener=listener,
            facts=facts,
            data_clock=self._data_clock,
            tap=self._tap,
        )

        def change() -> None:
            facts.requested = True
            _shut_down(sock)

        with contextlib.closing(sock):
            stream = new_stream(
                self._endpoint,
                self._url,
                credentials,
                self._websocket_params(sock),
                session.on_close,
            )
            session.register(stream)
            self._interrupt.arm_direct(functools.partial(_shut_down, sock))
            self._changed.arm_direct(change)
            try:
                run_stream(stream)
            finally:
                self._interrupt.disarm()
                self._changed.disarm()

    def _dial(self) -> socket.socket | None:
        return dial(
            self._url,
            timeout=self._config.connect_timeout,
            interrupt=self._interrupt,
            resolver=RESOLVER,
            owner=self._owner,
            opened=_SOCKETS.add,
        )

    def _websocket_params(self, sock: socket.socket) -> dict[str, object]:
        """The SDK's defaults, which these replace, with bounds on every wait."""
        config = self._config
        return {
            "ping_interval": config.ping_interval,
            "ping_timeout": config.ping_timeout,
            "max_queue": _MAX_QUEUE,
            "max_size": config.max_message_size,
            "open_timeout": config.connect_timeout,
            "close_timeout": _CLOSE_TIMEOUT,
            "logger": _QUIET,
            "sock": sock,
        }


def _after_fork() -> None:
    """In a forked child: let go of what is the parent's.

    A copy of a socket that stays open here would keep the connection alive, and its place under
    the account's limit taken, after the parent has closed it.
    """
    for sock in list(_SOCKETS):
        sock.close()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)


async def _never_called(_: object) -> None:
    """Primes the SDK; the tap lets no message through to it."""


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is down already
        sock.shutdown(socket.SHUT_RDWR)
