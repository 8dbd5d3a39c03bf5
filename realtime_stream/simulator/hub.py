"""All connections of a simulator: upgrades, routing of messages, and how connections end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from realtime_stream.simulator.endpoints import ENDPOINTS
from realtime_stream.simulator.session import Host, Rules, Session
from realtime_stream.simulator.wire import Message, encode_frame, error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.http11 import Request, Response

    from realtime_stream.simulator.faults import Faults
    from realtime_stream.simulator.ledger import Ledger
    from realtime_stream.simulator.observation import Observation

__all__ = ["Hub"]

_RESET_ON_CLOSE: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # l_onoff, l_linger
_ABNORMAL_CLOSURE: Final = 1006
_GOING_AWAY: Final = 1001
_GRACE: Final = 0.2  # seconds for clients to take part in the closing handshake at the end


def _abort(connection: ServerConnection, *, reset: bool = False) -> None:
    """End the TCP connection without a close frame, if wanted with a reset."""
    if reset:
        tcp = connection.transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.transport.abort()


class Hub:
    """Thread safety: used by the simulator's thread only."""

    def __init__(
        self, rules: Rules, faults: Faults, observation: Observation, ledger: Ledger
    ) -> None:
        """Args: what is allowed, what to do wrong, and where to tell what happens."""
        self._faults = faults
        self._observation = observation
        self._ledger = ledger
        self._host = Host(rules, faults, observation, self._holders, self._end, self._pulse)
        self._connections: set[ServerConnection] = set()  # each until it is lost
        self._ended: set[ServerConnection] = set()  # those of them that are being closed
        self._upgraded: dict[ServerConnection, Session] = {}  # those whose path was accepted
        self._sessions: list[Session] = []  # those that are served
        self._handshakes = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribed = asyncio.Event()

    def connection_class(self) -> type[ServerConnection]:
        """The class of this hub's connections."""
        hub = self

        class Connection(ServerConnection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                hub.accepted()

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                hub.connected(self)
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                hub.lost(self)

        return Connection

    def accepted(self) -> None:
        """There is a TCP connection; over TLS its handshake is still to come."""
        self._observation.count("attempts")

    def connected(self, connection: ServerConnection) -> None:
        """The connection can be written to."""
        self._connections.add(connection)

    def lost(self, connection: ServerConnection) -> None:
        """The connection is no more."""
        self._connections.remove(connection)
        self._ended.discard(connection)
        session = self._upgraded.pop(connection, None)
        if session is not None:
            self._forget(session)

    async def process_request(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        """Decide about an upgrade: refuse it, leave it unanswered, or let it happen."""
        if self._faults.is_silent_at("http"):
            await connection.wait_closed()
            return None
        refusal = self._faults.next_http_refusal()
        if refusal is not None:
            response = connection.respond(refusal.status, f"{refusal.status.phrase}\n")
            if refusal.retry_after is not None:
                response.headers["Retry-After"] = f"{refusal.retry_after:g}"
            return response
        endpoint = ENDPOINTS.get(request.path.partition("?")[0])
        if endpoint is None:
            return connection.respond(404, "Not Found\n")
        self._upgraded[connection] = Session(connection, endpoint, request.headers, self._host)
        return None

    async def handle(self, connection: ServerConnection) -> None:
        """Serve a connection from the completed upgrade to its end."""
        session = self._upgraded[connection]
        self._handshakes += 1
        self._observation.count("handshakes")
        self._sessions.append(session)
        session.open(self._handshakes)
        with contextlib.suppress(ConnectionClosed):
            async for data in connection:
                session.receive(data)

    def publish(self, messages: Sequence[Message], market: str, feed: str | None) -> None:
        """Write each session its share of the messages in one frame, and enter them all."""
        counts = [0] * len(messages)
        frames: list[tuple[Session, bytes | str]] = []
        for session in [] if self._faults.muted else self._audience(market, feed):
            wanted = [n for n, each in enumerate(messages) if session.subscriptions.wants(each)]
            if wanted and session.writable:
                codec = session.codec
                encoded = [messages[n].encoded(codec) for n in wanted]
                frames.append((session, encode_frame(encoded, codec)))
                for n in wanted:
                    counts[n] += 1
        # Before they are written: whoever has received a message finds it in the ledger.
        self._ledger.record(zip(messages, counts, strict=True))
        for session, frame in frames:
            session.write(frame)
        self._observation.touch()

    def publish_raw(self, data: bytes | str) -> None:
        """Write this frame to every authenticated session."""
        if not self._faults.muted:
            for session in self._audience():
                session.write(data)

    def send_error(self, code: int, text: str | None) -> None:
        """Write an error to every session."""
        for session in list(self._sessions):
            session.control(error(code, text))

    async def drop(self, code: int | None, reason: str) -> int:
        """End every connection; tell how many."""
        connections = [each for each in self._connections if each not in self._ended]
        for connection in connections:
            self._end_connection(connection, code, reason)
        await asyncio.sleep(0)  # the close frames are written now
        return len(connections)

    async def freeze(self, on: bool) -> None:
        """Stop or go on reading and writing."""
        for session in self._sessions:
            session.freeze(on=on)

    async def shut_down(self) -> None:
        """End every connection, within a moment whatever the clients do."""
        await self.drop(_GOING_AWAY, "")
        await self._until_lost(_GRACE)
        for connection in list(self._connections):
            _abort(connection)
        await self._until_lost(_GRACE)

    async def wait_subscribed(self, market: str, feed: str | None) -> None:
        """Wait until a session of this market (and feed) is subscribed to anything."""
        while not any(session.subscriptions.pairs() for session in self._audience(market, feed)):
            await self._subscribed.wait()

    def backlog(self) -> int:
        """Bytes that the slowest client has not taken yet."""
        return max((s.backlog for s in self._sessions if not s.frozen), default=0)

    def _audience(self, market: str | None = None, feed: str | None = None) -> list[Session]:
        return [
            session
            for session in self._sessions
            if session.key is not None
            and market in (None, session.endpoint.market.name)
            and feed in (None, session.endpoint.feed)
        ]

    def _holders(self, path: str, key: str) -> int:
        return sum(
            session.key == key and session.endpoint.path == path for session in self._sessions
        )

    def _pulse(self) -> None:
        self._subscribed.set()
        self._subscribed = asyncio.Event()

    def _end(self, session: Session, code: int | None) -> None:
        # A client that is dropped for its own fault gets what is on its way; no reset.
        self._end_connection(session.connection, _ABNORMAL_CLOSURE if code is None else code, "")

    def _end_connection(self, connection: ServerConnection, code: int | None, reason: str) -> None:
        session = self._upgraded.get(connection)
        serving = session is not None and session in self._sessions and not session.frozen
        if session is not None:
            self._forget(session)
        self._ended.add(connection)
        if code is None or code == _ABNORMAL_CLOSURE or not serving:
            _abort(connection, reset=code is None)
            return
        task = asyncio.get_running_loop().create_task(connection.close(code, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget(self, session: Session) -> None:
        session.close()
        if session in self._sessions:
            self._sessions.remove(session)

    async def _until_lost(self, seconds: float) -> None:
        waits = [asyncio.ensure_future(each.wait_closed()) for each in self._connections]
        if waits:
            await asyncio.wait(waits, timeout=seconds)
            for wait in waits:
                wait.cancel()
