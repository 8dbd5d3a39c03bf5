"""The benchmarks run, and say what the docs and the scripts that read them rely on.

Their figures are not looked at: on a machine that does other things they mean nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it brings no types
import pytest

from benchmarks.clients import Host
from benchmarks.feeds import SYMBOLS, Feed, frames
from benchmarks.runs import BenchmarkError, interleaved

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
_LIMIT = 100.0  # seconds; each run takes a few
_CLIENTS = ["alpaca-py parsed", "alpaca-py raw", "realtime_stream"]

pytestmark = pytest.mark.timeout(_LIMIT + 20)


def _run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(_FOLDER / script), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _json(script: str, *options: str) -> dict[str, Any]:
    document = json.loads(_run(script, *options, "--json"))
    assert isinstance(document, dict)
    return document


def _check_common(document: dict[str, Any]) -> None:
    assert set(document["environment"]) == {"python", "system", "cores", "versions"}
    assert list(document)[-1] == "ratios"
    for ratio in document["ratios"]:
        assert set(ratio) == {"what", "value", "bound", "met"}
        assert ratio["value"] > 0
        assert (ratio["met"] is None) == (ratio["bound"] == "")
    for result in document["results"]:
        assert list(result["clients"]) == _CLIENTS


def _check_figure(figure: dict[str, Any], runs: int) -> None:
    assert len(figure["runs"]) == runs
    assert min(figure["runs"]) <= figure["median"] <= max(figure["runs"])
    assert figure["median"] > 0


def test_the_feed_is_what_the_exchange_sends() -> None:
    short, long = frames(Feed(3, per_frame=2))

    assert short[:2] == bytes((0x82, 126))  # one whole binary frame, its length in the next two
    assert int.from_bytes(short[2:4], "big") == len(short) - 4
    quotes = msgpack.unpackb(short[4:]) + msgpack.unpackb(long[2:])
    assert len(quotes) == 3
    for quote in quotes:
        assert next(iter(quote.items())) == ("T", "q")
        assert set(quote) == {"T", "S", "bx", "bp", "bs", "ax", "ap", "as", "c", "t", "z"}
        assert quote["S"] in SYMBOLS
        assert quote["ap"] > quote["bp"] == round(quote["bp"], 2)
        assert isinstance(quote["t"], msgpack.Timestamp)
    times = [quote["t"].to_unix_nano() for quote in quotes]
    assert times == sorted(set(times))


def test_a_client_that_drops_quotes_ends_the_benchmark() -> None:
    runs = interleaved(Feed(1000, per_frame=100), Host(inbox_capacity=2), runs=1)

    assert [next(runs).client, next(runs).client] == _CLIENTS[:2]
    with pytest.raises(BenchmarkError, match="ended early"):
        next(runs)


def test_throughput_compares_all_clients_at_each_frame_size() -> None:
    document = _json("throughput.py", "--quotes", "1003", "--runs", "1", "--per-frame", "1", "100")

    _check_common(document)
    assert (document["benchmark"], document["quotes"]) == ("throughput", 1003)
    assert [result["per_frame"] for result in document["results"]] == [1, 100]
    for result in document["results"]:
        for figures in result["clients"].values():
            assert set(figures) == {
                "quotes_per_second",
                "quotes_per_second_since_send",
                "cpu_us_per_quote",
                "callback_thread_cpu_us_per_quote",
                "memory_before_mib",
                "peak_memory_mib",
            }
            for figure in figures.values():
                _check_figure(figure, runs=1)
    bounds = {ratio["what"]: ratio["bound"] for ratio in document["ratios"]}
    assert bounds["throughput, 1 a frame, / parsed"] == "at least 2.5"
    assert bounds["throughput, 100 a frame, / parsed"] == "at least 5"


def test_latency_compares_all_clients_under_each_load() -> None:
    document = _json(
        "latency.py", "--seconds", "0.1", "--runs", "1", "--load", "bursts", "computing-short"
    )

    _check_common(document)
    assert (document["benchmark"], document["seconds"]) == ("latency", 0.1)
    assert {result["load"]: result["quotes"] for result in document["results"]} == {
        "bursts": 500,
        "computing-short": 100,
    }
    for result in document["results"]:
        assert set(result["server_late_us"]) == {"p50", "p99"}
        for figures in result["clients"].values():
            assert set(figures) == {"p50_us", "p99_us", "peak_memory_mib"}
            for figure in figures.values():
                _check_figure(figure, runs=1)
    bounds = {ratio["what"]: ratio["bound"] for ratio in document["ratios"]}
    assert bounds["5,000/s in bursts of 100, p50, / parsed"] == "at most 0.7"


def test_the_table_ends_with_the_ratios() -> None:
    lines = _run("throughput.py", "--quotes", "50", "--runs", "2", "--per-frame", "10").splitlines()

    headings = [number for number, line in enumerate(lines) if line.startswith("realtime_stream /")]
    (start,) = headings
    assert [line.split("  ")[0] for line in lines[start + 1 :]] == [
        "throughput, 10 a frame, / parsed",
        "throughput, 10 a frame, / raw",
        "peak memory, 10 a frame, / parsed",
    ]
    assert "at least 3" in lines[start + 1]


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("throughput.py", ("--quotes", "0")),
        ("throughput.py", ("--per-frame", "ten")),
        ("throughput.py", ("--per-frame", "5001")),
        ("latency.py", ("--seconds", "0")),
        ("latency.py", ("--load", "unknown")),
    ],
)
def test_wrong_options_are_refused(script: str, options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(_FOLDER / script), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert options[0] in done.stderr
