"""Writes segments: blocks that are whole or not there, and a new file when one has grown."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import RecordingError
from realtime_stream.locks import FolderLock
from realtime_stream.recording.format import MAGIC, pack
from realtime_stream.recording.reader import first_header, segments
from realtime_stream.recording.records import FORMAT_VERSION, Header

if TYPE_CHECKING:
    import io
    from collections.abc import Sequence
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.recording.records import Record

__all__ = ["RecordingWriter"]

_NAME: Final = "segment-{:06}.rsrec"


class RecordingWriter:
    """Appends blocks to a folder of segments; a folder that has some gets new ones beside them.

    What :meth:`write` has returned from survives the end of this process, however it ends; a power
    cut may take what the operating system has not put on the disk yet. After a failed write the
    segment ends with its last whole block. A segment that somebody deletes takes with it what it
    held; the next write fails, and those behind it begin another segment as soon as the folder is
    there (it is not made again: a disk may have been taken out, and what lies below is another).

    One writer at a time has a folder, from its first segment to :meth:`close`.

    Thread safety: none; one thread has it.

    Attributes:
        path: The segment being written.
        written: Bytes written to all segments.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str,
        market: str,
        feed: str,
        segment_bytes: int,
        segment_seconds: float,
        clock: Clock,
        data_clock: Clock,
    ) -> None:
        """Nothing is touched yet.

        Args:
            folder: Where the segments go; made if it is not there.
            provider: Whose frames come.
            market: Market of the endpoint.
            feed: Feed of the market.
            segment_bytes: Size beyond which a new segment is begun.
            segment_seconds: Age beyond which a new segment is begun.
            clock: Counts the age.
            data_clock: Stamps the headers.
        """
        self._folder = folder
        self._endpoint = (provider, market, feed)
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._clock = clock
        self._data_clock = data_clock
        self._lock = FolderLock(folder, "another recorder writes into it")
        self._file: io.FileIO | None = None
        self._number = 0
        self._size = 0  # of the segment, up to its last whole block
        self._begun = 0.0
        self.path: Path | None = None
        self.written = 0

    def open(self) -> None:
        """Make the folder, and begin a segment.

        Raises:
            RecordingError: It cannot be written to, another recorder writes into it, or it holds a
                recording of something else.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            self._check_endpoint()
            self._begin()
        except OSError as exc:
            self.close()
            msg = f"the recording cannot be written: {exc}"
            raise RecordingError(msg) from exc
        except RecordingError:
            self.close()
            raise

    def write(self, records: Sequence[Record]) -> None:
        """Append one block.

        Raises:
            OSError: It was not written. Everything written before is whole.
        """
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self.close()
            raise FileNotFoundError(errno.ENOENT, "the segment was deleted", str(self.path))
        if self._file is None or self._is_full():
            self._end_segment()
            self._lock.take()  # anew, if the folder was deleted and made again
            self._begin()
        self._append(pack(records))

    def close(self) -> None:
        """End the segment and let the folder go; the next write begins another."""
        self._end_segment()
        self._lock.release()

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a disk that fails has failed a write before
                os.fsync(file.fileno())
            file.close()

    def _check_endpoint(self) -> None:
        """See whose frames the folder holds.

        Raises:
            RecordingError: Those of another endpoint.
        """
        header = first_header(segments(self._folder).values())
        found = self._endpoint if header is None else _endpoint(header)
        if found != self._endpoint:
            msg = f"the folder holds a recording of {'/'.join(found)}"
            raise RecordingError(msg)

    def _is_full(self) -> bool:
        age = self._clock.monotonic() - self._begun
        return self._size >= self._segment_bytes or age >= self._segment_seconds

    def _begin(self) -> None:
        # The folder counts: where nothing guards it, another recorder may have gone on in it.
        number = max(self._number, max(segments(self._folder), default=0)) + 1
        path = self._folder / _NAME.format(number)
        file = path.open("xb", buffering=0)
        self._file, self._size, self.path = file, 0, path
        header = Header(FORMAT_VERSION, *self._endpoint, number, self._data_clock.utc_now_ns())
        try:
            self._append(MAGIC + pack([header]))
        except OSError:
            self._end_segment()
            with contextlib.suppress(OSError):  # then an empty segment stays: readers know it
                path.unlink()
            raise
        self._number = number
        self._begun = self._clock.monotonic()

    def _append(self, data: bytes) -> None:
        file = self._file
        if file is None:  # begun by every caller
            return
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            self._cut_back(file)
            raise
        self._size += len(data)
        self.written += len(data)

    def _cut_back(self, file: io.FileIO) -> None:
        """Take back a part of a block; where that fails the segment is left as torn."""
        try:
            file.truncate(self._size)
            file.seek(self._size)
        except OSError:
            self._end_segment()


def _endpoint(header: Header) -> tuple[str, str, str]:
    return header.provider, header.market, header.feed
