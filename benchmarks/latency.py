"""How long a quote takes from the server's send to a callback, by client and by load.

    python benchmarks/latency.py
    python benchmarks/latency.py --seconds 1 --runs 3 --load bursts computing --json

The server, in a process of its own, notes the time before each system call; the callback notes the
time at which it is called. Both read the machine's monotonic clock, which Linux and macOS share
between processes. What is compared, and why that is fair, stands in docs/concepts/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from benchmarks.clients import CLIENTS, OURS, PARSED, RAW, Host
from benchmarks.feeds import Feed
from benchmarks.report import Ratio, environment, percentile, print_environment, summary, table
from benchmarks.runs import BenchmarkError, interleaved, positive

if TYPE_CHECKING:
    from benchmarks.runs import Run

_WARM_UP: Final = 0.5  # seconds at the beginning of each run that do not count
_MICROSECOND: Final = 1000  # nanoseconds


@dataclass(frozen=True, slots=True)
class _Load:
    """What is sent, what happens beside it, and how ours / alpaca-py parsed is bounded."""

    title: str
    rate: int
    burst: int = 1
    computes: bool = False
    switch_interval: float | None = None
    p50_at_most: float | None = None
    p99_at_most: float | None = None


_LOADS: Final[dict[str, _Load]] = {
    "steady-1000": _Load("1,000/s", 1000),
    "steady-5000": _Load("5,000/s", 5000, p99_at_most=1.3),
    "bursts": _Load("5,000/s in bursts of 100", 5000, burst=100, p50_at_most=0.7),
    "computing": _Load(
        "1,000/s, computing thread", 1000, computes=True, p50_at_most=2.0, p99_at_most=1.5
    ),
    "computing-short": _Load(
        "the same, switch interval 0.5 ms",
        1000,
        computes=True,
        switch_interval=0.0005,
        p50_at_most=2.0,
        p99_at_most=1.5,
    ),
}


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = _options()
    try:
        results = [_measure(options, name) for name in options.load]
    except BenchmarkError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    ratios = [ratio for result in results for ratio in _ratios(result)]
    if options.json:
        document = {
            "benchmark": "latency",
            "environment": environment(),
            "seconds": options.seconds,
            "results": results,
            "ratios": [ratio.as_json() for ratio in ratios],
        }
        print(json.dumps(document, indent=2))
    else:
        _print(results, ratios)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From the server's send to a callback, by client.")
    parser.add_argument("--seconds", type=float, default=3.0, help="that count, in one run")
    parser.add_argument("--runs", type=positive, default=5, help="of each client")
    parser.add_argument("--load", choices=_LOADS, nargs="+", default=list(_LOADS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.seconds <= 0:
        parser.error("--seconds must be above 0")
    return options


def _measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    load = _LOADS[name]
    skip = int(load.rate * _WARM_UP)
    feed = Feed(skip + max(int(load.rate * options.seconds), 1), rate=load.rate, burst=load.burst)
    host = Host(times=True, computes=load.computes, switch_interval=load.switch_interval)
    found: dict[str, list[tuple[float, float, float]]] = {client: [] for client in CLIENTS}
    late: list[int] = []
    for run in interleaved(feed, host, options.runs):
        p50, p99 = (percentile(_waits(run)[skip:], share) / _MICROSECOND for share in (0.5, 0.99))
        found[run.client].append((p50, p99, run.received.memory))
        late += run.sent.late_ns
        print(f"{load.title}, {run.client}: {p50:,.0f} / {p99:,.0f} us", file=sys.stderr)
    return {
        "load": name,
        "title": load.title,
        "quotes": feed.quotes - skip,
        "server_late_us": {
            "p50": percentile(late, 0.5) / _MICROSECOND,
            "p99": percentile(late, 0.99) / _MICROSECOND,
        },
        "clients": {client: _summary(found[client]) for client in CLIENTS},
    }


def _waits(run: Run) -> list[int]:
    """How long each quote took. Every client keeps their order, so the n-th is the n-th."""
    return [
        received - sent
        for sent, received in zip(run.sent.sent_ns, run.received.received_ns, strict=True)
    ]


def _summary(runs: list[tuple[float, float, float]]) -> dict[str, Any]:
    p50, p99, memory = zip(*runs, strict=True)
    return {"p50_us": summary(p50), "p99_us": summary(p99), "peak_memory_mib": summary(memory)}


def _ratios(result: dict[str, Any]) -> list[Ratio]:
    load, clients = _LOADS[result["load"]], result["clients"]
    ours = clients[OURS]
    ratios = []
    for other, bounded in ((PARSED, True), (RAW, False)):
        for key, at_most in (("p50_us", load.p50_at_most), ("p99_us", load.p99_at_most)):
            value = ours[key]["median"] / clients[other][key]["median"]
            what = f"{load.title}, {key[:3]}, / {other.removeprefix('alpaca-py ')}"
            ratios.append(Ratio(what, value, at_most=at_most if bounded else None))
    return ratios


def _print(results: list[dict[str, Any]], ratios: list[Ratio]) -> None:
    print_environment()
    headings = ("from send to callback (medians)", "client", "p50, us", "p99, us", "peak, MiB")
    rows = [
        (
            result["title"],
            client,
            f"{found['p50_us']['median']:,.0f}",
            f"{found['p99_us']['median']:,.0f}",
            f"{found['peak_memory_mib']['median']:.1f}",
        )
        for result in results
        for client, found in result["clients"].items()
    ]
    print(table(headings, rows))
    # Milliseconds here say that the machine had other work, and that the figures mean little.
    late = (
        f"{result['title']}: {result['server_late_us']['p50']:,.0f} / "
        f"{result['server_late_us']['p99']:,.0f}"
        for result in results
    )
    print(f"the server sent late by (p50 / p99, us): {'; '.join(late)}\n")
    print(table((f"{OURS} / alpaca-py", "ratio", "bound"), [ratio.row() for ratio in ratios]))


if __name__ == "__main__":
    raise SystemExit(main())
