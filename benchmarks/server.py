"""The server of the benchmarks: one session after another, as cheap as a server can be.

It speaks Alpaca's protocol truly up to the acknowledged subscription; ``websockets`` does the
handshake and reads what the client sends. The quotes go past it, as finished frames, straight to
the socket.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from benchmarks.feeds import FIRST, LAST, control_frame, frames, mark

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.connection import Connection

    from websockets.protocol import Event

    from benchmarks.feeds import Feed

__all__ = ["Sent", "serve"]

_DEADLINE: Final = 60.0  # seconds that any single wait for the client may take
_SETTLE: Final = 0.3  # seconds from the first mark to the quotes of a paced feed
_WRITE: Final = 1 << 16  # bytes of one system call when sending as fast as possible
_RECEIVE: Final = 1 << 16
_SECOND: Final = 1_000_000_000  # nanoseconds


@dataclass(slots=True)
class Sent:
    """What a session was sent, and when: nanoseconds of ``time.monotonic_ns``.

    Attributes:
        first_ns: When the first mark was sent.
        sent_ns: With a rate: when each quote was handed to the system.
        late_ns: With a rate: how long after its time each burst was sent.
    """

    first_ns: int
    sent_ns: list[int] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)


class ClientError(Exception):
    """The client did not keep to the protocol, or is gone."""


def serve(feed: Feed, sessions: int, report: Connection) -> None:
    """Serve ``sessions`` clients, one at a time.

    Reports the port once it listens, then a :class:`Sent` after each session.
    """
    encoded = frames(feed)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        report.send(listener.getsockname()[1])
        for _ in range(sessions):
            connection, _address = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(_DEADLINE)
                report.send(_Session(connection).run(feed, encoded))


class _Session:
    """One client, from the upgrade request to the end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._protocol = ServerProtocol()
        self._events: deque[Event] = deque()

    def run(self, feed: Feed, encoded: list[bytes]) -> Sent:
        """Open the session, send the feed, wait for the client to close."""
        self._open()
        sent = Sent(time.monotonic_ns())
        self._connection.sendall(mark(FIRST))
        if feed.rate is None:
            self._send_fast(encoded)
        else:
            self._send_paced(encoded, feed, feed.rate, sent)
        self._connection.sendall(mark(LAST))
        with contextlib.suppress(ClientError, ConnectionResetError):
            while True:
                self._receive()
        return sent

    def _open(self) -> None:
        request = self._next_event()
        if not isinstance(request, Request):
            msg = "no upgrade request"
            raise ClientError(msg)
        self._protocol.send_response(self._protocol.accept(request))
        self._flush()
        self._connection.sendall(control_frame(T="success", msg="connected"))
        self._request("auth")
        self._connection.sendall(control_frame(T="success", msg="authenticated"))
        quotes = self._request("subscribe")["quotes"]
        self._connection.sendall(control_frame(T="subscription", quotes=quotes))

    def _request(self, action: str) -> dict[str, Any]:
        """The client's next message, which must be this one; it may come in fragments."""
        data = b""
        while True:
            event = self._next_event()
            if isinstance(event, Frame) and event.opcode in {Opcode.BINARY, Opcode.CONT}:
                data += event.data
                if event.fin:
                    break
        message: dict[str, Any] = msgspec.msgpack.decode(data)
        if message.get("action") != action:
            msg = f"{action} was expected"
            raise ClientError(msg)
        return message

    def _send_fast(self, encoded: list[bytes]) -> None:
        """Whole frames, in large writes; a client that is slower holds us up in the write."""
        for write in _joined(encoded):
            self._connection.sendall(write)
            self._answer_pings()

    def _send_paced(self, encoded: list[bytes], feed: Feed, rate: float, sent: Sent) -> None:
        """One write a burst, each at its time.

        Sleeps until a burst is due and never spins: on a small machine that would take the core
        the client needs. The system wakes us some 50 to 100 us late; what counts as sent is the
        time before the system call, so this shifts the load a little and adds no latency.
        """
        per_write = feed.burst // feed.per_frame
        writes = [
            b"".join(encoded[start : start + per_write])
            for start in range(0, len(encoded), per_write)
        ]
        period = _SECOND * feed.burst / rate
        time.sleep(_SETTLE)
        start = time.monotonic_ns()
        now_ns, sendall = time.monotonic_ns, self._connection.sendall
        for number, write in enumerate(writes):
            due = start + int(number * period)
            self._answer_pings()
            wait = due - now_ns()
            if wait > 0:
                time.sleep(wait / _SECOND)
            now = now_ns()
            sendall(write)
            sent.late_ns.append(now - due)
            sent.sent_ns += [now] * feed.burst
        del sent.sent_ns[feed.quotes :]  # the last burst may be a smaller one

    def _answer_pings(self) -> None:
        while select.select((self._connection,), (), (), 0)[0]:
            self._receive()

    def _next_event(self) -> Event:
        while not self._events:
            self._receive()
        return self._events.popleft()

    def _receive(self) -> None:
        data = self._connection.recv(_RECEIVE)
        if not data:
            msg = "the client has closed the connection"
            raise ClientError(msg)
        self._protocol.receive_data(data)
        self._events += self._protocol.events_received()
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)
            else:  # the library's sign for the end of our side
                self._connection.shutdown(socket.SHUT_WR)


def _joined(encoded: list[bytes]) -> Iterable[bytes]:
    parts: list[bytes] = []
    size = 0
    for frame in encoded:
        parts.append(frame)
        size += len(frame)
        if size >= _WRITE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)
