"""Reads recordings: everything that is whole, and where something is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import RecordingError
from realtime_stream.recording.format import MAGIC, TornBlockError, blocks
from realtime_stream.recording.records import (
    FORMAT_VERSION,
    Header,
    SessionBegun,
    SubscriptionsServed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from realtime_stream.market.channels import Subscription
    from realtime_stream.recording.records import Record

__all__ = ["Recording", "Torn", "first_header", "segments"]

_NAME: Final = re.compile(r"segment-(\d{6,9})\.rsrec")


@dataclass(frozen=True, slots=True)
class Torn:
    """A segment ends before its file does: its writer was ended in the middle of a block.

    Attributes:
        segment: The file's name.
        size: How many bytes behind that are of no use.
    """

    segment: str
    size: int


def segments(folder: Path) -> dict[int, Path]:
    """The segments in a folder by number, oldest first."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def first_header(paths: Iterable[Path]) -> Header | None:
    """The first header that is whole.

    Raises:
        RecordingError: A file cannot be read, is none of ours, or has a later format.
    """
    records = (record for path in paths for record in _records(path))
    return next((record for record in records if isinstance(record, Header)), None)


class Recording:
    """A recording on disk: a folder of segments, or one segment.

    It may still be written to; what is whole at the time of reading is read.

    Thread safety: every method may be called from any thread; an iterator belongs to one.

    Attributes:
        header: Of the first segment: provider, market and feed of all of them.
    """

    def __init__(self, path: Path) -> None:
        """Look at the first header.

        Args:
            path: The folder, or the file.

        Raises:
            RecordingError: It is not a recording, or one of a later version of this library.
        """
        try:
            self._segments = tuple(segments(path).values()) if path.is_dir() else (path,)
        except OSError as exc:
            raise _unreadable(exc) from exc
        header = first_header(self._segments)
        if header is None:
            msg = f"{path.name} is not a recording"
            raise RecordingError(msg)
        self.header = header

    @property
    def paths(self) -> tuple[Path, ...]:
        """The segments, oldest first."""
        return self._segments

    def records(self) -> Iterator[Record | Torn]:
        """Everything that was recorded, in order, the header of every segment included.

        Raises:
            RecordingError: A file cannot be read or is none of ours.
        """
        for path in self._segments:
            yield from _records(path)

    def subscriptions(self) -> frozenset[Subscription]:
        """Everything that was served at one time or another; if nothing was, what was wanted.

        Blocks of data alone are passed over.

        Raises:
            RecordingError: As :meth:`records`.
        """
        served: set[Subscription] = set()
        wanted: set[Subscription] = set()
        for path in self._segments:
            for record in _records(path, notes_only=True):
                if isinstance(record, SubscriptionsServed):
                    served.update(record.subscriptions)
                elif isinstance(record, SessionBegun):
                    wanted.update(record.wanted)
        return frozenset(served or wanted)


def _records(path: Path, *, notes_only: bool = False) -> Iterator[Record | Torn]:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if not MAGIC.startswith(magic):
                msg = f"{path.name} is not a segment of a recording"
                raise RecordingError(msg)
            whole = len(magic)
            try:
                for block in blocks(file):
                    if block.has_notes or not notes_only:
                        yield from _checked(block.records(), path)
                    whole = block.end
            except TornBlockError:
                yield Torn(path.name, path.stat().st_size - whole)
    except OSError as exc:
        raise _unreadable(exc) from exc


def _checked(records: list[Record], path: Path) -> list[Record]:
    first = records[0] if records else None
    if isinstance(first, Header) and first.version > FORMAT_VERSION:
        msg = (
            f"{path.name} has format {first.version}; this version of realtime_stream reads "
            f"up to {FORMAT_VERSION}"
        )
        raise RecordingError(msg)
    return records


def _unreadable(error: OSError) -> RecordingError:
    return RecordingError(f"the recording cannot be read: {error}")
