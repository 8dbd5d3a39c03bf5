"""Callbacks that behave well, and callbacks that do not."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from realtime_stream import CallbackContextError, MarketEvent, StreamFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream import RealTimeStreamManager, Registration

__all__ = ["Calm", "Registered", "Registrations"]

_HELD: Final = 30.0  # seconds that a callback blocks at most
_SLOW: Final = 0.002  # seconds
_AT_ONCE: Final = 2.0  # seconds within which a call that must not wait returns, on a busy machine
_MOST: Final = 40  # registrations of one script


class Calm:
    """Whether callbacks still misbehave, and how many are at it now.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards the two attributes below
        self._acting = 0
        self._calm = False
        self._released = threading.Event()

    def block(self) -> None:
        """Wait until somebody releases what is blocked now."""
        with self._condition:
            released = self._released
        released.wait(_HELD)

    def release(self) -> None:
        """Let go of everything that is blocked now."""
        with self._condition:
            self._released.set()
            self._released = threading.Event()

    @contextlib.contextmanager
    def acting(self) -> Iterator[bool]:
        """Tell whether to misbehave; while the block runs, :meth:`begin` waits for it."""
        with self._condition:
            allowed = not self._calm
            self._acting += allowed
        try:
            yield allowed
        finally:
            with self._condition:
                self._acting -= allowed
                self._condition.notify_all()

    def begin(self, timeout: float) -> bool:
        """From now on everything behaves; wait for what does not do so yet."""
        with self._condition:
            self._calm = True
            self._released.set()
            return self._condition.wait_for(lambda: not self._acting, timeout)


@dataclass(eq=False)
class Registered:
    """One registration: what it does when it is called, and what it was called with."""

    kind: str
    symbols: tuple[str, ...]
    behaviour: str
    owner: Registrations
    handle: Registration | None = None
    removed: bool = False
    silenced: bool = False
    calls: int = 0
    given: list[object] = field(default_factory=list)

    def __call__(self, event: object) -> None:
        self.calls += 1
        if self.silenced:
            self.owner.wrong.append(f"{self.kind} {self.behaviour} was called after its removal")
        try:
            with self.owner.calm.acting() as allowed:
                if allowed:
                    _ACTIONS[self.behaviour](self)
        finally:
            self.owner.note(self, event)

    def events(self, first: int) -> list[MarketEvent]:
        """The market events among what it was called with, from this one on."""
        return [event for event in self.given[first:] if isinstance(event, MarketEvent)]

    def remove(self) -> None:
        if self.handle is not None:
            self.removed = True
            self.handle.remove()

    def silence(self) -> None:
        """Remove it, from a callback: then no other call can be about to be made."""
        self.remove()
        self.silenced = self.removed


class Registrations:
    """Every registration of a script, and what went wrong inside of them."""

    def __init__(self, manager: RealTimeStreamManager, calm: Calm) -> None:
        self.manager = manager
        self.calm = calm
        self.wrong: list[str] = []
        self._condition = threading.Condition()  # guards _all and every ``given``
        self._all: list[Registered] = []

    def add(self, kind: str, behaviour: str, symbols: tuple[str, ...] = ()) -> None:
        """Register for events or, without a market, for reports."""
        with self._condition:
            if len(self._all) >= _MOST:
                return
            new = Registered(kind, symbols, behaviour, self)
            self._all.append(new)
        hook = getattr(self.manager, _HOOKS.get(kind, f"on_{kind}"))
        new.handle = hook(new, *symbols)

    def pick(self, number: int) -> Registered | None:
        alive = self.alive()
        return alive[number % len(alive)] if alive else None

    def alive(self) -> list[Registered]:
        return self._those(removed=False)

    def removed(self) -> list[Registered]:
        return self._those(removed=True)

    def _those(self, *, removed: bool) -> list[Registered]:
        with self._condition:
            return [each for each in self._all if each.removed is removed]

    def note(self, registered: Registered, event: object) -> None:
        with self._condition:
            registered.given.append(event)
            self._condition.notify_all()

    def wait_until(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait for calls until ``predicate`` holds; it may look at every ``given``."""
        with self._condition:
            return self._condition.wait_for(predicate, timeout)

    def must_refuse(self, what: str, function: Callable[[], object]) -> None:
        """Call what would wait for itself."""
        try:
            function()
        except CallbackContextError:
            return
        self.wrong.append(f"{what} from a callback did not raise CallbackContextError")


_HOOKS: Final = {"quotes": "on_quote", "trades": "on_trade", "bars": "on_bar"}


def _raise(_: Registered) -> None:
    msg = "a bad callback"
    raise ZeroDivisionError(msg)


def _dawdle(_: Registered) -> None:
    threading.Event().wait(_SLOW)


def _exit(each: Registered) -> None:
    if each.calls == 1:
        raise SystemExit


def _block(each: Registered) -> None:
    if each.calls == 1:
        each.owner.calm.block()


def _register(each: Registered) -> None:
    if each.calls <= 2:
        each.owner.add(each.kind, "good", each.symbols)


def _remove_another(each: Registered) -> None:
    other = each.owner.pick(each.calls)
    if each.calls == 1 and other is not None:
        other.silence()


def _want(each: Registered) -> None:
    with contextlib.suppress(StreamFailedError):
        each.owner.manager.subscribe("quotes", "AAPL")


def _unwant(each: Registered) -> None:
    with contextlib.suppress(StreamFailedError):
        each.owner.manager.unsubscribe("quotes", "AAPL")


def _look(each: Registered) -> None:
    manager = each.owner.manager
    manager.status()
    manager.is_connected()
    manager.gaps()
    manager.subscriptions()
    repr(manager)


def _stop(each: Registered) -> None:
    if each.calls > 1:
        return
    began = time.monotonic()
    with contextlib.suppress(StreamFailedError):
        each.owner.manager.stop(5)
    if time.monotonic() - began > _AT_ONCE:
        each.owner.wrong.append("stop() from a callback waited")


def _start(each: Registered) -> None:
    each.owner.must_refuse("start()", each.owner.manager.start)


def _restart(each: Registered) -> None:
    each.owner.must_refuse("restart()", each.owner.manager.restart)


def _wait(each: Registered) -> None:
    owner = each.owner
    owner.must_refuse("wait_until_connected()", owner.manager.wait_until_connected)
    owner.must_refuse("wait_until_stopped()", owner.manager.wait_until_stopped)


def _iterate(each: Registered) -> None:
    """A stream made here holds nothing yet, so its iterator would have to wait."""
    owner = each.owner
    try:
        events = owner.manager.events(timeout=5)
        owner.must_refuse("next(events())", lambda: next(events))
    except StreamFailedError:
        return
    except StopIteration:  # the manager has stopped meanwhile, and the stream ended with it
        return


_ACTIONS: Final[dict[str, Callable[[Registered], None]]] = {
    "good": lambda _: None,
    "raises": _raise,
    "slow": _dawdle,
    "blocks": _block,
    "exits": _exit,
    "registers": _register,
    "removes_itself": Registered.silence,
    "removes_another": _remove_another,
    "subscribes": _want,
    "unsubscribes": _unwant,
    "looks": _look,
    "stops": _stop,
    "starts": _start,
    "restarts": _restart,
    "waits": _wait,
    "iterates": _iterate,
}
