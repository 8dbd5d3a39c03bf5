"""The commands that fetch, store, record and replay, as their user runs them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, SyntheticSession
from realtime_stream.sinks.sql import OHLCVRepository
from tests.support import bar, trade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from realtime_stream.simulator import AlpacaSimulator
    from realtime_stream.sinks.sql import OHLCVBar

COMMAND: Final = [sys.executable, "-m", "realtime_stream.cli"]
PATIENCE: Final = 40
SYMBOLS: Final = ("AAPL", "MSFT", "SPY")
OPENING: Final = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)  # 09:30 in New York
DAY: Final = ("--start", "2026-03-04", "--end", "2026-03-05")
FIRST: Final = 1_790_000_040_000_000_000
MINUTE: Final = 60_000_000_000


@pytest.fixture
def environment(simulator: AlpacaSimulator, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ALPACA_API_KEY": SIMULATOR_KEY,
        "ALPACA_SECRET_KEY": SIMULATOR_SECRET,
        "ALPACA_STREAM_URL": simulator.url(),
        "HOME": str(tmp_path),
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )


@contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read(url: str, symbol: str, timeframe: str = "1m") -> list[OHLCVBar]:
    with OHLCVRepository(url) as repository:
        return repository.latest(symbol, timeframe, 100_000)


def facts(bars: list[OHLCVBar]) -> list[tuple[Any, ...]]:
    return [
        (each.timestamp_ns, *map(float, (each.open, each.high, each.low, each.close, each.volume)))
        for each in bars
    ]


def history(simulator: AlpacaSimulator, symbol: str, timeframe: str = "1m") -> list[Any]:
    return [
        (each["t"], *(float(each[name]) for name in ("o", "h", "l", "c", "v")))
        for each in simulator.history.final_bars(symbol, timeframe)
    ]


def whole_database(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(
            connection.execute(
                "SELECT symbol, timeframe, timestamp, open, high, low, close, volume, source"
                " FROM ohlcv_bars"
            )
        )


@pytest.fixture
def morning(simulator: AlpacaSimulator) -> None:
    """What happened before anybody was connected: until 13:00 in New York."""
    simulator.history.add(
        SyntheticSession(
            5, SYMBOLS, start=OPENING, minutes=210, quotes_per_minute=1, trades_per_minute=5
        )
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bars.db"


# --- backfill ---


@pytest.mark.usefixtures("morning")
@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h", "1d"])
def test_backfill_stores_the_history_and_says_how_far_it_is(
    simulator: AlpacaSimulator,
    environment: dict[str, str],
    tmp_path: Path,
    url: str,
    timeframe: str,
) -> None:
    arguments: tuple[str, ...] = (
        "backfill",
        "-s",
        ",".join(SYMBOLS),
        *DAY,
        "--timeframe",
        timeframe,
    )
    arguments += ("--store", url, "--history-url", simulator.rest_url)
    done = run(environment, *arguments)
    assert done.returncode == 0, done.stderr
    expected = {symbol: history(simulator, symbol, timeframe) for symbol in SYMBOLS}
    count = sum(map(len, expected.values()))
    assert count >= 3
    assert done.stdout == f"bars stored: {count}\n"
    assert "1/1" in done.stderr
    assert "\x1b" not in done.stderr
    for symbol in SYMBOLS:
        found = read(url, symbol, timeframe)
        assert facts(found) == expected[symbol]
        assert {each.source for each in found} == {"backfill"}

    before = whole_database(tmp_path / "bars.db")
    assert run(environment, *arguments).returncode == 0
    assert whole_database(tmp_path / "bars.db") == before


def test_backfill_takes_a_stretch_of_time_to_the_minute(
    simulator: AlpacaSimulator, environment: dict[str, str], url: str
) -> None:
    simulator.history.add(bar(n=n) for n in range(60))
    start = datetime.fromtimestamp(FIRST // 10**9, UTC)
    arguments = ["backfill", "-s", "AAPL", "--store", url, "--history-url", simulator.rest_url]
    arguments += ["--start", (start + timedelta(minutes=10)).isoformat()]
    arguments += ["--end", (start + timedelta(minutes=20)).replace(tzinfo=None).isoformat()]
    done = run(environment, *arguments)
    assert done.stdout == "bars stored: 10\n", done.stderr
    found = [(each.timestamp_ns - FIRST) // MINUTE for each in read(url, "AAPL")]
    assert found == list(range(10, 20))


@pytest.mark.usefixtures("morning")
def test_backfill_lives_with_a_history_in_trouble(
    simulator: AlpacaSimulator, environment: dict[str, str], url: str
) -> None:
    simulator.faults.rest_error(503, times=1)
    simulator.faults.rest_drop(times=1)
    arguments = ("backfill", "-s", "AAPL", *DAY, "--store", url)
    done = run(environment, *arguments, "--history-url", simulator.rest_url)
    assert done.returncode == 0, done.stderr
    assert facts(read(url, "AAPL")) == history(simulator, "AAPL")
    assert len(simulator.rest_requests) >= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_backfill_can_be_interrupted_and_taken_up_again(
    simulator: AlpacaSimulator, environment: dict[str, str], url: str, number: signal.Signals
) -> None:
    simulator.history.add(bar(n=n * 60) for n in range(24 * 30))
    start = datetime.fromtimestamp(FIRST // 10**9, UTC)
    arguments = ["backfill", "-s", "AAPL", "--store", url, "--history-url", simulator.rest_url]
    arguments += ["--start", start.isoformat(), "--end", (start + timedelta(days=31)).isoformat()]
    simulator.faults.rest_delay(0.3)
    with running(environment, *arguments) as process:
        assert simulator.wait_for(lambda it: len(it.rest_requests) >= 3, 30)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    stored = int(out.removeprefix("bars stored: "))
    assert 0 < stored < 24 * 30
    assert len(read(url, "AAPL")) == stored
    simulator.faults.clear()
    done = run(environment, *arguments)
    assert done.returncode == 0, done.stderr
    assert facts(read(url, "AAPL")) == history(simulator, "AAPL")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--start", "yesterday"), "start and end: "),
        (("--start", "2026-03-05", "--end", "2026-03-04"), "start must be before end"),
        (("--timeframe", "7x"), "timeframe"),
        (("--timeframe", "ticks:100"), "timeframe"),
        (("--store", "mysql://nobody@127.0.0.1/bars"), "is not supported"),
        (("--store", "sqlite:///nowhere/at/all.db"), "unable to open"),
        (("-s", "aapl"), "'aapl' is not valid"),
        (("-s", ""), "symbols: give some"),
        (("--market", "news"), "history"),
    ],
)
def test_backfill_says_what_is_wrong_with_its_input(
    simulator: AlpacaSimulator,
    environment: dict[str, str],
    url: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    simulator.history.add([bar()])
    usual: tuple[str, ...] = (
        "-s",
        "AAPL",
        "--start",
        "2026-09-21",
        "--end",
        "2026-09-22",
        "--store",
        url,
    )
    usual += ("--history-url", simulator.rest_url)
    done = run(environment, "backfill", *usual, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_backfill_fails_when_the_keys_are_refused(
    simulator: AlpacaSimulator, environment: dict[str, str], url: str
) -> None:
    arguments = ("backfill", "-s", "AAPL", *DAY, "--store", url)
    done = run(
        {**environment, "ALPACA_SECRET_KEY": "wrong-secret"},
        *arguments,
        "--history-url",
        simulator.rest_url,
    )
    assert done.returncode == 1
    assert "40" in done.stderr
    assert "wrong-secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_backfill_knows_its_database_before_it_fetches(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path
) -> None:
    simulator.history.add([bar()])
    arguments = ("backfill", "-s", "AAPL", *DAY, "--history-url", simulator.rest_url)
    done = run(environment, *arguments, "--store", f"sqlite:///{tmp_path}/nowhere/bars.db")
    assert done.returncode == 1
    assert "unable to open" in done.stderr
    assert simulator.rest_requests == []


# --- run --store ---


def _serve_a_morning(simulator: AlpacaSimulator, minutes: int = 20) -> int:
    """Play a morning to whoever subscribes; how many bars it has."""
    session = list(
        SyntheticSession(
            6, SYMBOLS, start=OPENING, minutes=minutes, quotes_per_minute=1, trades_per_minute=5
        )
    )
    bars = [each for each in session if each[1]["T"] == "b"]
    simulator.play(bars, speed=600, wait_for_subscription=True)
    return len(bars)


def test_run_stores_bars_and_those_it_builds(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path, url: str
) -> None:
    count = _serve_a_morning(simulator)
    arguments = ("run", "-s", ",".join(SYMBOLS), "--store", url, "--timeframe", "5m")
    with running(environment, *arguments, "--duration", "6") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"bars received: {count}" in out
    for symbol in SYMBOLS:
        assert facts(read(url, symbol)) == history(simulator, symbol)
        assert {each.source for each in read(url, symbol)} == {"stream"}
        built = read(url, symbol, "5m")
        assert {each.source for each in built} == {"built"}
        assert facts(built)[:3] == history(simulator, symbol, "5m")[:3]
    kept = len(whole_database(tmp_path / "bars.db"))
    assert f"sql: {kept} stored, 0 waiting, 0 refused" in out


def test_run_without_its_database_keeps_bars_for_the_next_run(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path
) -> None:
    count = _serve_a_morning(simulator)
    database = f"sqlite:///{tmp_path}/later/bars.db"
    arguments = ("run", "--quiet", "-s", ",".join(SYMBOLS), "--store", database)
    done = run(environment, *arguments, "--duration", "4")
    assert done.returncode == 0, done.stderr
    assert f"sql: 0 stored, {count} waiting, 0 refused" in done.stdout
    assert "sink:sql" in done.stderr
    assert "unable to open database file" in done.stderr
    assert "Traceback" not in done.stderr

    (tmp_path / "later").mkdir()
    done = run(environment, *arguments, "--duration", "2")
    assert f"sql: {count} stored, 0 waiting, 0 refused" in done.stdout, done.stderr
    for symbol in SYMBOLS:
        assert facts(read(database, symbol)) == history(simulator, symbol)


def test_run_fills_gaps_from_history_and_stores_what_it_gets(
    simulator: AlpacaSimulator, environment: dict[str, str], url: str
) -> None:
    arguments: tuple[str, ...] = ("run", "-s", "AAPL", "--channel", "bars", "--channel", "trades")
    arguments += ("--store", url, "--backfill", "--history-url", simulator.rest_url)
    with running(environment, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert simulator.wait_for(lambda it: any(s.subscriptions for s in it.sessions()), 30)
        now = time.time_ns()
        simulator.publish(trade(t=now))  # tells how late the feed is: not at all
        assert "trades" in process.stdout.readline()
        bars = [bar(t=now // MINUTE * MINUTE - n * MINUTE) for n in (2, 1)]
        simulator.publish(bars[0])
        assert "bars" in process.stdout.readline()
        simulator.faults.refuse_http(503, times=2)
        simulator.drop()
        simulator.publish(bars[1])  # to nobody
        assert process.stdout.readline().endswith(" backfill\n")
        said = iter(process.stderr.readline, "")
        assert any(line.startswith("gap: reconnect") for line in said)
        assert "backfill: 1 bars of AAPL\n" in said
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    found = read(url, "AAPL")
    assert [each.timestamp_ns for each in found] == [each["t"] for each in bars]
    assert [each.source for each in found] == ["stream", "backfill"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--store", "bars.db"), "malformed"),
        (("--store", "mysql://nobody@127.0.0.1/bars"), "is not supported"),
        (("--store", "sqlite://"), "in memory"),
        (("--timeframe", "7x"), "timeframe"),
    ],
)
def test_run_says_what_is_wrong_with_its_input(
    environment: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    done = run(environment, "run", "-s", "AAPL", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- replay-dead-letters ---


def test_bars_that_a_database_refused_are_loaded_into_another(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path, url: str
) -> None:
    """A trigger of the user's own stands for whatever a database may have against a bar."""
    with OHLCVRepository(url) as repository:
        repository.latest("AAPL", "1m")  # makes the table
    with closing(sqlite3.connect(tmp_path / "bars.db")) as connection:
        connection.execute(
            "CREATE TRIGGER no_msft BEFORE INSERT ON ohlcv_bars WHEN NEW.symbol = 'MSFT'"
            " BEGIN SELECT RAISE(ABORT, 'not here'); END"
        )
    count = _serve_a_morning(simulator, 10)
    done = run(
        environment, "run", "--quiet", "-s", ",".join(SYMBOLS), "--store", url, "--duration", "4"
    )
    refused = count // len(SYMBOLS)
    assert f"sql: {count - refused} stored, 0 waiting, {refused} refused" in done.stdout, (
        done.stderr
    )
    (letters,) = tmp_path.glob("realtime-stream-spool/*/sql-*/dead_letters.jsonl")
    lines = [json.loads(line) for line in letters.read_text().splitlines()]
    assert {line["bar"]["symbol"] for line in lines} == {"MSFT"}
    assert len(lines) == refused
    assert "not here" in lines[0]["reason"]

    done = run(environment, "replay-dead-letters", str(letters), "--store", url)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["stored      0", f"refused     {refused}"]
    assert len(letters.read_text().splitlines()) == refused

    with closing(sqlite3.connect(tmp_path / "bars.db")) as connection:
        connection.execute("DROP TRIGGER no_msft")
    done = run(environment, "replay-dead-letters", str(letters), "--store", url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stored      {refused}" in done.stdout
    assert not letters.exists()
    for symbol in SYMBOLS:
        assert facts(read(url, symbol)) == history(simulator, symbol)


def test_a_spool_folder_is_loaded_by_the_command(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path, url: str
) -> None:
    count = _serve_a_morning(simulator, 10)
    nowhere = f"sqlite:///{tmp_path}/nowhere/bars.db"
    done = run(
        environment, "run", "--quiet", "-s", "AAPL,MSFT,SPY", "--store", nowhere, "--duration", "4"
    )
    assert f"{count} waiting" in done.stdout
    (folder,) = tmp_path.glob("realtime-stream-spool/*/sql-*")
    done = run(environment, "replay-dead-letters", str(folder), "--store", url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stored      {count}\n" in done.stdout
    for symbol in SYMBOLS:
        assert facts(read(url, symbol)) == history(simulator, symbol)


def test_replay_dead_letters_keeps_everything_when_the_database_is_down(
    environment: dict[str, str], tmp_path: Path
) -> None:
    letters = tmp_path / "letters.jsonl"
    line: dict[str, Any] = {
        "time": "2026-03-04T15:00:00Z",
        "sink": "sql",
        "reason": "r",
        "raw": None,
    }
    line["bar"] = {
        "symbol": "AAPL", "timestamp_ns": FIRST, "open": "1", "high": "1", "low": "1",
        "close": "1", "volume": "1",
    }  # fmt: skip
    letters.write_text(json.dumps(line) + "\nnot one of ours\n")
    for _ in range(2):
        done = run(
            environment,
            *("replay-dead-letters", str(letters)),
            *("--store", f"sqlite:///{tmp_path}/nowhere/bars.db"),
        )
        assert done.returncode == 1
        assert "the sink failed: sqlite" in done.stdout
        assert "Traceback" not in done.stderr
        assert len(letters.read_text().splitlines()) == 2
    done = run(
        environment, "replay-dead-letters", str(letters), "--store", f"sqlite:///{tmp_path}/b.db"
    )
    assert done.returncode == 1
    assert "stored      1" in done.stdout
    assert "unreadable  1" in done.stdout
    assert letters.read_text() == "not one of ours\n"


# --- record and replay ---


def test_what_is_recorded_is_replayed_to_the_same_bars(
    simulator: AlpacaSimulator, environment: dict[str, str], tmp_path: Path
) -> None:
    count = _serve_a_morning(simulator, 10)
    recording = tmp_path / "recording"
    arguments = ("record", "--out", str(recording), "-s", ",".join(SYMBOLS), "--duration", "4")
    done = run(environment, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"bars received: {count}" in done.stdout
    assert "recorded: " in done.stdout
    kept = b"".join(path.read_bytes() for path in recording.rglob("*") if path.is_file())
    assert SIMULATOR_SECRET.encode() not in kept

    logs = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for log in logs:
        done = run(environment, "replay", str(recording), "--log", str(log), "--timeframe", "5m")
        assert done.returncode == 0, done.stderr
        assert f"{count} bars" in done.stdout
    assert logs[0].read_bytes() == logs[1].read_bytes()
    events = [json.loads(line) for line in logs[0].read_text().splitlines()]
    minute = [each for each in events if each.get("timeframe") == "1m"]
    assert [
        (each["symbol"], each["timestamp_ns"]) for each in minute if each["symbol"] == "AAPL"
    ] == [("AAPL", each[0]) for each in history(simulator, "AAPL")]
    assert {each["source"] for each in events if each.get("timeframe") == "5m"} == {"built"}


def test_replay_refuses_what_is_no_recording(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no frames")
    for name in ("empty", "text"):
        done = run(environment, "replay", str(tmp_path / name))
        assert done.returncode == 1, name
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
