"""A daemon thread with an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["LoopThread"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Running:
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    ending: asyncio.Event


class LoopThread:
    """Thread safety: every method may be called from any thread; what waits, not from its own."""

    def __init__(self) -> None:
        """Not running."""
        self._lock = threading.RLock()  # held while the loop is waited for, so that it stays
        self._now: _Running | None = None
        self._begun: list[asyncio.Task[Any]] = []  # touched by the thread itself only

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._now is not None

    def start(self, name: str) -> None:
        """Start the thread under this name."""
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(_serve(ready)), name=name, daemon=True)
        with self._lock:
            thread.start()
            self._now = _Running(thread, *ready.result())

    def stop(self) -> None:
        """Cancel what runs on the loop and end the thread.

        Raises:
            RuntimeError: Not running.
        """
        with self._lock:
            running = self._running()
            running.loop.call_soon_threadsafe(running.ending.set)
            running.thread.join()
            self._now = None

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result.

        Raises:
            RuntimeError: Not running, or called on the loop's own thread.
        """
        if threading.current_thread() is self._running().thread:
            msg = "must not be called on the simulator's own thread"
            raise RuntimeError(msg)
        with self._lock:
            loop = self._running().loop
            return asyncio.run_coroutine_threadsafe(work(), loop).result()

    def carry_out(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """As :meth:`run`; on the loop's own thread, begin it only, see :meth:`take_begun`.

        Raises:
            RuntimeError: Not running.
        """
        if threading.current_thread() is self._running().thread:
            self._begun.append(asyncio.get_running_loop().create_task(work()))
        else:
            self.run(work)

    def take_begun(self) -> list[asyncio.Task[Any]]:
        """What was begun on the loop's own thread since the last call of this there."""
        begun, self._begun = self._begun, []
        return begun

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Have a callback called on the loop, after those posted before.

        Raises:
            RuntimeError: Not running.
        """
        self._running().loop.call_soon_threadsafe(callback, *args)

    def _running(self) -> _Running:
        running = self._now
        if running is None:
            msg = "the simulator is not running"
            raise RuntimeError(msg)
        return running


async def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    ending = asyncio.Event()
    ready.set_result((asyncio.get_running_loop(), ending))
    await ending.wait()
