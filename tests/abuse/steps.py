"""What the steps of a script do."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from realtime_stream import (
    AuthenticationError,
    CallbackExitError,
    InsufficientSubscriptionError,
    StartTimeoutError,
    StopTimeoutError,
    StreamFailedError,
    StreamStoppedError,
    SubscriptionRefusedError,
)
from realtime_stream.simulator import fault
from tests.abuse.crew import Call
from tests.abuse.scripts import ANCHOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.abuse.scripts import Step
    from tests.abuse.world import World

__all__ = ["Steps"]

_TOGETHER: Final = 64 + 6  # most events that change hands at once: short frames go together
_MOMENT: Final = 0.1  # seconds
_STARTING: Final = (
    StartTimeoutError,
    StreamStoppedError,
    StreamFailedError,
    # causes of a failed start, raised as themselves
    AuthenticationError,
    InsufficientSubscriptionError,
    SubscriptionRefusedError,
    CallbackExitError,
)
_STOPPING: Final = (StopTimeoutError, StreamFailedError)
_FAILED: Final = (StreamFailedError,)
_MAY_RAISE: Final[dict[str, tuple[type[BaseException], ...]]] = {
    "start": _STARTING,
    "stop": _STOPPING,
    "restart": (*_STARTING, *_STOPPING),
    "wait_until_connected": _FAILED,
    "wait_until_stopped": _FAILED,
    "look": _FAILED,
    "iterate": _FAILED,
    "subscribe": _FAILED,
    "unsubscribe": _FAILED,
}
_TIMED: Final = frozenset({
    "start",
    "stop",
    "restart",
    "wait_until_connected",
    "wait_until_stopped",
})
_GARBAGE: Final = (
    b"\xc1",  # no msgpack at all
    b"\x91\x01",  # a message that is a number
    b"\x91\x81\xa1T\xa1q",  # a quote without fields
    b"\x91\x81\xa1T\xa2zz",  # an unknown type
    b"\x90",  # no message
    b"\x91" * 2000 + b"\x90",  # nesting
    b"\x91\x82\xa1T\xa1q\xa1S\xa2\xff\xfe",  # no UTF-8
    "[]",  # a text frame
)


class Steps:
    """Each public method but :meth:`play` is a step, named by :class:`Step`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._manager = world.manager
        self._simulator = world.simulator

    def play(self) -> None:
        """Do all steps, and wait until they are done.

        Raises:
            AssertionError: A call hangs, or raised what it must not raise.
        """
        for step in self._world.script.steps:
            function = getattr(self, step.action)
            if step.worker is None:
                function(*step.arguments)
            else:
                self._submit(step.worker, step, function)
        self.join()
        for call in self._world.crew.calls:
            allowed = _MAY_RAISE.get(call.what.partition("(")[0], ())
            if call.raised is not None and not isinstance(call.raised, allowed):
                msg = f"{call.what} raised {call.raised!r}"
                raise AssertionError(msg) from call.raised

    def _submit(self, worker: int, step: Step, function: Callable[..., None]) -> None:
        timeout = float(step.arguments[0]) if step.action in _TIMED else 0.0
        call = Call(f"{step.action}{step.arguments}", lambda: function(*step.arguments), timeout)
        self._world.crew.submit(worker, call)

    # --- the lifecycle ---

    def start(self, timeout: float) -> None:
        self._manager.start(timeout)

    def stop(self, timeout: float) -> None:
        self._manager.stop(timeout)

    def restart(self, timeout: float) -> None:
        self._manager.restart(timeout)

    def wait_until_connected(self, timeout: float) -> None:
        self._manager.wait_until_connected(timeout)

    def wait_until_stopped(self, timeout: float) -> None:
        self._manager.wait_until_stopped(timeout)

    def look(self) -> None:
        """Everything that only tells; of the counters, what changes hands may be missing."""
        manager = self._manager
        status = manager.status()
        known = sum(status.delivered.values()) + sum(status.dropped.values())
        known += status.undelivered + status.in_inbox
        if status.received > known + _TOGETHER:
            self._world.wrong.append(f"more is missing than can be on its way: {status}")
        manager.is_connected()
        manager.gaps()
        manager.dead_letters()
        manager.rejects()
        manager.subscriptions()
        manager.latest_quote("AAPL")
        manager.latest_trade(ANCHOR)
        manager.latest_bar("MSFT")

    def iterate(self, timeout: float) -> None:
        events = self._manager.events(timeout)
        for _ in range(3):
            next(events, None)

    # --- what is wanted ---

    def register(self, kind: str, behaviour: str, symbols: tuple[str, ...]) -> None:
        self._world.registrations.add(kind, behaviour, symbols)

    def listen(self, kind: str, behaviour: str) -> None:
        self._world.registrations.add(kind, behaviour)

    def remove(self, number: int) -> None:
        chosen = self._world.registrations.pick(number)
        if chosen is not None:
            chosen.remove()

    def subscribe(self, kind: Any, symbol: str) -> None:
        self._manager.subscribe(kind, symbol)

    def unsubscribe(self, kind: Any, symbol: str) -> None:
        self._manager.unsubscribe(kind, symbol)

    def answer_symbols(self, answer: str) -> None:
        self._world.symbols_answer = answer

    def answer_credentials(self, answer: str) -> None:
        self._world.credentials_answer = answer

    # --- the server ---

    def publish(self, messages: tuple[tuple[str, str], ...], frames: int) -> None:
        for _ in range(frames):
            self._world.publish(messages)

    def garbage(self, number: int) -> None:
        self._world.publish_raw(_GARBAGE[number])

    def drop(self, code: int | None) -> None:
        self._simulator.drop(code)

    def send_error(self, code: int) -> None:
        self._simulator.send_error(code)

    def fault(self, name: str, arguments: dict[str, Any]) -> None:
        getattr(self._simulator.faults, name)(**arguments)

    def play_faults(self, script: tuple[tuple[float, str, dict[str, Any]], ...]) -> None:
        """Let faults come while other steps go on."""
        self._world.play_faults([
            (seconds, fault(name, **arguments)) for seconds, name, arguments in script
        ])

    # --- the script's own thread ---

    def pause(self, seconds: float) -> None:
        """Let what goes on go on: where the next step meets it is what scripts vary."""
        threading.Event().wait(seconds)

    def settle(self) -> None:
        """Give a connection a moment to come about."""
        with contextlib.suppress(StreamFailedError):
            self._manager.wait_until_connected(_MOMENT)

    def release(self) -> None:
        self._world.calm.release()

    def join(self) -> None:
        """Wait for the workers; what they wait for may be a callback that blocks."""
        self._world.calm.release()
        self._world.crew.wait()
