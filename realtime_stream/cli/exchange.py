"""The demo's exchange: the simulator in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from realtime_stream.errors import WSConnectionError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Exchange"]

_PATIENCE: Final = 15.0  # seconds for the process to say what it must say next
_END: Final[dict[str, Any]] = {"event": "ended"}


class Exchange:
    """A ``simulate`` process and what it says; ended with the block.

    Thread safety: used by one thread; a second one reads the process's output.
    """

    def __init__(self, *arguments: str) -> None:
        """Args: ``arguments`` of the ``simulate`` command."""
        command = [sys.executable, "-m", "realtime_stream.cli", "simulate", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  # this very program
        self._said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._reader = threading.Thread(
            target=self._read, name="realtime-stream/demo/exchange", daemon=True
        )
        self._reader.start()

    def __enter__(self) -> Self:
        """Nothing more to do: it runs."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def expect(self, event: str) -> dict[str, Any]:
        """Wait until the process says ``event``.

        Raises:
            WSConnectionError: It ended, or said nothing in time.
        """
        with contextlib.suppress(Empty):
            while (said := self._said.get(timeout=_PATIENCE)) is not _END:
                if said.get("event") == event:
                    return said
        msg = f"the simulated exchange did not get to {event!r}"
        raise WSConnectionError(msg)

    def news(self) -> dict[str, Any] | None:
        """The next thing the process said, if there is one; never waits."""
        try:
            return self._said.get_nowait()
        except Empty:
            return None

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with contextlib.suppress(msgspec.DecodeError):  # not for us
                self._said.put(msgspec.json.decode(line, type=dict[str, Any]))
        self._said.put(_END)
