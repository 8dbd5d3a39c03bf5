"""The two ends of an answer: a socket on which no wait is endless, and a body that is whole."""

from __future__ import annotations

import contextlib
import socket
import zlib
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from email.message import Message
    from http.client import HTTPResponse

    from typing_extensions import Buffer

    from realtime_stream.clock import Clock

__all__ = ["Answer", "BodyError", "BoundedStream", "RestTimeouts", "body_of"]

_PIECE: Final = 1 << 16  # bytes read at a time
_GZIP: Final = 16 + zlib.MAX_WBITS
_LARGEST_BODY: Final = 64 * 2**20  # bytes; ten thousand trades with all their fields are 2 MB
_LARGEST_ANSWER: Final = _LARGEST_BODY + 2**20  # with its headers, and what chunks cost
_TOO_LARGE: Final = "the answer is too large"


@dataclass(frozen=True, slots=True)
class RestTimeouts:
    """Bounds on the waits of one request, in seconds.

    Attributes:
        connect: For name and TCP connection together, and again for TLS.
        read: Longest silence of the server.
        answer: For the whole answer, so that a server that trickles cannot hold us for ever.
    """

    connect: float = 5.0
    read: float = 10.0
    answer: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered; the body is whole and unpacked."""

    status: int
    headers: Message
    body: bytes


class BodyError(HTTPException):
    """The body is not what its headers say; the message holds nothing of it."""


class BoundedStream:
    """What HTTP needs of a socket; no wait is longer than what is left for the answer."""

    def __init__(self, sock: socket.socket, clock: Clock, timeouts: RestTimeouts) -> None:
        """Take over a socket that is connected."""
        self._sock = sock
        self._clock = clock
        self._timeouts = timeouts
        self._deadline = 0.0
        self._received = 0  # bytes of the present answer

    def sendall(self, data: bytes) -> None:
        """Send a request; called by HTTP."""
        self._sock.settimeout(self._timeouts.read)
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> BufferedReader:
        """The next answer, to be read from now on; called by HTTP."""
        self._deadline = self._clock.monotonic() + self._timeouts.answer
        self._received = 0
        return BufferedReader(_Reader(self), _PIECE)

    def receive(self, buffer: Buffer) -> int:
        """Read what has come, at least a byte unless the server has ended the connection.

        Raises:
            OSError: The connection failed; :class:`TimeoutError` when time ran out.
            BodyError: More came than any answer of this server has.
        """
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(self._timeouts.read, left))
        count = self._sock.recv_into(buffer)
        self._received += count
        if self._received > _LARGEST_ANSWER:  # whatever its headers say: HTTP would read on
            raise BodyError(_TOO_LARGE)
        return count

    def close(self) -> None:
        """Nothing: HTTP closes a socket while the last answer is still to be read."""

    def release(self) -> None:
        """Close the socket."""
        self._sock.close()

    def shut_down(self) -> None:
        """End every wait on the socket, of whatever thread; it still has to be released."""
        with contextlib.suppress(OSError):  # it is down already
            # Not the TLS socket's own method, which takes away what a reader is using.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class _Reader(RawIOBase):
    """One answer's bytes."""

    def __init__(self, stream: BoundedStream) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return self._stream.receive(buffer)


def body_of(response: HTTPResponse) -> bytes:
    """The body, unpacked.

    Raises:
        HTTPException: It is cut short, too large, or not what its headers say.
    """
    packed = response.getheader("Content-Encoding", "").strip().lower() == "gzip"
    unpacker = zlib.decompressobj(_GZIP) if packed else None
    body = bytearray()
    while piece := _piece(response):
        try:
            body += piece if unpacker is None else unpacker.decompress(piece)
        except zlib.error as exc:
            msg = "the answer cannot be unpacked"
            raise BodyError(msg) from exc
        if len(body) > _LARGEST_BODY:
            raise BodyError(_TOO_LARGE)
    if response.length or (unpacker is not None and body and not unpacker.eof):
        raise IncompleteRead(b"")
    return bytes(body)


def _piece(response: HTTPResponse) -> bytes:
    try:
        return response.read(_PIECE)
    except ValueError as exc:  # a chunk of negative size
        msg = "the answer is malformed"
        raise BodyError(msg) from exc
