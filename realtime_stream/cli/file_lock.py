"""Files that one command at a time may work on."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from realtime_stream.errors import ConfigurationError
from realtime_stream.locks import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["sole_use"]


@contextmanager
def sole_use(file: Path) -> Iterator[None]:
    """Keep other commands from a file while the block runs.

    A lock of the operating system on a file beside it, which is deleted at the end; that of a
    process that died is in nobody's way. On Windows, and where a drive has no locks, nothing is
    locked.

    Raises:
        ConfigurationError: Another command works on it.
        OSError: The lock file cannot be made.
    """
    path = file.with_name(file.name + ".lock")
    handle = _locked(path)
    while handle is None:  # whoever had it has deleted it in between
        handle = _locked(path)
    try:
        yield
    finally:
        with suppress(PermissionError):  # of Windows, as the file is open
            path.unlink(missing_ok=True)  # before the lock ends, or it might be somebody else's
        os.close(handle)


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    is_ours = False
    try:
        lock_file(handle)
        is_ours = os.path.samestat(os.fstat(handle), path.stat())
    except BlockingIOError as exc:
        msg = f"another command is at work on {path.with_suffix('')}"
        raise ConfigurationError(msg) from exc
    except FileNotFoundError:
        return None
    finally:
        if not is_ours:
            os.close(handle)
    return handle if is_ours else None
