"""The ledger, and reading recordings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from realtime_stream.simulator import Ledger, LedgerEntry, read_recording
from realtime_stream.simulator.wire import prepare

if TYPE_CHECKING:
    from pathlib import Path


def filled() -> Ledger:
    ledger = Ledger()
    quote = prepare({"T": "q", "S": "AAPL", "t": 5}, "stocks")
    ledger.record([(quote, 1), (quote, 0)])
    ledger.record([(prepare({"T": "n", "symbols": ["A", "B"]}, "news"), 2)])
    return ledger


def test_every_message_is_an_entry() -> None:
    ledger = filled()
    assert list(ledger) == [
        LedgerEntry(1, "quotes", "AAPL", 5, 1),
        LedgerEntry(2, "quotes", "AAPL", 5, 0),
        LedgerEntry(3, "news", "A,B", None, 2),
    ]
    assert len(ledger) == 3
    assert ledger.counts() == {("quotes", "AAPL"): 2, ("news", "A,B"): 1}
    assert ledger.by_channel() == {"quotes": 2, "news": 1}


def test_it_is_written_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("old", "utf-8")
    filled().write(path)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0] == {
        "sequence": 1,
        "channel": "quotes",
        "symbol": "AAPL",
        "t_ns": 5,
        "sessions": 1,
    }
    assert [line["t_ns"] for line in lines] == [5, 5, None]


def recording(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "recording.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", "utf-8")
    return path


def test_a_recording_is_read_without_control_messages_and_requests(tmp_path: Path) -> None:
    quote = {"T": "q", "S": "AAPL", "t": "1970-01-01T00:00:01.000000001Z"}
    news = {"T": "n", "id": 1, "created_at": "1970-01-01T00:00:02Z"}
    path = recording(
        tmp_path,
        {"src": "docs", "dir": "<", "frame": [{"T": "success", "msg": "connected"}]},
        {"dir": ">", "frame": {"action": "auth", "key": "k", "secret": "s"}},
        {"dir": "<", "frame": [quote, {"T": "subscription", "quotes": ["AAPL"]}]},
        {"frame": news},
        {"frame": [quote], "at_ns": 7},
        {"frame": []},
    )
    assert list(read_recording(path)) == [(1_000_000_001, quote), (2_000_000_000, news), (7, quote)]
    assert next(read_recording(str(path))) == (1_000_000_001, quote)


@pytest.mark.parametrize(
    "line",
    [[], {"frame": [{"T": "q", "S": "A"}]}, {}, {"frame": [1]}, {"frame": [{"T": "q", "t": 1.5}]}],
)
def test_bad_lines_are_named(tmp_path: Path, line: object) -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(read_recording(recording(tmp_path, {"frame": []}, line)))


def test_a_missing_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_recording(tmp_path / "absent"))
