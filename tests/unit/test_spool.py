"""The spool's files: what comes back, after whatever has happened to them."""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.models import Bar
from realtime_stream.runtime.spool import SPOOL_CLOSED, SPOOL_FULL, Appended, Spool
from realtime_stream.runtime.spool_records import FIRST_FRAME, encode_frame
from tests.support_sinks import bar

if TYPE_CHECKING:
    from pathlib import Path

FRAME = len(encode_frame(bar()))


class RenamedBar(Bar, frozen=True, kw_only=True, gc=False, eq=False, rename={"symbol": "S"}):
    """As a provider's own, which renames wire keys."""


def opened(folder: Path, *, max_bytes: int = 1_000_000, segment_bytes: int = 100_000) -> Spool:
    return Spool(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)


def bars(*numbers: int) -> list[Bar]:
    return [bar(number) for number in numbers]


def drained(spool: Spool, limit: int = 100) -> list[Bar]:
    found: list[Bar] = []
    while (batch := spool.read(limit)) is not None:
        found += batch.bars
        spool.acknowledge(batch)
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_bars_come_back_in_order_with_exactly_their_digits(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    odd = bar(
        9,
        symbol="BTC/USD",
        open=Decimal("1E+3"),
        volume=Decimal("0.10"),
        vwap=None,
        timeframe="ticks:100",
        bar_kind="updated",
        source="backfill",
        is_filled=True,
        is_late=True,
        is_partial=True,
        received_ns=5,
    )
    assert spool.append([*bars(1, 2), odd]) == Appended(3)
    found = drained(spool)
    spool.close()
    assert found == [*bars(1, 2), odd]
    assert [repr(each) for each in found] == [repr(each) for each in (*bars(1, 2), odd)]


def test_a_providers_own_bar_comes_back_as_a_bar(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([RenamedBar(**msgspec.structs.asdict(bar(1)))])
    assert drained(spool) == bars(1)
    spool.close()


def test_foreign_number_types_are_kept_by_what_they_say(tmp_path: Path) -> None:
    class Number:
        def __str__(self) -> str:
            return "1.50"

    values: dict[str, Any] = {"open": Number()}
    spool = opened(tmp_path)
    spool.append([bar(1, **values)])
    assert repr(drained(spool)[0].open) == "Decimal('1.50')"
    spool.close()


def test_the_next_run_takes_up_what_is_left(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    batch = spool.read(1)
    assert batch is not None
    assert not batch.taken_up
    spool.acknowledge(batch)
    spool.close()

    spool = opened(tmp_path)
    assert spool.records == 2
    batch = spool.read(10)
    assert batch is not None
    assert batch.taken_up
    assert list(batch.bars) == bars(2, 3)
    spool.append(bars(4))
    assert drained(spool) == bars(2, 3, 4)
    assert files(tmp_path) == []
    spool.close()


def test_what_is_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2))
    assert spool.read(1) is not None
    batch = spool.read(5)
    assert batch is not None
    assert list(batch.bars) == bars(1, 2)
    spool.close()


def test_a_new_file_is_begun_when_one_is_large_and_deleted_when_it_is_dealt_with(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path, segment_bytes=2 * FRAME)
    for number in range(5):
        spool.append(bars(number))
    assert len(files(tmp_path)) == 3
    for left in (3, 2, 2, 1, 0):
        batch = spool.read(1 if left else 9)
        assert batch is not None
        spool.acknowledge(batch)
        if left < 3:
            assert len(files(tmp_path)) <= left + 1
    assert files(tmp_path) == []
    assert spool.records == 0
    spool.append(bars(7))
    assert [path.name for path in files(tmp_path)] == ["000000000004.spool"]
    spool.close()


def test_it_takes_only_what_there_is_room_for(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=3 * FRAME + FIRST_FRAME)
    assert spool.append(bars(1, 2)) == Appended(2)
    assert spool.append(bars(3, 4)) == Appended(1, SPOOL_FULL)
    assert spool.append(bars(4)) == Appended(0, SPOOL_FULL)
    assert drained(spool) == bars(1, 2, 3)
    assert spool.append(bars(4)) == Appended(1)
    spool.close()


@pytest.mark.parametrize(
    "cut", [0, 1, 9, FRAME // 2, FRAME - 9, FRAME - 8, FRAME - 7, FRAME - 1, FRAME]
)
def test_a_torn_end_costs_the_torn_bar_only(tmp_path: Path, cut: int) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    spool.close()
    (path,) = files(tmp_path)
    os.truncate(path, path.stat().st_size - cut)

    spool = opened(tmp_path)
    assert drained(spool) == (bars(1, 2) if cut else bars(1, 2, 3))
    assert spool.unreadable == (FRAME - cut if cut else 0)
    assert list(tmp_path.glob("*.damaged")) == []
    spool.close()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, FIRST_FRAME - 1, FIRST_FRAME])
def test_a_torn_header_is_an_empty_file(tmp_path: Path, size: int) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1))
    spool.close()
    os.truncate(files(tmp_path)[0], size)
    spool = opened(tmp_path)
    assert spool.records == 0
    assert files(tmp_path) == []
    spool.close()


def test_zeros_that_a_power_failure_leaves_are_no_bars(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1))
    spool.close()
    with files(tmp_path)[0].open("ab") as file:
        file.write(bytes(4096))
    spool = opened(tmp_path)
    assert drained(spool) == bars(1)
    assert spool.unreadable == 4096
    assert list(tmp_path.glob("*.damaged")) == []
    spool.close()


def test_a_bar_the_disk_has_changed_is_told_apart_from_the_others(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(FIRST_FRAME + FRAME + 40)
        file.write(b"\xff")
    batch = spool.read(10)
    assert batch is not None
    assert list(batch.bars) == bars(1, 3)
    assert len(batch.damaged) == 1
    assert batch.records == 3
    spool.close()


def test_a_broken_length_sets_the_rest_of_the_file_aside(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    spool.close()
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(FIRST_FRAME + FRAME)
        file.write(b"\xff\xff\xff\xff")
    spool = opened(tmp_path)
    assert drained(spool) == bars(1)
    assert spool.unreadable == 2 * FRAME
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.read_bytes()[4:] == b"".join(encode_frame(bar(n)) for n in (2, 3))[4:]
    spool.close()

    spool = opened(tmp_path)
    spool.append(bars(4))
    assert [path.stem for path in files(tmp_path)] == ["000000000002"]  # not the name of the aside
    spool.close()


def test_a_length_that_breaks_while_it_runs_costs_the_rest_of_the_file(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(FIRST_FRAME + FRAME)
        file.write(b"\xff\xff\xff\xff")
    first, second = spool.read(10), None
    assert first is not None
    assert list(first.bars) == bars(1)
    spool.acknowledge(first)
    second = spool.read(10)
    assert second is not None
    assert (second.bars, second.lost) == ((), 2)
    spool.acknowledge(second)
    assert spool.records == 0
    spool.append(bars(4))
    assert drained(spool) == bars(4)
    spool.close()


def test_a_file_that_somebody_deletes_is_counted_as_lost(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2))
    files(tmp_path)[0].unlink()
    batch = spool.read(10)
    assert batch is not None
    assert (batch.bars, batch.lost) == ((), 2)
    spool.acknowledge(batch)
    spool.sync()
    spool.append(bars(3))
    assert drained(spool) == bars(3)
    spool.close()


@pytest.mark.parametrize("damage", [b"\xff" * 12, (FIRST_FRAME + 1).to_bytes(8, "little")])
def test_a_progress_that_makes_no_sense_replays_the_file(tmp_path: Path, damage: bytes) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2))
    batch = spool.read(1)
    assert batch is not None
    spool.acknowledge(batch)
    spool.close()
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(8)
        file.write(damage)
    spool = opened(tmp_path)
    assert drained(spool) == bars(1, 2)
    spool.close()


def test_a_progress_beyond_a_torn_end_replays_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2, 3))
    batch = spool.read(2)
    assert batch is not None
    spool.acknowledge(batch)
    spool.close()
    os.truncate(files(tmp_path)[0], FIRST_FRAME + FRAME + 1)
    spool = opened(tmp_path)
    assert spool.records == 0
    spool.close()


def test_a_bar_of_another_version_is_damaged_not_fatal(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    values: dict[str, Any] = {"bar_kind": "weekly"}
    spool.append([bar(1), bar(2, **values)])
    batch = spool.read(10)
    assert batch is not None
    assert list(batch.bars) == bars(1)
    assert len(batch.damaged) == 1
    spool.close()


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.spool").write_text("mine, and longer than a header")
    with pytest.raises(ConfigurationError):
        opened(tmp_path / "notes.spool")
    spool = opened(tmp_path)
    assert spool.append(bars(1)) == Appended(1)
    assert drained(spool) == bars(1)
    spool.close()
    assert [path.name for path in files(tmp_path)] == ["notes.spool"]


def test_a_file_whose_head_is_damaged_is_set_aside_and_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1, 2))
    spool.close()
    (path,) = files(tmp_path)
    content = b"X" + path.read_bytes()[1:]
    path.write_bytes(content)
    spool = opened(tmp_path)
    assert (spool.records, spool.unreadable) == (0, len(content))
    assert (tmp_path / f"{path.name}.damaged").read_bytes() == content
    spool.append(bars(3))
    assert [each.name for each in files(tmp_path)] == ["000000000002.spool"]  # no name twice
    spool.close()
    spool = opened(tmp_path)
    assert (spool.records, spool.unreadable) == (1, 0)
    spool.close()


def test_one_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(ConfigurationError, match="another process or manager uses"):
        opened(tmp_path)
    spool.close()
    spool.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        opened(tmp_path / "file" / "spool")


def test_a_folder_that_cannot_be_taken_up_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "000000000001.spool").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        opened(tmp_path)
    (tmp_path / "000000000001.spool").rmdir()
    opened(tmp_path).close()


def test_nothing_is_appended_or_acknowledged_after_the_end(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(bars(1))
    batch = spool.read(1)
    assert batch is not None
    spool.close()
    spool.acknowledge(batch)
    assert spool.append(bars(2)) == Appended(0, SPOOL_CLOSED)
    spool = opened(tmp_path)
    assert drained(spool) == bars(1)
    spool.close()


def test_a_folder_that_vanishes_is_reported_and_not_raised(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = opened(folder)
    (folder / "lock").unlink()
    folder.rmdir()
    assert spool.append(bars(1)) == Appended(0, "spool not writable: FileNotFoundError 2")
    assert spool.records == 0
    folder.mkdir()
    assert spool.append(bars(1)) == Appended(1)
    spool.sync()
    spool.close()


def test_a_disk_that_fills_up_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit on file sizes here")
    spool = opened(tmp_path)
    spool.append(bars(1, 2))
    size = FIRST_FRAME + 2 * FRAME
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + FRAME // 2, before[1]))
    try:
        appended = spool.append(bars(3, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (appended.count, appended.reason[:18]) == (0, "spool not writable")
    assert files(tmp_path)[0].stat().st_size == size  # the half bar is taken back
    assert spool.append(bars(5)) == Appended(1)
    assert len(files(tmp_path)) == 2
    spool.close()
    spool = opened(tmp_path)
    assert drained(spool) == bars(1, 2, 5)
    spool.close()


def test_a_disk_too_full_for_a_new_file_leaves_none(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit on file sizes here")
    spool = opened(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FIRST_FRAME // 2, before[1]))
    try:
        appended = spool.append(bars(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (appended.count, appended.reason[:18]) == (0, "spool not writable")
    assert files(tmp_path) == []
    assert spool.append(bars(1)) == Appended(1)
    spool.close()


def test_appends_of_two_threads_and_reads_meet_without_loss(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=20 * FRAME, max_bytes=10_000_000)
    start = threading.Barrier(3)

    def append(first: int) -> None:
        start.wait(10)
        for number in range(first, first + 200):
            assert spool.append(bars(number)) == Appended(1)

    threads = [threading.Thread(target=append, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    start.wait(10)
    found: list[Bar] = []
    while any(thread.is_alive() for thread in threads):
        found += drained(spool, 7)
        spool.sync()
    found += drained(spool, 7)
    for thread in threads:
        thread.join()
    spool.close()
    numbers = [each.trade_count for each in found]
    assert sorted(filter(None, numbers), key=int) == [*range(1, 200), *range(1000, 1200)]
    assert [n for n in numbers if n is not None and n < 1000] == list(range(200))
