"""Bars on disk that wait for their sink: a folder of append-only files, read in order.

**What survives what.** Bars are handed to the operating system with every append, so they survive a
crash of this process; :meth:`Spool.sync` has them written to the disk, so that they survive a power
failure too. The sink's worker calls it after each of its own appends and at the end; bars that the
dispatch thread appended by itself, as its last resort, wait for the next such call. The end of a
file that a crash has torn is recognised; the whole bars before it survive. How far a file has been
dealt with is noted in it, so that after a crash at most the last batch is passed on again, which a
sink bears; a file is deleted when all its bars are dealt with. What cannot be read
because the disk has changed it is set aside in a ``.damaged`` file.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import ConfigurationError
from realtime_stream.locks import FolderLock
from realtime_stream.runtime.spool_records import Frame, decode_bar, encode_frame, frames
from realtime_stream.runtime.spool_segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from realtime_stream.market.models import Bar

__all__ = ["SPOOL_CLOSED", "SPOOL_FULL", "Appended", "Spool", "SpoolBatch"]

SPOOL_FULL: Final = "spool full"
SPOOL_CLOSED: Final = "stopped"


@dataclass(frozen=True, slots=True)
class Appended:
    """How many bars, from the first, are in the spool, and why not all; empty when all are."""

    count: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """The oldest bars of a spool.

    Attributes:
        bars: Those that could be read.
        damaged: Raw bytes of those that could not be understood.
        lost: How many more can no longer be read at all: their file is gone, or broken.
        taken_up: Whether an earlier run wrote them.
        segment: Where they are.
        end: Offset of what follows them there.
    """

    bars: tuple[Bar, ...]
    damaged: tuple[bytes, ...]
    lost: int
    taken_up: bool
    segment: Segment
    end: int

    @property
    def records(self) -> int:
        """How many bars of the spool this stands for."""
        return len(self.bars) + len(self.damaged) + self.lost


class Spool:
    """The bars of one sink that wait on disk.

    Thread safety: :meth:`append`, :meth:`sync` and :meth:`close` may be called from any thread;
    :meth:`read` and :meth:`acknowledge` by one thread, the reader. The lock is held for the write
    of an append (microseconds a bar, into the system's cache) and of a progress, and for the
    deletion of a file, but never while the disk is waited for.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int) -> None:
        """Take up what an earlier run has left; about a second for each 200 MB.

        Args:
            folder: Its own folder, made where it is missing; no other process may use it.
            max_bytes: Size of all files together beyond which nothing is appended.
            segment_bytes: Size at which a new file is begun.

        Raises:
            ConfigurationError: The folder is in use, or cannot be made, written or read.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()  # guards the segments, what they hold, and _closed
        self._segments: list[Segment] = []  # oldest first; only the last may be open
        self._next = 1
        self._closed = False
        # Bytes, of the files taken up, behind their last whole bars: torn by a crash, or damaged.
        self.unreadable = 0
        self._guard = FolderLock(folder, "another process or manager uses it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._guard.take()
        except BlockingIOError as exc:
            msg = f"another process or manager uses the spool folder {folder}"
            raise ConfigurationError(msg) from exc
        except OSError as exc:
            raise _unusable(folder, exc) from exc
        try:
            self._take_up()
        except OSError as exc:
            self._guard.release()
            raise _unusable(folder, exc) from exc

    def _take_up(self) -> None:
        paths = sorted(self._folder.glob("*.spool"))
        names = (path.name for path in (*paths, *self._folder.glob("*.damaged")))
        numbers = [
            int(name) for name in (each.partition(".")[0] for each in names) if name.isdigit()
        ]
        self._next = max(numbers, default=0) + 1
        for path in paths:
            segment = Segment.take_up(path)
            if segment is None:
                self._set_aside(path)
                continue
            self.unreadable += segment.unreadable
            segment.set_aside()
            if segment.finished:
                segment.path.unlink()
            else:
                self._segments.append(segment)

    def _set_aside(self, path: Path) -> None:
        """Keep a file whose head is damaged for a human to look at; others are not ours."""
        if path.name.removesuffix(".spool").isdigit():
            self.unreadable += path.stat().st_size
            path.rename(path.with_name(f"{path.name}.damaged"))

    @property
    def records(self) -> int:
        """Bars on disk that are not dealt with."""
        with self._lock:
            return sum(segment.records for segment in self._segments)

    def append(self, bars: Sequence[Bar]) -> Appended:
        """Add bars, as many as there is room for. Never raises for the disk's sake."""
        encoded = [encode_frame(bar) for bar in bars]
        with self._lock:
            if self._closed:
                return Appended(0, SPOOL_CLOSED)
            fitting = self._fitting(encoded)
            if fitting == 0:
                return Appended(0, SPOOL_FULL)
            try:
                self._writable().append(b"".join(encoded[:fitting]), fitting)
            except OSError as exc:
                return Appended(0, f"spool not writable: {type(exc).__name__} {exc.errno}")
        return Appended(fitting, "" if fitting == len(encoded) else SPOOL_FULL)

    def _fitting(self, encoded: Sequence[bytes]) -> int:
        room = self._max_bytes - sum(segment.size for segment in self._segments)
        for count, data in enumerate(encoded):
            room -= len(data)
            if room < 0:
                return count
        return len(encoded)

    def _writable(self) -> Segment:
        if self._segments and self._segments[-1].is_open:
            if self._segments[-1].size < self._segment_bytes:
                return self._segments[-1]
            self._segments[-1].seal()
        segment = Segment.create(self._folder, self._next)
        self._next += 1
        self._segments.append(segment)
        return segment

    def read(self, limit: int) -> SpoolBatch | None:
        """The oldest bars, at most ``limit``; ``None`` when there are none.

        They stay in the spool until they are acknowledged.

        Raises:
            OSError: The file cannot be read now.
        """
        with self._lock:
            segment = next((each for each in self._segments if not each.finished), None)
            if segment is None:
                return None
            offset, size, records = segment.offset, segment.size, segment.records
        try:
            data = segment.read(offset, size)
        except FileNotFoundError:
            data = b""
        taken: list[Frame] = []
        for frame in frames(data):
            taken.append(frame)
            if len(taken) == limit:
                break
        bars = [decode_bar(frame.body) if frame.sound else None for frame in taken]
        return SpoolBatch(
            bars=tuple(bar for bar in bars if bar is not None),
            damaged=tuple(
                frame.body for frame, bar in zip(taken, bars, strict=True) if bar is None
            ),
            lost=0 if taken else records,
            taken_up=segment.taken_up,
            segment=segment,
            end=offset + taken[-1].end if taken else size,
        )

    def acknowledge(self, batch: SpoolBatch) -> None:
        """Its bars are dealt with. Nothing happens after :meth:`close`.

        Raises:
            OSError: It could not be noted on disk; they are passed on again after a crash.
        """
        segment = batch.segment
        with self._lock:
            if self._closed:
                return
            if batch.lost:
                segment.seal()  # what is appended to a file that is gone would be lost, too
            if batch.end < segment.size:
                segment.advance(batch.end, batch.records)
                return
            segment.seal()
            self._segments.remove(segment)
            segment.path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Have everything written to the disk; waits for it, and holds no lock meanwhile.

        Raises:
            OSError: The disk did not take it; the next call tries again.
        """
        with self._lock:
            waiting = [segment for segment in self._segments if segment.unsynced]
            for segment in waiting:
                segment.unsynced = False
        try:
            for segment in waiting:
                _sync_if_there(segment)
            if waiting:
                _sync_folder(self._folder)
        except OSError:
            with self._lock:
                for segment in waiting:
                    segment.unsynced = True
            raise

    def close(self) -> None:
        """Let go of the folder; what was appended stays. Idempotent."""
        with self._lock:
            self._closed = True
            if self._segments:
                self._segments[-1].seal()
            self._guard.release()


def _unusable(folder: Path, exc: OSError) -> ConfigurationError:
    return ConfigurationError(f"the spool folder {folder} cannot be used: {exc}")


def _sync_if_there(segment: Segment) -> None:
    try:
        segment.sync()
    except FileNotFoundError:
        return  # all its bars were dealt with meanwhile


def _sync_folder(folder: Path) -> None:
    """Have the names of new files written to the disk too."""
    if sys.platform == "win32":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
