"""What the SDK makes a program wait for: its executor, its peer, its imports.

Each test names what alpaca-py 0.44 does by itself, and shows that the manager does not.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from realtime_stream import (
    ConnectionState,
    DisconnectEvent,
    FailureKind,
    RealTimeStreamManager,
    Subscription,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.integration import conftest as integration
from tests.support import Recorder, config

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

PROMPT = 1.0  # seconds


def our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


# --- 13: alpaca-py: work of the default executor, such as a name look-up, holds up the end ---


def test_trap_13_no_executor_of_an_event_loop_is_ever_used(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Name resolution is such work; interpreter exit behind it is in test_process_exit.py."""
    manager = new_manager(url=simulator.url().replace("127.0.0.1", "localhost"))
    manager.subscribe("quotes", "AAPL")
    assert manager.start() is ConnectionState.CONNECTED
    roles = {thread.name.rpartition("/")[2] for thread in our_threads()}
    assert roles == {"io", "dispatch", "monitor"}
    assert not [t.name for t in threading.enumerate() if t.name.startswith("asyncio_")]


def test_trap_13_stop_does_not_wait_for_a_name_look_up(
    new_manager: NewManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alpaca-py: with a resolver that took 8 s, the thread ended 7.7 s after stop()."""
    asked, release = threading.Event(), threading.Event()
    real: Callable[..., Any] = socket.getaddrinfo

    def hanging(host: Any, *arguments: Any, flags: int = 0, **more: Any) -> Any:
        if host != "name.example" or flags & socket.AI_NUMERICHOST:
            return real(host, *arguments, flags=flags, **more)
        asked.set()
        release.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    manager = new_manager(url="ws://name.example/v2/iex")
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert asked.wait(5)
    assert seconds_of(manager.stop) < PROMPT
    left = our_threads()
    assert [thread.name.rpartition("/")[2] for thread in left] == ["resolve"]
    assert all(thread.daemon for thread in left)
    release.set()
    left[0].join(5)


# --- 14: alpaca-py: a peer that stops reading holds a subscribe_*() for ever ---


def test_trap_14_subscribe_returns_at_once_and_a_peer_that_stops_reading_is_left() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    many = [f"{a}{b}{c}" for a in letters for b in letters for c in "ABCDEFG"]
    # The peer does not notice that its client has gone: that connection keeps its place.
    with AlpacaSimulator(connection_limit=2) as simulator:
        manager = RealTimeStreamManager(config(simulator, acknowledge_timeout=0.2))
        lost, found = Recorder[DisconnectEvent](), Recorder[object]()
        manager.on_disconnect(lost)
        manager.on_connect(found)
        manager.subscribe("quotes", "AAPL")
        manager.start()
        simulator.faults.stop_reading()
        assert seconds_of(lambda: manager.subscribe("quotes", *many)) < PROMPT
        failure = lost.wait_for()[0].failure
        assert failure is not None
        assert failure.kind is FailureKind.NOT_ACKNOWLEDGED
        found.wait_for(2)
        assert manager.status().acknowledged >= {Subscription("quotes", s) for s in many}
        manager.stop()


# --- 17: alpaca-py: its import costs half a second, 79 MB, a thread, and a DeprecationWarning ---


def test_trap_17_only_a_start_pays_for_the_sdk() -> None:
    """A manager at rest does without it; here every warning is an error."""
    script = """
import sys, threading
from realtime_stream import RealTimeStreamManager, StreamConfig

manager = RealTimeStreamManager(StreamConfig(api_key="k", secret_key="s"))
manager.on_quote(print, "AAPL")
manager.status()
assert not {"alpaca", "numpy", "pandas", "websockets"} & set(sys.modules)
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], timeout=30, check=True)
