"""The simulator: a local server that speaks Alpaca's market-data protocol."""

from __future__ import annotations

import itertools
import math
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from realtime_stream.simulator.closing import check_close
from realtime_stream.simulator.endpoints import endpoint_for
from realtime_stream.simulator.fault_player import FaultScriptHandle, FaultScripts
from realtime_stream.simulator.fault_script import Fault, check_script
from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.garbage import check_garbage
from realtime_stream.simulator.history import History
from realtime_stream.simulator.host import Rules
from realtime_stream.simulator.hub import Hub
from realtime_stream.simulator.ledger import Ledger
from realtime_stream.simulator.listener import Listener, authority, bind
from realtime_stream.simulator.loop_thread import LoopThread
from realtime_stream.simulator.observation import Observation, SessionInfo
from realtime_stream.simulator.playback import Pace, PlaybackHandle
from realtime_stream.simulator.wire import prepare

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType

__all__ = ["SIMULATOR_KEY", "SIMULATOR_SECRET", "AlpacaSimulator"]

SIMULATOR_KEY: Final = "SIMULATOR-KEY"
SIMULATOR_SECRET: Final = "simulator-secret"  # noqa: S105  # opens nothing but the simulator

_instances: Final = itertools.count(1)


def _ignore(_change: Literal["started", "finished"]) -> None:
    """Nobody wants to know."""


class AlpacaSimulator:
    """A local server that speaks Alpaca's market-data protocol, with faults on demand.

    It serves every stream path in msgpack and JSON, plain or over TLS, on a daemon thread of its
    own. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Attributes:
        faults: What to do wrong.
        ledger: Every message that was published.
        history: What it answers over REST: the trades and bars that were published.

    Thread safety: every method may be called from any thread. Those of a source given to
    :meth:`play` run on the simulator's thread and must not call back.
    """

    def __init__(
        self,
        *,
        credentials: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        connection_limit: int = 1,
        symbol_limit: int | None = None,
        auth_timeout: float = 10.0,
        refused_feeds: Collection[str] = (),
        terse_acknowledgements: bool = False,
        buffer_limit: int = 1 << 26,
    ) -> None:
        """Set it up; nothing listens before :meth:`start`.

        Args:
            credentials: Secret of each accepted key; by default SIMULATOR_KEY's.
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one, which a later start takes again.
            ssl_context: Serve TLS with this.
            connection_limit: Sessions that may be authenticated at once with one key at one path.
                The next one's authentication is answered 406.
            symbol_limit: How many different symbols trades, quotes and bars of a session may have
                together, ``"*"`` counting as one; ``None`` means any number. Alpaca does not
                document how it counts.
            auth_timeout: Seconds from the upgrade within which a client must authenticate.
            refused_feeds: Names of feeds that are not in the plan: authentication is answered 409.
            terse_acknowledgements: Leave channels without symbols out of acknowledgements, as the
                SIP feed was seen to do.
            buffer_limit: Bytes kept for a client that does not take them; beyond, the client is
                told 407 and dropped.
        """
        if credentials is None:
            credentials = {SIMULATOR_KEY: SIMULATOR_SECRET}
        self._rules = Rules(
            credentials=dict(credentials),
            connection_limit=connection_limit,
            symbol_limit=symbol_limit,
            auth_timeout=auth_timeout,
            refused_feeds=frozenset(refused_feeds),
            terse_acknowledgements=terse_acknowledgements,
            buffer_limit=buffer_limit,
        )
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._lifecycle = threading.Lock()  # guards starting and stopping
        self._thread = LoopThread()
        self._hub: Hub | None = None
        self._listener: Listener | None = None
        self._observation = Observation()
        self.ledger = Ledger()
        self.history = History()
        self.faults = Faults(
            on_refuse_connections=self._refuse_connections,
            on_stop_reading=self._stop_reading,
            on_change=self._faults_changed,
        )
        self._scripts = FaultScripts(self.faults, self._thread)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start to listen; does nothing if it runs already.

        Raises:
            OSError: The address cannot be used.
        """
        with self._lifecycle:
            if self._thread.running:
                return
            with ExitStack() as undo:
                bound = undo.enter_context(bind(self._host, self._port))
                self._port = bound.getsockname()[1]
                self._thread.start(f"alpaca-simulator-{next(_instances)}")
                undo.callback(self._thread.stop)
                self._thread.run(lambda: self._open(bound))
                undo.pop_all()

    def stop(self) -> None:
        """Close every connection with code 1001 and end the thread, in well under a second.

        Playbacks are cancelled. Does nothing if it does not run.
        """
        with self._lifecycle:
            if self._thread.running:
                self._thread.run(self._shut_down)
                self._thread.stop()

    @property
    def port(self) -> int:
        """The port; 0 before the first start if none was given."""
        return self._port

    def url(self, market: str = "stocks", feed: str | None = None) -> str:
        """Address of a feed, or of the market's usual one.

        Raises:
            ValueError: There is no such market or feed.
        """
        scheme = "ws" if self._ssl_context is None else "wss"
        return f"{scheme}://{authority(self._host, self._port)}{endpoint_for(market, feed).path}"

    @property
    def rest_url(self) -> str:
        """Base of the addresses of history: what alpaca-py takes as ``url_override``."""
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://{authority(self._host, self._port)}"

    def publish(
        self, *messages: Mapping[str, Any], market: str = "stocks", feed: str | None = None
    ) -> None:
        """Send data messages: each session gets those it is subscribed to, in one frame.

        Returns once they are handed over; they are sent, and entered in the ledger, in the order
        of the calls.

        Args:
            messages: As on the wire. Times ("t", "created_at", "updated_at") are nanoseconds since
                the epoch, RFC 3339 texts or datetimes; other values go as they are.
            market: Whose sessions.
            feed: Only sessions of this feed.

        Raises:
            ValueError: A message is not one of this market, or there is no such market or feed.
            TypeError: A time or another value is of a type it cannot be.
            RuntimeError: Not running.
        """
        endpoint_for(market, feed)
        prepared = [prepare(message, market) for message in messages]
        for message in prepared:
            message.encoded("msgpack")  # here, so that the caller is told what cannot be encoded
        faults, publisher = self.faults, self._running_hub().publisher
        self.history.record(prepared, market)  # as it is, whatever the faults make of it
        disturbed = faults.disturbed(prepared)
        self._thread.post(publisher.publish, disturbed, market, feed, faults.data_terms)

    def publish_raw(self, data: bytes | str) -> None:
        """Send this as it is to every authenticated session, as a binary or a text frame.

        Raises:
            RuntimeError: Not running.
        """
        self._thread.post(self._running_hub().publisher.publish_raw, data, self.faults.data_terms)

    def send_garbage(self, kind: str) -> None:
        """Send a frame that no server should send, in each authenticated session's own codec.

        Garbage that consists of market events goes only to sessions that are subscribed to such,
        and enters the ledger; other garbage goes to every session and does not.

        Args:
            kind: One of :data:`~realtime_stream.simulator.GARBAGE`.

        Raises:
            ValueError: There is no such kind.
            RuntimeError: Not running.
        """
        check_garbage(kind)
        self._thread.post(self._running_hub().publisher.send_garbage, kind, self.faults.data_terms)

    def send_error(self, code: int, message: str | None = None) -> None:
        """Send an error to every open session, by default with Alpaca's text for the code.

        Raises:
            RuntimeError: Not running.
        """
        self._thread.post(self._running_hub().send_error, code, message)

    def drop(self, code: int | None = 1000, reason: str = "") -> int:
        """Close every open connection; what was published (and not delayed) is sent first.

        Args:
            code: Close code. 1006 ends the TCP connection without a close frame; ``None`` resets
                it.
            reason: Close reason.

        Returns:
            How many connections there were.

        Raises:
            ValueError: Such a code or reason cannot be sent.
            RuntimeError: Not running.
        """
        check_close(code, reason)
        return self._thread.run(lambda: self._running_hub().drop(code, reason))

    def play(
        self,
        source: Iterable[tuple[int, Mapping[str, Any]]],
        *,
        speed: float = 1.0,
        market: str = "stocks",
        feed: str | None = None,
        wait_for_subscription: bool = False,
        messages_per_frame: int = 10,
        on_change: Callable[[Literal["started", "finished"]], None] = _ignore,
    ) -> PlaybackHandle:
        """Publish messages at the pace of their times.

        Args:
            source: Pairs of time, in nanoseconds since the epoch, and message as for
                :meth:`publish`. Data time begins with the first pair. It is iterated on the
                simulator's thread and must not block.
            speed: Seconds of data time per second; ``math.inf`` is as fast as the clients take it.
            market: Whose sessions.
            feed: Only sessions of this feed.
            wait_for_subscription: Begin when one of these sessions subscribes.
            messages_per_frame: Most messages in a frame; those due at one moment share one.
            on_change: Called on the simulator's thread with "started" and "finished"; it must not
                block.

        Raises:
            ValueError: A figure is not positive, or there is no such market or feed.
            RuntimeError: Not running.
        """
        endpoint_for(market, feed)
        pace = Pace(
            speed=speed,
            market=market,
            feed=feed,
            wait_for_subscription=wait_for_subscription,
            messages_per_frame=messages_per_frame,
        )
        handle = PlaybackHandle(pace, self._thread.post, on_change)
        self._thread.post(lambda: handle.begin(source, self._running_hub()))
        return handle

    def play_faults(
        self, script: Iterable[tuple[float, Fault]], *, speed: float = 1.0
    ) -> FaultScriptHandle:
        """Apply faults when their time has come.

        Args:
            script: Pairs of seconds, counted from now, and :func:`fault`; in any order, those of
                one moment in theirs.
            speed: Seconds of the script per second.

        Raises:
            ValueError: A figure is negative, not finite, or, of the speed, zero.
            TypeError: Something in the script is not a fault.
            RuntimeError: Not running.
        """
        if not 0 < speed < math.inf:
            msg = f"speed must be positive, and not {speed!r}"
            raise ValueError(msg)
        timed = [(seconds / speed, each) for seconds, each in check_script(script)]
        return self._scripts.play(timed, self._running_hub())

    @property
    def attempts(self) -> int:
        """TCP connections that were accepted, those for REST included: each carries one request."""
        return self._observation.counter("attempts")

    @property
    def handshakes(self) -> int:
        """HTTP upgrades that were completed."""
        return self._observation.counter("handshakes")

    @property
    def auth_attempts(self) -> int:
        """Authentications that were tried."""
        return self._observation.counter("auth_attempts")

    @property
    def authenticated(self) -> int:
        """Sessions that were authenticated, open or not."""
        return self._observation.counter("authenticated")

    @property
    def received(self) -> list[dict[str, Any]]:
        """What clients have sent, oldest first, with ``"***"`` for secrets."""
        return self._observation.received()

    @property
    def rest_requests(self) -> list[str]:
        """Paths and queries that were asked for over REST, oldest first."""
        return self._observation.rest_requests()

    @property
    def rest_answers(self) -> dict[int, int]:
        """How many of these requests were answered, per HTTP status.

        What was cut off or not JSON counts as what it would have been.
        """
        return self._observation.rest_answers()

    def sessions(self) -> tuple[SessionInfo, ...]:
        """The open sessions, oldest first."""
        return self._observation.sessions()

    def wait_for(self, predicate: Callable[[AlpacaSimulator], bool], timeout: float = 5.0) -> bool:
        """Wait, at most ``timeout`` seconds, until ``predicate`` holds; tell whether it does.

        It is asked after every change of what can be seen here: connections, sessions,
        subscriptions, requests, published messages.
        """
        return self._observation.wait_for(lambda: predicate(self), timeout)

    def _running_hub(self) -> Hub:
        if self._hub is None or not self._thread.running:
            msg = "the simulator is not running"
            raise RuntimeError(msg)
        return self._hub

    async def _open(self, bound: socket.socket) -> None:
        self._hub = Hub(
            self._rules,
            self.faults,
            self._observation,
            ledger=self.ledger,
            history=self.history,
        )
        self._listener = Listener(bound, self._host, self._ssl_context, self._hub)
        if not self.faults.refusing_connections:
            await self._listener.open()

    async def _shut_down(self) -> None:
        self._scripts.end_all()
        if self._listener is not None:
            await self._listener.close()
        await self._running_hub().shut_down()

    def _refuse_connections(self, on: bool) -> None:
        listener = self._listener
        if self._thread.running and listener is not None:
            self._thread.carry_out(listener.refuse if on else listener.open)

    def _stop_reading(self, on: bool) -> None:
        if self._thread.running:
            self._thread.carry_out(lambda: self._running_hub().freeze(on))

    def _faults_changed(self) -> None:
        if self._thread.running:
            self._thread.post(lambda: self._running_hub().faults_changed())
