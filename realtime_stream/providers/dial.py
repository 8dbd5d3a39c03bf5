"""A connected TCP socket with a deadline that holds for name resolution too.

The event loop's own resolver runs in a thread pool that the loop waits for when it ends; behind a
DNS server that hangs, stopping then takes as long as the resolver does. Here each look-up has a
daemon thread of its own that nobody waits for. The C library cannot be interrupted, so such a
thread ends when the resolver gives up; a second look-up of the same name joins the first, which
keeps them few.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.providers.loop_signal import LoopSignal

__all__ = ["RESOLVER", "Resolver", "dial"]

AddressInfo: TypeAlias = tuple[int, int, int, str, Any]
_DEFAULT_PORTS = {"ws": 80, "wss": 443}


class Resolver:
    """Looks names up on daemon threads named ``realtime-stream/<owner>/resolve``.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        """No look-up runs."""
        self._lock = threading.Lock()  # guards the table of running look-ups
        self._running: dict[
            tuple[str, int], tuple[threading.Thread, Future[list[AddressInfo]]]
        ] = {}

    def forget_all(self) -> None:
        """In a forked child: the parent's look-ups are not here, and its lock may never be free."""
        self._lock = threading.Lock()
        self._running = {}

    def lingering(self, owner: str) -> tuple[str, ...]:
        """Names of ``owner``'s look-up threads that have not come back yet."""
        with self._lock:
            threads = [thread for thread, _ in self._running.values()]
        name = _thread_name(owner)
        return tuple(t.name for t in threads if t.name == name and t.is_alive())

    async def resolve(self, host: str, port: int, owner: str) -> list[AddressInfo]:
        """Addresses of ``host``; cancelling leaves the look-up to itself.

        Raises:
            OSError: The name cannot be resolved.
        """
        with contextlib.suppress(socket.gaierror):  # an address needs no look-up
            return _getaddrinfo(host, port, socket.AI_NUMERICHOST)
        loop, found = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop that asked is gone
                loop.call_soon_threadsafe(found.set)

        future = self._look_up(host, port, owner)
        future.add_done_callback(tell)
        await found.wait()
        return future.result()

    def _look_up(self, host: str, port: int, owner: str) -> Future[list[AddressInfo]]:
        key = (host, port)
        with self._lock:
            running = self._running.get(key)
            if running is not None and running[0].is_alive():
                return running[1]
            future: Future[list[AddressInfo]] = Future()
            thread = threading.Thread(
                target=self._run, args=(key, future), name=_thread_name(owner), daemon=True
            )
            self._running[key] = (thread, future)
            thread.start()
            return future

    def _run(self, key: tuple[str, int], future: Future[list[AddressInfo]]) -> None:
        try:
            addresses = _getaddrinfo(*key, 0)
        except OSError as exc:
            self._forget(key)
            future.set_exception(exc)
        else:
            self._forget(key)
            future.set_result(addresses)

    def _forget(self, key: tuple[str, int]) -> None:
        with self._lock:
            self._running.pop(key, None)


RESOLVER: Final = Resolver()  # shared, so that look-ups of one name are one thread
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=RESOLVER.forget_all)


def _getaddrinfo(host: str, port: int, flags: int) -> list[AddressInfo]:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except UnicodeError as exc:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc


def _thread_name(owner: str) -> str:
    return f"realtime-stream/{owner}/resolve"


async def _connect(
    addresses: list[AddressInfo], timeout: float, opened: Callable[[socket.socket], None]
) -> socket.socket:
    """Try the addresses in order; a dead one costs only its share of the time."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("the host name has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        opened(sock)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout / len(addresses)):
                await loop.sock_connect(sock, address)
        except OSError as exc:  # TimeoutError is one
            sock.close()
            failure = exc
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            return sock
    raise failure


def dial(
    url: str,
    *,
    timeout: float,
    interrupt: LoopSignal,
    resolver: Resolver,
    owner: str,
    opened: Callable[[socket.socket], None] = lambda _: None,
) -> socket.socket | None:
    """Connect to the host and port of ``url``; ``None`` when interrupted. Blocks the caller.

    Args:
        url: Of a WebSocket (``ws://`` or ``wss://``), or with any scheme and a port.
        timeout: Seconds for name and connection together.
        interrupt: Ends the call at once when set.
        resolver: Looks the name up.
        owner: Names the look-up's thread.
        opened: Told of each socket before it is connected.

    Returns:
        A connected, non-blocking socket that the caller owns.

    Raises:
        OSError: No connection; :class:`TimeoutError` when time ran out.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    async def connect() -> socket.socket | None:
        task = asyncio.current_task()
        if task is not None:
            interrupt.arm(task.cancel)
        try:
            async with asyncio.timeout(timeout):
                addresses = await resolver.resolve(host, port, owner)
                return await _connect(addresses, timeout, opened)
        except asyncio.CancelledError:
            if interrupt.is_set():
                return None
            raise
        finally:
            interrupt.disarm()

    return asyncio.run(connect())
