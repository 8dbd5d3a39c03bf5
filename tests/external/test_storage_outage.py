"""A database that dies or is locked in mid stream: each bar is stored once in the end."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

import pytest

from realtime_stream import StartTimeoutError, StopTimeoutError
from realtime_stream.sinks.sql import SqlSink
from tests.external.storage_world import (
    Seen,
    bars_of,
    differences,
    hasten,
    locked,
    market,
    running_bot,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.external.servers import PostgresServer

_SPEED: Final = 1000  # times as fast as life: an hour takes 3.6 seconds
_TIMEOUT: Final = 0.5  # seconds that the sink gives its database
_STOP: Final = 5.0  # seconds
_LONG: Final = float(os.environ.get("REALTIME_STREAM_LONG_LOCK", "0"))


@pytest.mark.parametrize("seed", range(3))
def test_a_server_killed_in_mid_stream_has_each_bar_once_after_it(
    mortal_postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    hasten(monkeypatch)
    url = mortal_postgres.url()
    morning = bars_of(seed, 60)
    with (
        market() as simulator,
        contextlib.closing(SqlSink(url, timeout=2)) as sink,
        running_bot(simulator, sink, tmp_path / "spool") as bot,
    ):
        playback = simulator.play(morning, speed=_SPEED)
        bot.accounts.wait_until(lambda info: info.stored >= 80)
        mortal_postgres.kill()
        down = bot.accounts.wait_until(lambda info: info.spooled > 0)
        assert down.last_error
        mortal_postgres.start()
        assert playback.wait(30)
        bot.seen.wait_for(len(morning))
        info = bot.accounts.wait_until(settled(len(morning)))
        assert info.stored == len(morning)
        assert info.retries > 0
    assert differences(url, bot.seen) == []


def test_what_a_dead_server_could_not_take_is_stored_after_the_next_start(
    mortal_postgres: PostgresServer, tmp_path: Path
) -> None:
    """With the limits that every sink has."""
    url = mortal_postgres.url()
    morning = bars_of(7, 30)
    seen = Seen()
    with market() as simulator:
        with (
            contextlib.closing(SqlSink(url, timeout=2)) as sink,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            playback = simulator.play(morning, speed=_SPEED)
            bot.accounts.wait_until(lambda info: info.stored >= 50)
            mortal_postgres.kill()
            assert playback.wait(30)
            seen.wait_for(len(morning))
            began = time.monotonic()
            bot.manager.stop(_STOP)
            assert time.monotonic() - began < _STOP
            info = bot.accounts.wait_until(lambda info: not info.queued)
            assert info.spooled > 0
            assert info.stored + info.spooled == len(morning)
            assert bot.manager.status().threads == ()
        mortal_postgres.start()
        with (
            contextlib.closing(SqlSink(url, timeout=2)) as sink,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            bot.accounts.wait_until(settled(info.spooled))
    assert differences(url, seen) == []


def test_a_lock_of_several_timeouts_delays_bars_and_nothing_else(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    morning = bars_of(11, 60)
    with (
        market() as simulator,
        contextlib.closing(SqlSink(url, timeout=_TIMEOUT)) as sink,
        running_bot(simulator, sink, tmp_path / "spool") as bot,
    ):
        playback = simulator.play(morning, speed=_SPEED)
        before = bot.accounts.wait_until(lambda info: info.stored >= 50)
        with locked(url):
            bot.accounts.wait_until(lambda info: info.retries >= before.retries + 3)
            bot.accounts.wait_until(lambda info: info.spooled > 0)
        assert playback.wait(30)
        bot.seen.wait_for(len(morning))
        assert bot.accounts.wait_until(settled(len(morning))).stored == len(morning)
    assert differences(url, bot.seen) == []


def test_a_stop_while_the_table_is_locked_keeps_its_time_and_every_bar(
    url: str, tmp_path: Path
) -> None:
    """With the limits that every sink has."""
    morning = bars_of(12, 30)
    seen = Seen()
    with market() as simulator:
        with (
            contextlib.closing(SqlSink(url, timeout=_TIMEOUT)) as sink,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            playback = simulator.play(morning, speed=_SPEED)
            bot.accounts.wait_until(lambda info: info.stored >= 50)
            with locked(url):
                assert playback.wait(30)
                seen.wait_for(len(morning))
                began = time.monotonic()
                bot.manager.stop(_STOP)
                assert time.monotonic() - began < _STOP
            info = bot.accounts.wait_until(lambda info: not info.queued)
            assert info.spooled > 0
            assert info.dead_lettered == 0
        with (
            contextlib.closing(SqlSink(url, timeout=2)) as sink,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            bot.accounts.wait_until(settled(info.spooled))
    assert differences(url, seen) == []


@contextlib.contextmanager
def _held(url: str) -> Iterator[Callable[[], None]]:
    """A lock that is let go by a call, or in the end."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(url))
        yield stack.close


def test_a_stop_that_the_sinks_own_timeout_outlasts_spools_everything_in_time(
    url: str, tmp_path: Path
) -> None:
    """The thread lingers in the database; the next start does not mind."""
    morning = bars_of(13, 10)
    seen = Seen()
    with market() as simulator, contextlib.closing(SqlSink(url, timeout=4)) as sink:
        sink.prepare()
        with (
            _held(url) as let_go,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            simulator.play(morning, speed=_SPEED)
            seen.wait_for(len(morning))
            began = time.monotonic()
            with pytest.raises(StopTimeoutError, match="sink-sql") as caught:
                bot.manager.stop(2.0)
            assert time.monotonic() - began < 2.5
            assert [name.rpartition("/")[2] for name in caught.value.threads] == ["sink-sql"]
            info = bot.accounts.wait_until(lambda info: not info.queued)
            assert info.spooled == len(morning)
            let_go()
            bot.accounts.wait_until(lambda _: not bot.manager.status().threads)
        with running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot:
            bot.accounts.wait_until(settled(len(morning)))
    assert differences(url, seen) == []


def test_a_start_waits_for_an_old_thread_that_lingers_in_the_sink(url: str, tmp_path: Path) -> None:
    morning = bars_of(15, 10)
    seen = Seen()
    with market() as simulator, contextlib.closing(SqlSink(url, timeout=3)) as sink:
        sink.prepare()
        with (
            _held(url) as let_go,
            running_bot(simulator, sink, tmp_path / "spool", seen=seen) as bot,
        ):
            simulator.play(morning, speed=_SPEED)
            seen.wait_for(len(morning))
            with pytest.raises(StopTimeoutError, match="sink-sql"):
                bot.manager.stop(2.0)
            with pytest.raises(StartTimeoutError, match="sink-sql"):
                bot.manager.start(0.1)
            let_go()
            bot.manager.start()
            bot.accounts.wait_until(settled(len(morning)))
    assert differences(url, seen) == []


@pytest.mark.timeout(180)
@pytest.mark.skipif(not _LONG, reason="REALTIME_STREAM_LONG_LOCK is not set")
def test_a_long_lock_with_the_settings_that_users_have(url: str, tmp_path: Path) -> None:
    minutes = 600
    morning = bars_of(14, minutes)
    with (
        market() as simulator,
        contextlib.closing(SqlSink(url)) as sink,
        running_bot(simulator, sink, tmp_path / "spool") as bot,
    ):
        playback = simulator.play(morning, speed=_SPEED)
        bot.accounts.wait_until(lambda info: info.stored >= 50)
        with locked(url):
            assert not playback.wait(_LONG)
            held = bot.accounts.info()
        began = time.monotonic()
        assert playback.wait(30)
        bot.seen.wait_for(len(morning))
        info = bot.accounts.wait_until(settled(len(morning)), timeout=60)
        took = time.monotonic() - began
        lag = bot.manager.status().lag.highest
        assert info.stored == len(morning)
    assert differences(url, bot.seen) == []
    print(f"while held: {held}; all stored {took:.1f} s after it; highest lag {lag:.3f} s")  # noqa: T201  # asked for
