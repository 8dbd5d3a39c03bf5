"""A disk that is full, under the database or under the spool: nothing is lost without a count."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from realtime_stream.cli.replay_dead_letters import run_replay_dead_letters
from realtime_stream.sinks.sql import SqlSink
from tests.external.storage_world import (
    Seen,
    bars_of,
    differences,
    fill,
    hasten,
    locked,
    market,
    running_bot,
    settled,
    small_disk,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_SPEED = 1000  # times as fast as life: an hour takes 3.6 seconds


def test_a_full_disk_under_the_database_delays_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    morning = bars_of(21, 60)
    with (
        small_disk(tmp_path / "small", "2m") as disk,
        contextlib.closing(SqlSink(f"sqlite:///{disk}/bars.db", timeout=1)) as sink,
        market() as simulator,
    ):
        with running_bot(simulator, sink, tmp_path / "spool") as bot:
            playback = simulator.play(morning, speed=_SPEED)
            bot.accounts.wait_until(lambda info: info.stored >= 50)
            ballast = fill(disk)
            info = bot.accounts.wait_until(lambda info: info.spooled > 0)
            assert "full" in info.last_error
            ballast.unlink()
            assert playback.wait(30)
            bot.seen.wait_for(len(morning))
            assert bot.accounts.wait_until(settled(len(morning))).stored == len(morning)
        assert differences(f"sqlite:///{disk}/bars.db", bot.seen) == []


def test_what_fits_neither_memory_nor_disk_is_counted_and_loaded_later(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity = 300
    hasten(monkeypatch, capacity=capacity)
    morning = bars_of(22, 60)
    with (
        small_disk(tmp_path / "small", "2m") as disk,
        contextlib.closing(SqlSink(sqlite_url, timeout=0.2)) as sink,
        market() as simulator,
    ):
        sink.prepare()
        with running_bot(simulator, sink, disk / "spool") as bot:
            with locked(sqlite_url):
                ballast = fill(disk)
                playback = simulator.play(morning, speed=_SPEED)
                assert playback.wait(30)
                bot.seen.wait_for(len(morning))
                info = bot.accounts.wait_until(lambda info: info.offered == len(morning))
                assert info.stored == info.spooled == 0
                assert info.dead_lettered == len(morning) - capacity
                ballast.unlink()
            info = bot.accounts.wait_until(settled(len(morning)))
            assert info.stored == capacity
            assert bot.manager.status().callback_errors == 0
        (letters,) = disk.glob("spool/bot/sql-*/dead_letters.jsonl")
        assert len(letters.read_bytes().splitlines()) == info.dead_lettered
        assert run_replay_dead_letters(letters, sink) == 0
        assert not letters.exists()
    assert differences(sqlite_url, bot.seen) == []


def test_a_stop_with_database_and_spool_out_of_order_counts_what_is_lost(
    sqlite_url: str, tmp_path: Path
) -> None:
    """There is no place left for them; they are counted, and the stop keeps its time."""
    morning = bars_of(23, 20)
    seen = Seen()
    with (
        small_disk(tmp_path / "small", "2m") as disk,
        contextlib.closing(SqlSink(sqlite_url, timeout=0.2)) as sink,
        market() as simulator,
    ):
        sink.prepare()
        with running_bot(simulator, sink, disk / "spool", seen=seen) as bot, locked(sqlite_url):
            fill(disk)
            simulator.play(morning, speed=_SPEED)
            seen.wait_for(len(morning))
            began = time.monotonic()
            bot.manager.stop(5.0)
            assert time.monotonic() - began < 5.0
            info = bot.manager.status().sinks["sql"]
            assert info.dead_lettered == info.offered == len(morning)


def test_a_spool_that_fills_up_halfway_keeps_what_it_has(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars are stored, or in the dead-letter file; none is both, or neither."""
    hasten(monkeypatch, spool_bytes=60_000, segment_bytes=20_000, capacity=200)
    morning = bars_of(24, 60)
    with contextlib.closing(SqlSink(sqlite_url, timeout=0.2)) as sink, market() as simulator:
        sink.prepare()
        with running_bot(simulator, sink, tmp_path / "spool") as bot:
            with locked(sqlite_url):
                assert simulator.play(morning, speed=_SPEED).wait(30)
                bot.seen.wait_for(len(morning))
                info = bot.accounts.wait_until(lambda info: info.offered == len(morning))
                assert info.spooled > 0
                assert info.dead_lettered > 0
            info = bot.accounts.wait_until(settled(len(morning)))
        (letters,) = tmp_path.glob("spool/bot/sql-*/dead_letters.jsonl")
        assert len(letters.read_bytes().splitlines()) == info.dead_lettered
        assert run_replay_dead_letters(letters, sink) == 0
    assert differences(sqlite_url, bot.seen) == []
