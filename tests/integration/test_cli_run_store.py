"""``run``: what it says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.cli.run import RunOptions, run_watch
from tests.support import bar, config

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from realtime_stream.simulator import AlpacaSimulator


def test_that_nothing_was_stored_is_said_on_standard_error(
    simulator: AlpacaSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where the spool is
    simulator.play([(0, bar(n=n)) for n in range(3)], wait_for_subscription=True)
    settings = config(simulator, watchlist=("AAPL",), watchlist_channels=("bars",))
    store = f"sqlite:///{tmp_path}/nowhere/bars.db"
    assert run_watch(RunOptions(settings, 2.0, quiet=True, store=store)) == 0
    said = capsys.readouterr()
    assert "sql: 0 stored, 3 waiting, 0 refused" in said.out
    assert "sql: NOTHING of 3 bars was stored: sqlite:///" in said.err
