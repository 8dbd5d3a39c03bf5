from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest

from realtime_stream.locks import FolderLock, lock_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing guards a folder there")


def test_one_at_a_time_has_a_folder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path, "it is taken"), FolderLock(tmp_path, "it is taken")
    first.take()
    first.take()
    with pytest.raises(BlockingIOError, match="it is taken"):
        second.take()
    first.release()
    first.release()
    second.take()
    second.release()


def test_a_folder_that_was_made_anew_is_taken_anew(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    lock = FolderLock(folder, "it is taken")
    lock.take()
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    lock.take()
    with pytest.raises(BlockingIOError):
        FolderLock(folder, "it is taken").take()
    FolderLock(tmp_path / "elsewhere", "it is taken").take()
    lock.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_drive_without_locks_refuses_nobody(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(code, monkeypatch)
    lock = FolderLock(tmp_path, "it is taken")
    closed = _note_closed(monkeypatch)
    lock.take()
    lock.release()
    assert len(closed) == 1
    with (tmp_path / "file").open("w") as file:
        lock_file(file.fileno())


def test_a_lock_that_fails_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_with(errno.EIO, monkeypatch)
    closed = _note_closed(monkeypatch)
    with pytest.raises(OSError, match="no lock"):
        FolderLock(tmp_path, "it is taken").take()
    assert len(closed) == 1


def _fail_with(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: int, _how: int) -> None:
        raise OSError(code, "no lock")

    monkeypatch.setattr("fcntl.flock", fail)


def _note_closed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    closed = set[int]()
    close = os.close

    def note(file: int) -> None:
        closed.add(file)
        close(file)

    monkeypatch.setattr(os, "close", note)
    return closed


def test_a_lock_file_may_be_shared_as_the_folder_is(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        lock = FolderLock(tmp_path, "it is taken")
        lock.take()
        lock.release()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
