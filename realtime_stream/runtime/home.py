"""The process a manager belongs to: threads and locks do not survive a fork."""

from __future__ import annotations

import os

from realtime_stream.errors import ForkedProcessError

__all__ = ["Home"]


class Home:
    """Remembers the process it was made in. Immutable, so thread-safe."""

    def __init__(self) -> None:
        """This process."""
        self._pid = os.getpid()

    def is_here(self) -> bool:
        """Whether this is that process, and not a forked child of it."""
        return os.getpid() == self._pid

    def error(self) -> ForkedProcessError:
        """What to raise in a forked child."""
        msg = (
            f"this manager belongs to process {self._pid}, which made it; "
            "a forked child must create a manager of its own"
        )
        return ForkedProcessError(msg)

    def check(self) -> None:
        """Raise in a forked child.

        Raises:
            ForkedProcessError: There, the threads do not run and a lock may never be free again.
        """
        if not self.is_here():
            raise self.error()
