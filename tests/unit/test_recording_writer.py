"""Segments: whole or recognised as torn at every byte, rotated, and numbered on."""

from __future__ import annotations

import itertools
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.errors import RecordingError
from realtime_stream.market.channels import Subscription
from realtime_stream.recording import Recording, Torn
from realtime_stream.recording.format import MAGIC, pack
from realtime_stream.recording.records import (
    FORMAT_VERSION,
    FrameReceived,
    Header,
    Record,
    SessionBegun,
    SubscriptionsServed,
)
from realtime_stream.recording.writer import RecordingWriter

if TYPE_CHECKING:
    from pathlib import Path


def _writer(
    folder: Path,
    clock: FakeClock | None = None,
    *,
    segment_bytes: int = 10**9,
    segment_seconds: float = 1e9,
) -> RecordingWriter:
    clock = FakeClock() if clock is None else clock
    return RecordingWriter(
        folder,
        provider="alpaca",
        market="stocks",
        feed="iex",
        segment_bytes=segment_bytes,
        segment_seconds=segment_seconds,
        clock=clock,
        data_clock=clock,
    )


def _frames(recording: Recording) -> list[int]:
    return [r.received_ns for r in recording.records() if isinstance(r, FrameReceived)]


def _write(folder: Path, *numbers: int, segment_bytes: int = 10**9) -> None:
    writer = _writer(folder, segment_bytes=segment_bytes)
    writer.open()
    for number in numbers:
        writer.write([FrameReceived(number, b"data")])
    writer.close()


def test_a_recording_says_whose_frames_it_holds(tmp_path: Path) -> None:
    _write(tmp_path / "new" / "folder", 1, 2)
    recording = Recording(tmp_path / "new" / "folder")
    assert recording.header == Header(FORMAT_VERSION, "alpaca", "stocks", "iex", 1, 0)
    assert _frames(recording) == [1, 2]
    assert _frames(Recording(recording.paths[0])) == [1, 2]


def test_a_tail_torn_at_any_byte_is_recognised_and_everything_before_is_read(
    tmp_path: Path,
) -> None:
    _write(tmp_path, 1, 2, 3)
    (path,) = Recording(tmp_path).paths
    data = path.read_bytes()
    head = MAGIC + pack([Recording(tmp_path).header])
    ends = list(
        itertools.accumulate([
            len(head),
            *(len(pack([FrameReceived(n, b"data")])) for n in (1, 2, 3)),
        ])
    )
    assert ends[-1] == len(data)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if length < len(head):
            with pytest.raises(RecordingError, match="not a recording"):
                Recording(tmp_path)
            continue
        recording = Recording(tmp_path)
        whole = max(end for end in ends if end <= length)
        assert _frames(recording) == [1, 2, 3][: ends.index(whole)]
        torn = [record for record in recording.records() if isinstance(record, Torn)]
        assert torn == ([] if length == whole else [Torn(path.name, length - whole)])


def test_a_torn_segment_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    _write(tmp_path, 1, 2)
    (first,) = Recording(tmp_path).paths
    first.write_bytes(first.read_bytes()[:-1])
    _write(tmp_path, 3)
    recording = Recording(tmp_path)
    assert [path.name for path in recording.paths] == [
        "segment-000001.rsrec",
        "segment-000002.rsrec",
    ]
    kinds: list[type] = [type(record) for record in recording.records()]
    assert kinds == [Header, FrameReceived, Torn, Header, FrameReceived]
    assert _frames(recording) == [1, 3]


def test_an_empty_segment_is_numbered_on(tmp_path: Path) -> None:
    (tmp_path / "segment-000007.rsrec").write_bytes(b"")
    _write(tmp_path, 1)
    assert Recording(tmp_path).paths[-1].name == "segment-000008.rsrec"
    assert _frames(Recording(tmp_path)) == [1]


def test_other_files_in_the_folder_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "segment-old.rsrec").write_text("mine")
    _write(tmp_path, 1)
    assert _frames(Recording(tmp_path)) == [1]


def test_a_segment_that_has_grown_is_followed_by_another(tmp_path: Path) -> None:
    _write(tmp_path, *range(10), segment_bytes=200)
    recording = Recording(tmp_path)
    assert len(recording.paths) > 2
    assert all(path.stat().st_size < 300 for path in recording.paths)
    assert _frames(recording) == list(range(10))
    headers = [r.segment for r in recording.records() if isinstance(r, Header)]
    assert headers == list(range(1, len(headers) + 1))


def test_a_segment_that_is_old_is_followed_by_another(tmp_path: Path) -> None:
    clock = FakeClock()
    writer = _writer(tmp_path, clock, segment_seconds=60.0)
    writer.open()
    writer.write([FrameReceived(1, b"")])
    clock.advance(59.0)
    writer.write([FrameReceived(2, b"")])
    clock.advance(1.0)
    writer.write([FrameReceived(3, b"")])
    writer.close()
    assert len(Recording(tmp_path).paths) == 2
    assert _frames(Recording(tmp_path)) == [1, 2, 3]


def test_a_recording_of_another_endpoint_is_not_written_to(tmp_path: Path) -> None:
    clock = FakeClock()
    other = RecordingWriter(
        tmp_path,
        provider="alpaca",
        market="crypto",
        feed="us",
        segment_bytes=1000,
        segment_seconds=1000.0,
        clock=clock,
        data_clock=clock,
    )
    other.open()
    other.close()
    with pytest.raises(RecordingError, match="alpaca/crypto/us"):
        _writer(tmp_path).open()


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    header = Header(FORMAT_VERSION + 1, "alpaca", "stocks", "iex", 1, 0)
    (tmp_path / "segment-000001.rsrec").write_bytes(MAGIC + pack([header]))
    with pytest.raises(RecordingError, match=f"format {FORMAT_VERSION + 1}"):
        Recording(tmp_path)


def test_what_was_served_is_found_without_looking_into_data(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.open()
    first, second = Subscription("bars", "AAPL"), Subscription("quotes", "*")
    blocks: list[list[Record]] = [
        [SubscriptionsServed(1, (first,))],
        [FrameReceived(2, b"")],
        [FrameReceived(3, b""), SubscriptionsServed(4, (first, second))],
        [SubscriptionsServed(5, ())],
    ]
    for records in blocks:
        writer.write(records)
    writer.close()
    assert Recording(tmp_path).subscriptions() == {first, second}


def test_where_nothing_was_served_what_was_wanted_is_found(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.open()
    wanted = (Subscription("bars", "AAPL"), Subscription("quotes", "*"))
    writer.write([SessionBegun(1, 1, wanted[:1]), SessionBegun(2, 2, wanted[1:])])
    assert Recording(tmp_path).subscriptions() == set(wanted)
    writer.write([SubscriptionsServed(3, wanted[:1])])
    assert Recording(tmp_path).subscriptions() == set(wanted[:1])
    writer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing guards a folder there")
def test_one_writer_at_a_time_has_a_folder(tmp_path: Path) -> None:
    first, second = _writer(tmp_path, segment_bytes=1), _writer(tmp_path)
    first.open()
    with pytest.raises(RecordingError, match="another recorder writes into it"):
        second.open()
    first.write([FrameReceived(1, b"")])
    first.write([FrameReceived(2, b"")])
    first.close()
    first.close()
    second.open()
    second.write([FrameReceived(3, b"")])
    second.close()
    assert _frames(Recording(tmp_path)) == [1, 2, 3]


def test_a_folder_that_is_refused_is_let_go(tmp_path: Path) -> None:
    segment = tmp_path / "segment-000001.rsrec"
    segment.write_bytes(b"something else")
    writer = _writer(tmp_path)
    with pytest.raises(RecordingError, match="not a segment"):
        writer.open()
    segment.unlink()
    _write(tmp_path, 1)
    assert _frames(Recording(tmp_path)) == [1]


def test_a_number_that_somebody_took_is_passed_over(tmp_path: Path) -> None:
    writer = _writer(tmp_path, segment_bytes=1)
    writer.open()
    (tmp_path / "segment-000002.rsrec").write_bytes(MAGIC)
    writer.write([FrameReceived(1, b"")])
    assert writer.path == tmp_path / "segment-000003.rsrec"
    writer.close()
    assert _frames(Recording(tmp_path)) == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be deleted there")
def test_a_segment_that_was_deleted_is_written_to_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    writer = _writer(folder)
    writer.open()
    writer.write([FrameReceived(1, b"")])
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="was deleted"):
        writer.write([FrameReceived(2, b"")])
    with pytest.raises(FileNotFoundError):
        writer.write([FrameReceived(3, b"")])
    folder.mkdir()
    writer.write([FrameReceived(4, b"")])
    with pytest.raises(RecordingError, match="another recorder"):
        _writer(folder).open()
    writer.close()
    assert _frames(Recording(folder)) == [4]
