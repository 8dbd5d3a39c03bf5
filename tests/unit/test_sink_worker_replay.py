"""``replay-dead-letters``: what is stored leaves the file, what is not stays."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import pytest

from realtime_stream.cli.replay_dead_letters import run_replay_dead_letters
from realtime_stream.clock import FakeClock
from realtime_stream.errors import ConfigurationError, SinkError, SinkRejectedError
from realtime_stream.locks import LOCK_NAME, lock_file
from realtime_stream.runtime import sink_dead_letters
from realtime_stream.runtime.sink_dead_letters import FILE_NAME, DeadLetterFile, read_line
from realtime_stream.runtime.spool import Spool
from tests.support_sinks import MemorySink, Workbench, bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from realtime_stream.market.models import Bar


def dead_letters(
    path: Path, *numbers: int, raw: Sequence[bytes] = (), clock: FakeClock | None = None
) -> DeadLetterFile:
    file = DeadLetterFile(path, sink="sql", data_clock=clock or FakeClock())
    file.append("spool full", bars=[bar(number) for number in numbers], raw=raw)
    return file


def numbers_in(path: Path) -> list[int | None]:
    letters = [read_line(line) for line in path.read_bytes().splitlines()]
    return [each.bar.trade_count if each and each.bar else None for each in letters]


def refuse_odd(given: Sequence[Bar]) -> None:
    odd = {n: "odd" for n, each in enumerate(given) if (each.trade_count or 0) % 2}
    if odd:
        raise SinkRejectedError(str(odd), rejected=odd)


def test_all_are_stored_and_the_file_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, *range(1200))
    sink = MemorySink()
    assert run_replay_dead_letters(path, sink) == 0
    assert sink.bars == [bar(number) for number in range(1200)]
    assert [len(batch) for batch in sink.batches] == [500, 500, 200]
    assert sink.closed == 0
    assert list(tmp_path.iterdir()) == []
    assert "stored      1200" in capsys.readouterr().out


def test_what_is_refused_again_or_unreadable_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, 1, 2, 3, 4, raw=[b"\x00"])
    with path.open("ab") as file:
        file.write(b"\n  \nno json\n")
    sink = MemorySink()
    sink.behave = refuse_odd
    assert run_replay_dead_letters(path, sink) == 1
    assert sink.bars == [bar(2), bar(4)]
    assert numbers_in(path) == [None, None, 1, 3]
    letter = read_line(path.read_bytes().splitlines()[-1])
    assert letter is not None
    assert (letter.reason, letter.sink, letter.bar) == ("odd", "sql", bar(3))
    out = capsys.readouterr().out
    assert "refused     2" in out
    assert "unreadable  2" in out


def test_a_sink_that_fails_leaves_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, *range(1200))
    sink = MemorySink()
    sink.fails_with(None, SinkError("no [database]"))
    assert run_replay_dead_letters(path, sink) == 1
    assert len(sink.bars) == 500
    assert numbers_in(path) == list(range(500, 1200))
    assert sink.calls == 2
    out = capsys.readouterr().out
    assert "left        700" in out
    assert "no [database]" in out
    sink.behave = None
    assert run_replay_dead_letters(path, sink) == 0
    assert len(sink.bars) == 1200


def test_what_is_given_up_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    file = dead_letters(path, 1, 2)
    sink = MemorySink()

    def meanwhile(_: Sequence[Bar]) -> None:
        file.append("spool full", bars=[bar(7)])

    sink.behave = meanwhile
    assert run_replay_dead_letters(path, sink) == 0
    assert numbers_in(path) == [7]


def test_a_run_that_was_ended_in_the_middle_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, 1, 2)
    sink = MemorySink()

    def interrupt(_: Sequence[Bar]) -> None:
        raise KeyboardInterrupt

    sink.behave = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_replay_dead_letters(path, sink)
    assert not path.exists()
    sink.behave = None
    dead_letters(path, 3)
    assert run_replay_dead_letters(path, sink) == 0
    assert [each.trade_count for each in sink.bars] == [3, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_two_commands_at_once_do_not_take_each_others_work(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, 1, 2)
    second = MemorySink()

    def meanwhile(_: Sequence[Bar]) -> None:
        dead_letters(path, 3)
        with pytest.raises(ConfigurationError, match=r"another command .*/dead_letters\.jsonl$"):
            run_replay_dead_letters(path, second)

    sink = MemorySink()
    sink.behave = meanwhile
    assert run_replay_dead_letters(path, sink) == 0
    assert sink.bars == [bar(1), bar(2)]
    assert second.bars == []
    assert numbers_in(path) == [3]
    assert run_replay_dead_letters(path, second) == 0
    assert second.bars == [bar(3)]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_command_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, 1)
    (tmp_path / f"{FILE_NAME}.lock").touch()
    assert run_replay_dead_letters(path, MemorySink()) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"SQLite format 3\0  \n \r\n\n\x00\n", b"", b"\n", b"[]\n{}\n"]
)
def test_a_file_of_something_else_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bars.db"
    path.write_bytes(content)
    sink = MemorySink()
    if content:
        with pytest.raises(ConfigurationError, match="no file of dead letters"):
            run_replay_dead_letters(path, sink)
    else:
        assert run_replay_dead_letters(path, sink) == 0
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    assert sink.calls == 0


def test_lines_that_cannot_be_read_stay_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    odd = b"\t not \x00 ours \r \x0b\xff \n"
    path.write_bytes(odd)
    dead_letters(path, 1)
    assert run_replay_dead_letters(path, MemorySink()) == 1
    assert path.read_bytes() == odd


def test_lines_of_a_run_that_was_ended_in_the_middle_stay_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    odd = b" a\rb \n"
    (tmp_path / f"{FILE_NAME}.loading").write_bytes(odd)
    dead_letters(path, 1)
    assert run_replay_dead_letters(path, MemorySink()) == 1
    assert path.read_bytes() == odd


def test_a_failure_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, text = tmp_path / FILE_NAME, "sqlite:///" + "long/" * 40
    dead_letters(path, 1)
    sink = MemorySink()
    sink.fails_with(SinkError(text))
    assert run_replay_dead_letters(path, sink) == 1
    assert f"the sink failed: {text}\n" in capsys.readouterr().out


def test_a_folder_with_dead_letters_only_is_loaded(tmp_path: Path) -> None:
    dead_letters(tmp_path / FILE_NAME, 1, 2, 3)
    sink = MemorySink()
    sink.behave = refuse_odd
    assert run_replay_dead_letters(tmp_path, sink) == 1
    assert sink.bars == [bar(2)]
    assert numbers_in(tmp_path / FILE_NAME) == [1, 3]
    sink.behave = None
    assert run_replay_dead_letters(tmp_path, sink) == 0
    assert sink.bars == [bar(2), bar(1), bar(3)]


def test_a_folder_with_dead_letters_and_a_spool_is_loaded_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead_letters(tmp_path / FILE_NAME, 1)
    bench = Workbench(tmp_path)
    bench.offer(2, 4)
    bench.delivery.finish()
    sink = MemorySink()
    sink.fails_with(SinkError("down"))
    assert run_replay_dead_letters(tmp_path, sink) == 1
    assert "left        3" in capsys.readouterr().out
    assert run_replay_dead_letters(tmp_path, sink) == 0
    assert sink.bars == [bar(1), bar(2), bar(4)]


def test_a_torn_line_does_not_keep_a_spool_from_being_loaded(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(1)
    bench.delivery.finish()
    (tmp_path / FILE_NAME).write_bytes(b'{"time": "2026')
    sink = MemorySink()
    run_replay_dead_letters(tmp_path, sink)
    assert sink.bars == [bar(1)]


def test_a_spool_folder_whose_bars_are_all_dealt_with_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Workbench(tmp_path)
    bench.offer(1)
    bench.delivery.finish()
    assert run_replay_dead_letters(tmp_path, MemorySink()) == 0
    capsys.readouterr()
    assert run_replay_dead_letters(tmp_path, MemorySink()) == 0
    assert "stored      0" in capsys.readouterr().out


def test_the_folder_of_a_recording_is_no_spool_folder(tmp_path: Path) -> None:
    for name in (LOCK_NAME, "segment-000001.rsrec"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match="is no spool folder"):
        run_replay_dead_letters(tmp_path, MemorySink())


def test_whoever_has_locked_the_file_holds_nobody_up(tmp_path: Path) -> None:
    path, clock = tmp_path / FILE_NAME, FakeClock()
    file = dead_letters(path, 1, clock=clock)
    with path.open("rb") as other:
        lock_file(other.fileno())
        with pytest.raises(BlockingIOError):
            file.append("spool full", bars=[bar(2)])
    clock.advance(60)
    file.append("spool full", bars=[bar(3)])
    assert numbers_in(path) == [1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
def test_a_file_on_a_drive_without_locks_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    dead_letters(path, 1)

    def fail(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "no lock")

    monkeypatch.setattr("fcntl.flock", fail)
    assert run_replay_dead_letters(path, MemorySink()) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_spool_folder_is_loaded(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(*range(6))
    bench.delivery.finish()
    sink = MemorySink()
    sink.behave = refuse_odd
    assert run_replay_dead_letters(tmp_path, sink) == 1
    assert [each.trade_count for each in sink.bars] == [0, 2, 4]
    assert list(tmp_path.glob("*.spool")) == []
    assert numbers_in(tmp_path / FILE_NAME) == [1, 3, 5]
    sink.behave = None
    assert run_replay_dead_letters(tmp_path, sink) == 0


def test_a_spool_folder_keeps_what_a_sink_that_fails_has_not_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000_000, segment_bytes=10_000_000)
    spool.append([bar(number) for number in range(700)])
    spool.close()
    sink = MemorySink()
    sink.fails_with(None, SinkError("down"))
    assert run_replay_dead_letters(tmp_path, sink) == 1
    assert run_replay_dead_letters(tmp_path, sink) == 0
    assert sink.bars == [bar(number) for number in range(700)]


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    bench.offer(1)
    bench.delivery.finish()
    bench = Workbench(tmp_path)
    with pytest.raises(ConfigurationError, match="another process or manager"):
        run_replay_dead_letters(tmp_path, MemorySink())
    bench.settle()
    assert bench.sink.bars == [bar(1)]
    bench.delivery.finish()


@pytest.mark.parametrize("name", ["missing.jsonl", ""])
def test_nothing_of_that_name_is_a_configuration_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        run_replay_dead_letters(tmp_path / name, MemorySink())
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_never_written_into_a_file_that_was_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, moved = tmp_path / FILE_NAME, tmp_path / "moved"
    file = dead_letters(path, 1)

    def wait_for_the_lock(_: int, *, patience: float) -> None:
        assert patience == 0
        if not moved.exists():  # whoever has the lock renames the file
            path.rename(moved)

    monkeypatch.setattr(sink_dead_letters, "lock_file", wait_for_the_lock)
    file.append("spool full", bars=[bar(2)])
    assert numbers_in(moved) == [1]
    assert numbers_in(path) == [2]


def test_a_disk_that_fills_up_leaves_no_half_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit on file sizes here")
    path, clock = tmp_path / FILE_NAME, FakeClock()
    file = dead_letters(path, 1, clock=clock)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            file.append("spool full", bars=[bar(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert numbers_in(path) == [1]
    clock.advance(60)
    file.append("spool full", bars=[bar(3)])
    assert numbers_in(path) == [1, 2, 3]
