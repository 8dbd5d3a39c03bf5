"""Recordings: JSON Lines of frames, as the source of a playback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from realtime_stream.simulator.endpoints import CHANNEL_OF_TYPE
from realtime_stream.simulator.wire import to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["read_recording"]

_FROM_SERVER: Final = "<"
_TIME_KEYS: Final = ("t", "updated_at", "created_at")


def read_recording(path: str | Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The data messages of a recording with their times, in the order of the file.

    Each line is a JSON object: ``frame``, an array of messages (or one message); ``dir``, only
    ``"<"`` (from the server; also if it is missing) is read; ``at_ns``, nanoseconds since the epoch
    at which the frame came, without which a message's own time counts. Control messages are
    skipped. The file is read as it is iterated.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not of this form, or a message has no time.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield from _read_line(line)
                except (ValueError, TypeError, AttributeError) as exc:
                    msg = f"{path}, line {number}: {exc}"
                    raise ValueError(msg) from exc


def _read_line(line: bytes) -> list[tuple[int, Mapping[str, Any]]]:
    record = msgspec.json.decode(line, type=dict[str, Any])
    if record.get("dir", _FROM_SERVER) != _FROM_SERVER:
        return []
    frame: Any = record.get("frame")
    messages: list[Any] = frame if isinstance(frame, list) else [frame]
    return [
        (_time(message, record.get("at_ns")), message)
        for message in messages
        if message.get("T") in CHANNEL_OF_TYPE
    ]


def _time(message: Mapping[str, Any], at_ns: int | None) -> int:
    if at_ns is not None:
        return at_ns
    for key in _TIME_KEYS:
        if key in message:
            return to_ns(message[key])
    msg = "neither at_ns nor a time in the message"
    raise ValueError(msg)
