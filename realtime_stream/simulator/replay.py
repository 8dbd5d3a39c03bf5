"""Recordings: frames of a server, one JSON object a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from realtime_stream.simulator.wire import to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["read_recording"]

_CONTROL: Final = frozenset({"success", "error", "subscription"})


class _Line(msgspec.Struct):
    frame: list[dict[str, Any]] | dict[str, Any]
    dir: str = "<"
    at_ns: int | None = None


def read_recording(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Data messages of a recording, with their times, for ``AlpacaSimulator.play``.

    A line holds ``frame`` (a list of messages), perhaps ``dir`` (``<`` from the server; others are
    skipped) and ``at_ns`` (when it was received; without it the message's own time counts).

    Yields:
        Time in nanoseconds since the epoch and message; times never go back.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not such an object.
    """
    latest = 0
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError as exc:
            msg = f"{path.name}, line {number}: {exc}"
            raise ValueError(msg) from exc
        if line.dir != "<" or isinstance(line.frame, dict):
            continue
        for message in line.frame:
            if message.get("T") in _CONTROL:
                continue
            own = to_ns(message.get("t", message.get("updated_at")))
            latest = max(latest, line.at_ns or own or 0)
            yield latest, message
