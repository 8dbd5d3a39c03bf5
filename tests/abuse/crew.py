"""Threads that do what a script tells them, and what is seen of a call that never returns."""

from __future__ import annotations

import faulthandler
import queue
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATIENCE", "Call", "Crew", "stacks"]

PATIENCE = 15.0  # seconds beyond its own timeout after which a call counts as hung


def stacks() -> str:
    """Where every thread of the process is now."""
    with tempfile.TemporaryFile(mode="w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


@dataclass(eq=False)
class Call:
    """One call on one of the threads.

    Attributes:
        what: The call, for messages.
        function: Makes it.
        timeout: Seconds that it was told it may take.
        began: When it began, monotonic seconds.
        raised: What it raised.
    """

    what: str
    function: Callable[[], object]
    timeout: float
    began: float | None = None
    raised: BaseException | None = None
    started: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def make(self) -> None:
        self.began = time.monotonic()
        self.started.set()
        try:
            self.function()
        except BaseException as exc:  # noqa: BLE001  # judged by the script's thread
            self.raised = exc
        finally:
            self.done.set()

    def hung(self) -> bool:
        """Wait for the end; tell whether it does not come."""
        if not self.started.wait(PATIENCE):
            return True
        end = (self.began or 0.0) + self.timeout + PATIENCE
        return not self.done.wait(max(end - time.monotonic(), 0.0))


class Crew:
    """Worker threads with a queue each: calls of one worker follow each other, others overlap."""

    def __init__(self, size: int) -> None:
        self._queues = [queue.SimpleQueue[Call | None]() for _ in range(size)]
        self._threads = [
            threading.Thread(target=self._work, args=(each,), name=f"abuse-{n}", daemon=True)
            for n, each in enumerate(self._queues)
        ]
        self.calls: list[Call] = []
        for thread in self._threads:
            thread.start()

    def submit(self, worker: int, call: Call) -> None:
        self.calls.append(call)
        self._queues[worker % len(self._queues)].put(call)

    def wait(self) -> None:
        """Wait until everything submitted is done.

        Raises:
            AssertionError: A call hangs; the message shows where all threads are.
        """
        for call in self.calls:
            assert not call.hung(), f"{call.what} hangs\n{stacks()}"

    def dismiss(self) -> None:
        """End the threads; one that hangs is left behind."""
        for each in self._queues:
            each.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)

    @staticmethod
    def _work(calls: queue.SimpleQueue[Call | None]) -> None:
        while (call := calls.get()) is not None:
            call.make()
