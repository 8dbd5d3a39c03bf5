"""Playing a source of messages in its own time, or faster."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from realtime_stream.simulator.wire import SECOND, Message, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from realtime_stream.simulator.hub import Hub

__all__ = ["Pace", "PlaybackHandle"]

_MAX_BACKLOG: Final = 1 << 20  # bytes; only playback without a speed limit waits for clients
_RECHECK: Final = 0.002  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How to play; see ``AlpacaSimulator.play``."""

    speed: float
    market: str
    feed: str | None
    wait_for_subscription: bool
    messages_per_frame: int

    def __post_init__(self) -> None:
        """Check the figures."""
        if not self.speed > 0 or self.messages_per_frame < 1:
            msg = "speed and messages_per_frame must be positive"
            raise ValueError(msg)


class PlaybackHandle:
    """A playback that runs on the simulator's thread.

    Thread safety: every method may be called from any thread but the simulator's own.
    """

    def __init__(
        self,
        pace: Pace,
        post: Callable[..., None],
        on_change: Callable[[Literal["started", "finished"]], None],
    ) -> None:
        """Made by ``AlpacaSimulator.play``."""
        self._pace = pace
        self._post = post
        self._on_change = on_change
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._published = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def published(self) -> int:
        """How many messages have been published so far."""
        return self._published

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, was cancelled, or has failed."""
        return self._finished.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most ``timeout`` seconds; tell whether it came.

        Raises:
            Exception: What the source raised, or ``ValueError`` for a message that cannot be sent.
        """
        ended = self._finished.wait(timeout)
        if self._error is not None:
            raise self._error
        return ended

    def cancel(self) -> None:
        """Publish nothing more; :meth:`wait` tells when that is sure."""
        if not self._finished.is_set():
            self._post(self._cancel)

    def begin(self, source: Iterable[tuple[int, Mapping[str, Any]]], hub: Hub) -> None:
        """Start playing; on the simulator's thread."""
        self._task = asyncio.get_running_loop().create_task(self._play(source, hub))
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        self._finished.set()
        self._on_change("finished")

    async def _play(self, source: Iterable[tuple[int, Mapping[str, Any]]], hub: Hub) -> None:
        pace = self._pace
        if pace.wait_for_subscription:
            await hub.wait_subscribed(pace.market, pace.feed)
        self._on_change("started")
        now = asyncio.get_running_loop().time
        began = now()
        first: int | None = None
        newest = 0
        frame: list[Message] = []
        for t_ns, fields in source:
            first = t_ns if first is None else first
            due = began + (t_ns - first) / SECOND / pace.speed
            if frame and (len(frame) >= pace.messages_per_frame or due > now()):
                await self._publish(frame, hub, newest)
                frame = []
            if due > now():
                await asyncio.sleep(due - now())
            frame.append(prepare(fields, pace.market))
            newest = t_ns
        if frame:
            await self._publish(frame, hub, newest)

    async def _publish(self, frame: list[Message], hub: Hub, at_ns: int) -> None:
        hub.publisher.play(frame, self._pace.market, self._pace.feed, at_ns)
        self._published += len(frame)
        await asyncio.sleep(0)  # others have their turn however fast it goes
        while math.isinf(self._pace.speed) and hub.backlog() > _MAX_BACKLOG:
            await asyncio.sleep(_RECHECK)
