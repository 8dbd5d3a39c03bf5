"""The worker's thread, with the real clock: that it writes, and how it ends."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import SystemClock
from realtime_stream.errors import SinkError
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.sink_dead_letters import FILE_NAME
from realtime_stream.runtime.sink_worker import SinkWorker
from tests.support import Recorder
from tests.support_sinks import Latencies, MemorySink, bar, bar_end_ns, limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from realtime_stream.ports import ErrorEvent

PATIENCE = 10.0


class Bench:
    """A worker with its sink and what it tells."""

    def __init__(self, folder: Path, sink: MemorySink | None = None, **values: Any) -> None:
        self.sink = sink or MemorySink()
        self.told: Recorder[ErrorEvent] = Recorder()
        self.worker = SinkWorker(
            self.sink,
            manager="alpha",
            folder=folder,
            limits=limits(**{"batch_delay": 0.001, **values}),
            latency=Latencies(),
            bar_end_ns=bar_end_ns,
            clock=SystemClock(),
            data_clock=SystemClock(),
            rng=random.Random(7),  # noqa: S311  # waits, no secrets
            tell=self.told,
            log=EventLog("alpha"),
        )

    def stop(self, seconds: float = PATIENCE) -> bool:
        return self.worker.stop(time.monotonic() + seconds)


def test_it_writes_on_a_daemon_thread_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    seen: list[threading.Thread] = []
    bench.sink.behave = lambda _: seen.append(threading.current_thread())
    bench.worker.start()
    bench.worker.offer(bar(1))
    bench.sink.wait_for_bars(1)
    assert bench.worker.alive
    assert bench.stop()
    assert not seen[0].is_alive()
    assert seen[0].name == bench.worker.thread_name == "realtime-stream/alpha/sink-memory"
    assert seen[0].daemon
    assert bench.sink.closed == 0
    assert bench.worker.info().stored == 1


def test_stop_writes_what_waits_without_waiting_for_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, batch_delay=3600.0)
    bench.worker.start()
    for number in range(8):
        bench.worker.offer(bar(number))
    assert bench.stop()
    info = bench.worker.info()
    assert (info.offered, info.stored, info.spooled) == (8, 8, 0)
    assert list(tmp_path.glob("*.spool")) == []


def test_stop_leaves_the_sink_open_for_the_next_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.worker.start()
    bench.worker.offer(bar(1))
    assert bench.stop()
    again = Bench(tmp_path, bench.sink)
    again.worker.start()
    again.worker.offer(bar(2))
    assert again.stop()
    assert bench.sink.bars == [bar(1), bar(2)]
    assert bench.sink.closed == 0


def test_with_the_sink_down_stop_spools_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def down(_: Sequence[object]) -> None:
        raise SinkError("down")

    bench.sink.behave = down
    bench.worker.start()
    bench.worker.offer(bar(1))
    bench.told.wait_for()
    begun = time.monotonic()
    assert bench.stop(60.0)
    assert time.monotonic() - begun < 30
    assert bench.worker.info().spooled == 1

    bench = Bench(tmp_path)
    bench.worker.start()
    bench.sink.wait_for_bars(1)
    assert bench.stop()
    assert bench.worker.info().stored == 1
    assert bench.sink.bars == [bar(1)]


def test_much_that_is_to_be_moved_is_taken_over_early(tmp_path: Path) -> None:
    """As several sinks are moved one after the other, before the one deadline of all."""
    bench = Bench(tmp_path)
    release = threading.Event()

    def stuck(_: Sequence[object]) -> None:
        release.wait(PATIENCE)

    bench.sink.behave = stuck
    bench.worker.start()
    for number in range(3):
        bench.worker.offer(bar(number))
    bench.sink.wait_for_calls(1)
    begun = time.monotonic()
    bench.worker.begin_stop(begun + 4.0, moving=60.0)
    bench.worker.take_over()
    assert time.monotonic() - begun < 3
    assert bench.worker.info().spooled == 3
    assert bench.worker.alive
    release.set()
    assert bench.worker.join()


@pytest.mark.parametrize("seconds", [0.2, 0.0, -1.0])
def test_a_stuck_sink_is_left_behind_and_its_bars_are_on_disk(
    tmp_path: Path, seconds: float
) -> None:
    bench = Bench(tmp_path)
    release = threading.Event()

    def stuck(_: Sequence[object]) -> None:
        release.wait(PATIENCE)

    bench.sink.behave = stuck
    bench.worker.start()
    for number in range(3):
        bench.worker.offer(bar(number))
    bench.sink.wait_for_calls(1)
    for number in range(3, 30):
        bench.worker.offer(bar(number))
    assert not bench.stop(seconds)
    assert bench.worker.alive
    info = bench.worker.info()
    assert (info.offered, info.spooled, info.queued, info.dead_lettered) == (30, 30, 0, 0)
    assert bench.sink.closed == 0

    second = Bench(tmp_path)  # the folder is free again
    assert second.worker.info().spooled == 30
    second.worker.start()
    second.sink.wait_for_bars(30)
    assert second.stop()

    release.set()
    assert bench.stop()
    assert bench.worker.info().spooled == 30
    assert bench.sink.closed == 0


def test_a_worker_that_was_never_started_lets_go_of_its_folder(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.worker.offer(bar(1))
    assert bench.stop()
    assert bench.worker.info().spooled == 1
    assert bench.sink.closed == 0
    assert Bench(tmp_path).stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sink_that_ends_its_thread_is_reported_and_its_bars_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def leave(_: Sequence[object]) -> None:
        raise SystemExit

    bench.sink.behave = leave
    bench.worker.start()
    bench.worker.offer(bar(1))
    (event,) = bench.told.wait_for()
    assert event.source == "sink:memory"
    assert bench.stop()
    bench.worker.offer(bar(2))
    info = bench.worker.info()
    assert (info.offered, info.spooled, info.dead_lettered) == (2, 1, 1)
    assert (tmp_path / FILE_NAME).exists()
    assert bench.sink.closed == 0  # others may use it


def test_bars_are_offered_while_others_are_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path, capacity=50)
    count = 2000
    done = threading.Event()
    broken: list[object] = []

    def look() -> None:
        while not done.is_set():
            info = bench.worker.info()
            if info.offered != info.stored + info.queued + info.spooled + info.dead_lettered:
                broken.append(info)
            if info.spooled < 0:
                broken.append(info)

    watcher = threading.Thread(target=look)
    watcher.start()
    bench.worker.start()
    for number in range(count):
        bench.worker.offer(bar(number))
    bench.sink.wait_for_bars(count, 30)
    assert bench.stop()
    done.set()
    watcher.join()
    assert broken == []
    assert sorted(each.trade_count or 0 for each in bench.sink.bars) == list(range(count))
    info = bench.worker.info()
    assert (info.offered, info.stored) == (count, count)
