"""The simulator: a WebSocket server on a thread of its own that speaks Alpaca's protocol."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import http
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from realtime_stream.simulator import wire
from realtime_stream.simulator.endpoints import CHANNEL_OF_TYPE, ENDPOINTS, path_of
from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.ledger import Ledger
from realtime_stream.simulator.playback import PlaybackHandle, Player
from realtime_stream.simulator.session import Session, SessionInfo

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

__all__ = ["SIMULATOR_KEY", "SIMULATOR_SECRET", "AlpacaSimulator"]

SIMULATOR_KEY: Final = "SIMULATOR-KEY-NOT-REAL"
SIMULATOR_SECRET: Final = "simulator-secret-not-real"  # noqa: S105  # opens nothing but the simulator

T = TypeVar("T")
_ABNORMAL: Final = 1006
_START_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 5.0


class AlpacaSimulator:
    """A local server that speaks Alpaca's market-data protocol, with faults on demand.

    Runs on a daemon thread named ``alpaca-simulator``; use it as a context manager.

    Thread safety: every public method and attribute may be used from any thread.
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
    ) -> None:
        """Bind nothing yet.

        Args:
            credentials: Secret per key; default is the pair of this module.
            host: Address to listen on.
            port: Port; 0 takes a free one.
            ssl_context: Serve TLS with this.
            connection_limit: Authenticated sessions per stream and key; more get error 406.
            symbol_limit: Distinct symbols over trades, quotes and bars; more get error 405.
            auth_timeout: Seconds a connection may stay unauthenticated.
            refused_feeds: Feeds that the plan does not include; error 409.
            terse_acknowledgements: Leave empty channels out, as the real SIP feed does.
        """
        self.credentials = dict(credentials or {SIMULATOR_KEY: SIMULATOR_SECRET})
        self.connection_limit = connection_limit
        self.symbol_limit = symbol_limit
        self.refused_feeds = frozenset(refused_feeds)
        self.terse_acknowledgements = terse_acknowledgements
        self.faults = Faults(self._faults_changed)
        self.ledger = Ledger()
        self.port = port
        self.attempts = 0
        self.handshakes = 0
        self.authenticated = 0
        self.auth_attempts = 0
        self.received: list[Any] = []
        self._host = host
        self._ssl = ssl_context
        self._auth_timeout = auth_timeout
        self._changed = threading.Condition()  # guards the counters, received and _infos
        self._infos: tuple[SessionInfo, ...] = ()
        self._numbers = itertools.count(1)
        # The rest is used on the loop alone.
        self._sessions: dict[ServerConnection, Session] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: Server | None = None
        self._stopping: asyncio.Event | None = None
        self._players: set[Player] = set()

    # --- lifecycle ---

    def start(self) -> None:
        """Listen; returns once connections are accepted. Does nothing while running.

        Raises:
            OSError: The address cannot be bound.
        """
        if self._thread is not None:
            return
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="alpaca-simulator", daemon=True
        )
        self._thread.start()
        try:
            ready.result(_START_TIMEOUT)
        except OSError:
            self._thread.join(_STOP_TIMEOUT)
            self._thread = None
            raise

    def stop(self) -> None:
        """Cut every connection and end the thread. Does nothing when stopped."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None:
            return
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(stopping.set)
        thread.join(_STOP_TIMEOUT)
        self._thread = None

    def __enter__(self) -> Self:
        """:meth:`start`."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """:meth:`stop`."""
        self.stop()

    def url(self, market: str = "stocks", feed: str = "iex") -> str:
        """The WebSocket URL of a stream."""
        scheme = "ws" if self._ssl is None else "wss"
        return f"{scheme}://{self._host}:{self.port}{path_of(market, feed)}"

    # --- publishing ---

    def publish(
        self, *messages: Mapping[str, Any], market: str = "stocks", feed: str | None = None
    ) -> None:
        """Send data messages, as one frame, to every session that is subscribed to them.

        Times (``t``, ``created_at``, ``updated_at``) may be nanoseconds, RFC-3339 text or
        datetimes. Every message is entered in the ledger, whether or not anybody gets it.
        """
        self._call(self.publish_now, messages, market, feed)

    def publish_raw(self, data: bytes | str) -> None:
        """Send a frame as it is to every authenticated session."""
        self._call(self._send_all, data)

    def send_error(self, code: int, message: str | None = None) -> None:
        """Send an error message to every open session."""
        self._call(self._send_error, wire.error(code, message))

    def drop(self, code: int | None = 1000, reason: str = "") -> int:
        """Close every open connection; returns how many.

        Args:
            code: Close code; ``None`` and 1006 reset the TCP connection without a close frame.
            reason: Close reason.
        """
        return self._wait_for_call(self._drop(code, reason))

    def play(
        self,
        source: Iterable[tuple[int, Mapping[str, Any]]],
        *,
        speed: float = 1.0,
        market: str = "stocks",
        feed: str | None = None,
        wait_for_subscription: bool = False,
        messages_per_frame: int = 10,
    ) -> PlaybackHandle:
        """Publish timed messages at ``speed`` times real time, beginning with the first.

        Args:
            source: Pairs of time (nanoseconds) and message, in order.
            speed: Data seconds per second; ``math.inf`` publishes as fast as it can.
            market: Market to publish to.
            feed: Feed to publish to; ``None`` is every feed of the market.
            wait_for_subscription: Begin when the first session subscribes to something.
            messages_per_frame: At most so many messages that are due together share a frame.
        """
        handle = PlaybackHandle()
        player = Player(
            publish=lambda batch: self.publish_now(batch, market, feed),
            source=source,
            speed=speed,
            batch=messages_per_frame,
            handle=handle,
        )

        async def run() -> None:
            self._players.add(player)
            player.begin(self._subscribed if wait_for_subscription else None)

        self._wait_for_call(run())
        return handle

    # --- observation ---

    def sessions(self) -> tuple[SessionInfo, ...]:
        """The open sessions."""
        return self._infos

    def wait_for(self, predicate: Callable[[AlpacaSimulator], bool], timeout: float = 5.0) -> bool:
        """Wait until ``predicate`` of this simulator holds; tell whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    # --- what sessions ask (on the loop) ---

    def holders(self, path: str, key: str) -> int:
        """Authenticated sessions of this stream and key."""
        return sum(
            session.authenticated and (session.path, session.key) == (path, key)
            for session in self._sessions.values()
        )

    def count_auth(self) -> None:
        """An authentication was attempted."""
        self.auth_attempts += 1

    def publish_now(
        self, messages: Iterable[Mapping[str, Any]], market: str, feed: str | None
    ) -> None:
        """:meth:`publish`, on the loop."""
        messages = list(messages)
        written = [0] * len(messages)
        if not self.faults.muted:
            for connection, session in self._sessions.items():
                endpoint = session.endpoint
                if endpoint.market != market or feed not in {None, endpoint.feed}:
                    continue
                chosen = [i for i, message in enumerate(messages) if session.wants(message)]
                if chosen:
                    for i in chosen:
                        written[i] += 1
                    data = wire.encode([messages[i] for i in chosen], session.codec)
                    self._write(connection, data)
        for message, sessions in zip(messages, written, strict=True):
            symbols = message.get("symbols") or ("*",)
            symbol = str(message.get("S", symbols[0]))
            channel = CHANNEL_OF_TYPE.get(str(message["T"]), "")
            t_ns = wire.to_ns(message.get("t", message.get("updated_at")))
            self.ledger.add(channel, symbol, t_ns, sessions)
        self._notify()

    # --- the loop ---

    def _run(self, ready: Future[None]) -> None:
        asyncio.run(self._main(ready))

    async def _main(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._reconfigured = asyncio.Event()
        try:
            await self._listen()
        except OSError as exc:
            ready.set_exception(exc)
            return
        ready.set_result(None)
        stopping = asyncio.create_task(self._stopping.wait())
        while not stopping.done():
            change = asyncio.create_task(self._reconfigured.wait())
            await asyncio.wait({stopping, change}, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            self._reconfigured.clear()
            await self._apply_faults()
        for player in list(self._players):
            player.cancel()
        for connection in list(self._sessions):
            connection.transport.abort()
        if self._server is not None:
            self._server.close(close_connections=False)

    async def _listen(self) -> None:
        self._server = await serve(
            self._serve,
            self._host,
            self.port,
            process_request=self._process_request,
            create_connection=self._connection_made,
            ssl=self._ssl,
            reuse_address=True,
            open_timeout=None,
            ping_interval=None,
            close_timeout=1,
            max_size=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def _apply_faults(self) -> None:
        server = self._server
        if self.faults.closed and server is not None:
            server.close(close_connections=False)
            self._server = None
        elif not self.faults.closed and server is None:
            await self._listen()
        for connection in list(self._sessions):
            if self.faults.deaf:
                connection.transport.pause_reading()
        self._notify()

    def _connection_made(self, *arguments: Any, **keywords: Any) -> ServerConnection:  # noqa: ANN401  # the library's
        self.attempts += 1
        self._notify()
        return ServerConnection(*arguments, **keywords)

    async def _process_request(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        refused = self.faults.next_http()
        if refused is not None:
            status, retry_after = refused
            headers = Headers({"Content-Length": "0", "Connection": "close"})
            if retry_after is not None:
                headers["Retry-After"] = f"{retry_after:g}"
            try:
                phrase = http.HTTPStatus(status).phrase
            except ValueError:
                phrase = "Refused"
            return Response(status, phrase, headers)
        if self.faults.is_silent("http"):
            await asyncio.get_running_loop().create_future()
        if request.path not in ENDPOINTS:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such stream\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        if request is None:
            return
        codec: wire.Codec = (
            "msgpack" if request.headers.get("Content-Type") == "application/msgpack" else "json"
        )
        session = Session(next(self._numbers), request.path, ENDPOINTS[request.path], codec)
        self._sessions[connection] = session
        self.handshakes += 1
        self._notify()
        timeout = asyncio.get_running_loop().call_later(
            self._auth_timeout, self._auth_timed_out, connection, session
        )
        try:
            await self._greet(connection, session, request.headers)
            async for data in connection:
                await self._handle(connection, session, data)
        except ConnectionClosed:
            pass  # how sessions end
        finally:
            timeout.cancel()
            del self._sessions[connection]
            self._notify()

    def _auth_timed_out(self, connection: ServerConnection, session: Session) -> None:
        if session.authenticated:
            return
        if not session.refused:  # whoever was refused is dropped without a word
            self._write(connection, wire.encode([wire.error(404)], session.codec))
        connection.transport.close()

    async def _greet(
        self, connection: ServerConnection, session: Session, headers: Headers
    ) -> None:
        if self.faults.is_silent("greeting"):
            return
        garbage = self.faults.greeting
        if garbage is not None:
            await connection.send(garbage)
            return
        await self._reply(connection, session, wire.success("connected"))
        pair = _header_credentials(headers)
        if pair is not None:
            session.header_auth = True
            await self._authenticate(connection, session, *pair)

    async def _handle(
        self, connection: ServerConnection, session: Session, data: bytes | str
    ) -> None:
        try:
            message = wire.decode(data, session.codec)
        except ValueError:
            await self._reply(connection, session, wire.error(400))
            return
        self._record(message)
        action = message.get("action") if isinstance(message, dict) else None
        if action == "auth":
            key, secret = str(message.get("key")), str(message.get("secret"))
            await self._authenticate(connection, session, key, secret)
        elif action in {"subscribe", "unsubscribe"}:
            if self.faults.is_silent("subscription"):
                return
            reply = session.change(self, message)
            if session.subscriptions:
                self._subscribed.set()
            await self._reply(connection, session, reply)
        else:
            await self._reply(connection, session, wire.error(400))

    async def _authenticate(
        self, connection: ServerConnection, session: Session, key: str, secret: str
    ) -> None:
        if self.faults.is_silent("auth"):
            return
        reply = session.authenticate(self, key, secret)
        session.refused = not session.authenticated
        if reply["T"] == "success":
            self.authenticated += 1
        await self._reply(connection, session, reply)

    async def _reply(
        self, connection: ServerConnection, session: Session, message: Mapping[str, Any]
    ) -> None:
        self._notify()
        await connection.send(wire.encode([message], session.codec))

    def _write(self, connection: ServerConnection, data: bytes | str) -> None:
        """Queue a frame without waiting, so that one slow client does not hold the others."""
        broadcast([connection], data)

    def _send_all(self, data: bytes | str) -> None:
        for connection, session in self._sessions.items():
            if session.authenticated:
                self._write(connection, data)

    def _send_error(self, message: Mapping[str, Any]) -> None:
        for connection, session in self._sessions.items():
            self._write(connection, wire.encode([message], session.codec))

    async def _drop(self, code: int | None, reason: str) -> int:
        connections = list(self._sessions)
        for connection in connections:
            if code is None or code == _ABNORMAL:
                sock = connection.transport.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)  # close with a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.transport.abort()
        if code is not None and code != _ABNORMAL:
            closing = [connection.close(code, reason) for connection in connections]
            await asyncio.gather(*closing)
        return len(connections)

    # --- threads ---

    def _record(self, message: object) -> None:
        shown = message
        if isinstance(message, dict) and "secret" in message:
            shown = {**message, "secret": "***"}
        with self._changed:
            self.received.append(shown)

    def _notify(self) -> None:
        with self._changed:
            self._infos = tuple(session.info() for session in self._sessions.values())
            self._changed.notify_all()

    def _faults_changed(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._reconfigured.set)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401  # passed through
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function, *arguments)

    def _wait_for_call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            msg = "the simulator is not running"
            raise RuntimeError(msg)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_TIMEOUT)


def _header_credentials(headers: Headers) -> tuple[str, str] | None:
    key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
    if key is not None and secret is not None:
        return key, secret
    kind, _, value = headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
            return key, secret
    return None
