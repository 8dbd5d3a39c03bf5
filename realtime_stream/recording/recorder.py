"""The recorder: takes what is received without ever holding it up, and writes it on a thread."""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import RecordingError
from realtime_stream.ports import RecordingInfo
from realtime_stream.recording.records import (
    FrameReceived,
    Lost,
    Note,
    Record,
    ended,
    frame_received,
    note_of,
    session_begun,
)
from realtime_stream.recording.writer import RecordingWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.market.channels import Subscription
    from realtime_stream.ports import Control
    from realtime_stream.resilience.failures import SessionEnd

__all__ = ["Recorder", "RecorderLimits"]

_LOGGER: Final = logging.getLogger("realtime_stream")
_OVERHEAD: Final = 128  # bytes of memory that a record takes beside its data, about
_PER_SUBSCRIPTION: Final = 64
_MAX_NOTES_KEPT: Final = 10_000  # that wait for a disk which cannot be written to


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderLimits:
    """How much may wait, and when it is written.

    Attributes:
        queue_bytes: What may wait for the disk; beyond it frames are dropped and counted.
        block_bytes: What is written together, at the most, but for larger frames.
        flush_interval: Seconds that anything waits at the most before it is written.
        segment_bytes: Size of a file beyond which a new one is begun.
        segment_seconds: Age of a file beyond which a new one is begun.
    """

    queue_bytes: int = 32 * 2**20
    block_bytes: int = 256 * 2**10
    flush_interval: float = 1.0
    segment_bytes: int = 256 * 2**20
    segment_seconds: float = 3600.0


@dataclass(slots=True)
class _Loss:
    """What is missing at one place; becomes a record when it is written."""

    at_ns: int
    frames: int = 0
    size: int = 0
    notes: int = 0

    def add(self, record: Record | _Loss) -> None:
        match record:
            case FrameReceived():
                self.frames += 1
                self.size += len(record.data)
            case Lost() | _Loss():
                self.frames += record.frames
                self.size += record.size
                self.notes += record.notes
            case _:
                self.notes += 1

    def record(self) -> Lost:
        return Lost(self.at_ns, self.frames, self.size, self.notes)


class Recorder:
    """A :class:`~realtime_stream.recording.tap.SessionTap` that writes a recording.

    What it is given waits in memory, up to a limit, for its thread; a disk that is slow, full or
    gone costs frames, never time. Where some are missing the recording says so.

    Thread safety: one thread at a time calls what a session tells; the rest may be called by any.
    """

    def __init__(
        self,
        folder: Path,
        *,
        manager: str,
        provider: str,
        market: str,
        feed: str,
        clock: Clock,
        data_clock: Clock,
        limits: RecorderLimits | None = None,
    ) -> None:
        """Nothing is touched yet.

        Args:
            folder: Where to write; a recording that is there goes on.
            manager: The manager's name, for the thread's name and the log.
            provider: Whose frames come, such as ``alpaca``.
            market: Market of the endpoint.
            feed: Feed of the market.
            clock: Counts the age of segments.
            data_clock: Stamps them.
            limits: How much may wait.
        """
        self._manager = manager
        self._limits = RecorderLimits() if limits is None else limits
        self._data_clock = data_clock
        self._new_writer = functools.partial(
            RecordingWriter,
            folder,
            provider=provider,
            market=market,
            feed=feed,
            segment_bytes=self._limits.segment_bytes,
            segment_seconds=self._limits.segment_seconds,
            clock=clock,
            data_clock=data_clock,
        )
        self._lock = threading.Lock()  # guards the queue and what follows it
        self._condition = threading.Condition(self._lock)
        self._reset()

    def _reset(self) -> None:
        self._queue: list[FrameReceived | Note | _Loss] = []
        self._size = 0  # bytes waiting, those being written included
        self._queued = 0  # frames, likewise
        self._stopping = False
        self._idle = False  # whether the thread waits for the first record
        self._dropped = 0
        self._session = 0  # touched by the session's thread alone
        # What follows is written by the recorder's thread alone.
        self._frames = 0
        self._last_error = ""
        self._kept: list[Note] = []
        self._missing: _Loss | None = None
        self._writer = self._new_writer()
        self._thread = threading.Thread(
            target=self._run, name=f"realtime-stream/{self._manager}/recorder", daemon=True
        )

    def start(self) -> None:
        """Begin a segment and the thread; counters begin anew.

        Raises:
            RecordingError: The folder cannot be written to, is another recorder's, holds something
                else, or the disk still holds up the thread of the time before.
        """
        if self._thread.is_alive():
            msg = "the recorder is still writing what it was given before"
            raise RecordingError(msg)
        self._reset()
        self._writer.open()
        self._thread.start()

    def request_stop(self) -> None:
        """Take nothing more, and end the thread when what waits is written. Never blocks."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; tell whether it came within ``timeout`` seconds."""
        thread = self._thread
        if thread.ident is not None:  # was started
            thread.join(timeout)
        return not thread.is_alive()

    def stop(self, timeout: float = 2.0) -> bool:
        """:meth:`request_stop` and :meth:`join`. What comes later is counted as dropped."""
        self.request_stop()
        return self.join(timeout)

    def info(self) -> RecordingInfo:
        """How the recording stands."""
        path = self._writer.path
        with self._lock:
            return RecordingInfo(
                frames=self._frames,
                dropped=self._dropped,
                queued=self._queued,
                size=self._writer.written,
                file="" if path is None else str(path),
                last_error=self._last_error,
            )

    def threads(self) -> tuple[str, ...]:
        """The name of its thread, while that is alive."""
        return (self._thread.name,) if self._thread.is_alive() else ()

    # --- what a session tells ---

    def session_begun(self, wanted: Collection[Subscription], at_ns: int) -> None:
        """See :class:`~realtime_stream.recording.tap.SessionTap`."""
        self._session += 1
        self._note(session_begun(self._session, wanted, at_ns), at_ns)

    def frame(self, data: bytes | str, received_ns: int) -> None:
        """See :class:`~realtime_stream.recording.tap.SessionTap`."""
        record = frame_received(data, received_ns)
        self._put(record, len(record.data) + _OVERHEAD, received_ns)

    def control(self, control: Control, at_ns: int) -> None:
        """See :class:`~realtime_stream.recording.tap.SessionTap`."""
        note = note_of(control, at_ns)
        if note is not None:
            self._note(note, at_ns)

    def session_ended(self, end: SessionEnd, at_ns: int) -> None:
        """See :class:`~realtime_stream.recording.tap.SessionTap`."""
        self._note(ended(self._session, end, at_ns), at_ns)

    def _note(self, note: Note, at_ns: int) -> None:
        self._put(note, _note_size(note), at_ns)

    def _put(self, record: FrameReceived | Note, size: int, at_ns: int) -> None:
        is_frame = isinstance(record, FrameReceived)
        # Without its notes a recording means little, so they may have as much room again.
        room = self._limits.queue_bytes * (1 if is_frame else 2)
        with self._lock:
            if self._stopping or self._size + size > room:
                self._dropped += is_frame
                self._lose(record, at_ns)
                return
            self._queue.append(record)
            self._size += size
            self._queued += is_frame
            if self._idle or self._size >= self._limits.block_bytes:
                self._condition.notify()

    def _lose(self, record: FrameReceived | Note, at_ns: int) -> None:
        if self._stopping:
            return
        last = self._queue[-1] if self._queue else None
        if not isinstance(last, _Loss):
            last = _Loss(at_ns)
            self._queue.append(last)
        last.add(record)

    # --- the recorder's thread ---

    def _run(self) -> None:
        while self._wait():
            self._write_waiting()
        self._write_waiting()
        self._writer.close()

    def _wait(self) -> bool:
        """Wait until a block is full, or something has waited long enough; ``False`` at the end."""
        limits = self._limits
        with self._condition:
            self._idle = True
            # What could not be written is tried again even when nothing more comes.
            again = limits.flush_interval if self._missing is not None or self._kept else None
            self._condition.wait_for(lambda: self._stopping or bool(self._queue), again)
            self._idle = False
            self._condition.wait_for(
                lambda: self._stopping or self._size >= limits.block_bytes, limits.flush_interval
            )
            return not self._stopping

    def _write_waiting(self) -> None:
        with self._lock:
            queue, self._queue = self._queue, []
        for block in self._blocks(queue):
            self._write(block)
            size = sum(_size(record) for record in block)
            frames = sum(isinstance(record, FrameReceived) for record in block)
            with self._lock:
                self._size -= size
                self._queued -= frames
        if not queue and (self._missing is not None or self._kept):
            self._write([])

    def _blocks(
        self, queue: list[FrameReceived | Note | _Loss]
    ) -> Iterator[list[FrameReceived | Note | _Loss]]:
        block: list[FrameReceived | Note | _Loss] = []
        size = 0
        for record in queue:
            block.append(record)
            size += _size(record)
            if size >= self._limits.block_bytes:
                yield block
                block, size = [], 0
        if block:
            yield block

    def _write(self, block: list[FrameReceived | Note | _Loss]) -> None:
        missing = [] if self._missing is None else [self._missing.record()]
        fresh = [record.record() if isinstance(record, _Loss) else record for record in block]
        try:
            self._writer.write([*self._kept, *missing, *fresh])
        except OSError as exc:
            self._failed(exc, block)
            return
        self._kept, self._missing = [], None
        with self._lock:
            self._frames += sum(isinstance(record, FrameReceived) for record in block)
            self._last_error = ""

    def _failed(self, error: OSError, block: list[FrameReceived | Note | _Loss]) -> None:
        if not self._last_error:
            _LOGGER.error(
                "realtime_recording_failed", extra={"manager": self._manager, "error": str(error)}
            )
        if self._missing is None:
            self._missing = _Loss(self._data_clock.utc_now_ns())
        for record in block:
            if isinstance(record, FrameReceived | _Loss) or len(self._kept) >= _MAX_NOTES_KEPT:
                self._missing.add(record)
            else:
                self._kept.append(record)
        with self._lock:
            self._dropped += sum(isinstance(record, FrameReceived) for record in block)
            self._last_error = str(error)


def _size(record: FrameReceived | Note | _Loss) -> int:
    match record:
        case FrameReceived():
            return len(record.data) + _OVERHEAD
        case _Loss():
            return 0
        case _:
            return _note_size(record)


def _note_size(note: Note) -> int:
    listed = getattr(note, "wanted", ()) or getattr(note, "subscriptions", ())
    return _OVERHEAD + _PER_SUBSCRIPTION * len(listed)
