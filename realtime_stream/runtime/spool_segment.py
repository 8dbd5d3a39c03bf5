"""One file of a spool."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Self

from realtime_stream.runtime.spool_records import (
    FIRST_FRAME,
    LARGEST_BAR,
    PROGRESS_AT,
    frame_ends,
    is_torn,
    new_header,
    pack_progress,
    read_header,
)

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["Segment"]

_BLOCK: Final = 4 * LARGEST_BAR  # bytes read at once, so that a whole frame is always among them
_SUFFIX: Final = ".spool"


class Segment:
    """A file of frames: those before ``offset`` are dealt with, those up to ``size`` are whole.

    Thread safety: none but for :meth:`read`, which touches no attribute that changes; the spool's
    lock guards the rest.
    """

    def __init__(self, path: Path, number: int, *, taken_up: bool) -> None:
        """Nothing is read or written yet."""
        self.path: Final = path
        self.number: Final = number
        self.taken_up: Final = taken_up
        self.offset = FIRST_FRAME
        self.size = FIRST_FRAME
        self.records = 0  # from offset to size
        self.unreadable = 0  # bytes behind size: the torn end of a crash, or damage
        self.unsynced = False
        self._is_damaged = False
        self._file: FileIO | None = None

    @classmethod
    def create(cls, folder: Path, number: int) -> Self:
        """A new file, open for writing.

        Raises:
            OSError: It cannot be made.
        """
        segment = cls(folder / f"{number:012d}{_SUFFIX}", number, taken_up=False)
        file = segment.path.open("xb", buffering=0)
        segment._file = file
        try:
            segment._put(new_header())
        except OSError:
            segment.seal()
            segment.path.unlink(missing_ok=True)
            raise
        return segment

    @classmethod
    def take_up(cls, path: Path) -> Self | None:
        """A file that an earlier run has left; ``None`` when it is no spool file.

        Raises:
            OSError: It cannot be read.
        """
        data = path.read_bytes()
        offset = read_header(data)
        number = path.name.removesuffix(_SUFFIX)
        if offset is None or not number.isdigit():
            return None
        segment = cls(path, int(number), taken_up=True)
        ends = [FIRST_FRAME + end for end in frame_ends(data[FIRST_FRAME:])]
        segment.size = ends[-1] if ends else FIRST_FRAME
        # Beyond the end is where a power failure took frames that had been dealt with.
        if offset in {FIRST_FRAME, *ends} or offset > segment.size:
            segment.offset = min(offset, segment.size)
        segment.records = sum(end > segment.offset for end in ends)
        segment.unreadable = max(len(data) - segment.size, 0)
        segment._is_damaged = not is_torn(data[segment.size :])
        return segment

    def set_aside(self) -> None:
        """Keep what cannot be read, if it is more than a crash leaves, for a human to look at.

        Raises:
            OSError: It cannot be written.
        """
        if self._is_damaged:
            rest = self.path.read_bytes()[self.size :]
            self.path.with_suffix(".damaged").write_bytes(rest)

    @property
    def is_open(self) -> bool:
        """Whether more can be appended."""
        return self._file is not None

    @property
    def finished(self) -> bool:
        """Whether all its frames are dealt with."""
        return self.offset >= self.size

    def append(self, data: bytes, records: int) -> None:
        """Add whole frames.

        After an error nothing of them counts, and nothing more can be appended.

        Raises:
            OSError: They cannot be written.
        """
        try:
            self._put(data)
        except OSError:
            self._cut()
            self.seal()
            raise
        self.size += len(data)
        self.records += records
        self.unsynced = True

    def _cut(self) -> None:
        # What it leaves, if it fails as well, is stored twice at worst: by a later run.
        with contextlib.suppress(OSError):
            os.truncate(self.path, self.size)

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self._file is not None:
            left = left[self._file.write(left) :]  # a disk that fills up takes a part

    def read(self, offset: int, size: int) -> bytes:
        """What stands between ``offset`` and ``size``, cut where it is much.

        Raises:
            OSError: The file cannot be read.
        """
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(min(size - offset, _BLOCK)) or b""

    def advance(self, offset: int, records: int) -> None:
        """Note, on disk too, that ``records`` more are dealt with, up to ``offset``.

        Raises:
            OSError: It could not be noted on disk; it counts for this run.
        """
        self.offset = offset
        self.records -= records
        with self.path.open("r+b", buffering=0) as file:
            file.seek(PROGRESS_AT)
            file.write(pack_progress(offset))

    def sync(self) -> None:
        """Have the operating system write it to the disk.

        Raises:
            OSError: It could not.
        """
        with self.path.open("r+b", buffering=0) as file:
            os.fsync(file.fileno())

    def seal(self) -> None:
        """Append no more."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
