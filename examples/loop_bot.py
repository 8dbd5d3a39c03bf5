"""A bot with a plain loop: bars by callback, quotes looked up when the loop wants them.

Keys come from ALPACA_API_KEY and ALPACA_SECRET_KEY, or from .env in the working directory. Without
an account, run ``realtime-stream simulate`` and use its address and keys; the README says how.

    python examples/loop_bot.py --seconds 60
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from decimal import Decimal

from realtime_stream import (
    Bar,
    Gap,
    RealTimeStreamManager,
    StreamConfig,
    StreamingError,
)
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

TURN = 0.5  # seconds between two turns of the loop
MEAN_OF = 3  # closes in the moving average


class Bot:
    """Compares the mid price with the average of the last closes."""

    def __init__(self, manager: RealTimeStreamManager, symbols: tuple[str, ...]) -> None:
        """Register what the bot wants to know; nothing connects yet."""
        self.manager = manager
        self.closes: dict[str, deque[Decimal]] = {s: deque(maxlen=MEAN_OF) for s in symbols}
        manager.on_bar(self.on_bar, *symbols)
        manager.on_gap(self.on_gap)
        manager.subscribe("quotes", *symbols)

    def on_bar(self, bar: Bar) -> None:
        """Runs on the dispatch thread: note the close, and no more."""
        self.closes[bar.symbol].append(bar.close)
        print(f"bar    {bar.timestamp:%H:%M} {bar.symbol} close {bar.close} volume {bar.volume}")

    def on_gap(self, gap: Gap) -> None:
        """After a gap the last closes are no longer in a row."""
        for closes in self.closes.values():
            closes.clear()
        print(f"gap    {gap.start:%H:%M:%S} to {gap.end:%H:%M:%S} UTC: averages begin again")

    def decide(self, symbol: str) -> None:
        """One decision; never waits for the network."""
        quote = self.manager.latest_quote(symbol)  # raises when the stream has failed for good
        closes = list(self.closes[symbol])
        if quote is None or quote.mid_price is None or len(closes) < MEAN_OF:
            return
        mean = sum(closes, Decimal(0)) / len(closes)
        side = "above" if quote.mid_price > mean else "at or below"
        print(f"decide {symbol} mid {quote.mid_price} is {side} the mean {mean:.3f}")

    def run(self, request: ShutdownRequest, seconds: float) -> None:
        """The loop, until a signal or the time ends it."""
        end = time.monotonic() + seconds
        while not request.wait(TURN) and time.monotonic() < end:
            if self.manager.is_connected():
                for symbol in self.closes:
                    self.decide(symbol)


def main() -> int:
    """Run the bot; return the exit code."""
    parser = argparse.ArgumentParser(description="A bot with a plain loop.")
    parser.add_argument("--symbols", nargs="+", default=["AAPL", "MSFT"])
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    options = parser.parse_args()
    try:
        manager = RealTimeStreamManager(StreamConfig(feed="iex"))
        bot = Bot(manager, tuple(options.symbols))
        with shutdown_on_signals() as request, manager:
            bot.run(request, options.seconds)
    except StreamingError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    status = manager.status()
    print(f"{status.delivered.get('bars', 0)} bars, {status.sessions} session(s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
