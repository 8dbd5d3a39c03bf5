"""Bars on their way from a manager to its sinks: SQLite, and sinks that users write themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    Bar,
    ConfigurationError,
    ErrorEvent,
    StartTimeoutError,
    StopTimeoutError,
)
from realtime_stream.errors import SinkError, SinkRejectedError
from realtime_stream.runtime.sink_dead_letters import read_line
from realtime_stream.sinks.sql import OHLCVRepository, SqlSink
from tests.support import Recorder, bar, quote, trade
from tests.support_sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from realtime_stream import RealTimeStreamManager
    from realtime_stream.ports import SinkInfo
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

    NewStoring = Callable[..., RealTimeStreamManager]

FIRST = 1_790_000_040_000_000_000
MINUTE = 60_000_000_000
DAY = 1_789_963_200_000_000_000  # midnight in New York


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bars.db"


@pytest.fixture
def sql_sink(url: str) -> Iterator[SqlSink]:
    with closing(SqlSink(url, timeout=2)) as sink:
        yield sink


@pytest.fixture
def new_storing(new_manager: NewManager, tmp_path: Path) -> NewStoring:
    """Make managers with these sinks, which spool below the test's own folder."""

    def make(*sinks: Any, **settings: Any) -> RealTimeStreamManager:
        settings = {"name": "bot", "spool": tmp_path / "spool", "watchlist": ("AAPL",), **settings}
        return new_manager(manager={"sinks": sinks}, **settings)

    return make


def wait_for(
    manager: RealTimeStreamManager,
    predicate: Callable[[SinkInfo], bool],
    sink: str = "sql",
    timeout: float = 15.0,
) -> SinkInfo:
    """Look at the accounts until ``predicate`` holds; they add up each time."""
    deadline, nobody = time.monotonic() + timeout, threading.Event()
    while True:
        info = manager.status().sinks[sink]
        parts = info.stored + info.queued + info.spooled + info.dead_lettered
        assert info.offered == parts
        if predicate(info):
            return info
        assert time.monotonic() < deadline, info
        nobody.wait(0.005)  # accounts tell nobody when they change


def stored(count: int) -> Callable[[SinkInfo], bool]:
    return lambda info: info.stored >= count


def minutes(bars: Sequence[Any]) -> list[int]:
    return [(each.timestamp_ns - FIRST) // MINUTE for each in bars]


def letters(tmp_path: Path, sink: str) -> list[Bar]:
    """What is in a sink's dead-letter file."""
    lines = (tmp_path / "spool" / "bot" / sink / "dead_letters.jsonl").read_bytes().splitlines()
    found = [read_line(line) for line in lines]
    return [letter.bar for letter in found if letter is not None and letter.bar is not None]


# --- SQLite ---


def test_a_bar_can_be_read_once_it_counts_as_stored(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, url: str
) -> None:
    """Nobody has to register a callback for it."""
    manager = new_storing(sql_sink)
    manager.start()
    with OHLCVRepository(url) as repository:
        for n in range(20):
            simulator.publish(bar(n=n))
            wait_for(manager, stored(n + 1))
            (found,) = repository.latest("AAPL", "1m")
            assert minutes([found]) == [n]
            assert found.source == "stream"
        assert [each.to_bar() for each in repository.latest("AAPL", "1m", 3)] == [
            each for each in manager.recent_bars("AAPL", 3)
        ]
    manager.stop()
    assert manager.status().sinks["sql"].stored == 20


def test_what_waits_at_a_stop_is_stored_before_it_returns(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, url: str
) -> None:
    manager = new_storing(sql_sink)
    seen = Recorder[Bar]()
    manager.on_bar(seen)
    manager.start()
    simulator.publish(*(bar(n=n) for n in range(700)))
    seen.wait_for(700)
    manager.stop()
    info = manager.status().sinks["sql"]
    assert (info.offered, info.stored, info.spooled) == (700, 700, 0)
    with OHLCVRepository(url) as repository:
        assert minutes(repository.latest("AAPL", "1m", 1000)) == list(range(700))


@pytest.mark.parametrize("how", ["restart", "stop and start", "a new manager"])
def test_storing_goes_on_after_a_restart(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, url: str, how: str
) -> None:
    manager = new_storing(sql_sink)
    manager.start()
    for n in range(3):
        simulator.publish(bar(n=n))
        wait_for(manager, stored(1))
        if how == "restart":
            manager.restart()
        else:
            manager.stop()
            if how == "a new manager":
                manager = new_storing(sql_sink)
            manager.start()
    simulator.publish(bar(n=3))
    wait_for(manager, stored(1))
    manager.stop()
    with OHLCVRepository(url) as repository:
        assert minutes(repository.latest("AAPL", "1m", 10)) == [0, 1, 2, 3]


def test_only_bars_are_stored_and_no_running_totals(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, url: str
) -> None:
    manager = new_storing(sql_sink)
    for channel in ("quotes", "trades", "daily_bars", "updated_bars"):
        manager.subscribe(channel, "AAPL")
    manager.start()
    events = manager.events(timeout=10)
    simulator.publish(quote(), trade(), bar(T="d", t=DAY), bar(), bar(T="u", v=300))
    for _ in range(5):
        next(events)
    wait_for(manager, stored(2))
    manager.stop()
    assert manager.status().sinks["sql"].offered == 2
    with OHLCVRepository(url) as repository:
        (row,) = repository.latest("AAPL", "1m", 10)
    assert row.is_update
    assert row.volume == 300


def test_one_sink_may_serve_two_managers(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, url: str
) -> None:
    first = new_storing(sql_sink, name="first")
    second = new_storing(
        sql_sink, name="second", market="crypto", path_feed="us", watchlist=("BTC/USD",)
    )
    for manager in (first, second):
        manager.start()
    simulator.publish(bar())
    simulator.publish(bar("BTC/USD"), market="crypto")
    for manager in (first, second):
        wait_for(manager, stored(1))
        manager.stop()
    with OHLCVRepository(url) as repository:
        assert len(repository.latest("AAPL", "1m", 10)) == 1
        assert len(repository.latest("BTC/USD", "1m", 10)) == 1


# --- settings ---


class Named(MemorySink):
    def __init__(self, name: Any) -> None:
        super().__init__()
        self.name = name


@pytest.mark.parametrize("name", ["", "SQL", "a b", "../up", "sql/2", "x" * 41, "\u00e4"])
def test_a_sink_needs_a_name_that_is_one(new_storing: NewStoring, name: str) -> None:
    with pytest.raises(ConfigurationError, match="names must differ"):
        new_storing(Named(name))


def test_sink_names_must_differ(new_storing: NewStoring, sql_sink: SqlSink, url: str) -> None:
    with closing(SqlSink(url)) as other, pytest.raises(ConfigurationError, match="must differ"):
        new_storing(sql_sink, other)


def test_two_managers_do_not_share_a_spool(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink
) -> None:
    first, second = new_storing(sql_sink), new_storing(sql_sink)
    first.start()
    with pytest.raises(ConfigurationError, match="uses the spool folder"):
        second.start()
    assert second.status().threads == ()
    first.stop()
    second.start()
    simulator.publish(bar())
    wait_for(second, stored(1))


def test_a_spool_that_cannot_be_written_is_told_at_the_start(
    new_storing: NewStoring, sql_sink: SqlSink, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("not a folder")
    manager = new_storing(sql_sink)
    with pytest.raises(ConfigurationError, match="spool"):
        manager.start()
    assert manager.status().threads == ()
    (tmp_path / "spool").unlink()
    manager.start()


@pytest.mark.parametrize(
    ("module", "database"),
    [
        ("sqlalchemy", "sqlite:///bars.db"),
        ("alembic", "sqlite:///bars.db"),
        ("psycopg", "postgresql://nobody@127.0.0.1/bars"),
    ],
)
@pytest.mark.parametrize("user", ["library", "command"])
def test_a_missing_extra_is_named(module: str, database: str, user: str) -> None:
    use = {
        "library": f"from realtime_stream.sinks.sql import SqlSink; SqlSink({database!r})",
        "command": (
            "from realtime_stream.cli.app import app;"
            f" app(['run', '-s', 'AAPL', '--store', {database!r}])"
        ),
    }[user]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{module!r}] = None; {use}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"ALPACA_API_KEY": "k", "ALPACA_SECRET_KEY": "s", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 1
    assert "pip install 'realtime-stream[sql]'" in done.stderr.splitlines()[-1]
    assert module in done.stderr.splitlines()[-1]
    assert ("Traceback" in done.stderr) is (user == "library")


# --- sinks of users' own ---


class _UnspeakableError(Exception):
    """Nothing about it can be shown."""

    def __str__(self) -> str:
        raise RuntimeError


class _UnspeakableSinkError(SinkError):
    def __str__(self) -> str:
        raise RuntimeError


class _HalfMadeError(SinkRejectedError):
    def __init__(self, rejected: Any = None) -> None:
        if rejected is not None:
            self.rejected = rejected


ODD = [
    ValueError("no"),
    StopIteration(),
    OSError(28, "No space left on device"),
    SinkError("not now"),
    SinkRejectedError("none of them", rejected={}),
    SinkRejectedError("elsewhere", rejected={-1: "before", 99: "behind"}),
    _UnspeakableError(),
    _UnspeakableSinkError(),
    _HalfMadeError(),
    _HalfMadeError(["0"]),
    _HalfMadeError({"0": "as text", None: "as nothing"}),
]


@pytest.mark.parametrize("error", ODD, ids=[str(n) + type(e).__name__ for n, e in enumerate(ODD)])
def test_whatever_a_sink_raises_is_tried_again_and_harms_nobody(
    simulator: AlpacaSimulator,
    new_storing: NewStoring,
    sql_sink: SqlSink,
    error: Exception,
) -> None:
    odd = MemorySink()
    odd.fails_with(error)
    manager = new_storing(odd, sql_sink)
    seen, errors = Recorder[Bar](), Recorder[ErrorEvent]()
    manager.on_bar(seen)
    manager.on_error(errors)
    manager.start()
    simulator.publish(*(bar(n=n) for n in range(5)))
    seen.wait_for(5)
    wait_for(manager, stored(5))
    assert errors.wait_for()[0].source == "sink:memory"
    assert wait_for(manager, stored(5), "memory").dead_lettered == 0
    assert minutes(odd.bars) == [0, 1, 2, 3, 4]
    manager.stop()
    assert manager.status().callback_errors == 0


def test_what_a_sink_refuses_goes_to_its_dead_letters_and_the_rest_is_stored(
    simulator: AlpacaSimulator, new_storing: NewStoring, tmp_path: Path
) -> None:
    sink = MemorySink()

    def refuse(bars: Sequence[Bar]) -> None:
        odd = {at: "odd minute" for at, n in enumerate(minutes(bars)) if n % 2}
        if odd:
            msg = "no odd ones"
            raise SinkRejectedError(msg, rejected=odd)

    sink.behave = refuse
    manager = new_storing(sink)
    manager.start()
    simulator.publish(*(bar(n=n) for n in range(6)))
    info = wait_for(manager, lambda info: info.stored + info.dead_lettered == 6, "memory")
    assert (info.stored, info.dead_lettered) == (3, 3)
    assert minutes(sink.bars) == [0, 2, 4]
    manager.stop()
    assert minutes(letters(tmp_path, "memory")) == [1, 3, 5]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is meant
def test_a_sink_that_ends_its_own_thread_is_reported_and_the_stream_goes_on(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, tmp_path: Path
) -> None:
    """What it was given before waits on disk, what comes later is in the dead-letter file."""
    sink = MemorySink()

    def leave(_: Sequence[Bar]) -> None:
        raise SystemExit

    sink.behave = leave
    manager = new_storing(sink, sql_sink)
    errors, seen = Recorder[ErrorEvent](), Recorder[Bar]()
    manager.on_error(errors)
    manager.on_bar(seen)
    manager.start()
    name = "realtime-stream/bot/sink-memory"
    assert name in manager.status().threads
    simulator.publish(bar(n=0))
    errors.wait_until(lambda items: any("ended its own thread" in str(e.error) for e in items))
    wait_for(manager, lambda _: name not in manager.status().threads, "memory")
    simulator.publish(bar(n=1))
    seen.wait_for(2)
    wait_for(manager, stored(2))
    info = wait_for(manager, lambda info: info.offered == 2 and not info.queued, "memory")
    assert (info.spooled, info.dead_lettered) == (1, 1)
    manager.stop()
    assert minutes(letters(tmp_path, "memory")) == [1]
    sink.behave = None
    manager.start()
    wait_for(manager, stored(1), "memory")
    assert minutes(sink.bars) == [0]


class _Stuck(MemorySink):
    """Its writes wait until somebody lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.behave = self._wait

    def _wait(self, _: Sequence[Bar]) -> None:
        assert self.let_go.wait(40)


@pytest.fixture
def stuck() -> Iterator[_Stuck]:
    sink = _Stuck()
    yield sink
    sink.let_go.set()


def _stuck_and_stopped(
    simulator: AlpacaSimulator, manager: RealTimeStreamManager, sink: _Stuck
) -> None:
    seen = Recorder[Bar]()
    manager.on_bar(seen)
    manager.start()
    simulator.publish(bar(n=0))
    sink.wait_for_calls(1)
    simulator.publish(*(bar(n=n) for n in range(1, 10)))
    seen.wait_for(10)
    began = time.monotonic()
    with pytest.raises(StopTimeoutError, match="sink-memory") as caught:
        manager.stop(2.0)
    assert time.monotonic() - began < 2.5
    assert caught.value.threads == ("realtime-stream/bot/sink-memory",)
    assert caught.value.callback is None


def test_a_stop_does_not_wait_for_a_stuck_sink_and_names_it(
    simulator: AlpacaSimulator, new_storing: NewStoring, sql_sink: SqlSink, stuck: _Stuck
) -> None:
    manager = new_storing(stuck, sql_sink)
    _stuck_and_stopped(simulator, manager, stuck)
    status = manager.status()
    assert status.threads == ("realtime-stream/bot/sink-memory",)
    assert (status.sinks["memory"].spooled, status.sinks["memory"].queued) == (10, 0)
    assert status.sinks["sql"].stored == 10
    assert status.lag.highest < 1


def test_after_a_stuck_sink_the_next_start_stores_what_was_spooled(
    simulator: AlpacaSimulator, new_storing: NewStoring, stuck: _Stuck
) -> None:
    manager = new_storing(stuck)
    _stuck_and_stopped(simulator, manager, stuck)
    with pytest.raises(StartTimeoutError, match="sink-memory"):
        manager.start(0.1)
    stuck.let_go.set()
    assert manager.status().sinks["memory"].spooled == 10  # nobody counts it stored in the end
    manager.start()
    info = wait_for(manager, stored(10), "memory")
    assert (info.offered, info.spooled) == (10, 0)
    assert minutes(stuck.bars) == [0, *range(10)]  # what was in flight may come twice


def test_a_second_stop_waits_for_a_sink_that_was_stuck(
    simulator: AlpacaSimulator, new_storing: NewStoring, stuck: _Stuck
) -> None:
    manager = new_storing(stuck)
    _stuck_and_stopped(simulator, manager, stuck)
    timer = threading.Timer(0.3, stuck.let_go.set)
    timer.start()
    manager.stop()
    timer.join()
    assert manager.status().threads == ()


def test_a_restart_waits_for_a_sink_that_was_stuck(
    simulator: AlpacaSimulator, new_storing: NewStoring, stuck: _Stuck
) -> None:
    manager = new_storing(stuck)
    _stuck_and_stopped(simulator, manager, stuck)
    timer = threading.Timer(0.3, stuck.let_go.set)
    timer.start()
    manager.start()
    timer.join()
    wait_for(manager, stored(10), "memory")


def test_a_manager_with_a_stuck_sink_keeps_its_accounts_under_load(
    simulator: AlpacaSimulator, new_storing: NewStoring, stuck: _Stuck
) -> None:
    """More than what a sink keeps in memory: the rest goes to disk, and dispatch does not wait."""
    manager = new_storing(stuck)
    manager.start()
    total = 60_000
    for first in range(0, total, 1000):
        simulator.publish(*(bar(n=n) for n in range(first, first + 1000)))
    info = wait_for(manager, lambda info: info.offered == total, "memory", timeout=40)
    assert info.spooled == total - 50_000
    assert info.stored == info.dead_lettered == 0
    stuck.let_go.set()
    wait_for(manager, stored(total), "memory", timeout=40)
    manager.stop()
    assert sorted(minutes(stuck.bars)) == list(range(total))
