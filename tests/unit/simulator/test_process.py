"""The simulator as a process: what it says, its schedule, signals, and its end."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from realtime_stream.simulator.process import SimulateOptions, serve
from tests.unit.simulator.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
SHORT: dict[str, Any] = {
    "symbols": ("AAPL",),
    "minutes": 2,
    "speed": 1e6,
    "wait_for_client": False,
    "linger": 0.0,
}
PROGRAM = """
import sys
from pathlib import Path, PosixPath, WindowsPath
from realtime_stream.simulator.process import SimulateOptions, serve
sys.exit(serve(SimulateOptions(**eval(sys.argv[1]))))
"""


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_says_what_happens_and_ends(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ledger = tmp_path / "ledger.jsonl"
    assert serve(SimulateOptions(**SHORT, ledger=ledger)) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    listening, started, finished = said(capsys)
    assert listening["event"] == "listening"
    assert listening["rest_url"] == f"http://127.0.0.1:{listening['port']}"
    assert listening["url"] == f"ws://127.0.0.1:{listening['port']}/v2/iex"
    assert started == {"event": "started"}
    assert finished["event"] == "finished"
    assert finished["by_channel"]["quotes"] >= 120  # the first minute may be as good as over
    assert sum(finished["by_channel"].values()) == finished["published"]
    assert len(ledger.read_bytes().splitlines()) == finished["published"]


def test_it_replays_a_recording(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    path.write_text('{"frame":[{"T":"o","S":"BTC/USD","t":"2026-01-01T00:00:00Z"}]}\n', "utf-8")
    options = {**SHORT, "recording": path, "market": "crypto", "feed": "eu-1"}
    assert serve(SimulateOptions(**options)) == 0
    listening, _, finished = said(capsys)
    assert listening["url"].endswith("/v1beta3/crypto/eu-1")
    assert finished["by_channel"] == {"orderbooks": 1}


def test_a_bad_recording_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    path.write_text("nonsense\n", "utf-8")
    with pytest.raises(ValueError, match="line 1"):
        serve(SimulateOptions(**{**SHORT, "recording": path}))


def test_it_drops_on_schedule_and_refuses_for_a_while(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {**SHORT, "drop_after": (0.02, 0.0), "outage": 0.01, "linger": 0.1}
    assert serve(SimulateOptions(**options)) == 0
    events = [each["event"] for each in said(capsys)]
    assert events.count("dropped") == 2


@contextlib.contextmanager
def process(**options: Any) -> Iterator[tuple[subprocess.Popen[str], Callable[[], dict[str, Any]]]]:
    """The simulator in a process of its own, and a function for the next thing it says."""
    command = [sys.executable, "-c", PROGRAM, repr(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        output = child.stdout
        assert output is not None
        try:
            yield child, lambda: json.loads(output.readline())
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_the_ledger_is_written(tmp_path: Path, number: signal.Signals) -> None:
    ledger = tmp_path / "ledger.jsonl"
    options = {"symbols": ("AAPL",), "ledger": ledger, "speed": 60, "drop_after": (0.0,)}
    with process(**options, quotes_per_minute=2_000) as (child, say):
        url = say()["url"]
        with Client(url) as client:
            client.login()
            client.subscribe(quotes=["AAPL"])
            assert say() == {"event": "started"}
            assert say() == {"event": "dropped", "sessions": 1}
            assert client.wait_closed() == 1006
        with Client(url) as client:
            client.login()
            client.subscribe(quotes=["AAPL"])
            client.receive()
            child.send_signal(number)
            assert client.wait_closed() == 1001
        assert child.wait(10) == 0
    assert ledger.stat().st_size > 0


def test_after_the_end_it_stays_until_a_signal(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    options = {**SHORT, "linger": None, "certfile": chain, "keyfile": key}
    with process(**options) as (child, say):
        assert say()["url"].startswith("wss://")
        assert say()["event"] == "started"
        assert say()["event"] == "finished"
        assert child.poll() is None
        child.terminate()
        assert child.wait(10) == 0
