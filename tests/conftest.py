"""What holds for every test: an empty environment, and no thread of ours left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A shell that runs the suite in the background has it ignore Ctrl-C, and so would the children that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OURS = ("realtime-stream/", "alpaca-simulator")
_SETTINGS = ("ALPACA_", "APCA_", "WATCHLIST_")
_GRACE = 2.0  # seconds for a thread that was told to end


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail the test that leaves a thread of the library or of the simulator running."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _GRACE
    ours = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith(_OURS)
    ]
    for thread in ours:
        thread.join(max(deadline - time.monotonic(), 0.0))
    left = sorted(thread.name for thread in ours if thread.is_alive())
    if left:
        pytest.fail(f"threads left behind: {', '.join(left)}")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's own keys: those of the environment, and a ``.env`` where pytest runs."""
    for name in tuple(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
