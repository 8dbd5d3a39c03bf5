"""A short soak adds up, and one in which something is wrong says so.

Its times and its memory are not looked at: on a machine that does other things they mean nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak_accounts import Accounts, Entry, Evidence, explain
from benchmarks.soak_bot import Totals
from benchmarks.soak_scene import Period, Window
from realtime_stream import Gap, GapEntry

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"
_LIMIT = 100.0  # seconds; it takes some fifteen

pytestmark = pytest.mark.timeout(_LIMIT + 20)


def _command(*options: str) -> list[str]:
    return [sys.executable, str(_SCRIPT), *options]


def test_a_short_soak_adds_up() -> None:
    done = subprocess.run(
        _command("--hours", "0.2", "--speed", "72", "--faults", "9", "--seed", "3", "--json"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    accounts = result["accounts"]
    assert accounts["unaccounted"] == 0
    assert accounts["problems"] == []
    assert not result["threads_grown"]
    assert len(result["faults"]) >= 3
    assert accounts["delivered"] > 1000
    parts = ("delivered", "unheard", "in_gaps", "dropped", "rejected", "undelivered")
    assert accounts["sent"] == sum(accounts[part] for part in parts)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Ctrl-C for a single process")
def test_an_interrupted_soak_tells_what_is_known() -> None:
    with subprocess.Popen(
        _command("--hours", "2", "--speed", "120", "--faults", "60", "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "whole after" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_LIMIT)
    assert process.returncode == 130, out + err
    result = json.loads(out)
    assert result["interrupted"]
    assert result["accounts"]["unaccounted"] == 0
    assert result["faults"]


KEY = ("quotes", "AAPL")
GAP = Gap("reconnect", 0, 0, (GapEntry("quotes", "AAPL", 20, 50),))


def _accounts(
    got: tuple[int, ...],
    *gaps: Gap,
    windows: tuple[Window, ...] = (),
    unwritten: tuple[int, ...] = (),
    dropped: int = 0,
    unheard: int = 0,
) -> Accounts:
    """Explain six quotes, at 10 to 60 ns, of which these were delivered."""
    ledger = [Entry(n, *KEY, 10 * n, 0 if 10 * n in unwritten else 1) for n in range(1, 7)]
    totals = Totals(
        received=len(got) + dropped + unheard,
        delivered=Counter(quotes=len(got) + unheard),
        dropped=Counter({("quotes", "conflated"): dropped}),
    )
    period = Period(0, 6, {(gap.cause, gap.start_ns, gap.end_ns): gap for gap in gaps})
    return explain(ledger, Evidence({KEY: got}, [period], windows, totals, 0))


def test_what_was_delivered_or_lies_in_a_gap_is_explained() -> None:
    accounts = _accounts((10, 20, 50, 60), GAP)
    assert accounts.add_up
    assert accounts.kinds == {"delivered": 4, "in gaps": 2}


def test_a_lost_event_is_unaccounted() -> None:
    accounts = _accounts((10, 20, 60), GAP)
    assert accounts.unaccounted == {KEY: 1}
    assert not accounts.add_up


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        ((10, 20, 20, 50, 60), "delivered more than once"),
        ((10, 20, 60, 50), "delivered out of order"),
        ((10, 20, 30, 50, 60), "within a reported gap"),
        ((10, 20, 50, 55, 60), "never published"),
    ],
)
def test_what_contradicts_the_promises_is_a_problem(got: tuple[int, ...], problem: str) -> None:
    accounts = _accounts(got, GAP)
    assert any(problem in each for each in accounts.problems)
    assert not accounts.add_up


def test_what_was_missed_while_stopped_is_explained_only_up_to_the_start() -> None:
    stopped = Window("stopped", 3, 4, reaches_back=True)
    assert _accounts((10, 20, 50, 60), windows=(stopped,)).kinds["stopped"] == 2
    assert _accounts((10, 20, 60), windows=(stopped,)).unaccounted == {KEY: 1}
    assert _accounts((20, 50, 60), windows=(stopped,)).unaccounted == {KEY: 1}


def test_what_a_mute_exchange_withheld_is_explained_only_if_it_was_not_sent() -> None:
    muted = Window("muted", 2, 4)
    assert _accounts((10, 20, 50, 60), windows=(muted,), unwritten=(30, 40)).add_up
    assert _accounts((10, 20, 50, 60), windows=(muted,), unwritten=(30,)).unaccounted == {KEY: 1}


def test_what_was_dropped_must_be_counted_by_the_manager() -> None:
    behind = Window("behind", 2, 4)
    assert _accounts((10, 20, 50, 60), windows=(behind,), dropped=2).add_up
    assert _accounts((10, 20, 50, 60), windows=(behind,), dropped=1).problems
    assert _accounts((10, 20, 50, 60), windows=(behind,), dropped=3).problems


def test_what_came_after_its_callback_was_removed_must_be_counted_as_delivered() -> None:
    removed = (
        Window("unheard", 3, 3, reaches_back=True),
        Window("unsubscribed", 3, 4),
    )
    got, unwritten = (10, 50, 60), (40,)
    assert _accounts(got, windows=removed, unwritten=unwritten, unheard=2).add_up
    assert _accounts(got, windows=removed, unwritten=unwritten, unheard=1).problems
    assert _accounts(got, windows=removed, unwritten=unwritten).problems
