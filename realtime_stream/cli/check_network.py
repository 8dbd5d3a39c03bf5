"""The checks on the way to the server, with plain sockets: name, TCP, TLS, upgrade, clock."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import re
import secrets
import socket
import ssl
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

from realtime_stream.cli.check_problems import CheckFailedError, Problem, problem_of_status
from realtime_stream.cli.check_report import CheckSkippedError, Finding
from realtime_stream.providers.dial import Resolver
from realtime_stream.resilience.failures import harmless

if TYPE_CHECKING:
    from types import TracebackType

    from realtime_stream.cli.check_budget import Budget
    from realtime_stream.clock import Clock

__all__ = ["Probe"]

_Address: TypeAlias = tuple[int, int, int, str, Any]

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_SWITCHING_PROTOCOLS: Final = 101
_MAX_HEAD: Final = 1 << 15  # bytes of an answer's status line and headers
_END_OF_HEAD: Final = b"\r\n\r\n"
_GOODBYE: Final = b"\x88\x80\0\0\0\0"  # a close frame, masked as a client's must be
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_TOLERANCE: Final = 2.0  # seconds the clock may be off
_RESOLUTION: Final = 1.0  # seconds; a Date header has no fractions

_REFUSALS: Final = {
    Problem.KEYS_REFUSED: "the server wants an authorisation that is not there",
    Problem.FORBIDDEN: "the server, or a firewall before it, lets nobody in from here",
    Problem.PATH: "there is no such path: market, feed or URL is wrong",
    Problem.RATE_LIMIT: "too many connections from here: wait before the next",
    Problem.SERVER: "the server is in trouble: try again later",
    Problem.UPGRADE: "that is no WebSocket server",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """Status and headers of an HTTP answer, and when (nanoseconds) it was asked for and came."""

    status: int
    date: str | None
    retry_after: str | None
    asked_ns: int
    answered_ns: int


class Probe:
    """Goes to the server step by step; closed with the block. Used by one thread."""

    def __init__(self, url: str, budget: Budget, clock: Clock) -> None:
        """Nothing is open yet.

        Args:
            url: Where to.
            budget: How long each step may take.
            clock: The clock to compare with the server's.
        """
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._netloc = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._budget = budget
        self._clock = clock
        self._addresses: list[_Address] = []
        self._socket: socket.socket | None = None
        self._answer: _Answer | None = None

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what is open."""
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def resolve(self) -> Finding[bool]:
        """Look the name up.

        Raises:
            CheckFailedError: It is not known, or nobody answered.
        """
        try:
            self._addresses = asyncio.run(self._look_up(self._budget.step()))
        except TimeoutError:
            text = f"nobody said in time what {self._host} is: is the name server reachable?"
            raise CheckFailedError(Problem.NAME, text) from None
        except OSError as exc:
            text = f"{self._host} cannot be resolved: {_reason(exc)}"
            raise CheckFailedError(Problem.NAME, text) from exc
        first, others = self._addresses[0][4][0], len(self._addresses) - 1
        more = f" and {others} more" if others else ""
        return Finding(f"{self._host} is {first}{more}", True)

    async def _look_up(self, seconds: float) -> list[_Address]:
        async with asyncio.timeout(seconds):
            # Its threads are left alone when time is over: the C library cannot be interrupted.
            return await Resolver().resolve(self._host, self._port, "check")

    def connect(self) -> Finding[bool]:
        """Open a TCP connection.

        Raises:
            CheckFailedError: No address lets us.
        """
        seconds = self._budget.step() / len(self._addresses)
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, address in self._addresses:
            try:
                self._socket = socket.socket(family, kind, protocol)
                self._socket.settimeout(seconds)
                self._socket.connect(address)
            except OSError as exc:
                self.close()
                failure = exc
            else:
                return Finding(f"{address[0]} port {self._port} takes connections", True)
        text = f"{self._host} port {self._port}: {_reason(failure)}"
        if isinstance(failure, TimeoutError):
            text += "; does a firewall drop it?"
        raise CheckFailedError(Problem.NETWORK, text) from failure

    def secure(self) -> Finding[bool]:
        """Set TLS up, if the URL asks for it, with the certificate checks that the bot makes.

        Raises:
            CheckFailedError: TLS failed, or the certificate is not trusted.
        """
        if not self._secure:
            text = "not used: ws:// is for a server on this machine; keys go in the clear"
            return Finding(text, True)
        try:
            wrapped = self._wrap(self._opened(), self._budget.step())
        except ssl.SSLCertVerificationError as exc:
            text = f"the certificate is not trusted: {harmless(exc.verify_message)}"
            raise CheckFailedError(Problem.TLS, text) from exc
        except (OSError, ValueError) as exc:  # a name that no certificate can have
            raise CheckFailedError(Problem.TLS, f"TLS failed: {_reason(exc)}") from exc
        self._socket = wrapped
        return Finding(f"{wrapped.version()}, and the certificate is trusted", True)

    def _wrap(self, plain: socket.socket, seconds: float) -> ssl.SSLSocket:
        plain.settimeout(seconds)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self._host)

    def upgrade(self) -> Finding[bool]:
        """Ask for the WebSocket, as the bot does: without keys, which go into a message later.

        Raises:
            CheckFailedError: The answer is another, or there is none.
        """
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        answer = self._answer = self._ask(
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            "Content-Type: application/msgpack",
        )
        if answer.status == _SWITCHING_PROTOCOLS:
            with contextlib.suppress(OSError):  # it has opened; that it is gone by now is no matter
                self._opened().sendall(_GOODBYE)
            self.close()
            return Finding("the server opens the WebSocket (HTTP 101)", True)
        problem = problem_of_status(answer.status)
        text = f"the server answers HTTP {answer.status}: {_REFUSALS[problem]}"
        if answer.retry_after is not None:
            text += f" (Retry-After: {harmless(answer.retry_after)})"
        raise CheckFailedError(problem, text)

    def clock(self) -> Finding[bool]:
        """Compare the local clock with the Date header of what the server has answered.

        Raises:
            CheckSkippedError: The server has told no time.
        """
        answer = self._answer
        if answer is None:
            msg = "the server has not answered"
            raise CheckSkippedError(msg)
        date_ns = _date_ns(answer.date)
        if date_ns is None:  # an answer 101 need not have one
            answer = self._plain_answer()
            date_ns = _date_ns(answer.date)
        if date_ns is None:
            msg = "the server tells no time"
            raise CheckSkippedError(msg)
        return _judge_clock(answer, date_ns)

    def _plain_answer(self) -> _Answer:
        """What the server says to a plain GET, on a connection of its own.

        Raises:
            CheckSkippedError: Nothing.
        """
        self.close()
        try:
            self.connect()
            self.secure()
            return self._ask("Connection: close")
        except CheckFailedError as exc:
            msg = f"the server tells no time: {exc}"
            raise CheckSkippedError(msg) from exc
        finally:
            self.close()

    def _ask(self, *headers: str) -> _Answer:
        """Send a GET and read status and headers of the answer.

        Raises:
            CheckFailedError: There is no answer, or it is not HTTP.
        """
        lines = (f"GET {self._target} HTTP/1.1", f"Host: {self._netloc}", *headers, "", "")
        asked_ns = self._clock.utc_now_ns()
        try:
            head = self._exchange("\r\n".join(lines).encode())
        except OSError as exc:
            text = f"no answer to the HTTP request: {_reason(exc)}"
            raise CheckFailedError(Problem.UPGRADE, text) from exc
        answered_ns = self._clock.utc_now_ns()
        first, _, rest = head.partition(b"\r\n")
        status = _STATUS_LINE.match(first)
        if status is None or not head.endswith(_END_OF_HEAD):
            raise CheckFailedError(Problem.UPGRADE, "what answers does not speak HTTP")
        fields = BytesHeaderParser().parsebytes(rest)
        date, retry_after = (_text(fields[name]) for name in ("Date", "Retry-After"))
        return _Answer(int(status[1]), date, retry_after, asked_ns, answered_ns)

    def _exchange(self, request: bytes) -> bytes:
        """Send; receive until the end of the head. However it trickles, one deadline holds.

        Raises:
            OSError: It did not come to that.
        """
        sock, deadline = self._opened(), self._clock.monotonic() + self._budget.step()
        head = b""
        sock.settimeout(max(deadline - self._clock.monotonic(), 0.001))
        sock.sendall(request)
        while _END_OF_HEAD not in head and len(head) < _MAX_HEAD:
            remaining = deadline - self._clock.monotonic()
            if remaining <= 0:
                raise TimeoutError
            sock.settimeout(remaining)
            received = sock.recv(4096)
            if not received:
                break
            head += received
        before, end, _ = head.partition(_END_OF_HEAD)
        return before + end

    def _opened(self) -> socket.socket:
        if self._socket is None:
            msg = "the connection is closed"
            raise OSError(msg)
        return self._socket


def _judge_clock(answer: _Answer, date_ns: int) -> Finding[bool]:
    middle_ns = (answer.asked_ns + answer.answered_ns) // 2
    ahead = (middle_ns - date_ns) / 1e9 - _RESOLUTION / 2
    way = (answer.answered_ns - answer.asked_ns) / 2e9
    uncertainty = max(_RESOLUTION, _RESOLUTION / 2 + way)
    direction = "ahead of" if ahead >= 0 else "behind"
    text = (
        f"the local clock is {abs(ahead):.1f} s {direction} the server's (+/- {uncertainty:.0f} s)"
    )
    if abs(ahead) <= _TOLERANCE + uncertainty - _RESOLUTION:
        return Finding(text, True)
    return Finding(f"{text}: latencies and ages will be wrong", True, Problem.CLOCK)


def _text(header: object) -> str | None:
    """A header as text; with bytes beyond ASCII in it the parser makes an object of its own."""
    return None if header is None else str(header)


def _date_ns(header: str | None) -> int | None:
    """A Date header as nanoseconds since the epoch; ``None`` if it is none."""
    if header is None:
        return None
    try:
        return int(email.utils.parsedate_to_datetime(header).timestamp()) * 1_000_000_000
    except (ValueError, TypeError, OverflowError):
        return None


def _reason(exc: BaseException) -> str:
    """What the system says, in words."""
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, ConnectionRefusedError):
        return "refused, nothing listens there"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return harmless(exc.reason.lower().replace("_", " "))
    strerror = exc.strerror if isinstance(exc, OSError) else None
    return harmless(strerror or str(exc) or type(exc).__name__)
