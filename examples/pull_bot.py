"""A bot that pulls: it iterates over events in its own thread, and registers no callback.

Keys come from ALPACA_API_KEY and ALPACA_SECRET_KEY, or from .env in the working directory. Without
an account, run ``realtime-stream simulate`` and use its address and keys; the README says how.

    python examples/pull_bot.py --seconds 60
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter

from realtime_stream import (
    MarketEvent,
    Quote,
    RealTimeStreamManager,
    StreamConfig,
    StreamingError,
    Trade,
)
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

LOOK = 0.5  # seconds without an event after which the loop looks at the time and at signals


class Tape:
    """Trades per symbol, by the side of the spread they were nearer to."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.quotes: dict[str, Quote] = {}
        self.volumes: Counter[str] = Counter()
        self.sides: Counter[tuple[str, str]] = Counter()

    def take(self, event: MarketEvent) -> None:
        """Enter one event."""
        if isinstance(event, Quote):
            self.quotes[event.symbol] = event
        elif isinstance(event, Trade):
            self.volumes[event.symbol] += int(event.size)
            self.sides[event.symbol, self.side(event)] += 1

    def side(self, trade: Trade) -> str:
        """``buy`` above the mid price, ``sell`` below it."""
        quote = self.quotes.get(trade.symbol)
        mid = None if quote is None else quote.mid_price
        if mid is None or trade.price == mid:
            return "unknown"
        return "buy" if trade.price > mid else "sell"


def pull(
    manager: RealTimeStreamManager, tape: Tape, request: ShutdownRequest, seconds: float
) -> None:
    """The loop, until a signal or the time ends it."""
    end = time.monotonic() + seconds
    events = manager.events(timeout=LOOK)
    while not request.is_requested() and time.monotonic() < end:
        event = next(events, None)  # None after LOOK seconds without one
        if event is not None:
            tape.take(event)


def main() -> int:
    """Run the bot; return the exit code."""
    parser = argparse.ArgumentParser(description="A bot that pulls events.")
    parser.add_argument("--symbols", nargs="+", default=["AAPL", "MSFT"])
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    options = parser.parse_args()
    tape = Tape()
    try:
        manager = RealTimeStreamManager(StreamConfig(feed="iex"))
        manager.subscribe("quotes", *options.symbols)
        manager.subscribe("trades", *options.symbols)
        with shutdown_on_signals() as request, manager:
            pull(manager, tape, request, options.seconds)
    except StreamingError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    for (symbol, side), count in sorted(tape.sides.items()):
        print(f"{symbol:6} {side:8} {count:6} trades")
    print(f"{manager.status().queue_dropped} event(s) dropped because this loop was too slow")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
