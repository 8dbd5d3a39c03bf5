"""Playing scripts of faults on the simulator's thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from realtime_stream.simulator.fault_script import SWITCHES, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from realtime_stream.simulator.faults import Faults
    from realtime_stream.simulator.hub import Hub
    from realtime_stream.simulator.loop_thread import LoopThread

__all__ = ["FaultScriptHandle", "FaultScripts"]


class FaultScriptHandle:
    """A fault script that is being played.

    Thread safety: every method may be called from any thread but the simulator's own.
    """

    def __init__(
        self,
        script: Sequence[tuple[float, Fault]],
        apply: Callable[[Fault], Coroutine[Any, Any, None]],
        post: Callable[..., None],
    ) -> None:
        """Made by ``AlpacaSimulator.play_faults``."""
        self._script = script
        self._apply = apply
        self._post = post
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._applied = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def applied(self) -> int:
        """How many faults have been applied so far."""
        return self._applied

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, was cancelled, or has failed."""
        return self._finished.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most ``timeout`` seconds; tell whether it came.

        Faults stay as the script leaves them.

        Raises:
            Exception: What a fault has raised; it was the script's end.
        """
        ended = self._finished.wait(timeout)
        if self._error is not None:
            raise self._error
        return ended

    def cancel(self) -> None:
        """Apply nothing more; :meth:`wait` tells when that is sure."""
        if not self._finished.is_set():
            self._post(self.end)

    def begin(self, on_end: Callable[[FaultScriptHandle], None]) -> None:
        """Start the script's time; on the simulator's thread."""
        self._task = asyncio.get_running_loop().create_task(self._play())
        self._task.add_done_callback(lambda task: self._ended(task, on_end))

    def end(self) -> None:
        """Apply nothing more; on the simulator's thread."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None], on_end: Callable[[FaultScriptHandle], None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        on_end(self)
        self._finished.set()

    async def _play(self) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        for seconds, fault in self._script:
            await asyncio.sleep(max(began + seconds - now(), 0))
            await self._apply(fault)
            self._applied += 1


class FaultScripts:
    """The scripts that one simulator plays."""

    def __init__(self, faults: Faults, thread: LoopThread) -> None:
        """Args: the simulator's ``faults``, and its ``thread``."""
        self._faults = faults
        self._thread = thread
        self._playing: set[FaultScriptHandle] = set()  # touched by the thread only

    def play(self, script: Sequence[tuple[float, Fault]], hub: Hub) -> FaultScriptHandle:
        """Start a script, and return when it has started; not on the simulator's thread."""

        async def begin() -> None:
            self._playing.add(handle)
            handle.begin(self._playing.discard)

        handle = FaultScriptHandle(script, lambda fault: self._apply(fault, hub), self._thread.post)
        self._thread.run(begin)
        return handle

    def end_all(self) -> None:
        """Apply nothing more; on the simulator's thread."""
        for handle in self._playing:
            handle.end()

    async def _apply(self, fault: Fault, hub: Hub) -> None:
        if fault.name in SWITCHES:
            getattr(self._faults, fault.name)(**fault.arguments)
            for effect in self._thread.take_begun():
                await asyncio.shield(effect)  # half a change of the listening socket is no good
        elif fault.name == "drop":
            await hub.drop(**fault.arguments)
        elif fault.name == "send_error":
            hub.send_error(**fault.arguments)
        else:
            hub.publisher.send_garbage(**fault.arguments, terms=self._faults.data_terms)
