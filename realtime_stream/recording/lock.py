"""A lock on a recording's folder, so that one recorder at a time writes into it."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import io
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["RecordingLock"]

_NAME: Final = "lock"


class RecordingLock:
    """Holds a folder from :meth:`take` to :meth:`release`.

    A lock of the operating system on a file in the folder (``flock``): nothing is held by a process
    that has died. Where there is none, on Windows or on some network drives, the folder is not
    guarded.

    Thread safety: none; whoever writes the recording owns it.
    """

    def __init__(self, folder: Path) -> None:
        """Hold nothing yet."""
        self._path = folder / _NAME
        self._file: io.FileIO | None = None

    def take(self) -> None:
        """Take the folder, unless it is held; one that was made anew is taken anew.

        Raises:
            BlockingIOError: Another recorder, of this process or of another, has it.
            OSError: The lock file cannot be made.
        """
        if self._is_held():
            return
        self.release()
        file = self._path.open("ab", buffering=0)
        if not _lock(file):
            file.close()
            raise BlockingIOError(
                errno.EWOULDBLOCK, "another recorder writes into it", str(self._path.parent)
            )
        self._file = file

    def release(self) -> None:
        """Let the folder go. Idempotent."""
        file, self._file = self._file, None
        if file is None:
            return
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may still have the file open
        file.close()

    def _is_held(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _lock(file: io.FileIO) -> bool:
    """Lock a file; ``False`` if somebody else has. A drive without locks refuses nobody."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
                raise
    return True
