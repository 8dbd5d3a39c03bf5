"""Bars that cannot be stored, in a file of JSON lines that people can read and the command load.

One line::

    {"time": "2026-07-28T13:35:00Z", "sink": "sql", "reason": "...", "bar": {...}, "raw": null}

``bar`` has the fields of :class:`~realtime_stream.market.models.Bar`, its decimals as strings;
``raw`` stands in its place, in base 64, where a spooled bar could not be read any more.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_stream.clock import datetime_from_ns
from realtime_stream.locks import lock_file
from realtime_stream.market.models import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from realtime_stream.clock import Clock

__all__ = [
    "FILE_NAME",
    "DeadLetterFile",
    "UnstoredBar",
    "append_lines",
    "claim",
    "encode_line",
    "read_line",
]

FILE_NAME: Final = "dead_letters.jsonl"
_KEPT_LINES: Final = 10_000  # in memory, while the file cannot be written
_FEW: Final = 100  # of them go with new ones, so that whoever brings those is not held up
_PAUSE: Final = 1.0  # seconds until a file that could not be written is tried again
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


class UnstoredBar(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file.

    Attributes:
        time: When it was given up: ISO 8601, UTC.
        sink: Name of the sink.
        reason: Why.
        bar: The bar; ``None`` when it could not be read.
        raw: What was there in its place.
    """

    time: str
    sink: str
    reason: str
    bar: Bar | None = None
    raw: bytes | None = None


_DECODER: Final = msgspec.json.Decoder(UnstoredBar)


def encode_line(letter: UnstoredBar) -> bytes:
    """A line of the file, without its end."""
    return _ENCODER.encode(letter)


def read_line(line: bytes) -> UnstoredBar | None:
    """What a line says; ``None`` when it is not one of ours, or torn."""
    try:
        return _DECODER.decode(line)
    except msgspec.MsgspecError:
        return None


class DeadLetterFile:
    """Appends to the file of one sink, which is made with the first line.

    The file is opened for each append, so that it may be moved away, or loaded by the command,
    while bars are streaming. Lines that cannot be written are kept, ten thousand at most, and tried
    again after a second: a few with the next ones, or all by :meth:`flush`.

    Thread safety: every method may be called from any thread; none holds a lock while it writes,
    but for the system's lock on the file. Where another has that, which the command holds for a
    rename, nobody waits: the lines are kept like any that cannot be written.
    """

    def __init__(
        self, path: Path, *, sink: str, data_clock: Clock, clock: Clock | None = None
    ) -> None:
        """Nothing is opened yet.

        Args:
            path: The file.
            sink: Name of the sink.
            data_clock: For the lines' times.
            clock: For the pause between two tries; ``data_clock`` where that is the same.
        """
        self._path = path
        self._sink = sink
        self._monotonic = (clock or data_clock).monotonic
        self._data_clock = data_clock
        self._lock = threading.Lock()  # guards the three below
        self._unwritten: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._dropped = 0  # lines that there was no room to keep
        self._retry_at = 0.0  # monotonic seconds before which a file that failed is left alone

    def append(self, reason: str, *, bars: Iterable[Bar] = (), raw: Sequence[bytes] = ()) -> None:
        """Write a line for each bar.

        Raises:
            OSError: They could not be written now; they are kept.
        """
        moment = datetime_from_ns(self._data_clock.utc_now_ns()).isoformat()
        letter = UnstoredBar(time=moment.replace("+00:00", "Z"), sink=self._sink, reason=reason)
        fields = msgspec.structs.asdict(letter)
        lines = [
            _ENCODER.encode({**fields, "bar": msgspec.structs.asdict(bar)})  # under Bar's own names
            for bar in bars
        ]
        lines += [_ENCODER.encode({**fields, "raw": body}) for body in raw]
        with self._lock:
            if self._unwritten and self._monotonic() < self._retry_at:
                self._keep(lines)
                raise BlockingIOError(errno.EAGAIN, "not tried again yet")
            few = self._take(_FEW)
        self._write([*few, *lines])

    def retry_in(self) -> float | None:
        """Seconds until :meth:`flush` is worth a call; ``None`` when nothing is kept."""
        with self._lock:
            if not self._unwritten:
                return None
            return max(self._retry_at - self._monotonic(), 0.0)

    def flush(self) -> None:
        """Try once more to write what could not be written.

        Raises:
            OSError: It still cannot be.
        """
        with self._lock:
            lines = self._take(_KEPT_LINES)
        self._write(lines)

    @property
    def missing(self) -> int:
        """How many lines the file does not have."""
        with self._lock:
            return self._dropped + len(self._unwritten)

    def _keep(self, lines: Sequence[bytes]) -> None:
        self._dropped += max(len(self._unwritten) + len(lines) - _KEPT_LINES, 0)
        self._unwritten.extend(lines)

    def _take(self, most: int) -> list[bytes]:
        return [self._unwritten.popleft() for _ in range(min(most, len(self._unwritten)))]

    def _write(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        try:
            append_lines(self._path, lines)
        except OSError:
            with self._lock:
                self._keep(lines)
                self._retry_at = self._monotonic() + _PAUSE
            raise


def append_lines(path: Path, lines: Sequence[bytes], *, patience: float = 0.0) -> None:
    """Add whole lines to the file that has this name now; a torn line before them ends there.

    Args:
        path: The file.
        lines: Without their ends.
        patience: Seconds to wait for whoever has locked it.

    Raises:
        OSError: They cannot be written; none is then there.
    """
    while True:
        with path.open("ab+", buffering=0) as file:
            lock_file(file.fileno(), patience=patience)
            if not _is_still(file.fileno(), path):
                continue  # it was moved away between the two lines above
            end = file.seek(0, os.SEEK_END)
            torn = b""
            if end:
                file.seek(end - 1)
                torn = b"" if file.read(1) == b"\n" else b"\n"
            left = memoryview(torn + b"".join(line + b"\n" for line in lines))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)
                raise
            return


def claim(path: Path, target: Path, *, patience: float) -> None:
    """Rename the file so that nobody who appends to it writes into the renamed one.

    Args:
        path: The file.
        target: Its new name.
        patience: Seconds to wait for whoever appends to it now.

    Raises:
        OSError: There is no such file, or it cannot be renamed.
    """
    with path.open("rb+") as file:
        lock_file(file.fileno(), patience=patience)
        path.rename(target)


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
