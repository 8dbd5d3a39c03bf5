"""A whole trading day at a speed-up, with random faults: do the accounts add up at its end?

    python benchmarks/soak.py
    python benchmarks/soak.py --hours 6.5 --speed 60 --faults 80 --seed 7 --json

The exchange is a process of its own; this one holds the library and a bot. Every message that the
exchange published is explained one by one. Exit code 0: all are, in order and none twice, and no
thread was left behind; 1: not; 130: interrupted, with nothing wrong so far. See
docs/how-to/soak.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks.soak_day import OPENING, Plan, run_day
from benchmarks.soak_report import as_json, lines
from benchmarks.soak_server import ExchangeError, Feed
from realtime_stream import StreamingError, shutdown_on_signals

if TYPE_CHECKING:
    from benchmarks.soak_day import Done

_SYMBOLS: Final = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NVDA", "QQQ", "SPY", "TSLA", "XOM")
_INTERRUPTED: Final = 130


def main() -> int:
    """Run the soak; return the exit code."""
    options = _options()
    feed = Feed(
        seed=options.seed,
        symbols=_SYMBOLS[: options.symbols],
        start=OPENING,
        minutes=max(round(options.hours * 60), 1),
        speed=options.speed,
    )
    plan = Plan(feed, options.faults, _tell)
    with shutdown_on_signals() as request:
        try:
            result = run_day(plan, request)
        except (ExchangeError, StreamingError) as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps(as_json(plan, result), indent=2))
    else:
        print("\n".join(lines(plan, result)))
    if not result.good:
        return 1
    return _INTERRUPTED if result.interrupted else 0


def _tell(done: Done) -> None:
    """Progress; a day takes minutes."""
    at = OPENING + timedelta(minutes=done.minute)
    what = f"{done.name} {done.detail}".rstrip()
    print(f"{at:%H:%M} UTC  {what}, whole after {done.seconds:.1f} s", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A trading day with faults, balanced at its end.")
    parser.add_argument("--hours", type=float, default=6.5, help="of market time")
    parser.add_argument("--speed", type=float, default=75.0, help="market seconds per second")
    parser.add_argument("--seed", type=int, default=1, help="decides about data and faults")
    parser.add_argument("--faults", type=int, default=80, help="how many, spread over the day")
    parser.add_argument("--symbols", type=int, default=5, help=f"how many, 1 to {len(_SYMBOLS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args()
    if not (options.hours > 0 and options.speed > 0):
        parser.error("--hours and --speed must be above 0")
    if options.faults < 0 or not 1 <= options.symbols <= len(_SYMBOLS):
        parser.error(f"--faults must not be negative, --symbols 1 to {len(_SYMBOLS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
