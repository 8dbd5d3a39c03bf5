"""What the SDK does wrong within a session: refusals, retries, handlers, lag.

Each test names what alpaca-py 0.44 does by itself, and shows that the manager does not.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from realtime_stream import (
    AuthenticationError,
    CallbackExitError,
    ConnectionState,
    DisconnectEvent,
    ErrorEvent,
    InsufficientSubscriptionError,
    Quote,
    ReconnectPolicy,
    StreamFailedError,
    StreamingError,
    Subscription,
)
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

BAD = Subscription("quotes", "BAD")


# --- 6: alpaca-py: errors after the authentication are only logged; the subscription is missing ---


@pytest.mark.parametrize("code", [400, 405, 410, 413])
def test_trap_06_a_refused_subscription_is_reported_and_shown(
    simulator: AlpacaSimulator, new_manager: NewManager, code: int
) -> None:
    simulator.faults.refuse_subscription(code, symbols={"BAD"})
    manager = new_manager()
    errors, quotes = Recorder[ErrorEvent](), Recorder[Quote]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    manager.subscribe("quotes", "BAD")
    event = errors.wait_for()[0]
    assert (event.source, event.fatal) == ("subscription", False)
    assert str(code) in manager.status().refused[BAD]
    simulator.publish(quote())
    quotes.wait_for()
    assert simulator.attempts == 1


@pytest.mark.parametrize("code", [407, 500])
def test_trap_06_an_error_of_the_server_is_reported(
    simulator: AlpacaSimulator, new_manager: NewManager, code: int
) -> None:
    manager = new_manager()
    errors, quotes = Recorder[ErrorEvent](), Recorder[Quote]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.send_error(code)
    assert str(code) in str(errors.wait_for()[0].error)
    simulator.publish(quote())
    quotes.wait_for()


# --- 7: alpaca-py: 402, 404 and 406 are tried for ever, 409 ends in silence, 429 is not heeded ---


@pytest.mark.parametrize(
    ("code", "expected"), [(402, AuthenticationError), (409, InsufficientSubscriptionError)]
)
def test_trap_07_what_trying_again_cannot_cure_is_raised_after_one_attempt(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    caplog: pytest.LogCaptureFixture,
    code: int,
    expected: type[StreamingError],
) -> None:
    simulator.faults.refuse_auth(code)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(expected, match=str(code)):
        manager.start()
    assert simulator.auth_attempts == 1
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("code", [404, 500])
def test_trap_07_what_may_pass_is_tried_as_often_as_allowed_without_a_traceback(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    simulator.faults.refuse_auth(code)
    manager = new_manager(reconnect=ReconnectPolicy(initial=0.01, maximum=0.02, max_attempts=3))
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match=str(code)):
        manager.start()
    assert simulator.auth_attempts == 3
    assert [record for record in caplog.records if record.exc_info] == []


def test_trap_07_a_taken_slot_is_waited_for(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_auth(406, times=1)
    manager = new_manager()
    errors = Recorder[ErrorEvent]()
    manager.on_error(errors)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert "406" in str(errors.wait_for()[0].error)
    assert manager.status().next_attempt_in > 3
    assert simulator.auth_attempts == 1


def test_trap_07_retry_after_is_obeyed(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    simulator.faults.refuse_http(429, retry_after=1, times=1)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    began = time.monotonic()
    assert manager.start() is ConnectionState.CONNECTED
    assert time.monotonic() - began >= 1
    assert simulator.attempts == 2


# --- 8: alpaca-py: a handler's exception drops the rest of its frame, TimeoutError in silence ---


@pytest.mark.parametrize("error", [ValueError, TimeoutError, StopIteration])
def test_trap_08_an_exception_in_a_callback_costs_no_other_event_and_is_told(
    simulator: AlpacaSimulator, new_manager: NewManager, error: type[Exception]
) -> None:
    def broken(_: Quote) -> NoReturn:
        raise error

    manager = new_manager()
    errors, good = Recorder[ErrorEvent](), Recorder[Quote]()
    manager.on_quote(broken, "AAPL")
    manager.on_quote(good, "AAPL")
    manager.on_error(errors)
    manager.start()
    simulator.publish(*(quote(n=n) for n in range(10)))
    good.wait_for(10)
    errors.wait_for(10)
    assert {type(event.error) for event in errors.items} == {error}
    assert [letter.event for letter in manager.dead_letters()] == good.items
    assert manager.status().callback_errors == 10


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
def test_trap_08_an_exit_in_a_callback_ends_the_stream_at_once_and_says_so(
    simulator: AlpacaSimulator, new_manager: NewManager, error: type[BaseException]
) -> None:
    """alpaca-py: run() ends 10 s later, without a word."""

    def leave(_: Quote) -> NoReturn:
        raise error

    manager = new_manager()
    manager.on_quote(leave, "AAPL")
    manager.start()
    simulator.publish(quote())
    began = time.monotonic()
    with pytest.raises(StreamFailedError) as caught:
        manager.wait_until_stopped(5)
    assert time.monotonic() - began < 2
    assert isinstance(caught.value.__cause__, CallbackExitError)
    assert isinstance(caught.value.__cause__.__cause__, error)


# --- 9: alpaca-py: a slow handler falls behind in silence; one that blocks loses the connection ---


def test_trap_09_a_blocking_callback_is_reported_and_costs_no_connection(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    entered, release = threading.Event(), threading.Event()
    manager = new_manager(ping_interval=0.2, ping_timeout=1.0, lag_alarm=0.2)
    told, quotes, lost = Recorder[ErrorEvent](), Recorder[Quote](), Recorder[DisconnectEvent]()

    @manager.on_quote("AAPL")
    def blocking(_: Quote) -> None:
        entered.set()
        release.wait(20)

    manager.on_quote(quotes, "AAPL")
    manager.on_error(told)
    manager.on_disconnect(lost)
    manager.start()
    simulator.publish(*(quote(n=n) for n in range(5)))
    assert entered.wait(5)
    threading.Event().wait(2.5)  # longer than the keepalive allows a peer to be silent
    assert manager.is_connected()
    assert manager.status().lag.waiting > 2
    release.set()
    quotes.wait_for(5)
    assert "lag" in {event.source for event in told.wait_for()}
    assert manager.status().lag.alarms == 1
    assert lost.items == []
    assert simulator.attempts == 1
