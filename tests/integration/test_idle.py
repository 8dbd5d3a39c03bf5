"""Waiting costs nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from realtime_stream import ConnectionState

if TYPE_CHECKING:
    from tests.integration.conftest import NewManager

SECONDS = 10.0
LIMIT = 0.01  # of a core


def cpu_seconds(threads: list[threading.Thread]) -> float:
    idents = [thread.ident for thread in threads if thread.ident is not None]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents)


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no per-thread CPU clocks")
def test_connected_and_idle_managers_use_below_one_percent_of_a_core(
    new_manager: NewManager,
) -> None:
    connected, idle = new_manager(name="connected"), new_manager(name="nothing-wanted")
    connected.subscribe("quotes", "AAPL")
    assert connected.start() is ConnectionState.CONNECTED
    assert idle.start() is ConnectionState.IDLE
    groups = [
        [t for t in threading.enumerate() if t.name.startswith(f"realtime-stream/{name}/")]
        for name in ("connected", "nothing-wanted")
    ]
    assert [len(group) for group in groups] == [3, 3]
    before = [cpu_seconds(group) for group in groups]
    threading.Event().wait(SECONDS)  # the time is what is measured here
    after = [cpu_seconds(group) for group in groups]
    shares = [(b - a) / SECONDS for a, b in zip(before, after, strict=True)]
    assert max(shares) < LIMIT, shares
