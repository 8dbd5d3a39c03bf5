"""The recorder never holds a session up; what it cannot keep is counted, and said."""

from __future__ import annotations

import itertools
import logging
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import SystemClock
from realtime_stream.errors import RecordingError
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import Acknowledged, Connected, RejectedMessage, Settled
from realtime_stream.recording import Recorder, RecorderLimits, Recording, TappedListener
from realtime_stream.recording.records import (
    FrameReceived,
    Header,
    Lost,
    SessionBegun,
    SessionEnded,
    Step,
    SubscriptionsServed,
)
from realtime_stream.resilience.failures import SessionEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import MarketEvent
    from realtime_stream.ports import Control

WANTED = frozenset({Subscription("quotes", "AAPL"), Subscription("bars", "MSFT")})


class HeldUpClock(SystemClock):
    """A data clock that lets one header be stamped; the next waits until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()
        self._first = True

    def utc_now_ns(self) -> int:
        if self._first:
            self._first = False
            return 1
        self.reached.set()
        assert self.release.wait(20)
        return 2


def _recorder(
    folder: Path, limits: RecorderLimits | None = None, data_clock: Clock | None = None
) -> Recorder:
    clock = SystemClock()
    return Recorder(
        folder,
        manager="test",
        provider="alpaca",
        market="stocks",
        feed="iex",
        clock=clock,
        data_clock=data_clock or clock,
        limits=limits or RecorderLimits(flush_interval=0.01),
    )


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = _recorder(tmp_path)
    made.start()
    yield made
    assert made.stop(10)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError


def _records(folder: Path) -> list[Any]:
    return [record for record in Recording(folder).records() if not isinstance(record, Header)]


def test_what_a_session_tells_is_kept_in_order(recorder: Recorder, tmp_path: Path) -> None:
    recorder.session_begun(WANTED, 1)
    recorder.control(Connected(), 2)
    recorder.control(Acknowledged(WANTED), 3)
    recorder.frame(b"\x90", 4)
    recorder.control(RejectedMessage("no", b"", 4), 4)  # it is in the frame
    recorder.frame("text", 5)
    recorder.control(Settled(), 6)
    recorder.session_ended(SessionEnd(close_code=1001), 7)
    assert recorder.stop(10)
    both = tuple(sorted(WANTED))
    assert _records(tmp_path) == [
        SessionBegun(1, 1, both),
        Step(2, "connected"),
        SubscriptionsServed(3, both),
        FrameReceived(4, b"\x90"),
        FrameReceived(5, b"text", is_text=True),
        Step(6, "settled"),
        SessionEnded(1, 7, close_code=1001),
    ]
    info = recorder.info()
    assert (info.frames, info.dropped, info.queued) == (2, 0, 0)
    assert info.size == sum(path.stat().st_size for path in Recording(tmp_path).paths)
    assert info.file == str(Recording(tmp_path).paths[-1])


def test_what_came_is_on_disk_within_the_interval(recorder: Recorder, tmp_path: Path) -> None:
    recorder.frame(b"first", 1)
    _until(lambda: len(_records(tmp_path)) == 1)
    recorder.frame(b"second", 2)
    _until(lambda: len(_records(tmp_path)) == 2)


def test_a_full_block_is_written_without_waiting(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path, RecorderLimits(block_bytes=1000, flush_interval=3600.0))
    recorder.start()
    recorder.frame(b"small", 1)
    recorder.frame(b"x" * 1000, 2)
    _until(lambda: len(_records(tmp_path)) == 2)
    assert recorder.stop(10)


def test_what_does_not_fit_is_dropped_counted_and_said(tmp_path: Path) -> None:
    clock = HeldUpClock()
    limits = RecorderLimits(queue_bytes=5000, block_bytes=1, flush_interval=0.01, segment_bytes=1)
    recorder = _recorder(tmp_path, limits, clock)
    recorder.start()
    recorder.frame(b"0" * 872, 0)  # 1000 bytes with what a record takes besides
    assert clock.reached.wait(10)  # the thread is held up with it
    for number in range(1, 8):
        recorder.frame(b"0" * 872, number)
    recorder.control(Settled(), 8)  # what is about the session has room of its own
    assert recorder.info().dropped == 3
    assert recorder.info().queued == 5
    clock.release.set()
    _until(lambda: recorder.info().queued == 0)
    recorder.frame(b"0" * 872, 9)
    assert recorder.stop(10)
    assert [getattr(r, "received_ns", r) for r in _records(tmp_path)] == [
        *(0, 1, 2, 3, 4),
        Lost(5, 3, 3 * 872, 0),
        Step(8, "settled"),
        9,
    ]
    assert recorder.info().frames == 6


def test_notes_have_a_limit_too(tmp_path: Path) -> None:
    clock = HeldUpClock()
    limits = RecorderLimits(queue_bytes=1000, block_bytes=1, flush_interval=0.01, segment_bytes=1)
    recorder = _recorder(tmp_path, limits, clock)
    recorder.start()
    recorder.control(Settled(), 0)
    assert clock.reached.wait(10)
    for number in range(1, 100):
        recorder.control(Settled(), number)
    clock.release.set()
    assert recorder.stop(10)
    records = _records(tmp_path)
    kept = [record for record in records if isinstance(record, Step)]
    assert 10 < len(kept) < 20
    assert records[-1] == Lost(len(kept), 0, 0, 100 - len(kept))


def test_what_comes_after_the_end_is_counted_as_dropped(recorder: Recorder, tmp_path: Path) -> None:
    recorder.frame(b"", 1)
    assert recorder.stop(10)
    recorder.frame(b"", 2)
    recorder.control(Settled(), 3)
    assert recorder.info().dropped == 1
    assert len(_records(tmp_path)) == 1


def test_a_folder_that_vanishes_costs_frames_and_the_recording_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    recorder = _recorder(folder, RecorderLimits(flush_interval=0.01, segment_bytes=1))
    recorder.start()
    recorder.frame(b"1", 1)
    _until(lambda: recorder.info().frames == 1)
    shutil.rmtree(folder)
    with caplog.at_level(logging.ERROR, "realtime_stream"):
        recorder.frame(b"22", 2)
        recorder.control(Settled(), 3)
        _until(lambda: recorder.info().dropped == 1)
        assert recorder.info().last_error
        recorder.frame(b"4", 4)
        _until(lambda: recorder.info().dropped == 2)
    assert [record.message for record in caplog.records] == ["realtime_recording_failed"]
    folder.mkdir()
    recorder.frame(b"5", 5)
    _until(lambda: recorder.info().frames == 2)
    assert not recorder.info().last_error
    assert recorder.stop(10)
    settled, lost, last = _records(folder)
    assert settled == Step(3, "settled")
    assert (lost.frames, lost.size, lost.notes) == (2, 3, 0)
    assert last == FrameReceived(5, b"5")


def test_what_was_lost_is_said_even_when_nothing_more_comes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    recorder = _recorder(folder, RecorderLimits(flush_interval=0.01, segment_bytes=1))
    recorder.start()
    shutil.rmtree(folder)
    recorder.frame(b"1", 1)
    _until(lambda: recorder.info().dropped == 1)
    folder.mkdir()
    _until(lambda: not recorder.info().last_error)
    assert recorder.stop(10)
    (lost,) = _records(folder)
    assert lost.frames == 1


_BEGIN = """
import sys, threading
from pathlib import Path
from realtime_stream.clock import SystemClock
from realtime_stream.recording import Recorder, RecorderLimits

clock = SystemClock()
recorder = Recorder(
    Path(sys.argv[1]), manager="test", provider="alpaca", market="stocks", feed="iex",
    clock=clock, data_clock=clock, limits=RecorderLimits(flush_interval=0.01, block_bytes=4096),
)
recorder.start()
"""

_FULL = (
    _BEGIN
    + """
import resource
from realtime_stream.ports import Settled

def _until(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
number = 0
while not recorder.info().last_error:
    number += 1
    recorder.frame(number.to_bytes(4, "big") + bytes(i * number % 251 for i in range(2000)), number)
    _until(lambda: recorder.info().queued == 0)
recorder.control(Settled(), number)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
recorder.frame(b"after", 10**6)
_until(lambda: not recorder.info().last_error)
assert recorder.stop(10)
info = recorder.info()
assert info.frames + info.dropped == number + 1, info
print(info.dropped)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no limit on the size of files")
def test_a_disk_that_is_full_leaves_whole_blocks_and_is_written_to_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dropped = int(done.stdout)
    assert dropped > 0
    records = _records(tmp_path)  # a torn block would be among them
    frames = [record for record in records if isinstance(record, FrameReceived)]
    (lost,) = (record for record in records if isinstance(record, Lost))
    assert lost.frames == dropped
    assert [frame.received_ns for frame in frames[:-1]] == list(range(1, len(frames)))
    assert frames[-1].received_ns == 10**6
    assert records[-3:-1].count(lost) == 1
    assert Step(len(frames) - 1 + dropped, "settled") in records


_KILLED = (
    _BEGIN
    + """
for number in range(10**9):
    recorder.frame(bytes(100), number)
    if number == 1000:
        print("going", flush=True)
"""
)


def test_a_process_that_is_killed_leaves_a_recording_that_can_be_read(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        _until(lambda: len(_frames_whole(tmp_path)) > 1000)
        process.kill()
        process.wait(10)
    frames = _frames_whole(tmp_path)
    assert all(a < b for a, b in itertools.pairwise(frames))
    again = _recorder(tmp_path)
    again.start()
    again.frame(b"", 10**10)
    assert again.stop(10)
    assert _frames_whole(tmp_path) == [*frames, 10**10]


def _frames_whole(folder: Path) -> list[int]:
    try:
        recording = Recording(folder)
    except RecordingError:  # not begun yet
        return []
    return [r.received_ns for r in recording.records() if isinstance(r, FrameReceived)]


def test_it_may_be_started_again(recorder: Recorder, tmp_path: Path) -> None:
    recorder.session_begun(WANTED, 1)
    assert recorder.stop(10)
    assert not recorder.threads()
    recorder.start()
    assert recorder.threads() == ("realtime-stream/test/recorder",)
    recorder.frame(b"", 2)
    assert recorder.stop(10)
    assert recorder.info().frames == 1
    assert len(Recording(tmp_path).paths) == 2
    assert len(_records(tmp_path)) == 2


def test_it_is_not_started_while_a_disk_holds_up_the_time_before(tmp_path: Path) -> None:
    clock = HeldUpClock()
    recorder = _recorder(
        tmp_path, RecorderLimits(block_bytes=1, flush_interval=0.01, segment_bytes=1), clock
    )
    recorder.start()
    recorder.frame(b"", 1)
    assert clock.reached.wait(10)
    assert not recorder.stop(0.01)
    with pytest.raises(RecordingError, match="still writing"):
        recorder.start()
    clock.release.set()
    assert recorder.join(10)


def test_stop_without_start_does_nothing(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path / "folder")
    assert recorder.stop(1)
    assert not (tmp_path / "folder").exists()


class _Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_frame(self, events: Collection[MarketEvent], received_ns: int) -> None:
        self.heard.append((events, received_ns))

    def on_control(self, control: Control) -> None:
        self.heard.append(control)


def test_a_tapped_listener_hears_what_it_would_hear_anyway(
    recorder: Recorder, tmp_path: Path
) -> None:
    listener = _Listener()
    tapped = TappedListener(listener, recorder, SystemClock())
    tapped.on_control(Connected())
    tapped.on_frame((), 5)
    assert listener.heard == [Connected(), ((), 5)]
    assert recorder.stop(10)
    (step,) = _records(tmp_path)
    assert step.step == "connected"


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be deleted there")
def test_what_goes_to_a_deleted_segment_is_counted(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path / "folder")
    recorder.start()
    recorder.frame(b"1", 1)
    _until(lambda: recorder.info().frames == 1)
    shutil.rmtree(tmp_path / "folder")
    recorder.frame(b"2", 2)
    _until(lambda: recorder.info().dropped == 1)
    assert recorder.info().frames == 1
    assert "was deleted" in recorder.info().last_error
    assert recorder.stop(10)
