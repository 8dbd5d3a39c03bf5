"""A daemon thread with an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """Thread safety: every method may be called from any thread but its own."""

    def __init__(self) -> None:
        """Not running."""
        self._lock = threading.RLock()  # guards starting, stopping and waiting for the loop
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread is not None

    def start(self, name: str) -> None:
        """Start the thread under this name."""
        ready: Future[None] = Future()
        with self._lock:
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._main(ready)), name=name, daemon=True
            )
            self._thread.start()
            ready.result()

    def stop(self) -> None:
        """Cancel what runs on the loop and end the thread."""
        with self._lock:
            if self._thread is None or self._loop is None or self._ending is None:
                return
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._thread = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result.

        Raises:
            RuntimeError: Not running, or called on the loop's own thread.
        """
        if threading.current_thread() is self._thread:
            msg = "must not be called on the simulator's own thread"
            raise RuntimeError(msg)
        with self._lock:
            loop = self._running_loop()
            return asyncio.run_coroutine_threadsafe(work(), loop).result()

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Have a callback called on the loop, after those posted before.

        Raises:
            RuntimeError: Not running.
        """
        self._running_loop().call_soon_threadsafe(callback, *args)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._thread is None or self._loop is None:
            msg = "the simulator is not running"
            raise RuntimeError(msg)
        return self._loop

    async def _main(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        ready.set_result(None)
        await self._ending.wait()
