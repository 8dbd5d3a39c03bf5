"""Locks of the operating system on folders and files, so that one at a time has them."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

    from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

__all__ = ["LOCK_NAME", "FolderLock", "lock_file"]

_LOOK_AGAIN: Final = 0.02  # seconds; the system's own wait could not be bounded
LOCK_NAME: Final = "lock"  # of the file in a locked folder


class FolderLock:
    """Holds a folder from :meth:`take` to :meth:`release`.

    A lock of the operating system on a file in the folder (``flock``): nothing is held by a process
    that has died. Where there is none, on Windows or on some network drives, the folder is not
    guarded, and the user has to see to it that two do not share one.

    Thread safety: none; whoever owns the folder owns its lock.
    """

    def __init__(self, folder: Path, refusal: str) -> None:
        """Hold nothing yet; ``refusal`` is what is said when somebody else does."""
        self._path = folder / LOCK_NAME
        self._refusal = refusal
        self._file: int | None = None

    def take(self) -> None:
        """Take the folder, unless it is held; one that was made anew is taken anew.

        Raises:
            BlockingIOError: Somebody else, of this process or of another, has it.
            OSError: The lock file cannot be made.
        """
        if self._is_held():
            return
        self.release()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)  # less the umask
        try:
            lock_file(file)
        except OSError as exc:
            os.close(file)
            if not isinstance(exc, BlockingIOError):
                raise
            folder = str(self._path.parent)
            raise BlockingIOError(errno.EWOULDBLOCK, self._refusal, folder) from exc
        self._file = file

    def release(self) -> None:
        """Let the folder go. Idempotent."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            _unlock(file)
        finally:
            os.close(file)

    def _is_held(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False


if sys.platform == "win32":

    def lock_file(file: int, *, patience: float = 0.0) -> None:
        """Nothing."""

    def _unlock(file: int) -> None:
        """Nothing."""

else:

    def lock_file(file: int, *, patience: float = 0.0) -> None:
        """Lock an open file, where there are locks; the lock ends when the file is closed.

        Args:
            file: Its descriptor.
            patience: Seconds to wait for whoever has it.

        Raises:
            BlockingIOError: Somebody else has it still.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            stop=stop_after_delay(patience),
            wait=wait_fixed(_LOOK_AGAIN),
            reraise=True,
        )
        attempts(_flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        _flock(file, fcntl.LOCK_UN)  # a forked child may still have the file open

    def _flock(file: int, operation: int) -> None:
        try:
            fcntl.flock(file, operation)
        except OSError as exc:
            if exc.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:  # a drive without
                raise
