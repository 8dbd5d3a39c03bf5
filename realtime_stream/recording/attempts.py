"""A recording as a sequence of attempts to connect, each with what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from realtime_stream.recording.reader import Torn
from realtime_stream.recording.records import (
    FrameReceived,
    Header,
    Lost,
    Record,
    ServerReported,
    SessionBegun,
    SessionEnded,
    Step,
    SubscriptionsRefused,
    SubscriptionsServed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["AttemptReader", "Played", "time_of"]

Played: TypeAlias = (
    SessionBegun
    | Step
    | SubscriptionsServed
    | SubscriptionsRefused
    | ServerReported
    | FrameReceived
    | SessionEnded
)
_Standing: TypeAlias = SessionBegun | Step | SubscriptionsServed | SubscriptionsRefused

_ABNORMAL_CLOSURE: Final = 1006
_CUT_OFF: Final = "the recording ends here"
_HOLE: Final = "frames are missing in the recording"


def time_of(record: Played) -> int:
    """When it was, nanoseconds since the epoch."""
    return record.received_ns if isinstance(record, FrameReceived) else record.at_ns


class AttemptReader:
    """Reads attempt after attempt, lazily.

    Attempts that were refused before anything could come, and were followed by another, are passed
    over: there is nothing in them but the wait that followed.

    Where frames are missing in the middle of a session, and it goes on behind them, it is read as
    two: one that was lost before the hole, and one that begins behind it, with what was served by
    then. So whoever plays it reports the hole as the gap it is.

    Thread safety: none.
    """

    def __init__(
        self, records: Iterator[Record | Torn], on_missing: Callable[[Lost | Torn], None]
    ) -> None:
        """Nothing is read yet.

        Args:
            records: All of a recording.
            on_missing: Told where something is missing.
        """
        self._records = records
        self._on_missing = on_missing
        self._pushed_back: SessionBegun | None = None
        self._head: list[Played] = []  # what was read of an attempt that is not played yet
        self._standing: list[_Standing] = []  # what a session like the one that runs begins with
        self._in_hole = False  # whether something is missing before the record read last

    def has_another(self) -> bool:
        """Look for the next attempt; what was not read of the one before is passed over.

        Raises:
            RecordingError: The recording cannot be read.
        """
        if self._head:
            return True
        while (begun := self._next_begun()) is not None:
            self._head = self._read_head(begun)
            if _has_come_through(self._head[-1]):
                break
        return bool(self._head)

    def records(self) -> Iterator[Played]:
        """What came of the attempt that was found; the last record is its end.

        Raises:
            RecordingError: The recording cannot be read.
        """
        head, self._head = self._head, []
        self._standing = []
        for record in head:
            self._note_standing(record)
            yield record
        last = head[-1]
        while not isinstance(last, SessionEnded):
            last = self._next_or_end(last)
            self._note_standing(last)
            yield last

    def _next_or_end(self, last: Played) -> Played:
        record = self._next_of_attempt()
        if record is None:
            return self._cut_off(last)
        if not self._in_hole:
            return record
        at_ns = time_of(record)
        begun = [msgspec.structs.replace(note, at_ns=at_ns) for note in self._standing]
        self._head = [*begun, record]
        return _lost(last, _HOLE)

    def _note_standing(self, record: Played) -> None:
        if isinstance(record, SubscriptionsServed):
            for index, note in enumerate(self._standing):
                if isinstance(note, SubscriptionsServed):  # the complete set takes its place
                    self._standing[index] = record
                    return
        if isinstance(record, SessionBegun | Step | SubscriptionsServed | SubscriptionsRefused):
            self._standing.append(record)

    def _cut_off(self, last: Played) -> SessionEnded:
        """The end of a session that outlived its recorder: lost, unless nothing follows."""
        if self._pushed_back is None:
            return SessionEnded(0, time_of(last), requested=True)
        return _lost(last, _CUT_OFF)

    def _read_head(self, begun: SessionBegun) -> list[Played]:
        head: list[Played] = [begun]
        while not (_has_come_through(head[-1]) or isinstance(head[-1], SessionEnded)):
            record = self._next_of_attempt()
            if record is None:
                break
            head.append(record)
        return head

    def _next_begun(self) -> SessionBegun | None:
        while (record := self._next()) is not None:
            if isinstance(record, SessionBegun):
                return record
        return None

    def _next_of_attempt(self) -> Played | None:
        """The next record, unless it begins another attempt."""
        record = self._next()
        if isinstance(record, SessionBegun):
            self._pushed_back = record
            return None
        return record

    def _next(self) -> Played | None:
        self._in_hole = False
        record, self._pushed_back = self._pushed_back, None
        if record is not None:
            return record
        for read in self._records:
            if isinstance(read, Lost | Torn):
                self._on_missing(read)
                self._in_hole = self._in_hole or isinstance(read, Torn) or read.frames > 0
            elif not isinstance(read, Header):
                return read
        return None


def _lost(last: Played, why: str) -> SessionEnded:
    return SessionEnded(0, time_of(last), close_code=_ABNORMAL_CLOSURE, close_reason=why)


def _has_come_through(record: Played) -> bool:
    if isinstance(record, Step):
        return record.step == "authenticated"
    return isinstance(record, FrameReceived)
