"""Files that one command at a time may work on."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["sole_use"]


@contextmanager
def sole_use(file: Path) -> Iterator[None]:
    """Keep other commands from a file while the block runs.

    A lock of the operating system on a file beside it, which is deleted at the end; that of a
    process that died is in nobody's way. On Windows nothing is locked.

    Raises:
        ConfigurationError: Another command works on it.
        OSError: The lock file cannot be made.
    """
    if sys.platform == "win32":
        yield
        return
    path = file.with_name(file.name + ".lock")
    handle = _locked(path)
    while handle is None:  # whoever had it has deleted it in between
        handle = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock ends, or it might be somebody else's
        os.close(handle)


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except BlockingIOError:
        os.close(handle)
        msg = f"another command is at work on {path.with_suffix('')}"
        raise ConfigurationError(msg) from None
    except FileNotFoundError:
        os.close(handle)
        return None
    os.close(handle)
    return None
