"""A lock on a folder, so that one process at a time has it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["FolderLock", "lock_file"]

_NAME: Final = "lock"


class FolderLock:
    """Holds a folder from construction to :meth:`release`.

    A lock of the operating system on a file in the folder (``flock``): nothing is left behind by a
    process that dies. Where there is none, on Windows, the folder is not guarded, and the user has
    to see to it that two managers do not share one.

    Thread safety: none; whoever owns the folder owns its lock.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder.

        Raises:
            ConfigurationError: Another process, or another manager of this one, has it.
            OSError: The lock file cannot be made.
        """
        self._file: int | None = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._file)
                msg = f"another process or manager uses the spool folder {folder}"
                raise ConfigurationError(msg) from None

    def release(self) -> None:
        """Let the folder go. Idempotent."""
        file, self._file = self._file, None
        if file is None:
            return
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may still have the file open
        os.close(file)


def lock_file(file: int) -> None:
    """Wait for the lock of an open file; it ends when the file is closed. Nothing on Windows."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
