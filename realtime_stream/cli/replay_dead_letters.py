"""``realtime-stream replay-dead-letters``: bars that could not be stored, once more to a sink."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console

from realtime_stream.cli.file_lock import sole_use
from realtime_stream.clock import SystemClock
from realtime_stream.errors import ConfigurationError, SinkError
from realtime_stream.locks import LOCK_NAME
from realtime_stream.runtime.sink_dead_letters import (
    FILE_NAME,
    DeadLetterFile,
    append_lines,
    claim,
    encode_line,
    read_line,
)
from realtime_stream.runtime.sink_settings import SinkLimits
from realtime_stream.runtime.sink_writing import write_batch
from realtime_stream.runtime.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from realtime_stream.ports import Sink

__all__ = ["run_replay_dead_letters"]

_BATCH: Final = 500
_SUFFIX: Final = ".loading"
_PATIENCE: Final = 5.0  # seconds to wait for a manager that writes into the file
_LONGEST_LINE: Final = 2**20  # bytes; ours are shorter


@dataclass
class _Count:
    """What became of the bars."""

    stored: int = 0
    refused: int = 0
    unreadable: int = 0
    left: int = 0
    error: SinkError | None = None

    @property
    def all_stored(self) -> bool:
        return self.error is None and not (self.refused or self.unreadable or self.left)


def run_replay_dead_letters(file: Path, sink: Sink) -> int:
    """Load a dead-letter file, or a sink's spool folder, into a sink, and say what became of it.

    Of a file, what is refused again and what cannot be read is appended to it anew; what the sink
    could not be asked about, because it failed, too. The file may be in use by a manager: it is
    renamed first, so that nothing that comes meanwhile is lost, and a renamed file that an earlier
    run has left behind is loaded with it. A file in which no line can be read is not touched. A
    spool folder must not be in use; its dead letters are loaded too.

    Args:
        file: A file of JSON lines, or a sink's spool folder.
        sink: Where the bars go; it is not closed.

    Returns:
        0 when all are stored, else 1.

    Raises:
        ConfigurationError: There is nothing of that name, it cannot be read or written, or the
            file or folder is in use by another command, or the folder by a manager.
    """
    count = _Count()
    try:
        load = _load_folder if file.is_dir() else _load_file
        load(file, sink, count)
    except OSError as exc:
        msg = f"{file} cannot be loaded: {exc}"
        raise ConfigurationError(msg) from exc
    _print(count, file / FILE_NAME if file.is_dir() else file)
    return 0 if count.all_stored else 1


def _load_file(file: Path, sink: Sink, count: _Count) -> None:
    with sole_use(file):
        loading = _loading(file)
        if not _has_letters(file, loading):
            if file.stat().st_size:
                msg = f"{file} is no file of dead letters: nothing in it can be read as one"
                raise ConfigurationError(msg)
            return
        if loading.exists():  # an earlier run was ended in the middle
            lines = loading.read_bytes().split(b"\n")
            append_lines(file, [line for line in lines if line.strip()], patience=_PATIENCE)
            loading.unlink()
        claim(file, loading, patience=_PATIENCE)
        kept = list[bytes]()
        with loading.open("rb") as source:
            waiting = (line.removesuffix(b"\n") for line in source if line.strip())
            while batch := list(islice(waiting, _BATCH)):
                kept += _load_lines(batch, sink, count)
        if kept:
            append_lines(file, kept, patience=_PATIENCE)
        loading.unlink()


def _loading(file: Path) -> Path:
    return file.with_name(file.name + _SUFFIX)


def _has_letters(*paths: Path) -> bool:
    """Whether any line can be read, so that the file is one of ours and not, say, a database."""
    for path in paths:
        if path.exists():
            with path.open("rb") as source:
                pieces = iter(partial(source.readline, _LONGEST_LINE), b"")
                if any(read_line(piece) is not None for piece in pieces):
                    return True
    return False


def _load_lines(lines: Sequence[bytes], sink: Sink, count: _Count) -> Iterator[bytes]:
    """Load the bars of some lines; yields the lines that stay."""
    if count.error is not None:
        count.left += len(lines)
        yield from lines
        return
    letters = []
    for line in lines:
        letter = read_line(line)
        if letter is None or letter.bar is None:
            count.unreadable += 1
            yield line
        else:
            letters.append((line, letter, letter.bar))
    answer = write_batch(sink, [bar for _, _, bar in letters])
    if answer.error is not None:
        count.error = answer.error
        count.left += len(letters)
        yield from (line for line, _, _ in letters)
        return
    count.stored += len(answer.stored)
    reasons = {id(bar): reason for reason, bars in answer.refused.items() for bar in bars}
    for _, letter, bar in letters:
        if id(bar) in reasons:
            count.refused += 1
            yield encode_line(msgspec.structs.replace(letter, reason=reasons[id(bar)]))


def _load_folder(folder: Path, sink: Sink, count: _Count) -> None:
    letters = folder / FILE_NAME
    names = {path.name for path in folder.iterdir()}
    marks = {letters.name, _loading(letters).name}
    was_emptied = names == {LOCK_NAME}
    if not (was_emptied or names & marks or any(folder.glob("*.spool"))):
        msg = f"{folder} is no spool folder"
        raise ConfigurationError(msg)
    limits = SinkLimits()
    spool = Spool(folder, max_bytes=limits.spool_bytes, segment_bytes=limits.segment_bytes)
    try:
        if _has_letters(letters, _loading(letters)):
            _load_file(letters, sink, count)
        _load_spool(spool, letters, sink, count)
        count.left += spool.records
    finally:
        spool.close()


def _load_spool(spool: Spool, letters: Path, sink: Sink, count: _Count) -> None:
    refused = DeadLetterFile(letters, sink=sink.name, data_clock=SystemClock())
    while count.error is None and (batch := spool.read(_BATCH)) is not None:
        answer = write_batch(sink, batch.bars)
        if answer.error is not None:
            count.error = answer.error
            return
        for reason, bars in answer.refused.items():
            refused.append(reason, bars=bars)
        refused.append("damaged on disk", raw=batch.damaged)
        spool.acknowledge(batch)
        count.stored += len(answer.stored)
        count.refused += sum(map(len, answer.refused.values()))
        count.unreadable += len(batch.damaged) + batch.lost


def _print(count: _Count, file: Path) -> None:
    console = Console(highlight=False)
    console.print(f"stored      {count.stored}")
    console.print(f"refused     {count.refused}")
    console.print(f"unreadable  {count.unreadable}")
    console.print(f"left        {count.left}")
    if count.error is not None:
        console.print(f"the sink failed: {count.error}", markup=False, soft_wrap=True)
    if count.refused or count.unreadable:
        console.print(f"what is refused or unreadable is in {file}", markup=False, soft_wrap=True)
