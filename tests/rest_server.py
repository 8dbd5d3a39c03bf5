"""A small HTTP server whose every answer is scripted, faults included."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from email.message import Message

__all__ = ["Asked", "Reply", "RestServer"]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    query: dict[str, str]
    target: str
    headers: Message
    client: tuple[str, int]


@dataclass(frozen=True)
class Reply:
    """One answer: what to send, and how to spoil it."""

    status: int = 200
    body: bytes | str | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: Literal["whole", "cut", "gone", "silent", "trickle", "trickled head", "chunked"] = "whole"
    zipped: bool = False
    then_close: bool = False

    def data(self) -> bytes:
        body = self.body
        if isinstance(body, dict):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        return gzip.compress(data) if self.zipped else data


class RestServer:
    """Answers on a port of its own while the block lasts; one reply per request, the last again."""

    def __init__(
        self, *replies: Reply | Callable[[Asked], Reply], tls: ssl.SSLContext | None = None
    ) -> None:
        self._replies = list(replies)
        self._condition = threading.Condition()
        self._asked: list[Asked] = []
        self._gave_up = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, *_: object) -> None:
                """Tests look at what was asked instead."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """The client may go at any moment."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._gave_up.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def asked(self) -> list[Asked]:
        with self._condition:
            return list(self._asked)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self._asked) >= count, 10.0)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        host, port = handler.client_address[:2]
        asked = Asked(
            parts.path, dict(parse_qsl(parts.query)), handler.path, handler.headers, (host, port)
        )
        with self._condition:
            number = min(len(self._asked), len(self._replies) - 1)
            self._asked.append(asked)
            self._condition.notify_all()
        found = self._replies[number]
        self._send(handler, found if isinstance(found, Reply) else found(asked))

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        data = reply.data()
        handler.close_connection = reply.then_close or reply.how not in {"whole", "chunked"}
        if reply.how == "silent":
            self._gave_up.wait(60)
            return
        if reply.how == "gone":
            return
        if reply.how == "trickled head":
            self._trickle(handler, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 60_000)
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.zipped:
            handler.send_header("Content-Encoding", "gzip")
        if reply.then_close:
            handler.send_header("Connection", "close")
        if reply.how == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for piece in (data[:7], data[7:]):
                handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.write(b"0\r\n\r\n")
            return
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if reply.how == "trickle":
            self._trickle(handler, data)
        else:
            handler.wfile.write(data[: len(data) // 2] if reply.how == "cut" else data)

    def _trickle(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        for n in range(len(data)):
            handler.wfile.write(data[n : n + 1])
            handler.wfile.flush()
            if self._gave_up.wait(0.02):
                return
