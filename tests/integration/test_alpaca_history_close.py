"""close() ends a fetch at once, wherever it is; without it, every wait has a bound."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from realtime_stream import StreamConfig
from realtime_stream.clock import SystemClock
from realtime_stream.config import Credentials
from realtime_stream.errors import HistoryError
from realtime_stream.ports import HistoryPage, HistoryRequest
from realtime_stream.providers.alpaca.history import AlpacaHistory
from realtime_stream.providers.alpaca.rest_exchange import RestPolicy
from realtime_stream.providers.alpaca.rest_stream import RestTimeouts
from realtime_stream.providers.dial import RESOLVER
from tests.rest_server import Reply, RestServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 0.5  # seconds, as promised
KEYS = Credentials(key="PKTESTKEY", secret="the-secret-of-the-test")
REQUEST = HistoryRequest("bars", ("AAPL",), 0, 10**18)
PAGE = Reply(
    body={
        "bars": {"AAPL": [{"t": "2001-01-01T00:00:00Z", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}]},
        "next_page_token": "b",
    }
)


def history(url: str, **timeouts: float) -> AlpacaHistory:
    policy = RestPolicy(tries=1 if timeouts else 4, timeouts=RestTimeouts(**timeouts))
    config = StreamConfig(api_key="not", secret_key="these")
    rng = random.Random(1)  # noqa: S311  # a test that can be repeated
    return AlpacaHistory(config, SystemClock(), SystemClock(), rng, url=url, policy=policy)


class Fetching:
    """A fetch on a thread of its own."""

    def __init__(self, provider: AlpacaHistory) -> None:
        self.provider = provider
        self.error: HistoryError | None = None
        self.pages: list[HistoryPage] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.pages.extend(self.provider.fetch(REQUEST, KEYS))
        except HistoryError as exc:
            self.error = exc

    def close(self) -> None:
        """Close the provider, and check that the fetch ends as it should."""
        began = time.monotonic()
        self.provider.close()
        self._thread.join(10)
        assert time.monotonic() - began < LIMIT
        assert str(self.error) == "the history was closed"
        with pytest.raises(HistoryError, match="closed"):
            self.provider.fetch(REQUEST, KEYS)
        self.provider.close()

    def ended(self) -> str:
        """What it ended with, by itself."""
        self._thread.join(20)
        self.provider.close()
        return str(self.error)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(how="silent"),
        Reply(body="x" * 1000, how="trickle"),
        Reply(how="trickled head"),
        Reply(429, headers={"Retry-After": "60"}),
    ],
    ids=lambda reply: str(reply.status if reply.status != 200 else reply.how),
)
@pytest.mark.parametrize("pages", [0, 1])
def test_a_running_request_ends(reply: Reply, pages: int) -> None:
    with RestServer(*[PAGE] * pages, reply) as server:
        fetching = Fetching(history(server.url))
        server.wait_for(pages + 1)
        fetching.close()


@pytest.fixture
def full() -> Iterator[str]:
    """The URL of a listener whose backlog is full: it answers no further connection."""
    with contextlib.ExitStack() as open_sockets:
        server = open_sockets.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = open_sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class Dialling:
    """Tells when a connection has begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        real = socket.socket.setblocking

        def setblocking(sock: socket.socket, flag: bool) -> None:
            real(sock, flag)
            self.begun.set()

        monkeypatch.setattr(socket.socket, "setblocking", setblocking)


def test_a_connection_that_is_never_accepted_ends(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialling = Dialling(monkeypatch)
    fetching = Fetching(history(full))
    assert dialling.begun.wait(10)
    fetching.close()


def test_a_look_up_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def look_up(*args: Any, **kwargs: Any) -> Any:
        if kwargs["flags"] & socket.AI_NUMERICHOST:
            return real(*args, **kwargs)
        asked.set()
        assert go.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "gave up")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fetching = Fetching(history("http://history.invalid"))
    assert asked.wait(10)
    fetching.close()
    (name,) = RESOLVER.lingering("history")
    assert name == "realtime-stream/history/resolve"
    go.set()
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)


def test_a_tls_handshake_that_is_never_answered_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fetching = Fetching(history(f"https://127.0.0.1:{listener.getsockname()[1]}"))
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(1)  # it has begun
            fetching.close()


def test_a_fetch_that_stands_between_two_pages_ends() -> None:
    with RestServer(PAGE) as server:
        provider = history(server.url)
        pages = provider.fetch(REQUEST, KEYS)
        next(pages)
        provider.close()
        with pytest.raises(HistoryError, match="closed"):
            next(pages)
        assert len(server.asked) == 1


def test_closing_lets_go_of_the_kept_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = history(f"http://127.0.0.1:{listener.getsockname()[1]}")
        fetching = Fetching(provider)
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(10)
            answer(peer, b'{"bars":{}}')
            assert fetching.ended() == "None"
            assert peer.recv(1) == b""


def answer(peer: socket.socket, body: bytes) -> None:
    """Read one request, and send one whole answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_close_from_many_threads_at_any_moment() -> None:
    with RestServer(PAGE, Reply(how="silent")) as server:
        fetching = Fetching(history(server.url))
        server.wait_for(2)
        closers = [threading.Thread(target=fetching.provider.close) for _ in range(8)]
        for closer in closers:
            closer.start()
        fetching.close()
        for closer in closers:
            closer.join(10)


# --- without a close, no wait is endless ---


@pytest.mark.parametrize("how", ["silent", "trickle", "trickled head"])
def test_a_server_that_is_too_slow_is_given_up(how: Any) -> None:
    with RestServer(Reply(body="x" * 5000, how=how)) as server:
        fetching = Fetching(history(server.url, read=0.3, answer=0.6))
        assert "did not answer in time" in fetching.ended()


def test_a_connection_that_is_never_accepted_is_given_up(full: str) -> None:
    assert "did not answer in time" in Fetching(history(full, connect=0.2)).ended()


# --- TLS ---


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


def server_side(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def test_pages_over_tls(trusted: trustme.CA) -> None:
    with RestServer(
        PAGE, Reply(body={"bars": {}}), tls=server_side(trusted, "127.0.0.1")
    ) as server:
        fetching = Fetching(history(server.url))
        assert fetching.ended() == "None"
    assert len(fetching.pages) == 1
    assert len({asked.client for asked in server.asked}) == 1


def test_a_silent_server_behind_tls(trusted: trustme.CA) -> None:
    with RestServer(Reply(how="silent"), tls=server_side(trusted, "127.0.0.1")) as server:
        fetching = Fetching(history(server.url))
        server.wait_for(1)
        fetching.close()


def test_a_certificate_for_another_name(trusted: trustme.CA) -> None:
    with RestServer(PAGE, tls=server_side(trusted, "example.org")) as server:
        fetching = Fetching(history(server.url, connect=5))
        assert "certificate is not trusted" in fetching.ended()
    assert server.asked == []
