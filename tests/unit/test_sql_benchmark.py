"""The benchmark of the store runs, and says what its readers rely on. No figure is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "store.py"
_OPTIONS = ("--bars", "230", "--batch", "50", "--runs", "1", "--database", "sqlite")


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_SCRIPT), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_both_figures_and_their_ratio() -> None:
    done = _run(*_OPTIONS, "--json")
    assert done.returncode == 0, done.stderr

    document = json.loads(done.stdout)

    assert (document["benchmark"], document["bars"], document["batch"]) == ("store", 230, 50)
    (result,) = document["results"]
    assert list(result["clients"]) == ["realtime_stream", "sqlite3 executemany"]
    for figures in result["clients"].values():
        assert figures["bars_per_second"]["median"] > 0
    (ratio,) = document["ratios"]
    assert ratio["what"] == "bars stored, sqlite, / sqlite3 executemany"
    assert ratio["bound"] == "at least 0.5"


def test_the_table_ends_with_the_ratio() -> None:
    assert "at least 0.5" in _run(*_OPTIONS).stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [("--bars", "0"), ("--database", "oracle")])
def test_wrong_options_are_refused(options: tuple[str, ...]) -> None:
    done = _run(*options)
    assert done.returncode == 2
    assert options[0] in done.stderr
