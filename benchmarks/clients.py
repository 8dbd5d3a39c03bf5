"""The clients that are compared, each run in a process of its own.

All of them subscribe to the quotes of the same symbols and bring each quote to one callback, which
does the same in all: count, or note the time. The two marks have callbacks of their own, so that
this callback need not look at what it is given.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from benchmarks.feeds import FIRST, LAST, SYMBOLS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["CLIENTS", "OURS", "PARSED", "RAW", "ClientName", "Host", "Received", "run_client"]

ClientName = Literal["alpaca-py parsed", "alpaca-py raw", "realtime_stream"]
PARSED: Final = "alpaca-py parsed"
RAW: Final = "alpaca-py raw"
OURS: Final = "realtime_stream"
CLIENTS: Final[tuple[ClientName, ...]] = (PARSED, RAW, OURS)

_MIB: Final = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes or KiB
# Any pair will do: the server takes every one.
_KEY: Final = "BENCHMARK-KEY"
_SECRET: Final = "benchmark-secret"  # noqa: S105  # see above


@dataclass(frozen=True, slots=True)
class Host:
    """The process a client lives in.

    Attributes:
        times: Note the time of each quote, instead of only counting them.
        computes: A thread computes in pure Python beside the client.
        switch_interval: For ``sys.setswitchinterval``, seconds; ``None`` leaves the default.
        inbox_capacity: For realtime_stream; ``None`` leaves the default.
    """

    times: bool = False
    computes: bool = False
    switch_interval: float | None = None
    inbox_capacity: int | None = None


@dataclass(slots=True)
class Received:
    """What a client saw. Times are nanoseconds of ``time.monotonic_ns``, memory is in MiB.

    Attributes:
        quotes: Calls of the callback.
        first_ns: When the callback of the first mark was called.
        last_ns: When the callback of the last mark was called.
        memory_before: Highest resident memory of the process up to the first mark.
        memory: The same up to the last mark.
        cpu_ns: CPU time of the whole process between the marks.
        callback_cpu_ns: The part of it on the thread that runs the callbacks.
        received_ns: When the callback was called for each quote, if that was asked for.
    """

    quotes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    memory_before: float = 0.0
    memory: float = 0.0
    cpu_ns: int = 0
    callback_cpu_ns: int = 0
    received_ns: list[int] = field(default_factory=list)


class _Counter:
    """The callback that only counts, in the two forms in which clients want it."""

    def __init__(self) -> None:
        self.quotes = 0

    def call(self, _quote: object, /) -> None:
        self.quotes += 1

    async def handle(self, _quote: object, /) -> None:
        self.quotes += 1


class _Stopwatch:
    """The callback that notes the time; quotes come in the order in which they were sent."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def call(self, _quote: object, /) -> None:
        self.times.append(time.monotonic_ns())

    async def handle(self, _quote: object, /) -> None:
        self.times.append(time.monotonic_ns())


class _Run:
    """One run of one client: its callback, and what happens at the two marks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._computing = threading.Event()
        self._result = Received()
        self._counter = _Counter()
        self._stopwatch = _Stopwatch()
        self._cpu = (0, 0)
        self.callback = self._stopwatch if host.times else self._counter

    def begin(self) -> None:
        self._result.memory_before = _peak_memory()
        if self._host.computes:
            self._computing.set()
            threading.Thread(target=_compute, args=(self._computing,), daemon=True).start()
        self._cpu = _cpu_times()
        self._result.first_ns = time.monotonic_ns()

    def end(self) -> None:
        result = self._result
        result.last_ns = time.monotonic_ns()
        result.cpu_ns, result.callback_cpu_ns = (
            now - then for now, then in zip(_cpu_times(), self._cpu, strict=True)
        )
        result.memory = _peak_memory()
        self._computing.clear()

    def result(self) -> Received:
        result = self._result
        result.received_ns = self._stopwatch.times
        result.quotes = len(self._stopwatch.times) or self._counter.quotes
        return result


def run_client(name: ClientName, url: str, host: Host, report: Connection) -> None:
    """Run one client until the last mark, and report what it :class:`Received`."""
    if host.switch_interval is not None:
        sys.setswitchinterval(host.switch_interval)
    run = _Run(host)
    if name == OURS:
        _realtime_stream(url, host, run)
    else:
        _alpaca_py(url, run, raw_data=name == RAW)
    report.send(run.result())


def _alpaca_py(url: str, run: _Run, *, raw_data: bool) -> None:
    from alpaca.data.live import StockDataStream  # noqa: PLC0415  # only where it is measured

    stream = StockDataStream(_KEY, _SECRET, raw_data=raw_data, url_override=url)

    async def first(_quote: object) -> None:
        run.begin()

    async def last(_quote: object) -> None:
        run.end()
        await stream.stop_ws()

    stream.subscribe_quotes(first, FIRST)
    stream.subscribe_quotes(run.callback.handle, *SYMBOLS)
    stream.subscribe_quotes(last, LAST)
    stream.run()


def _realtime_stream(url: str, host: Host, run: _Run) -> None:
    from realtime_stream import RealTimeStreamManager, StreamConfig  # noqa: PLC0415  # as above

    settings = {} if host.inbox_capacity is None else {"inbox_capacity": host.inbox_capacity}
    config = StreamConfig(url=url, api_key=_KEY, secret_key=_SECRET, watchlist=(), **settings)
    manager = RealTimeStreamManager(config)
    over = threading.Event()

    def last(_quote: object) -> None:
        run.end()
        over.set()

    manager.on_quote(lambda _: run.begin(), FIRST)
    manager.on_quote(run.callback.call, *SYMBOLS)
    manager.on_quote(last, LAST)
    with manager:
        over.wait()  # whoever started this process ends it when it takes too long
    dropped = manager.status().dropped
    if dropped:
        msg = f"the inbox was too small: {dropped}"
        raise RuntimeError(msg)


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def _cpu_times() -> tuple[int, int]:
    """Of the process and of this thread, nanoseconds."""
    return time.process_time_ns(), time.thread_time_ns()


def _compute(computing: threading.Event) -> None:
    """What a bot does that computes its signals in pure Python."""
    state = 1
    while computing.is_set():
        for _ in range(1000):
            state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
