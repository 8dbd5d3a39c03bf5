"""A bot that stores what it is delivered: what it saw, what the accounts said, what is stored."""

from __future__ import annotations

import contextlib
import functools
import importlib
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import text

from realtime_stream import BreakerPolicy, RealTimeStreamManager, ReconnectPolicy, StreamingError
from realtime_stream.runtime import storage
from realtime_stream.runtime.sink_settings import SinkLimits
from realtime_stream.runtime.sink_worker import SinkWorker
from realtime_stream.simulator import AlpacaSimulator, SyntheticSession
from realtime_stream.sinks.sql import OHLCVRepository
from tests.external.bars import plain, rows
from tests.support import config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from realtime_stream import Bar
    from realtime_stream.clock import Clock
    from realtime_stream.ports import Sink, SinkInfo

__all__ = [
    "MOST_LAG",
    "OPENING",
    "SYMBOLS",
    "Accounts",
    "Bot",
    "Seen",
    "bars_of",
    "differences",
    "fill",
    "hasten",
    "locked",
    "market",
    "running_bot",
    "settled",
    "small_disk",
]

SYMBOLS: Final = ("AAPL", "AMD", "MSFT", "SPY", "TSLA")
OPENING: Final = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)  # 09:30 in New York
MOST_LAG: Final = 1.0  # seconds; what a sink that waits for its database must not do to callbacks
_PATIENCE: Final = 30.0  # seconds
_PAUSE: Final = 0.005  # seconds between two looks at the accounts

Key = tuple[str, str, int]
Message = tuple[int, dict[str, Any]]


def bars_of(seed: int, minutes: int, *, updates: bool = True) -> list[Message]:
    """The bars of a morning, each with an updated one half a minute later, or without."""
    session = SyntheticSession(
        seed,
        SYMBOLS,
        start=OPENING,
        minutes=minutes,
        quotes_per_minute=10,  # nobody gets them: they move the prices
        trades_per_minute=6,
        late_trades_per_minute=2,
    )
    kinds = {"b", "u"} if updates else {"b"}
    return [(t_ns, message) for t_ns, message in session if message["T"] in kinds]


def hasten(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> SinkLimits:
    """Little memory and short waits for the sinks of this test, which no setting gives."""
    chosen = SinkLimits(**{
        "batch_size": 50,
        "batch_delay": 0.05,
        "spool_above": 60,
        "retry": ReconnectPolicy(initial=0.05, maximum=0.4),
        "breaker": BreakerPolicy(failure_threshold=5, reset_timeout=0.5),
        **limits,
    })
    monkeypatch.setattr(storage, "SinkWorker", functools.partial(SinkWorker, limits=chosen))
    return chosen


class Seen:
    """A callback that keeps the last version of each bar."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the two below
        self._newest: dict[Key, Bar] = {}
        self._count = 0

    def __call__(self, bar: Bar) -> None:
        with self._changed:
            self._newest[bar.symbol, bar.timeframe, bar.timestamp_ns] = bar
            self._count += 1
            self._changed.notify_all()

    @property
    def count(self) -> int:
        """Calls."""
        with self._changed:
            return self._count

    @property
    def newest(self) -> dict[Key, Bar]:
        """The last version of each bar."""
        with self._changed:
            return dict(self._newest)

    def wait_for(self, count: int, timeout: float = _PATIENCE) -> None:
        """Wait for so many calls."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, timeout), self._count


class Accounts:
    """Looks at a sink's accounts all the time; they have to add up at every look."""

    def __init__(self, manager: RealTimeStreamManager, sink: str) -> None:
        self._manager = manager
        self._sink = sink
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accounts", daemon=True)
        self.wrong: list[SinkInfo] = []
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()

    def info(self) -> SinkInfo | None:
        """One look; ``None`` before the first start."""
        info = self._manager.status().sinks.get(self._sink)
        if info is None:
            return None
        parts = info.stored, info.spooled, info.dead_lettered, info.queued
        if info.offered != sum(parts) or min(parts) < 0:
            self.wrong.append(info)
        return info

    def wait_until(
        self, predicate: Callable[[SinkInfo], bool], timeout: float = _PATIENCE
    ) -> SinkInfo:
        """Look until ``predicate`` holds."""
        deadline = time.monotonic() + timeout
        while (info := self.info()) is None or not predicate(info):
            assert time.monotonic() < deadline, info
            self._over.wait(_PAUSE)  # accounts tell nobody when they change
        return info

    def _run(self) -> None:
        while not self._over.wait(_PAUSE):
            self.info()


def settled(count: int) -> Callable[[SinkInfo], bool]:
    """Whether so many bars were offered, and none of them waits any more."""
    return lambda info: info.offered == count == info.stored + info.dead_lettered


class Bot:
    """A manager whose bars are kept, and looked after."""

    def __init__(self, manager: RealTimeStreamManager, seen: Seen, accounts: Accounts) -> None:
        self.manager = manager
        self.seen = seen
        self.accounts = accounts


@contextlib.contextmanager
def market() -> Iterator[AlpacaSimulator]:
    """An exchange, and the SDK loaded, which takes longer than a test may wait."""
    importlib.import_module("realtime_stream.providers.alpaca.adapter")
    importlib.import_module("realtime_stream.providers.alpaca.history")
    with AlpacaSimulator() as simulator:
        yield simulator
        simulator.faults.clear()


@contextlib.contextmanager
def running_bot(
    simulator: AlpacaSimulator,
    sink: Sink,
    spool: Path,
    *,
    seen: Seen | None = None,
    timeframes: Sequence[str] = ("1m",),
    clock: Clock | None = None,
    **settings: Any,
) -> Iterator[Bot]:
    """A bot that has started, and whose accounts and lag were fine all the time."""
    manager = RealTimeStreamManager(
        config(simulator, **{"name": "bot", "spool": spool, **settings}),
        sinks=[sink],
        data_clock=clock,
    )
    seen = seen or Seen()
    for timeframe in timeframes:
        manager.on_bar(seen, *SYMBOLS, timeframe=timeframe)
        manager.on_updated_bar(seen, *SYMBOLS, timeframe=timeframe)
    accounts = Accounts(manager, sink.name)
    try:
        manager.start()
        yield Bot(manager, seen, accounts)
        manager.stop()
        assert manager.status().lag.highest < MOST_LAG
        assert accounts.wrong == []
    finally:
        accounts.close()
        with contextlib.suppress(StreamingError):
            manager.stop()


def differences(url: str, seen: Seen) -> list[str]:
    """Between what a bot was delivered last of each bar, and what is stored."""
    newest = seen.newest
    stored: dict[Key, Any] = {}
    with OHLCVRepository(url) as repository:
        for symbol, timeframe in {key[:2] for key in newest}:
            for row in repository.range(
                symbol, timeframe, OPENING - timedelta(days=1), datetime.max.replace(tzinfo=UTC)
            ):
                stored[symbol, timeframe, row.timestamp_ns] = row
    found = [f"not stored: {newest[key]}" for key in sorted(newest.keys() - stored.keys())]
    found += [f"never delivered: {stored[key]}" for key in sorted(stored.keys() - newest.keys())]
    for key in sorted(newest.keys() & stored.keys()):
        bar, row = newest[key], stored[key]
        if row.to_bar() != bar or row.source != bar.source:
            found.append(f"stored {row}, but delivered {bar}")
    count = rows(url, "SELECT count(*) FROM ohlcv_bars")[0][0]
    if count != len(stored):
        found.append(f"{count} rows, of which {len(stored)} were found by series and time")
    return found


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a lock that writers wait for, on a table that is there."""
    with plain(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("LOCK TABLE ohlcv_bars IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own, which is soon full; skips where none can be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],  # noqa: S607  # wherever the system keeps it
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607  # as above


def fill(disk: Path) -> Path:
    """Leave no byte on a disk; deleting the returned file frees it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return ballast
