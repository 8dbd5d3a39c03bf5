"""A bot on larger bars: looks back from the start, survives gaps, and keeps its bars in a database.

Needs the extra ``sql``. Keys come from ALPACA_API_KEY and ALPACA_SECRET_KEY, or from .env in the
working directory. Without an account, run ``realtime-stream simulate`` and use its two addresses
and its keys; the README says how.

    python examples/bars_bot.py --timeframe 5m --store sqlite:///bars.db
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from decimal import Decimal

from realtime_stream import (
    BackfillEvent,
    Bar,
    RealTimeStreamManager,
    RejectedEvent,
    StreamConfig,
    StreamingError,
)
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals
from realtime_stream.sinks.sql import SqlSink

TURN = 0.5  # seconds between two turns of the loop
MEAN_OF = 20  # bars in the moving average


class Bot:
    """Compares each close with the average of the last ones."""

    def __init__(
        self, manager: RealTimeStreamManager, symbols: tuple[str, ...], timeframe: str
    ) -> None:
        """Register what the bot wants to know; nothing connects yet."""
        self.manager = manager
        self.timeframe = timeframe
        manager.on_bar(self.on_bar, *symbols, timeframe=timeframe, history=MEAN_OF)
        manager.on_updated_bar(self.on_bar, *symbols, timeframe=timeframe)
        manager.on_backfill(self.on_backfill)
        manager.on_rejected(self.on_rejected)

    def on_bar(self, bar: Bar) -> None:
        """Runs on the dispatch thread: decide on whole bars, the newest ones only."""
        print(f"bar    {bar.timestamp:%H:%M} {bar.symbol} close {bar.close} {bar.source}")
        if bar.is_partial or bar.is_late or bar.bar_kind == "updated":
            return
        bars = self.manager.recent_bars(bar.symbol, MEAN_OF, self.timeframe)
        if len(bars) == MEAN_OF and bar.timestamp_ns == bars[-1].timestamp_ns:
            mean = sum((each.close for each in bars), Decimal(0)) / MEAN_OF
            side = "above" if bar.close > mean else "at or below"
            print(f"decide {bar.symbol} is {side} the mean {mean:.3f}")

    def on_backfill(self, event: BackfillEvent) -> None:
        """Runs on the dispatch thread: history has come, or will not."""
        what = "filled" if event.purpose == "gap" else "warmed"
        outcome = "" if event.complete else f", not complete: {event.reason}"
        print(f"{what} {event.symbol} {event.delivered} bars{outcome}")

    def on_rejected(self, event: RejectedEvent) -> None:
        """Runs on the dispatch thread: something could not be true."""
        print(f"odd    {event.event.symbol} {event.rule}: {event.message}")

    def run(self, request: ShutdownRequest, seconds: float) -> None:
        """The loop, until a signal or the time ends it."""
        end = time.monotonic() + seconds
        while not request.wait(TURN) and time.monotonic() < end:
            self.manager.wait_until_stopped(0)  # raises when the stream has failed for good


def main() -> int:
    """Run the bot; return the exit code."""
    parser = argparse.ArgumentParser(description="A bot on larger bars.")
    parser.add_argument("--symbols", nargs="+", default=["AAPL", "MSFT"])
    parser.add_argument("--timeframe", default="5m", help="minutes, hours or 1d")
    parser.add_argument("--store", default="sqlite:///bars.db", help="URL of the database")
    parser.add_argument("--history-url", help="base URL of another history than Alpaca's")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    options = parser.parse_args()
    try:
        config = StreamConfig(
            feed="iex", name="bars-bot", backfill=("bars",), history_url=options.history_url
        )
        with contextlib.closing(SqlSink(options.store)) as sink:
            manager = RealTimeStreamManager(config, sinks=[sink])
            bot = Bot(manager, tuple(options.symbols), options.timeframe)
            with shutdown_on_signals() as request, manager:
                bot.run(request, options.seconds)
            info = manager.status().sinks[sink.name]
    except StreamingError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(f"{info.stored} bars stored, {info.queued + info.spooled} waiting")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
