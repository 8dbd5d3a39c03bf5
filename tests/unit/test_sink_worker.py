"""What becomes of a sink's bars, stepped by hand in a time that stands still."""

from __future__ import annotations

import logging
from errno import ENOSPC
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from realtime_stream.errors import ConfigurationError, HistoryError, SinkError, SinkRejectedError
from realtime_stream.market.models import Bar
from realtime_stream.runtime.sink_dead_letters import FILE_NAME, UnstoredBar, read_line
from realtime_stream.runtime.spool_records import FIRST_FRAME, encode_frame
from tests.support_sinks import MINUTE_NS, Latencies, MemorySink, Workbench, bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DOWN = SinkError("down")


def bars(*numbers: int) -> list[Bar]:
    return [bar(number) for number in numbers]


def letters(folder: Path) -> list[UnstoredBar]:
    path = folder / FILE_NAME
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = [read_line(line) for line in lines]
    assert None not in found
    return [letter for letter in found if letter is not None]


def refusing(*numbers: int) -> Any:
    """A sink's behaviour: it refuses these bars, and says so by position."""

    def behave(given: Sequence[Bar]) -> None:
        found = {n: f"bad {each.trade_count}" for n, each in enumerate(given)
                 if each.trade_count in numbers}  # fmt: skip
        if found:
            raise SinkRejectedError(str(found), rejected=found)

    return behave


# --- batches ---


def test_a_lonely_bar_waits_for_others_only_as_long_as_it_may(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    assert bench.delivery.turn() is None
    bench.offer(1)
    assert bench.delivery.wake.is_set()
    bench.clock.advance(0.125)
    bench.offer(2)
    assert bench.turns() == pytest.approx(0.075)
    assert bench.sink.batches == []
    bench.clock.advance(0.075)
    assert bench.turns() is None
    assert bench.sink.batches == [tuple(bars(1, 2))]
    info = bench.info()
    assert (info.offered, info.stored, info.queued) == (2, 2, 0)


def test_a_burst_is_written_in_full_batches_at_once(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(*range(7))
    bench.turns()
    assert [len(batch) for batch in bench.sink.batches] == [3, 3]
    bench.settle()
    assert bench.sink.bars == bars(*range(7))


def test_the_worker_is_woken_when_a_batch_is_full(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(1)
    bench.delivery.wake.clear()
    bench.offer(2)
    assert not bench.delivery.wake.is_set()
    bench.offer(3)
    assert bench.delivery.wake.is_set()


def test_versions_of_a_bar_are_passed_on_in_order(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    versions = [bar(1), bar(1, bar_kind="updated"), bar(1, bar_kind="updated", trade_count=9)]
    for each in versions:
        bench.delivery.offer(each)
    bench.settle()
    assert bench.sink.batches == [tuple(versions)]


# --- failures ---


def test_a_failed_write_is_tried_again_after_growing_waits(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN, DOWN, None)
    bench.offer(1, 2, 3)
    assert bench.turns() == 1
    info = bench.info()
    assert (info.queued, info.retries, info.circuit) == (3, 0, "closed")
    assert info.last_error == "down"
    bench.clock.advance(1)
    assert bench.turns() == 2
    bench.clock.advance(1.5)
    assert bench.turns() == 0.5
    assert bench.sink.calls == 2
    bench.clock.advance(0.5)
    assert bench.turns() is None
    info = bench.info()
    assert (info.stored, info.retries, info.last_error) == (3, 2, "")
    assert bench.sink.batches == [tuple(bars(1, 2, 3))]


def test_the_breaker_makes_it_pause_for_longer(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN, DOWN, DOWN, DOWN, None)
    bench.offer(1)
    bench.clock.advance(0.25)
    for pause in (1, 2, 30, 30):
        assert bench.turns() == pause
        bench.clock.advance(pause)
    assert bench.info().circuit == "open"
    assert bench.turns() is None
    assert bench.info().circuit == "closed"
    assert bench.info().stored == 1


def test_an_outage_is_told_of_once_and_its_end_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "realtime_stream")
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN, DOWN, None)
    bench.offer(1)
    bench.settle()
    assert [(event.error, event.source) for event in bench.told] == [(DOWN, "sink:memory")]
    assert [record.message for record in caplog.records] == [
        "realtime_sink_failed",
        "realtime_sink_recovered",
    ]
    assert vars(caplog.records[0])["sink"] == "memory"
    bench.sink.fails_with(DOWN)
    bench.offer(2)
    bench.settle()
    assert len(bench.told) == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("postgresql://me:secret@host"), "ValueError"),
        (MemoryError(), "MemoryError"),
        (HistoryError("odd"), "HistoryError: odd"),
        (SinkRejectedError("names none", rejected={}), "names none"),
        (SinkRejectedError("names others", rejected={-1: "x", 7: "y"}), "names others"),
    ],
)
def test_whatever_else_a_sink_raises_is_a_failure(
    tmp_path: Path, error: Exception, said: str
) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(error)
    bench.offer(1)
    bench.clock.advance(0.2)
    assert bench.turns() == 1
    assert bench.info().last_error == said
    assert isinstance(bench.told[0].error, SinkError)
    assert error in {bench.told[0].error, bench.told[0].error.__cause__}
    bench.settle()
    assert bench.info().stored == 1


# --- refused bars ---


def test_refused_bars_are_dead_lettered_and_the_others_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "realtime_stream")
    bench = Workbench(tmp_path)
    bench.sink.behave = refusing(1, 3)
    bench.offer(1, 2, 3)
    bench.settle()
    assert bench.sink.bars == bars(2)
    info = bench.info()
    assert (info.stored, info.dead_lettered, info.retries, info.circuit) == (1, 2, 0, "closed")
    assert [(each.sink, each.reason, each.bar) for each in letters(tmp_path)] == [
        ("memory", "bad 1", bar(1)),
        ("memory", "bad 3", bar(3)),
    ]
    assert letters(tmp_path)[0].time == "1970-01-01T00:00:00Z"
    assert repr(letters(tmp_path)[0].bar) == repr(bar(1))
    assert [event.source for event in bench.told] == ["sink:memory"]  # the second is held back
    assert [record.message for record in caplog.records] == ["realtime_bar_dead_lettered"]
    assert "AAPL" not in str(vars(caplog.records[0]))


def test_a_sink_may_refuse_one_after_the_other_and_all(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    first_is_bad = SinkRejectedError("bad", rejected={0: "bad"})

    def behave(_: Sequence[Bar]) -> None:
        raise first_is_bad

    bench.sink.behave = behave
    bench.offer(1, 2, 3)
    bench.settle()
    assert bench.sink.calls == 3
    assert [each.bar for each in letters(tmp_path)] == bars(1, 2, 3)
    assert bench.info().dead_lettered == 3


class UnspeakableError(SinkError):
    def __str__(self) -> str:
        raise ValueError


class HalfMadeError(SinkRejectedError):
    def __init__(self) -> None:
        """Leaves ``rejected`` out."""


def rejecting(rejected: Any) -> SinkRejectedError:
    error = SinkRejectedError("odd", rejected={})
    error.rejected = rejected
    return error


class NamelessReason:
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (UnspeakableError(), "UnspeakableError"),
        (SinkError("\ud800"), "\\ud800"),
        (HalfMadeError(), ""),
        (rejecting(None), "odd"),
        (rejecting(["0"]), "odd"),
        (rejecting({"0": "text", None: "none", 0.0: "float"}), "odd"),
    ],
)
def test_an_odd_exception_is_a_failed_write(tmp_path: Path, error: SinkError, shown: str) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(error)
    bench.offer(1, 2, 3)
    assert bench.turns() == 1
    assert bench.info().last_error == shown
    assert [str(event.error) for event in bench.told] == ["\ud800" if "ud800" in shown else shown]
    bench.settle()
    assert bench.sink.bars == bars(1, 2, 3)


@pytest.mark.parametrize(
    ("reason", "written"),
    [("\ud800", "\\ud800"), (NamelessReason(), "NamelessReason"), (7, "7"), ("\u00e4", "\u00e4")],
)
def test_an_odd_reason_is_written_as_it_can_be(
    tmp_path: Path, reason: object, written: str
) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(rejecting({0: reason, "1": "odd"}))
    bench.offer(1, 2, 3)
    bench.settle()
    assert [(each.bar, each.reason) for each in letters(tmp_path)] == [(bar(1), written)]
    assert bench.sink.bars == bars(2, 3)


class CountingSink(MemorySink):
    def write(self, bars: Sequence[Bar]) -> Any:
        super().write(bars)
        return len(bars)


def test_what_a_write_returns_is_no_failure(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, CountingSink())
    bench.offer(1, 2, 3)
    bench.settle()
    assert bench.sink.bars == bars(1, 2, 3)


def test_a_refusal_counts_only_with_the_others_stored(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(SinkRejectedError("bad", rejected={0: "bad"}), DOWN,
                          SinkRejectedError("bad", rejected={0: "bad"}))  # fmt: skip
    bench.offer(1, 2)
    bench.clock.advance(0.2)
    bench.turns()
    assert bench.info().queued == 2
    assert letters(tmp_path) == []
    bench.settle()
    assert bench.sink.bars == bars(2)
    assert [each.bar for each in letters(tmp_path)] == bars(1)


def test_dead_letters_that_cannot_be_written_are_kept_for_later(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    (tmp_path / FILE_NAME).mkdir()
    bench.sink.behave = refusing(1, 2)
    bench.offer(1)
    bench.clock.advance(0.2)
    assert bench.turns() == 1.0  # until it is tried again, though nothing else is to do
    assert bench.info().dead_lettered == 1
    (tmp_path / FILE_NAME).rmdir()
    bench.offer(2)
    bench.settle()
    assert [each.bar for each in letters(tmp_path)] == bars(1, 2)


def test_what_the_file_does_not_have_at_the_end_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Workbench(tmp_path, capacity=1, spool_bytes=0)
    (tmp_path / FILE_NAME).mkdir()
    bench.offer(*range(10_005))
    bench.delivery.finish()
    lost = [each for each in caplog.records if each.message == "realtime_dead_letters_lost"]
    assert [vars(each)["bars"] for each in lost] == [10_005]
    assert bench.info().dead_lettered == 10_005


def test_a_file_that_cannot_be_written_holds_up_nobody_who_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when thousands of lines are kept, and however often bars are offered."""
    tried: list[int] = []

    def full(_: object, lines: Sequence[bytes]) -> None:
        tried.append(len(lines))
        raise OSError(ENOSPC, "no space")

    bench = Workbench(tmp_path, capacity=1, spool_bytes=0)
    with monkeypatch.context() as patch:
        patch.setattr("realtime_stream.runtime.sink_dead_letters.append_lines", full)
        bench.offer(*range(3001))
        assert tried == [1]
        bench.clock.advance(1.0)
        bench.offer(*range(1000))
        assert tried == [1, 101]
        assert bench.info().dead_lettered == 4000
    bench.clock.advance(1.0)
    bench.settle()
    assert len(letters(tmp_path)) == 4000


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'{"time": "2026')
    bench = Workbench(tmp_path)
    bench.sink.behave = refusing(1)
    bench.offer(1)
    bench.settle()
    torn, line = (tmp_path / FILE_NAME).read_bytes().splitlines()
    assert read_line(torn) is None
    letter = read_line(line)
    assert letter is not None
    assert letter.bar == bar(1)


# --- the disk ---


def test_while_the_sink_is_down_the_oldest_bars_go_to_disk(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN, None)
    bench.offer(0, 1, 2)
    assert bench.turns() == 1
    bench.offer(*range(3, 6))
    bench.delivery.wake.clear()
    assert bench.turns() == 1
    assert bench.info().spooled == 0
    bench.offer(6)
    assert bench.delivery.wake.is_set()
    assert bench.turns() == 1
    info = bench.info()
    assert (info.queued, info.spooled) == (1, 6)
    bench.settle()
    assert sorted(each.trade_count or 0 for each in bench.sink.bars) == list(range(7))
    assert bench.info().stored == 7
    assert list(tmp_path.glob("*.spool")) == []


def test_disk_and_memory_take_turns_when_the_sink_is_well_again(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.offer(*range(9))
    bench.turns()
    assert bench.info().spooled == 6
    bench.offer(*range(9, 12))
    bench.clock.advance(1)
    bench.settle()
    assert bench.sink.batches == [
        tuple(bars(0, 1, 2)),
        tuple(bars(6, 7, 8)),
        tuple(bars(3, 4, 5)),
        tuple(bars(9, 10, 11)),
    ]


def test_the_disk_waits_while_memory_would_overflow_to_it(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.offer(*range(9))
    bench.turns()
    bench.offer(*range(9, 20))
    bench.clock.advance(1)
    for _ in range(3):
        bench.delivery.turn()
    assert bench.sink.bars == bars(*range(6, 15))
    bench.settle()
    assert len(bench.sink.bars) == 20


def test_when_memory_is_full_the_dispatch_thread_writes_to_disk_itself(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    seen = []

    def stuck(_: Sequence[Bar]) -> None:
        bench.sink.behave = None
        bench.offer(*range(3, 25))
        seen.append(bench.info())

    bench.sink.behave = stuck
    bench.offer(0, 1, 2)
    bench.delivery.turn()
    assert (seen[0].offered, seen[0].queued, seen[0].spooled) == (25, 20, 5)
    bench.settle()
    assert bench.info().stored == 25
    assert len(bench.sink.bars) == 25


def test_what_the_spool_has_no_room_for_is_dead_lettered(tmp_path: Path) -> None:
    room = FIRST_FRAME + 3 * len(encode_frame(bar(99)))
    bench = Workbench(tmp_path, spool_bytes=room)
    bench.sink.behave = refusing()
    bench.sink.fails_with(*[DOWN] * 3)
    bench.offer(0, 1, 2)
    bench.turns()
    for number in range(3, 30):
        bench.offer(number)
        bench.turns()
    info = bench.info()
    assert (info.offered, info.queued, info.spooled, info.dead_lettered) == (30, 20, 3, 7)
    assert {each.reason for each in letters(tmp_path)} == {"spool full"}
    assert [each.bar for each in letters(tmp_path)] == bars(*range(23, 30))
    bench.settle()
    assert bench.info().stored == 23


def test_without_a_folder_bars_stay_in_memory_and_are_then_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    bench = Workbench(folder)
    bench.sink.fails_with(DOWN)
    (folder / "lock").unlink()
    folder.rmdir()
    bench.offer(*range(25))
    bench.turns()
    info = bench.info()
    assert (info.queued, info.spooled, info.dead_lettered) == (20, 0, 5)
    records = [vars(each) for each in caplog.records]
    assert [each["written"] for each in records if each["msg"] == "realtime_bar_dead_lettered"] == [
        False
    ]
    folder.mkdir()
    bench.settle()
    assert bench.info().stored == 20
    bench.delivery.finish()
    assert [each.bar for each in letters(folder)] == bars(*range(20, 25))


def test_refused_and_damaged_bars_of_the_spool_are_dead_lettered(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(0, 1, 2, 3)
    bench.delivery.finish()
    with next(tmp_path.glob("*.spool")).open("r+b") as file:
        file.seek(FIRST_FRAME + 40)
        file.write(b"\xff")
    bench = Workbench(tmp_path)
    assert bench.info().spooled == 4
    bench.sink.behave = refusing(1)
    bench.settle()
    assert bench.sink.bars == bars(2, 3)
    info = bench.info()
    assert (info.offered, info.stored, info.dead_lettered) == (4, 2, 2)
    assert [(each.reason, each.bar) for each in letters(tmp_path)] == [
        ("bad 1", bar(1)),
        ("damaged on disk", None),
    ]
    assert letters(tmp_path)[1].raw is not None


def test_a_replay_that_fails_is_tried_again(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(*range(5))
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    bench.sink.fails_with(None, DOWN)
    bench.settle()
    assert bench.sink.bars == bars(*range(5))
    assert bench.info().retries == 1


def test_a_spool_of_damaged_bars_alone_needs_no_write(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    values: dict[str, Any] = {"bar_kind": "weekly"}
    bench.delivery.offer(bar(0, **values))
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    bench.settle()
    assert bench.sink.calls == 0
    assert bench.info().dead_lettered == 1


def test_a_file_that_cannot_be_read_is_asked_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Workbench(tmp_path)
    bench.offer(0)
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    path = next(tmp_path.glob("*.spool"))
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    assert bench.turns() == 10
    assert "realtime_spool_failed" in caplog.messages
    bench.offer(1)
    bench.clock.advance(0.2)
    assert bench.turns() == pytest.approx(9.8)
    assert bench.sink.bars == bars(1)
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    bench.settle()
    assert bench.sink.bars == bars(1, 0)


def test_a_disk_that_does_not_take_what_is_noted_is_reported_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.offer(*range(9))
    bench.turns()
    path = next(tmp_path.glob("*.spool"))

    def replaced(_: Sequence[Bar]) -> None:
        bench.sink.behave = None
        path.rename(tmp_path / "elsewhere")
        path.mkdir()

    bench.sink.behave = replaced
    bench.clock.advance(1)
    bench.delivery.turn()
    assert "realtime_spool_failed" in caplog.messages
    assert bench.info().stored == 3  # it is noted in memory
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    bench.settle()
    assert len(bench.sink.bars) == 9
    assert bench.info().stored == 9


def test_bars_that_cannot_be_synced_are_spooled_nevertheless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN, DOWN)
    bench.offer(*range(7))
    bench.turns()
    path = next(tmp_path.glob("*.spool"))
    bench.offer(*range(7, 14))
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    bench.turns()
    assert "realtime_spool_failed" in caplog.messages
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    bench.settle()
    assert bench.info().stored == 14


# --- the end, and the next beginning ---


def test_a_flush_writes_what_waits_and_nothing_else(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.offer(*range(9))
    bench.turns()
    bench.clock.advance(1)
    assert bench.delivery.turn(flush=True) == 0
    assert bench.delivery.turn(flush=True) is None
    assert bench.sink.bars == bars(6, 7, 8)
    bench.delivery.finish()
    assert bench.info().spooled == 6


def test_a_flush_does_not_wait_for_a_sink_that_is_down(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.offer(0)
    assert bench.delivery.turn(flush=True) == 0
    assert bench.delivery.turn(flush=True) == 1


def test_what_is_left_at_the_end_is_on_disk_and_found_by_the_next_run(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(*range(5))
    bench.delivery.finish()
    bench.delivery.finish()
    info = bench.info()
    assert (info.offered, info.queued, info.spooled) == (5, 0, 5)

    bench = Workbench(tmp_path)
    info = bench.info()
    assert (info.offered, info.spooled) == (5, 5)
    bench.settle()
    assert bench.sink.bars == bars(*range(5))
    assert bench.info().stored == 5


def test_a_batch_the_sink_is_stuck_with_is_counted_once(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(*range(5))

    def stuck(_: Sequence[Bar]) -> None:
        bench.delivery.finish()  # as the thread that stops does when the time is up

    bench.sink.behave = stuck
    bench.delivery.turn()
    assert bench.delivery.turn() is None
    assert bench.sink.bars == bars(0, 1, 2)  # stored after all
    info = bench.info()
    assert (info.offered, info.stored, info.spooled) == (5, 0, 5)
    bench = Workbench(tmp_path)
    bench.settle()
    assert bench.sink.bars == bars(*range(5))


@pytest.mark.parametrize("error", [None, DOWN, SinkRejectedError("bad", rejected={0: "bad"})])
def test_a_replay_the_sink_is_stuck_with_stays_on_disk(
    tmp_path: Path, error: Exception | None
) -> None:
    bench = Workbench(tmp_path)
    bench.offer(0, 1)
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    bench.sink.fails_with(error)
    behave = bench.sink.behave

    def stuck(given: Sequence[Bar]) -> None:
        bench.delivery.finish()
        assert behave is not None
        behave(given)

    bench.sink.behave = stuck
    bench.delivery.turn()
    info = bench.info()
    assert (info.stored, info.spooled, info.dead_lettered) == (0, 2, 0)
    assert letters(tmp_path) == []
    bench = Workbench(tmp_path)
    assert bench.info().spooled == 2
    bench.delivery.finish()


def test_a_bar_that_comes_after_the_end_is_dead_lettered(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.delivery.finish()
    bench.offer(1)
    assert bench.info().dead_lettered == 1
    assert [(each.reason, each.bar) for each in letters(tmp_path)] == [("stopped", bar(1))]


def test_one_sink_has_one_folder_to_itself(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    with pytest.raises(ConfigurationError, match="another process or manager"):
        Workbench(tmp_path)
    bench.delivery.finish()
    Workbench(tmp_path).delivery.finish()


# --- latency and records ---


def test_latency_is_measured_of_bars_that_are_not_late_by_nature(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    live = bar(0, source="built")
    bench.data_clock.advance((live.timestamp_ns + MINUTE_NS) / 1e9 + 2)
    for each in (
        live,
        bar(0, source="backfill"),
        bar(0, bar_kind="updated"),
        bar(0, bar_kind="daily"),
        bar(0, is_late=True),
    ):
        bench.delivery.offer(each)
    bench.settle()
    ((end, now),) = bench.latency.noted
    assert end == live.timestamp_ns + MINUTE_NS
    assert (now - end) / 1e9 == pytest.approx(2, abs=1e-3)
    assert bench.info().latency.count == 1


def test_bars_of_an_earlier_run_are_not_measured_but_those_of_this_run_are(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(0)
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    bench.sink.fails_with(DOWN)
    bench.settle()
    assert bench.latency.noted == []
    bench.sink.fails_with(DOWN)
    bench.offer(*range(9))
    bench.settle()
    assert bench.info().stored == 10
    assert len(bench.latency.noted) == 9


def test_an_alarm_of_the_meter_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Workbench(tmp_path)
    bench.latency.alarm = "latency_high"
    bench.offer(0)
    bench.settle()
    assert "realtime_latency_high" in caplog.messages
    assert [str(event.error) for event in bench.told] == ["bars are stored late"]


def test_each_stored_bar_has_a_record_at_debug_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "realtime_stream")
    bench = Workbench(tmp_path)
    bench.offer(0, 1)
    bench.settle()
    records = [vars(each) for each in caplog.records if each.message == "realtime_bar_inserted"]
    assert [each["timestamp_ns"] for each in records] == [each.timestamp_ns for each in bars(0, 1)]
    caplog.clear()
    caplog.set_level(logging.INFO, "realtime_stream")
    bench.offer(2)
    bench.settle()
    assert caplog.messages == []


def test_a_dead_letter_has_the_fields_of_a_bar_whoever_made_it(tmp_path: Path) -> None:
    class Renamed(Bar, frozen=True, kw_only=True, gc=False, eq=False, rename={"symbol": "S"}):
        pass

    bench = Workbench(tmp_path)
    bench.sink.behave = refusing(1)
    bench.delivery.offer(Renamed(**msgspec.structs.asdict(bar(1))))
    bench.settle()
    assert [each.bar for each in letters(tmp_path)] == bars(1)
    assert Latencies().info().count == 0


def test_a_bar_that_nothing_can_hold_is_in_the_accounts(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.delivery.offer(bar(1, trade_count=-1))
    info = bench.info()
    assert (info.offered, info.dead_lettered) == (1, 1)
