"""What the SDK does wrong when it is called: start, stop, subscribe, and threads that wait.

Each test names what alpaca-py 0.44 does by itself, and shows that the manager does not.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    ConnectionState,
    LifecycleState,
    Quote,
    RealTimeStreamManager,
    StateChange,
)
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

PROMPT = 1.0  # seconds


def our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def serves(wanted: set[tuple[str, str]], simulator: AlpacaSimulator) -> bool:
    return any(session.subscriptions == wanted for session in simulator.sessions())


def wait_served(simulator: AlpacaSimulator, *symbols: str) -> bool:
    wanted = {("quotes", symbol) for symbol in symbols}
    return simulator.wait_for(functools.partial(serves, wanted), 10)


def seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


# --- 1: alpaca-py: stop() before the loop exists is an AttributeError, and the thread runs on ---


@pytest.mark.parametrize("where", ["same-thread", "other-thread"])
def test_trap_01_stop_before_the_loop_exists_leaves_nothing(
    simulator: AlpacaSimulator, new_manager: NewManager, where: str
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    for _ in range(10):
        manager.start(timeout=0)
        if where == "same-thread":
            manager.stop()
        else:
            stopper = threading.Thread(target=manager.stop)
            stopper.start()
            stopper.join(10)
        assert our_threads() == []
        assert manager.status().lifecycle is LifecycleState.STOPPED
    assert simulator.wait_for(lambda s: not s.sessions())


def test_trap_01_stop_right_after_a_second_run_is_not_lost(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """alpaca-py: most stops right after the second run() of one object did nothing."""
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    assert manager.start() is ConnectionState.CONNECTED
    for _ in range(10):
        manager.stop()
        assert our_threads() == []
        manager.start(timeout=0)
    manager.stop()
    assert our_threads() == []
    assert simulator.wait_for(lambda s: not s.sessions())


# --- 2: alpaca-py: without a subscription run() burns a whole core ---


def cpu_seconds(threads: list[threading.Thread]) -> float:
    idents = [thread.ident for thread in threads if thread.ident is not None]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents)


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no per-thread CPU clocks")
def test_trap_02_no_core_is_burnt_once_everything_is_unsubscribed(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """alpaca-py: 91 % of a core after the last unsubscribe, on a session that stays open."""
    manager = new_manager()
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.unsubscribe("quotes", "AAPL")
    changes.wait_until(lambda items: items[-1].current is ConnectionState.IDLE)
    assert simulator.wait_for(lambda s: not s.sessions())
    before = cpu_seconds(our_threads())
    threading.Event().wait(0.5)  # the time is what is measured here
    assert cpu_seconds(our_threads()) - before < 0.1


# --- 3: alpaca-py: stop() takes 0.7 to 34 s, or for ever ---


def a_quiet_stream(simulator: AlpacaSimulator, manager: RealTimeStreamManager) -> None:
    assert manager.start() is ConnectionState.CONNECTED


def a_backlog(simulator: AlpacaSimulator, manager: RealTimeStreamManager) -> None:
    """Half a minute of work waits."""
    entered = threading.Event()

    def slow(_: Quote) -> None:
        entered.set()
        threading.Event().wait(0.01)

    manager.on_quote(slow, "AAPL")
    manager.start()
    for first in range(0, 3000, 10):
        simulator.publish(*(quote(n=first + n) for n in range(10)))
    assert entered.wait(5)


def a_dead_peer(simulator: AlpacaSimulator, manager: RealTimeStreamManager) -> None:
    manager.start()
    simulator.faults.stop_reading()


def silent(stage: Any) -> Callable[[AlpacaSimulator, RealTimeStreamManager], None]:
    def arrange(simulator: AlpacaSimulator, manager: RealTimeStreamManager) -> None:
        simulator.faults.silent_at(stage)
        manager.start(timeout=0)
        assert simulator.wait_for(lambda s: s.attempts == 1)

    return arrange


@pytest.mark.parametrize(
    "arrange",
    [a_quiet_stream, a_backlog, a_dead_peer, silent("http"), silent("greeting"), silent("auth")],
    ids=["quiet", "backlog", "dead-peer", "no-http-answer", "no-greeting", "no-auth-reply"],
)
def test_trap_03_stop_is_prompt_whatever_the_peer_does(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    arrange: Callable[[AlpacaSimulator, RealTimeStreamManager], None],
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    arrange(simulator, manager)
    assert seconds_of(lambda: manager.stop(timeout=1.0)) < PROMPT
    assert our_threads() == []
    status = manager.status()
    assert status.received == sum(status.delivered.values()) + status.undelivered


# --- 4: alpaca-py: in a handler, stop() blocks the loop 5 s and subscribe_*() freezes for ever ---


def test_trap_04_stop_and_subscribe_in_a_callback_return_at_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    took, subscribed = Recorder[float](), Recorder[Quote]()

    @manager.on_quote("AAPL")
    def more(_: Quote) -> None:
        took(seconds_of(lambda: manager.on_quote(subscribed, "MSFT")))
        took(seconds_of(lambda: manager.subscribe("quotes", "SPY")))
        took(seconds_of(lambda: manager.unsubscribe("quotes", "SPY")))

    @manager.on_quote("MSFT")
    def enough(_: Quote) -> None:
        took(seconds_of(manager.stop))

    manager.start()
    simulator.publish(quote("AAPL"))
    assert wait_served(simulator, "AAPL", "MSFT")
    simulator.publish(quote("MSFT"))
    assert manager.wait_until_stopped(5)
    assert len(subscribed.wait_for()) == 1
    assert len(took.items) == 4
    assert max(took.items) < 0.5


# --- 5: alpaca-py: what is subscribed while a session begins may never be sent ---


def test_trap_05_a_subscription_made_while_the_request_is_on_its_way_is_sent(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(acknowledge_timeout=0.5)
    manager.subscribe("quotes", "AAPL")
    simulator.faults.silent_at("subscription")
    manager.start(timeout=0)
    assert simulator.wait_for(
        lambda s: any(message.get("action") == "subscribe" for message in s.received)
    )
    manager.subscribe("quotes", "MSFT")  # the request above does not name it
    simulator.faults.silent_at(None)
    assert manager.wait_until_connected(10)
    assert wait_served(simulator, "AAPL", "MSFT")
    assert simulator.attempts == 1


def test_trap_05_subscriptions_from_many_threads_while_connecting_are_all_served(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    symbols = [f"S{letter}" for letter in "ABCDEFGH"]
    manager = new_manager()
    together = threading.Barrier(len(symbols) + 1)

    def subscribe(symbol: str) -> None:
        together.wait(5)
        manager.subscribe("quotes", symbol)

    threads = [threading.Thread(target=subscribe, args=(symbol,)) for symbol in symbols]
    manager.subscribe("quotes", "AAPL")
    for thread in threads:
        thread.start()
    manager.start(timeout=0)
    together.wait(5)
    for thread in threads:
        thread.join(5)
    assert manager.wait_until_connected(10)
    assert wait_served(simulator, "AAPL", *symbols)
    assert simulator.attempts == 1
