"""What each method does in each state: the table of docs/concepts/lifecycle.md, run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    AuthenticationError,
    ConnectionState,
    LifecycleState,
    Quote,
    RealTimeStreamManager,
    StartTimeoutError,
    StateChange,
    StreamFailedError,
    StreamStoppedError,
)
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

CONNECTED = ConnectionState.CONNECTED


class Stage:
    """Brings a manager into one lifecycle state and holds it there until released."""

    def __init__(self, simulator: AlpacaSimulator, manager: RealTimeStreamManager) -> None:
        self.simulator = simulator
        self.manager = manager
        self.release = threading.Event()
        manager.subscribe("quotes", "AAPL")

    def stopped(self) -> None:
        pass

    def starting(self) -> None:
        self.simulator.faults.silent_at("greeting")
        starter = threading.Thread(target=self._start_and_be_stopped)
        starter.start()
        assert self.simulator.wait_for(lambda s: s.attempts >= 1)

    def _start_and_be_stopped(self) -> None:
        with pytest.raises((StreamStoppedError, StartTimeoutError)):
            self.manager.start(timeout=8)

    def running(self) -> None:
        self.manager.start()

    def stopping(self) -> None:
        entered = threading.Event()

        @self.manager.on_quote("AAPL")
        def hold(_: Quote) -> None:
            entered.set()
            self.release.wait(20)

        self.manager.start()
        self.simulator.publish(quote())
        assert entered.wait(5)
        threading.Thread(target=self.manager.stop, kwargs={"timeout": 10}).start()
        self.manager_reaches(LifecycleState.STOPPING)

    def failed(self) -> None:
        self.simulator.faults.refuse_auth(402)
        with pytest.raises(AuthenticationError):
            self.manager.start()
        self.simulator.faults.clear()

    def manager_reaches(self, state: LifecycleState) -> None:
        deadline = threading.Event()
        for _ in range(500):
            if self.manager.status().lifecycle is state:
                return
            deadline.wait(0.01)
        pytest.fail(f"never {state}")


Call = Callable[[RealTimeStreamManager], Any]
CALLS: dict[str, Call] = {
    "start": lambda m: m.start(timeout=0.5),
    "start0": lambda m: m.start(timeout=0),
    "stop": lambda m: m.stop(timeout=2),
    "restart": lambda m: m.restart(timeout=10),
    "is_connected": lambda m: m.is_connected(),
    "wait_until_connected": lambda m: m.wait_until_connected(0.1),
    "wait_until_stopped": lambda m: m.wait_until_stopped(0.1),
    "subscribe": lambda m: m.subscribe("quotes", "MSFT"),
    "unsubscribe": lambda m: m.unsubscribe("quotes", "MSFT"),
    "latest_quote": lambda m: m.latest_quote("AAPL"),
    "events": lambda m: next(m.events(timeout=0.05), None),
    "status": lambda m: m.status().lifecycle,
    "on_quote": lambda m: type(m.on_quote(print, "SPY")).__name__,
}

S, T, R, P, F = "stopped", "starting", "running", "stopping", "failed"
TABLE: list[tuple[str, str, Any]] = [
    ("start", S, CONNECTED),
    ("start", T, StartTimeoutError),
    ("start", R, CONNECTED),
    ("start", P, StartTimeoutError),
    ("start", F, CONNECTED),
    ("start0", S, ConnectionState.DISCONNECTED),
    ("start0", R, CONNECTED),
    ("stop", S, None),
    ("stop", T, None),
    ("stop", R, None),
    ("stop", F, None),
    ("restart", S, CONNECTED),
    ("restart", R, CONNECTED),
    ("restart", F, CONNECTED),
    ("is_connected", S, False),
    ("is_connected", T, False),
    ("is_connected", R, True),
    ("is_connected", P, False),
    ("is_connected", F, False),
    ("wait_until_connected", S, False),
    ("wait_until_connected", T, False),
    ("wait_until_connected", R, True),
    ("wait_until_connected", P, False),
    ("wait_until_connected", F, StreamFailedError),
    ("wait_until_stopped", S, True),
    ("wait_until_stopped", T, False),
    ("wait_until_stopped", R, False),
    ("wait_until_stopped", P, False),
    ("wait_until_stopped", F, StreamFailedError),
    *(("subscribe", state, None) for state in (S, T, R, P)),
    ("subscribe", F, StreamFailedError),
    *(("unsubscribe", state, None) for state in (S, T, R, P)),
    ("unsubscribe", F, StreamFailedError),
    *(("latest_quote", state, None) for state in (S, T, R, P)),
    ("latest_quote", F, StreamFailedError),
    *(("events", state, None) for state in (S, T, R, P)),
    ("events", F, StreamFailedError),
    ("status", S, LifecycleState.STOPPED),
    ("status", T, LifecycleState.STARTING),
    ("status", R, LifecycleState.RUNNING),
    ("status", P, LifecycleState.STOPPING),
    ("status", F, LifecycleState.FAILED),
    *(("on_quote", state, "Registration") for state in (S, T, R, P, F)),
]


@pytest.mark.parametrize(("method", "state", "expected"), TABLE)
def test_method_in_state(
    simulator: AlpacaSimulator, new_manager: NewManager, method: str, state: str, expected: Any
) -> None:
    manager = new_manager()
    stage = Stage(simulator, manager)
    getattr(stage, state)()
    try:
        if isinstance(expected, type) and issubclass(expected, Exception):
            with pytest.raises(expected):
                CALLS[method](manager)
        elif method == "start0" and state == "stopped":
            CALLS[method](manager)
            assert manager.wait_until_connected(5)
        elif method == "latest_quote":
            CALLS[method](manager)
        else:
            assert CALLS[method](manager) == expected
    finally:
        stage.release.set()
        manager.stop()  # before the faults are cleared: what is starting must not connect now
        simulator.faults.clear()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.name.startswith("Thread-"):
                thread.join(10)


def test_start_that_times_out_leaves_no_thread(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StartTimeoutError, match="503"):
        manager.start(timeout=0.3)
    assert manager.status().lifecycle is LifecycleState.STOPPED
    assert not [t for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def test_starts_from_several_threads_share_one_connection(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    barrier = threading.Barrier(8)
    results = Recorder[ConnectionState]()

    def start() -> None:
        barrier.wait()
        results(manager.start())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert set(results.wait_for(8)) == {CONNECTED}
    for thread in threads:
        thread.join(5)
    assert simulator.attempts == 1


def test_any_order_from_several_threads_ends_stopped(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    barrier = threading.Barrier(4)

    def abuse(seed: int) -> None:
        barrier.wait()
        for step in range(10):
            try:
                if (step + seed) % 3 == 0:
                    manager.start(timeout=5)
                elif (step + seed) % 3 == 1:
                    manager.stop()
                else:
                    manager.restart(timeout=5)
            except (StreamStoppedError, StartTimeoutError):
                pass

    threads = [threading.Thread(target=abuse, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    manager.stop()
    assert manager.status().lifecycle is LifecycleState.STOPPED
    assert manager.status().threads == ()


def test_restart_reports_what_was_missed_as_a_gap(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes = Recorder[Quote]()
    gaps = Recorder[Any]()
    manager.on_quote(quotes, "AAPL")
    manager.on_gap(gaps)
    manager.start()
    simulator.publish(quote(n=0))
    quotes.wait_for(1)
    manager.restart()
    gap = gaps.wait_for(1)[0]
    assert gap.entries[0].last_event_ns == quotes.items[0].timestamp_ns
    simulator.publish(quote(n=9))
    quotes.wait_for(2)
    assert manager.gaps()[0].entries[0].first_event_ns == quotes.items[1].timestamp_ns


def test_a_manager_can_run_again_and_again(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes, changes = Recorder[Quote](), Recorder[StateChange]()
    manager.on_quote(quotes, "AAPL")
    manager.on_state_change(changes)
    for n in range(3):
        with manager:
            simulator.publish(quote(n=n))
            quotes.wait_for(n + 1)
    lifecycle = [c.current.value for c in changes.items if c.machine == "lifecycle"]
    assert lifecycle == ["starting", "running", "stopping", "stopped"] * 3
