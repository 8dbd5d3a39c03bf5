"""SQLite's own troubles: a file that is deleted, a process that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.sinks.sql import SqlSink
from tests.external.bars import rows
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

    import pytest

    from realtime_stream.simulator import AlpacaSimulator

_SPEED: Final = 1000  # times as fast as life: an hour takes 3.6 seconds
_ROOT: Final = Path(__file__).parents[2]

# Its arguments: the stream's URL, the database's, the spool's folder. Before each look at the
# accounts it prints the bars that it was given until then.
_CHILD: Final = """
import json, sys
from pathlib import Path
import pytest
from realtime_stream import RealTimeStreamManager, StreamConfig
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET
from realtime_stream.sinks.sql import SqlSink
from tests.external.storage_world import SYMBOLS, hasten

url, database, spool = sys.argv[1:]
hasten(pytest.MonkeyPatch(), batch_size=10)
manager = RealTimeStreamManager(
    StreamConfig(
        url=url, api_key=SIMULATOR_KEY, secret_key=SIMULATOR_SECRET, name="bot", spool=Path(spool)
    ),
    sinks=[SqlSink(database, timeout=0.3)],
)
seen = []
manager.on_bar(lambda bar: seen.append((bar.symbol, bar.timestamp_ns)), *SYMBOLS)
manager.start()
printed = 0
while not manager.wait_until_stopped(0.005):
    info = manager.status().sinks["sql"]
    known = len(seen)
    print(json.dumps({
        "bars": seen[printed:known], "stored": info.stored, "spooled": info.spooled,
        "queued": info.queued,
    }), flush=True)
    printed = known
"""

Place = tuple[str, int]


class _Child:
    """A bot in a process of its own, which says what it has seen and where it is."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._changed = threading.Condition()  # guards what follows
        self._seen: list[Place] = []
        self._last: dict[str, Any] = {"stored": 0, "spooled": 0, "queued": 0}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_until(self, predicate: Callable[[dict[str, Any], int], bool]) -> None:
        """Wait until it holds of the accounts, and of the number of bars seen."""
        with self._changed:
            found = self._changed.wait_for(lambda: predicate(self._last, len(self._seen)), 30)
            assert found, (self._last, len(self._seen))

    def kill(self) -> tuple[list[Place], dict[str, Any]]:
        """End it as a power cut would; what it had seen, and its last accounts."""
        self._process.kill()
        self._reader.join(30)
        return self._seen, self._last

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # the last line may be torn
                look = json.loads(line)
                with self._changed:
                    self._seen += [(symbol, start) for symbol, start in look["bars"]]
                    self._last = look
                    self._changed.notify_all()


@contextlib.contextmanager
def _child(simulator: AlpacaSimulator, database: str, spool: Path) -> Iterator[_Child]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, simulator.url(), database, str(spool)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    child = _Child(process)
    try:
        yield child
    finally:
        child.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _stored(url: str) -> set[Place]:
    """Which bars are stored; fails if one is there twice."""
    found = rows(url, "SELECT symbol, CAST(strftime('%s', timestamp) AS INTEGER) FROM ohlcv_bars")
    places = {(symbol, seconds * 10**9) for symbol, seconds in found}
    assert len(places) == len(found)
    return places


def _store_the_rest(simulator: AlpacaSimulator, url: str, spool: Path) -> None:
    with (
        contextlib.closing(SqlSink(url, timeout=2)) as sink,
        running_bot(simulator, sink, spool) as bot,
    ):
        bot.accounts.wait_until(lambda info: info.stored == info.offered)


def test_a_process_killed_in_mid_stream_loses_only_the_batch_in_memory(
    sqlite_url: str, tmp_path: Path
) -> None:
    """What was said to be stored is; what was not waited for a tenth of a second at most."""
    morning = bars_of(31, 60, updates=False)
    with market() as simulator:
        with _child(simulator, sqlite_url, tmp_path / "spool") as child:
            assert simulator.wait_for(lambda it: any(s.subscriptions for s in it.sessions()), 30)
            simulator.play(morning, speed=_SPEED)
            child.wait_until(lambda last, _: last["stored"] >= 100)
            seen, last = child.kill()
        _store_the_rest(simulator, sqlite_url, tmp_path / "spool")
    stored = _stored(sqlite_url)
    assert set(seen[: last["stored"]]) <= stored
    assert stored <= {(message["S"], message["t"]) for _, message in morning}
    assert len(set(seen) - stored) <= last["queued"] + 5  # of one minute, seen after that look


def test_a_process_killed_while_the_database_is_locked_keeps_what_it_spooled(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    morning = bars_of(32, 60, updates=False)
    with market() as simulator:
        with _child(simulator, sqlite_url, tmp_path / "spool") as child:
            assert simulator.wait_for(lambda it: any(s.subscriptions for s in it.sessions()), 30)
            simulator.play(morning, speed=_SPEED)
            child.wait_until(lambda last, _: last["stored"] >= 20)
            with locked(sqlite_url):
                child.wait_until(lambda last, _: last["spooled"] >= 100)
                seen, last = child.kill()
        _store_the_rest(simulator, sqlite_url, tmp_path / "spool")
    stored = _stored(sqlite_url)
    assert set(seen[: last["stored"] + last["spooled"]]) <= stored
    assert stored <= {(message["S"], message["t"]) for _, message in morning}


def test_a_process_killed_while_it_replays_its_spool_stores_all_of_it_once(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch)
    morning = bars_of(33, 80, updates=False)
    with market() as simulator:
        with _child(simulator, sqlite_url, tmp_path / "spool") as child:
            assert simulator.wait_for(lambda it: any(s.subscriptions for s in it.sessions()), 30)
            playback = simulator.play(morning, speed=_SPEED)
            child.wait_until(lambda last, _: last["stored"] >= 20)
            with locked(sqlite_url):
                assert playback.wait(30)
                child.wait_until(lambda last, seen: seen == len(morning) and last["spooled"] > 250)
            child.wait_until(lambda last, _: last["queued"] == 0)
            seen, last = child.kill()
        _store_the_rest(simulator, sqlite_url, tmp_path / "spool")
    assert last["stored"] + last["spooled"] == len(seen) == len(morning)
    assert _stored(sqlite_url) == set(seen)


def test_a_database_locked_by_another_program_for_a_while(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that program is killed."""
    hasten(monkeypatch)
    morning = bars_of(34, 40)
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with (
        market() as simulator,
        contextlib.closing(SqlSink(sqlite_url, timeout=0.3)) as sink,
        running_bot(simulator, sink, tmp_path / "spool") as bot,
    ):
        playback = simulator.play(morning, speed=_SPEED)
        bot.accounts.wait_until(lambda info: info.stored >= 50)
        with subprocess.Popen(
            [sys.executable, "-c", program, sqlite_url.removeprefix("sqlite:///")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            bot.accounts.wait_until(lambda info: info.spooled > 0)
            other.kill()  # and its lock with it
        assert playback.wait(30)
        bot.seen.wait_for(len(morning))
        assert bot.accounts.wait_until(settled(len(morning))).stored == len(morning)
    assert differences(sqlite_url, bot.seen) == []


def test_a_database_that_is_deleted_is_made_anew(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in it is lost; what comes afterwards is not stored in a file without a name."""
    hasten(monkeypatch)
    before, after = Seen(), Seen()
    morning = bars_of(35, 60)
    with (
        market() as simulator,
        contextlib.closing(SqlSink(sqlite_url, timeout=1)) as sink,
        running_bot(simulator, sink, tmp_path / "spool", seen=before) as bot,
    ):
        half = len(morning) // 2
        simulator.play(morning[:half], speed=_SPEED)
        bot.accounts.wait_until(settled(half))
        for file in tmp_path.glob("bars.db*"):
            file.unlink()
        bot.manager.on_bar(after, "*")
        bot.manager.on_updated_bar(after, "*")
        simulator.play(morning[half:], speed=_SPEED)
        before.wait_for(len(morning))
        bot.accounts.wait_until(settled(len(morning)))
    assert differences(sqlite_url, after) == []
    first = "SELECT spread_ratio, min(timestamp) FROM ohlcv_bars GROUP BY symbol, timeframe"
    assert {ratio for ratio, _ in rows(sqlite_url, first)} == {None}  # nothing is before them
