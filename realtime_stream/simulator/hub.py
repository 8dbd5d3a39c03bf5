"""All connections of a simulator: upgrades, routing of messages, and how connections end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from websockets.exceptions import ConnectionClosed

from realtime_stream.simulator.closing import ABNORMAL_CLOSURE
from realtime_stream.simulator.connection import Connection, connection_class
from realtime_stream.simulator.endpoints import ENDPOINTS
from realtime_stream.simulator.host import Host, Rules
from realtime_stream.simulator.publisher import Publisher
from realtime_stream.simulator.rest import RestDesk, is_rest
from realtime_stream.simulator.session import Session
from realtime_stream.simulator.wire import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from realtime_stream.simulator.fault_state import FaultState
    from realtime_stream.simulator.history import History
    from realtime_stream.simulator.ledger import Ledger
    from realtime_stream.simulator.observation import Observation

__all__ = ["Hub"]

_RESET_ON_CLOSE: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # l_onoff, l_linger
_GOING_AWAY: Final = 1001
_GRACE: Final = 0.2  # seconds for clients to take part in the closing handshake at the end


def _abort(connection: Connection, *, reset: bool = False) -> None:
    """End the TCP connection without a close frame, if wanted with a reset."""
    if reset:
        tcp = connection.transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.transport.abort()


class Hub:
    """Thread safety: used by the simulator's thread only.

    Attributes:
        publisher: Writes data to the sessions.
    """

    def __init__(
        self,
        rules: Rules,
        faults: FaultState,
        observation: Observation,
        *,
        ledger: Ledger,
        history: History,
    ) -> None:
        """Args: what is allowed, what to do wrong, and where to tell what happens."""
        self._faults = faults
        self._observation = observation
        self.publisher = Publisher(
            faults, observation, ledger, history=history, audience=self._audience
        )
        self._desk = RestDesk(
            rules, faults.rest, observation, history=history, delay=self._delay_answer
        )
        self._host = Host(rules, faults, observation, self._holders, self._end, self._pulse)
        self._connections: set[Connection] = set()  # each until it is lost
        self._ended: set[Connection] = set()  # those of them that are being closed
        self._upgraded: dict[Connection, Session] = {}  # those whose path was accepted
        self._sessions: list[Session] = []  # those that are served
        self._handshakes = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._subscribed = asyncio.Event()
        self._stirred = asyncio.Event()  # a connection is lost, or the faults are others
        self._held: list[tuple[str, str, float]] = []  # path, key, and when the session ended

    def connection_class(self) -> type[Connection]:
        """The class of this hub's connections."""
        return connection_class(self, self._faults)

    def accepted(self) -> None:
        """There is a TCP connection; over TLS its handshake is still to come."""
        self._observation.count("attempts")

    def connected(self, connection: Connection) -> None:
        """The connection can be written to."""
        self._connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """The connection is no more."""
        self._connections.remove(connection)
        self._ended.discard(connection)
        session = self._upgraded.pop(connection, None)
        if session is not None:
            self._forget(session)
        self._stir()

    async def process_request(
        self, server_connection: ServerConnection, request: Request
    ) -> Response | None:
        """Decide about an upgrade: refuse it, leave it unanswered, or let it happen.

        What is no upgrade may be a request for history.
        """
        connection = cast("Connection", server_connection)
        if is_rest(request):
            return await self._desk.serve(connection, request)
        if self._faults.is_silent_at("http"):
            await connection.wait_closed()
        await self._delay_answer(connection, lambda: self._faults.answer_delay("http"))
        if connection not in self._connections:
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

    async def _delay_answer(self, connection: Connection, seconds: Callable[[], float]) -> None:
        loop = asyncio.get_running_loop()
        came = loop.time()
        while connection in self._connections:
            remaining = came + seconds() - loop.time()
            if remaining <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), remaining)

    async def handle(self, server_connection: ServerConnection) -> None:
        """Serve a connection from the completed upgrade to its end."""
        connection = cast("Connection", server_connection)
        session = self._upgraded[connection]
        self._handshakes += 1
        self._observation.count("handshakes")
        self._sessions.append(session)
        session.open(self._handshakes)
        with contextlib.suppress(ConnectionClosed):
            async for data in connection:
                session.receive(data)

    def send_error(self, code: int, message: str | None = None) -> None:
        """Write an error to every session."""
        for session in list(self._sessions):
            session.control(error(code, message))

    async def drop(self, code: int | None = 1000, reason: str = "") -> int:
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

    def faults_changed(self) -> None:
        """What waits because of a fault may wait no longer."""
        self.publisher.faults_changed()
        for connection in self._connections:
            connection.faults_changed()
        for session in list(self._sessions):
            session.faults_changed()
        self._stir()

    async def shut_down(self) -> None:
        """End every connection, within a moment whatever the clients do."""
        self.publisher.flush()
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
        since = asyncio.get_running_loop().time() - self._faults.slot_hold
        self._held = [each for each in self._held if each[2] > since]
        open_ones = ((session.endpoint.path, session.key) for session in self._sessions)
        held_ones = ((each[0], each[1]) for each in self._held)
        return sum(place == (path, key) for place in itertools.chain(open_ones, held_ones))

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = asyncio.Event()

    def _pulse(self) -> None:
        self._subscribed.set()
        self._subscribed = asyncio.Event()

    def _end(self, session: Session, code: int | None) -> None:
        # A client that is dropped for its own fault gets what is on its way; no reset.
        self._end_connection(session.connection, ABNORMAL_CLOSURE if code is None else code, "")

    def _end_connection(self, connection: Connection, code: int | None, reason: str) -> None:
        session = self._upgraded.get(connection)
        serving = session is not None and session in self._sessions and not session.frozen
        if session is not None:
            self._forget(session)
        self._ended.add(connection)
        if code is None or code == ABNORMAL_CLOSURE or not serving:
            _abort(connection, reset=code is None)
            return
        task = asyncio.get_running_loop().create_task(connection.close(code, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _forget(self, session: Session) -> None:
        session.close()
        if session in self._sessions:
            self._sessions.remove(session)
            if session.key is not None and self._faults.slot_hold > 0:
                ended = asyncio.get_running_loop().time()
                self._held.append((session.endpoint.path, session.key, ended))

    async def _until_lost(self, seconds: float) -> None:
        waits = [asyncio.ensure_future(each.wait_closed()) for each in self._connections]
        if waits:
            await asyncio.wait(waits, timeout=seconds)
            for wait in waits:
                wait.cancel()
