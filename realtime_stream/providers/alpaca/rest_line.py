"""One HTTP connection that can be given up at any moment, whatever the server does.

The SDK's own transport has no timeout, and neither requests nor urllib3 can be interrupted while
they resolve a name or connect. So this is the standard library's HTTP over a socket that is
dialled as those of the streams are: every wait has a bound, and :meth:`RestLine.close` ends it.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass
from http.client import HTTPConnection, RemoteDisconnected
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from realtime_stream.errors import ConfigurationError
from realtime_stream.providers.alpaca.rest_stream import Answer, BoundedStream, body_of
from realtime_stream.providers.dial import RESOLVER, dial
from realtime_stream.providers.loop_signal import LoopSignal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from realtime_stream.clock import Clock
    from realtime_stream.providers.alpaca.rest_stream import RestTimeouts

__all__ = ["RestLine"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RestLine:
    """A connection to one server, opened when it is needed and kept for the next request.

    Thread safety: :meth:`get` is called by one thread at a time, the rest by any.
    """

    def __init__(self, base_url: str, *, clock: Clock, timeouts: RestTimeouts, owner: str) -> None:
        """Nothing is open yet.

        Args:
            base_url: ``http://`` or ``https://``, a host, and perhaps a port and a path.
            clock: Measures how long an answer takes.
            timeouts: Bounds on the waits.
            owner: Names the thread of a look-up.

        Raises:
            ConfigurationError: That is no such URL.
        """
        parts = _split(base_url)
        self._secure = parts.scheme == "https"
        self._host = parts.host
        self._port = parts.port
        self._path = parts.path
        self._clock = clock
        self._timeouts = timeouts
        self._owner = owner
        self._http = _Connection(self._host, self._port, self._open)
        # The port that the Host header leaves out.
        self._http.default_port = _DEFAULT_PORTS[parts.scheme]
        self._interrupt = LoopSignal()
        self._lock = threading.Lock()  # guards the two below, and the socket while it is closed
        self._stream: BoundedStream | None = None
        self._busy = False

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._interrupt.is_set()

    def close(self) -> None:
        """End the running request, and every later one at once. Never blocks."""
        self._interrupt.set()
        with self._lock:
            if not self._busy:  # or else the thread that waits for an answer lets go
                self._release()

    def _release(self) -> None:
        """Let go of the connection; the next request opens another. Called with the lock held."""
        self._http.close()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.release()

    def get(self, target: str, headers: Mapping[str, SecretStr | str]) -> Answer:
        """Send a GET request and read the whole answer.

        Args:
            target: Path and query, appended to the path of the base URL.
            headers: Beside those that HTTP itself needs.

        Raises:
            OSError: The connection failed, took too long, or :meth:`close` was called.
            HTTPException: The server does not speak HTTP, or stopped in the middle.
        """
        with self._lock:
            self._busy = True
        keep = False
        try:
            answer = self._ask_again_if_gone(target, headers)
            keep = self._http.sock is not None  # the server may keep no connection
        finally:
            with self._lock:
                self._busy = False
                if not keep or self.closed:
                    self._release()
        return answer

    def _ask_again_if_gone(self, target: str, headers: Mapping[str, SecretStr | str]) -> Answer:
        """A server may close a kept connection at any time; that is no failure."""
        if self._http.sock is not None:
            with contextlib.suppress(RemoteDisconnected, ConnectionError):
                return self._ask(target, headers)
            with self._lock:
                self._release()
        return self._ask(target, headers)

    def _ask(self, target: str, headers: Mapping[str, SecretStr | str]) -> Answer:
        if self.closed:
            raise ConnectionAbortedError
        http = self._http
        http.putrequest("GET", self._path + target, skip_accept_encoding=True)
        http.putheader("Accept-Encoding", "gzip")
        for name, value in headers.items():
            http.putheader(name, value if isinstance(value, str) else value.get_secret_value())
        http.endheaders()
        response = http.getresponse()
        return Answer(response.status, response.headers, body_of(response))

    def _open(self) -> BoundedStream:
        host = f"[{self._host}]" if ":" in self._host else self._host
        sock = dial(
            f"tcp://{host}:{self._port}",
            timeout=self._timeouts.connect,
            interrupt=self._interrupt,
            resolver=RESOLVER,
            owner=self._owner,
        )
        if sock is None:
            raise ConnectionAbortedError
        if self._secure:
            context = ssl.create_default_context()
            sock = context.wrap_socket(
                sock, server_hostname=self._host, do_handshake_on_connect=False
            )
        stream = BoundedStream(sock, self._clock, self._timeouts)
        with self._lock:
            self._stream = stream
        self._interrupt.arm_direct(self._shut_down)
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(self._timeouts.connect)
            sock.do_handshake()
        return stream

    def _shut_down(self) -> None:
        with self._lock:
            if self._stream is not None:
                self._stream.shut_down()


class _Connection(HTTPConnection):
    """HTTP over a socket that somebody else opens."""

    def __init__(self, host: str, port: int, opener: Any) -> None:
        super().__init__(host, port)
        self._opener = opener

    def connect(self) -> None:
        self.sock = self._opener()


@dataclass(frozen=True, slots=True)
class _Url:
    scheme: str
    host: str
    port: int
    path: str


def _split(base_url: str) -> _Url:
    parts = urlsplit(base_url)
    try:
        port = parts.port
    except ValueError:  # not a number, or too high
        port = 0
    usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and port != 0
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        msg = (
            "the URL of the history must start with http:// or https://, name a host, and hold "
            "neither credentials nor a query"
        )
        raise ConfigurationError(msg)
    return _Url(
        parts.scheme,
        parts.hostname or "",
        port or _DEFAULT_PORTS[parts.scheme],
        parts.path.rstrip("/"),
    )
