"""What checking trades and building minute bars of them cost, beside decoding and delivering them.

    python benchmarks/pipeline.py

The same frames of trades take the way from the socket to the callbacks twice, on one thread and
without a network: looked at as the io thread does, put into the inbox, taken out, decoded and
delivered to a callback that does nothing; once without validation and once with validation as it is
by default, the caches, and one-minute bars built of the trades. The figures are microseconds of
this thread's CPU time per trade, the best of several turns; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from realtime_stream import RealTimeStreamManager, StreamConfig
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.providers.alpaca.frame import EncodedEvents, data_messages
from realtime_stream.runtime.run import Run
from realtime_stream.simulator import SyntheticSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.config import Credentials
    from realtime_stream.market.channels import Subscription
    from realtime_stream.ports import SessionListener
    from realtime_stream.resilience.failures import SessionEnd

_SYMBOLS: Final = ("AAPL", "MSFT", "SPY", "TSLA", "NVDA")
_START: Final = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
_SIZES: Final = (1, 10, 100)  # trades in a frame
_BOUND: Final = 1.0  # what may be added, as a share of decoding and delivering
_WIRE_LATENCY_NS: Final = 20_000_000


class _NoProvider:
    """Never asked for a session."""

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        raise NotImplementedError

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        """Nothing is subscribed to."""

    def end_session(self) -> None:
        """Nothing runs."""

    def disconnect(self) -> None:
        """Nothing runs."""

    def lingering_threads(self) -> tuple[str, ...]:
        return ()


def _frames(minutes: int, trades_per_minute: int, size: int) -> list[tuple[bytes, int, int]]:
    """Frames of ``size`` trades: bytes, receive time and number."""
    session = SyntheticSession(
        1,
        _SYMBOLS,
        start=_START,
        minutes=minutes,
        quotes_per_minute=0,
        trades_per_minute=trades_per_minute,
    )
    trades = [(t_ns, message) for t_ns, message in session if message["T"] == "t"]
    frames = []
    for first in range(0, len(trades), size):
        part = trades[first : first + size]
        wire = [message | {"t": _stamp(message["t"])} for _, message in part]
        frames.append((msgspec.msgpack.encode(wire), part[-1][0] + _WIRE_LATENCY_NS, len(part)))
    return frames


def _stamp(t_ns: int) -> msgspec.msgpack.Ext:
    """A time as the wire has it."""
    seconds, nanoseconds = divmod(t_ns, 10**9)
    return msgspec.msgpack.Ext(-1, (nanoseconds << 34 | seconds).to_bytes(8, "big"))


def _nothing(_: object) -> None:
    """A callback."""


def _run(*, whole: bool) -> Run:
    """A dispatcher with its surroundings; no thread is started."""
    keys = dict.fromkeys(("api_key", "secret_key"), "none")
    manager = RealTimeStreamManager(StreamConfig(**keys, lag_alarm=1e9))
    manager.on_trade(_nothing, *_SYMBOLS)
    if whole:
        manager.on_bar(_nothing, *_SYMBOLS, timeframe="1m", built_from="trades")
    around = manager._around  # noqa: SLF001  # what is measured lies behind it
    run = Run(around, around.new_memory(), _NoProvider())
    run.memory.series.want(around.registry.routes.series)
    if not whole:
        run.path.screen.checks = {}
    return run


def _cost(frames: Sequence[tuple[bytes, int, int]], *, whole: bool) -> float:
    """Microseconds per trade."""
    run, decoder = _run(whole=whole), FrameDecoder("msgpack")
    receive, told = run.recorder.on_frame, run.recorder.on_control
    began = time.thread_time()
    for data, received_ns, _ in frames:
        events = EncodedEvents(data, data_messages(data), received_ns, decoder, told)
        receive(events, received_ns)
        run.dispatcher.deliver_waiting()
    spent = time.thread_time() - began
    trades = sum(count for _, _, count in frames)
    if run.dispatcher.delivered["trades"] != trades:
        msg = f"{trades} trades, {run.dispatcher.delivered['trades']} delivered"
        raise RuntimeError(msg)
    if whole and not run.memory.series.info().built:
        msg = "no bar was built"
        raise RuntimeError(msg)
    return spent / trades * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=20, help="market time")
    parser.add_argument("--trades", type=int, default=600, help="per symbol and minute")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args(arguments)
    frames = {size: _frames(options.minutes, options.trades, size) for size in _SIZES}
    turns: dict[int, list[tuple[float, float]]] = {size: [] for size in _SIZES}
    for _ in range(options.turns):  # of each size in turn, as a machine has its good minutes
        for size in _SIZES:
            both = _cost(frames[size], whole=False), _cost(frames[size], whole=True)
            turns[size].append(both)
    missed = 0
    print("us per trade       plain   whole   added")
    for size in _SIZES:
        plain, whole = map(min, zip(*turns[size], strict=True))
        added = whole / plain - 1
        missed += added > _BOUND
        print(f"{size:3} a frame       {plain:7.2f} {whole:7.2f} {added:7.0%}")
    print(f"bound: {_BOUND:.0%}")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
