"""How many quotes per second reach a callback, by client and by quotes per frame.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --quotes 50000 --runs 3 --per-frame 10 --json

A server in a process of its own sends as fast as TCP takes it. A run is timed in the client's
process, from the callback of the first mark to that of the last, with the quotes between them. What
is compared, and why that is fair, stands in docs/concepts/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks.clients import CLIENTS, OURS, PARSED, RAW, Host
from benchmarks.feeds import Feed
from benchmarks.report import Ratio, environment, print_environment, summary, table
from benchmarks.runs import BenchmarkError, interleaved, positive

if TYPE_CHECKING:
    from benchmarks.runs import Run

_SECOND: Final = 1_000_000_000  # nanoseconds
_MICROSECOND: Final = 1000
_MOST_PER_FRAME: Final = 5000
# Resident memory of one event in the inbox, with its frame: 800 at one quote a frame, 680 at 100.
_BYTES_WAITING: Final = 800
_MIB: Final = 2**20
_BOUNDS: Final = {1: 2.5, 10: 3.0, 100: 5.0}  # ours / alpaca-py parsed, by quotes per frame


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = _options()
    # Ours reads on while its callbacks run, so with a server this fast quotes wait in its inbox.
    # It must not drop any: a client that delivers less has not done the same work.
    capacity = options.quotes + 2  # with the two marks
    host = Host(inbox_capacity=capacity)
    try:
        results = [_measure(options, size, host) for size in options.per_frame]
    except BenchmarkError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    ratios = [ratio for result in results for ratio in _ratios(result, capacity)]
    if options.json:
        document = {
            "benchmark": "throughput",
            "environment": environment(),
            "quotes": options.quotes,
            "inbox_capacity": capacity,
            "results": results,
            "ratios": [ratio.as_json() for ratio in ratios],
        }
        print(json.dumps(document, indent=2))
    else:
        _print(results, ratios)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Quotes per second to a callback, by client.")
    parser.add_argument("--quotes", type=positive, default=200_000, help="in one run")
    parser.add_argument("--runs", type=positive, default=5, help="of each client")
    parser.add_argument("--per-frame", type=positive, nargs="+", default=[1, 10, 100])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if max(options.per_frame) > _MOST_PER_FRAME:
        parser.error(f"--per-frame must be at most {_MOST_PER_FRAME}: alpaca-py takes 1 MiB")
    return options


def _measure(options: argparse.Namespace, per_frame: int, host: Host) -> dict[str, Any]:
    runs: dict[str, list[Run]] = {client: [] for client in CLIENTS}
    for run in interleaved(Feed(options.quotes, per_frame), host, options.runs):
        runs[run.client].append(run)
        rate = _rate(run, run.received.first_ns)
        print(f"{per_frame} a frame, {run.client}: {rate:,.0f}/s", file=sys.stderr)
    return {
        "per_frame": per_frame,
        "clients": {client: _summary(runs[client]) for client in CLIENTS},
    }


def _rate(run: Run, since_ns: int) -> float:
    return run.received.quotes * _SECOND / (run.received.last_ns - since_ns)


def _cpu(run: Run, cpu_ns: int) -> float:
    return cpu_ns / run.received.quotes / _MICROSECOND


def _summary(runs: list[Run]) -> dict[str, Any]:
    return {
        "quotes_per_second": summary([_rate(run, run.received.first_ns) for run in runs]),
        # The same from the server's first send: how much of a head start the first callback's
        # way through the client gives.
        "quotes_per_second_since_send": summary([_rate(run, run.sent.first_ns) for run in runs]),
        "cpu_us_per_quote": summary([_cpu(run, run.received.cpu_ns) for run in runs]),
        "callback_thread_cpu_us_per_quote": summary([
            _cpu(run, run.received.callback_cpu_ns) for run in runs
        ]),
        "memory_before_mib": summary([run.received.memory_before for run in runs]),
        "peak_memory_mib": summary([run.received.memory for run in runs]),
    }


def _ratios(result: dict[str, Any], inbox_capacity: int) -> list[Ratio]:
    size, clients = result["per_frame"], result["clients"]
    rate = {name: found["quotes_per_second"]["median"] for name, found in clients.items()}
    memory = {name: found["peak_memory_mib"]["median"] for name, found in clients.items()}
    allowed = memory[PARSED] + inbox_capacity * _BYTES_WAITING / _MIB
    return [
        Ratio(
            f"throughput, {size} a frame, / parsed", rate[OURS] / rate[PARSED], _BOUNDS.get(size)
        ),
        Ratio(f"throughput, {size} a frame, / raw", rate[OURS] / rate[RAW]),
        Ratio(
            f"peak memory, {size} a frame, / parsed",
            memory[OURS] / memory[PARSED],
            at_most=allowed / memory[PARSED],
        ),
    ]


def _print(results: list[dict[str, Any]], ratios: list[Ratio]) -> None:
    print_environment()
    headings = ("medians", "a frame", "quotes/s", "CPU us/quote", "MiB before", "MiB peak")
    rows = [
        (
            client,
            str(result["per_frame"]),
            f"{found['quotes_per_second']['median']:,.0f}",
            f"{found['cpu_us_per_quote']['median']:.2f}",
            f"{found['memory_before_mib']['median']:.1f}",
            f"{found['peak_memory_mib']['median']:.1f}",
        )
        for result in results
        for client, found in result["clients"].items()
    ]
    print(table(headings, rows))
    print()
    print(table((f"{OURS} / alpaca-py", "ratio", "bound"), [ratio.row() for ratio in ratios]))


if __name__ == "__main__":
    raise SystemExit(main())
