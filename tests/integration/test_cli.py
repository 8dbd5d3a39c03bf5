"""The command as its user runs it: processes, signals and exit codes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import __version__
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET
from tests.support import bar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from realtime_stream.simulator import AlpacaSimulator

COMMAND = [sys.executable, "-m", "realtime_stream.cli"]
PATIENCE = 40


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def serves(symbols: set[str], simulator: AlpacaSimulator) -> bool:
    wanted = {("bars", symbol) for symbol in symbols}
    return any(session.subscriptions == wanted for session in simulator.sessions())


def keys(simulator: AlpacaSimulator) -> dict[str, str]:
    return {
        "ALPACA_API_KEY": SIMULATOR_KEY,
        "ALPACA_SECRET_KEY": SIMULATOR_SECRET,
        "ALPACA_STREAM_URL": simulator.url(),
    }


def test_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def test_demo_shows_a_reconnect_its_gap_and_accounts_that_add_up() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--seconds", "6"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines() if "  " in line}
    assert " 1 (" in lines["reconnects"]
    assert "reconnect" in lines["gap"]
    assert "they add up" in lines["accounts"]
    stopped = float(lines["stopped in"].split()[-2])
    assert stopped < 1
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_stops_cleanly_on_a_signal_with_final_figures(
    simulator: AlpacaSimulator, number: signal.Signals
) -> None:
    with command("run", "--symbols", "AAPL,MSFT", **keys(simulator)) as process:
        assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()), 20)
        simulator.publish(bar("AAPL"), bar("MSFT"))
        assert process.stdout is not None
        assert "AAPL" in process.stdout.readline()
        assert "MSFT" in process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "bars received: 2" in out
    assert "uptime:" in out


def test_run_takes_the_watchlist_from_a_file_or_the_environment(
    simulator: AlpacaSimulator, tmp_path: Path
) -> None:
    watchlist = tmp_path / "watchlist.txt"
    watchlist.write_text("AAPL\nSPY\n")
    for arguments, environment, symbols in (
        (("--watchlist-file", str(watchlist)), {}, {"AAPL", "SPY"}),
        ((), {"WATCHLIST_SYMBOLS": "TSLA"}, {"TSLA"}),
    ):
        everything: dict[str, Any] = {**keys(simulator), **environment}
        with command("run", "--quiet", *arguments, **everything) as process:
            assert simulator.wait_for(functools.partial(serves, symbols), 20)
            process.terminate()
            assert process.wait(PATIENCE) == 0


def test_run_ends_by_itself_after_its_duration(simulator: AlpacaSimulator) -> None:
    arguments = ("run", "-s", "AAPL", "--channel", "quotes", "--duration", "0.5")
    with command(*arguments, **keys(simulator)) as process:
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "-s", "aapl"), "'aapl' is not valid"),
        (("run",), "symbols: give some"),
        (("run", "-s", "AAPL", "--feed", "bogus"), "feed 'bogus' is unknown"),
    ],
)
def test_run_says_what_is_wrong_with_its_input(arguments: tuple[str, ...], said: str) -> None:
    with command(*arguments, ALPACA_API_KEY="k", ALPACA_SECRET_KEY="s") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert said in err


def test_run_fails_when_the_keys_are_refused(simulator: AlpacaSimulator) -> None:
    wrong = {**keys(simulator), "ALPACA_SECRET_KEY": "wrong-secret"}
    with command("run", "-s", "AAPL", **wrong) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "402" in err
    assert "wrong-secret" not in err
    assert "Traceback" not in err


def test_simulate_serves_says_what_happens_and_keeps_a_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    arguments = (
        *("simulate", "--port", "0", "--symbols", "AAPL", "--minutes", "2", "--speed", "1000"),
        *("--ledger", str(ledger), "--no-wait-for-client", "--linger", "0"),
    )
    with command(*arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    said = [json.loads(line) for line in out.splitlines()]
    assert [each["event"] for each in said] == ["listening", "started", "finished"]
    assert said[-1]["published"] == len(ledger.read_text().splitlines()) > 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--market", "bogus"), "allowed are stocks"),
        (("--market", "options"), "need --recording"),
        (("-s", "aapl"), "'aapl' is not valid"),
        (("--certfile", "missing.pem"), "No such file"),
        (("--host", "192.0.2.1"), "assign requested address"),
    ],
)
def test_simulate_says_what_is_wrong_with_its_options(arguments: Any, said: str) -> None:
    done = subprocess.run(
        [*COMMAND, "simulate", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_run_that_never_connected_fails() -> None:
    arguments = ("run", "-s", "AAPL", "--duration", "0.3", "--url", "ws://127.0.0.1:9/v2/iex")
    with command(*arguments, ALPACA_API_KEY="k", ALPACA_SECRET_KEY="s") as process:
        assert process.wait(PATIENCE) == 1


def test_demo_draws_a_live_table_on_a_terminal() -> None:
    reader, terminal = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "demo", "--seconds", "4"], stdout=terminal, stderr=terminal, close_fds=True
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(reader, 65536):
            shown += chunk
    except OSError:
        pass  # how a terminal says that its program has ended
    os.close(reader)
    assert process.wait(PATIENCE) == 0
    assert "spread bps" in shown.decode()
    assert "they add up" in shown.decode()
