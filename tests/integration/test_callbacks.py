"""A callback that fails, blocks or exits harms nobody else, and nothing is lost uncounted."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from realtime_stream import (
    CallbackContextError,
    CallbackExitError,
    ErrorEvent,
    LifecycleState,
    Quote,
    StateChange,
    StopTimeoutError,
    StreamFailedError,
)
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


def test_one_that_always_raises(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    def broken(_: Quote) -> NoReturn:
        msg = "broken"
        raise ValueError(msg)

    manager = new_manager()
    good, errors = Recorder[Quote](), Recorder[ErrorEvent]()
    manager.on_quote(broken, "AAPL")
    manager.on_quote(good, "AAPL")
    manager.on_error(errors)
    manager.start()
    for n in range(500):
        simulator.publish(quote(n=n))
    assert [q.timestamp_ns for q in good.wait_for(500)] == sorted(
        q.timestamp_ns for q in good.items
    )
    assert manager.is_connected()
    manager.stop()
    status = manager.status()
    assert status.callback_errors == 500
    assert status.delivered == {"quotes": 500}
    letters = manager.dead_letters()
    assert len(letters) == 500
    assert letters[0].callback.endswith("broken")
    assert isinstance(letters[0].exception, ValueError)
    assert errors.items[0].source == "callback"


def test_one_that_blocks_five_seconds(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    """At a rate whose five seconds fit the inbox, the others still get every event."""
    release, entered = threading.Event(), threading.Event()

    def blocking(_: Quote) -> None:
        if not entered.is_set():
            entered.set()
            release.wait(5)

    manager = new_manager()
    good = Recorder[Quote]()
    manager.on_quote(blocking, "AAPL")
    manager.on_quote(good, "AAPL")
    manager.start()
    simulator.publish(quote(n=0))
    assert entered.wait(5)
    for n in range(1, 5001):
        simulator.publish(quote(n=n))
    good.wait_for(5001, timeout=20)
    status = manager.status()
    assert status.received == 5001
    assert status.dropped == {}
    assert status.delivered == {"quotes": 5001}
    assert status.lag.alarms >= 1
    assert status.lag.highest > 4
    assert sum(status.slow_callbacks.values()) >= 1
    assert status.sessions == 1


def test_stop_names_the_callback_that_is_stuck(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    release, entered = threading.Event(), threading.Event()

    def stuck_callback(_: Quote) -> None:
        entered.set()
        release.wait(30)

    manager = new_manager()
    manager.on_quote(stuck_callback, "AAPL")
    manager.start()
    simulator.publish(quote(), quote(n=1), quote(n=2))
    assert entered.wait(5)
    began = time.monotonic()
    with pytest.raises(StopTimeoutError, match="stuck_callback") as caught:
        manager.stop(timeout=0.5)
    assert time.monotonic() - began < 1.5
    assert caught.value.callback is not None
    assert any(name.endswith("/dispatch") for name in caught.value.threads)
    assert manager.status().running_callback == caught.value.callback
    release.set()
    assert manager.wait_until_stopped(5)
    manager.stop()
    status = manager.status()
    assert status.threads == ()
    assert status.undelivered == 2
    assert status.received == 3


def test_stop_from_a_callback_returns_at_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    after_stop = threading.Event()

    @manager.on_quote("AAPL")
    def stop_now(_: Quote) -> None:
        manager.stop()
        after_stop.set()

    manager.start()
    simulator.publish(quote())
    assert manager.wait_until_stopped(5)
    assert after_stop.is_set()
    assert manager.status().lifecycle is LifecycleState.STOPPED


@pytest.mark.parametrize(
    "method", ["start", "restart", "wait_until_connected", "wait_until_stopped"]
)
def test_what_would_wait_for_itself_is_refused_in_a_callback(
    simulator: AlpacaSimulator, new_manager: NewManager, method: str
) -> None:
    manager = new_manager()
    raised = Recorder[BaseException]()

    @manager.on_quote("AAPL")
    def call(_: Quote) -> None:
        try:
            getattr(manager, method)()
        except CallbackContextError as exc:
            raised(exc)

    manager.start()
    simulator.publish(quote())
    assert method in str(raised.wait_for()[0])


def test_subscribing_from_a_callback_does_not_freeze(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    seen = Recorder[Quote]()

    @manager.on_quote("AAPL")
    def more(_: Quote) -> None:
        manager.on_quote(seen, "MSFT")
        manager.subscribe("trades", "MSFT")

    manager.start()
    simulator.publish(quote())
    assert simulator.wait_for(
        lambda s: any(("trades", "MSFT") in session.subscriptions for session in s.sessions())
    )
    simulator.publish(quote("MSFT"))
    seen.wait_for()


@pytest.mark.parametrize("exit_with", [SystemExit, KeyboardInterrupt, MemoryError])
def test_an_exit_ends_the_manager_as_failed(
    simulator: AlpacaSimulator, new_manager: NewManager, exit_with: type[BaseException]
) -> None:
    manager = new_manager()
    states = Recorder[StateChange]()
    manager.on_state_change(states)

    @manager.on_quote("AAPL")
    def leave(_: Quote) -> NoReturn:
        raise exit_with

    manager.start()
    simulator.publish(quote(), quote(n=1))
    with pytest.raises(StreamFailedError) as caught:
        manager.wait_until_stopped(5)
    assert isinstance(caught.value.__cause__, CallbackExitError)
    assert isinstance(caught.value.__cause__.__cause__, exit_with)
    status = manager.status()
    assert status.lifecycle is LifecycleState.FAILED
    assert (status.received, status.delivered, status.undelivered) == (2, {"quotes": 1}, 1)


def test_stopped_is_the_last_thing_a_listener_hears(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    quotes = Recorder[Quote]()
    order: list[object] = []
    manager.on_state_change(order.append)
    manager.on_quote(order.append, "AAPL")
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish(*(quote(n=n) for n in range(50)))
    quotes.wait_for()
    manager.stop()
    assert isinstance(order[-1], StateChange)
    assert order[-1].current is LifecycleState.STOPPED
    assert manager.status().delivered == {"quotes": 50}


def test_the_bots_own_exception_is_not_hidden_by_stop(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    release, entered = threading.Event(), threading.Event()
    manager = new_manager()

    @manager.on_quote("AAPL")
    def stuck(_: Quote) -> None:
        entered.set()
        release.wait(30)

    def bot() -> NoReturn:
        manager.start()
        try:
            simulator.publish(quote())
            assert entered.wait(5)
            msg = "the bot's own"
            raise ZeroDivisionError(msg)
        finally:
            manager.stop(timeout=0.3)

    with pytest.raises(ZeroDivisionError) as caught:
        bot()
    assert any("stuck" in note for note in caught.value.__notes__)
    release.set()
    assert manager.wait_until_stopped(5)
