"""Timed publishing on the simulator's loop, in step with a scaled clock."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["PlaybackHandle", "Player"]

_TICK: Final = 0.005  # seconds; what is due within one tick goes out together
_BURST: Final = 50  # frames published before other work gets a turn


class PlaybackHandle:
    """What the caller of ``play`` holds. Thread-safe."""

    def __init__(self) -> None:
        """Not finished."""
        self._done = threading.Event()
        self._cancel: Callable[[], None] = self._done.set
        self.published = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is published or cancelled; tell whether it is."""
        return self._done.wait(timeout)

    def cancel(self) -> None:
        """Publish nothing more."""
        self._cancel()

    def bind(self, cancel: Callable[[], None]) -> None:
        """What :meth:`cancel` does (made by the player)."""
        self._cancel = cancel

    def finish(self) -> None:
        """Everything is published (said by the player)."""
        self._done.set()


class Player:
    """Publishes a source. Used on the loop alone."""

    def __init__(
        self,
        *,
        publish: Callable[[list[Mapping[str, Any]]], None],
        source: Iterable[tuple[int, Mapping[str, Any]]],
        speed: float,
        batch: int,
        handle: PlaybackHandle,
    ) -> None:
        """Nothing published yet."""
        self._publish = publish
        self._source = iter(source)
        self._speed = speed
        self._batch = batch
        self._handle = handle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, after: asyncio.Event | None) -> None:
        """Begin, at once or after the event."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(after))
        self._task.add_done_callback(lambda _: self._handle.finish())
        self._handle.bind(self._cancel_soon)

    def _cancel_soon(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the task with it
                self._loop.call_soon_threadsafe(self.cancel)

    def cancel(self) -> None:
        """Publish nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, after: asyncio.Event | None) -> None:
        if after is not None:
            await after.wait()
        first = next(self._source, None)
        if first is None:
            return
        loop = asyncio.get_running_loop()
        start_ns, began = first[0], loop.time()
        batch: list[Mapping[str, Any]] = []
        frames = 0
        for at_ns, message in itertools.chain((first,), self._source):
            due = 0.0 if math.isinf(self._speed) else began + (at_ns - start_ns) / 1e9 / self._speed
            early = due - loop.time()
            if batch and (early > _TICK or len(batch) >= self._batch):
                self._flush(batch)
                frames += 1
            if early > _TICK:
                await asyncio.sleep(early)
            elif frames >= _BURST:
                frames = 0
                await asyncio.sleep(0)
            batch.append(message)
        self._flush(batch)

    def _flush(self, batch: list[Mapping[str, Any]]) -> None:
        if batch:
            self._publish(list(batch))
            self._handle.published += len(batch)
            batch.clear()
