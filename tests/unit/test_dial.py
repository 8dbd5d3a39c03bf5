from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.providers.dial import Resolver, dial
from realtime_stream.providers.loop_signal import LoopSignal

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = "test"
THREAD = f"realtime-stream/{OWNER}/resolve"
REAL_LOOK_UP = socket.getaddrinfo


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener whose backlog is full: it answers no further connection."""
    with contextlib.ExitStack() as open_sockets:
        server = open_sockets.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = open_sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


class SlowLookUp:
    """Stands in the place of ``socket.getaddrinfo``; look-ups of names wait for ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self.count = 0
        self.answer: Any = []

    def __call__(self, host: str, port: int, *, type: int, flags: int) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return REAL_LOOK_UP(host, port, type=type, flags=flags)
        self.count += 1
        self.asked.release()
        assert self.go.wait(30)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowLookUp]:
    look_up = SlowLookUp()
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield look_up
    look_up.go.set()
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(10)


def call(
    url: str,
    *,
    timeout: float = 10.0,
    interrupt: LoopSignal | None = None,
    resolver: Resolver | None = None,
) -> socket.socket | None:
    return dial(
        url,
        timeout=timeout,
        interrupt=interrupt or LoopSignal(),
        resolver=resolver or Resolver(),
        owner=OWNER,
    )


def url_of(server: socket.socket, host: str = "127.0.0.1") -> str:
    return f"ws://{host}:{server.getsockname()[1]}/v2/iex"


class Dialling:
    """A dial on a thread of its own."""

    def __init__(self, url: str, resolver: Resolver, timeout: float = 30.0) -> None:
        self.signal = LoopSignal()
        self.outcome: list[object] = []
        self.thread = threading.Thread(target=self._run, args=(url, resolver, timeout))
        self.thread.start()

    def _run(self, url: str, resolver: Resolver, timeout: float) -> None:
        try:
            self.outcome.append(
                call(url, timeout=timeout, interrupt=self.signal, resolver=resolver)
            )
        except OSError as exc:
            self.outcome.append(exc)

    def join(self) -> object:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.outcome[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_connects(listener: socket.socket, host: str) -> None:
    connected = call(url_of(listener, host))
    assert connected is not None
    with connected:
        assert not connected.getblocking()
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted, address = listener.accept()
        accepted.close()
        assert connected.getsockname() == address


def test_a_closed_port_is_refused(listener: socket.socket) -> None:
    url = url_of(listener)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        call(url)


def test_a_peer_that_does_not_answer_costs_the_timeout(full: int) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call(f"ws://127.0.0.1:{full}/", timeout=0.05)
    assert time.monotonic() - began < 5


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(socket.gaierror):
        call("ws://name.invalid:1/")


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_no_name_can_be_is_an_error_of_the_same_kind(host: str) -> None:
    with pytest.raises(OSError, match=r".*"):
        call(f"ws://{host}:1/")


def test_interrupted_before_it_gives_nothing(full: int) -> None:
    signal = LoopSignal()
    signal.set()
    assert call(f"ws://127.0.0.1:{full}/", interrupt=signal) is None


def test_interrupted_while_it_connects_it_gives_nothing_at_once(full: int) -> None:
    dialling = Dialling(f"ws://127.0.0.1:{full}/", Resolver())
    began = time.monotonic()
    dialling.signal.set()
    assert dialling.join() is None
    assert time.monotonic() - began < 5


def test_interrupted_while_a_look_up_hangs_it_gives_nothing_at_once(slow: SlowLookUp) -> None:
    resolver = Resolver()
    dialling = Dialling("ws://host.example:80/", resolver)
    assert slow.asked.acquire(timeout=10)
    assert resolver.lingering(OWNER) == (THREAD,)
    assert resolver.lingering("somebody else") == ()
    dialling.signal.set()
    assert dialling.join() is None
    assert resolver.lingering(OWNER) == (THREAD,)


def test_a_look_up_that_hangs_costs_the_timeout(slow: SlowLookUp) -> None:
    resolver = Resolver()
    with pytest.raises(TimeoutError):
        call("ws://host.example:80/", timeout=0.02, resolver=resolver)
    assert resolver.lingering(OWNER) == (THREAD,)
    slow.answer = []
    slow.go.set()
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(10)
    assert resolver.lingering(OWNER) == ()


def test_a_second_look_up_of_the_same_name_joins_the_first(
    slow: SlowLookUp, listener: socket.socket
) -> None:
    resolver, url = Resolver(), url_of(listener, "host.example")
    slow.answer = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())]
    first = Dialling(url, resolver)
    assert slow.asked.acquire(timeout=10)
    first.signal.set()
    assert first.join() is None
    signal = LoopSignal()
    with pytest.raises(TimeoutError):
        call(url, timeout=0.02, interrupt=signal, resolver=resolver)
    assert slow.count == 1
    second = Dialling(url, resolver)
    slow.go.set()
    connected = second.join()
    assert isinstance(connected, socket.socket)
    connected.close()


def test_a_look_up_of_another_name_is_one_of_its_own(slow: SlowLookUp) -> None:
    resolver = Resolver()
    dials = [Dialling(f"ws://{name}.example:80/", resolver) for name in ("one", "two")]
    for _ in dials:
        assert slow.asked.acquire(timeout=10)
    assert resolver.lingering(OWNER) == (THREAD, THREAD)
    for dialling in dials:
        dialling.signal.set()
        assert dialling.join() is None


def test_a_failed_look_up_is_reported_and_made_anew_next_time(slow: SlowLookUp) -> None:
    resolver = Resolver()
    slow.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    slow.go.set()
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="try again"):
            call("ws://host.example:80/", resolver=resolver)
    assert slow.count == 2
    assert resolver.lingering(OWNER) == ()


def test_a_name_without_addresses_is_an_error(slow: SlowLookUp) -> None:
    slow.answer = []
    slow.go.set()
    with pytest.raises(OSError, match="has no address"):
        call("ws://host.example:80/")


def test_a_dead_address_is_passed_over(slow: SlowLookUp, listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dead:
        closed = dead.getsockname()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    slow.answer = [(*kind, closed), (*kind, listener.getsockname())]
    slow.go.set()
    connected = call("ws://host.example:80/")
    assert connected is not None
    with connected:
        assert connected.getpeername() == listener.getsockname()


@pytest.mark.parametrize(("scheme", "port"), [("ws", 80), ("wss", 443)])
def test_the_port_follows_the_scheme(
    scheme: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def look_up(host: str, port: int, **_: int) -> list[Any]:
        asked.append(port)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(OSError, match="has no address"):
        call(f"{scheme}://127.0.0.1/v2/iex")
    assert asked == [port]


def test_a_cancellation_from_elsewhere_is_passed_on(slow: SlowLookUp) -> None:
    class Foreign(LoopSignal):
        def is_set(self) -> bool:
            return False

    signal = Foreign()
    signal.set()
    with pytest.raises(asyncio.CancelledError):
        call("ws://host.example:80/", interrupt=signal)
