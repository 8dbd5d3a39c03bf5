"""The one place where user code is called, and where whatever it raises is caught."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, TypeVar

from realtime_stream.errors import CallbackExitError
from realtime_stream.ports import DeadLetter, ErrorEvent
from realtime_stream.runtime.log import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtime_stream.clock import Clock
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.registry import Registration

__all__ = ["CallbackGuard", "answer_of"]

T = TypeVar("T")


def answer_of(function: Callable[[], T]) -> T | Exception:
    """What a function says that may call a user's code; an exception is returned, not raised."""
    try:
        return function()
    except Exception as exc:  # noqa: BLE001  # user code may raise anything
        return exc


class CallbackGuard:
    """Calls user code so that a failure harms nobody else, and keeps account of it.

    Thread safety: used by the dispatch thread; other threads only read the counters.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        slow: float,
        log_interval: float,
        dead_letters: int,
        on_error: Callable[[ErrorEvent], None],
        log: EventLog,
    ) -> None:
        """Start with empty accounts.

        Args:
            clock: Only its monotonic time is used.
            slow: Seconds after which a call is reported.
            log_interval: Seconds between two records about the same callback.
            dead_letters: How many failed deliveries are kept.
            on_error: Told of each failure of an event callback.
            log: Where reports go.
        """
        self._monotonic = clock.monotonic
        self._mark = 0.0  # monotonic seconds at which the present call began
        self._slow = slow
        self._throttle = Throttle(clock, log_interval)
        self._on_error = on_error
        self._log = log
        self.errors = 0
        self.slow_calls: Counter[str] = Counter()
        self.dead_letters: deque[DeadLetter] = deque(maxlen=dead_letters)
        self.running: str | None = None

    @property
    def running_since(self) -> float | None:
        """When the call that is running began, monotonic seconds; ``None`` if none is."""
        return None if self.running is None else self._mark

    def begin(self, now: float) -> None:
        """A frame's delivery, or a report's, begins at ``now`` (monotonic seconds)."""
        self._mark = now

    def deliver(self, registrations: Iterable[Registration], event: object) -> None:
        """Call each registration with the event.

        One look at the clock a call: what ends one call begins the next.

        Raises:
            CallbackExitError: A callback raised something that must not be survived.
        """
        for registration in registrations:
            if registration.removed:  # by a callback that came before it
                continue
            self.running = registration.name
            error: Exception | None = None
            try:
                registration.callback(event)
            except MemoryError as exc:
                raise self._exit(registration.name, "ran out of memory") from exc
            except Exception as exc:  # noqa: BLE001  # user code may raise anything; the stream lives on
                error = exc
            except BaseException as exc:
                raise self._exit(registration.name, f"raised {type(exc).__name__}") from exc
            now = self._monotonic()
            self.running = None
            elapsed, self._mark = now - self._mark, now
            if elapsed > self._slow:
                self._slow_call(registration.name, elapsed)
                self._mark = self._monotonic()  # reports take time that is nobody's fault
            if error is not None:
                self._failed(registration, event, error)
                self._mark = self._monotonic()

    def ask(self, function: Callable[[], T], name: str) -> T | Exception:
        """Call a user function that gives an answer; an exception is returned, not raised.

        Args:
            function: What to call.
            name: What it is called in reports.

        Raises:
            CallbackExitError: As in :meth:`deliver`.
        """
        self._mark, self.running = math.inf, name  # who asks has a deadline; this is no lag
        try:
            return function()
        except MemoryError as exc:
            raise self._exit(name, "ran out of memory") from exc
        except Exception as exc:  # noqa: BLE001  # as in deliver()
            return exc
        except BaseException as exc:
            raise self._exit(name, f"raised {type(exc).__name__}") from exc
        finally:
            self.running = None

    def _exit(self, name: str, why: str) -> CallbackExitError:
        self.running = None
        return CallbackExitError(f"callback {name} {why}")

    def _slow_call(self, name: str, elapsed: float) -> None:
        self.slow_calls[name] += 1
        self._report("realtime_callback_slow", name, seconds=round(elapsed, 6))

    def _failed(self, registration: Registration, event: object, error: Exception) -> None:
        self.errors += 1
        self.dead_letters.append(DeadLetter(event, registration.name, error))
        kind = type(error).__name__
        self._report("realtime_callback_failed", registration.name, error, error=kind)
        if registration.channel != "error":  # a failing error listener is not told of itself
            self._on_error(ErrorEvent(error, "callback"))

    def _report(
        self, event: str, name: str, exc_info: Exception | None = None, **fields: object
    ) -> None:
        suppressed = self._throttle.turn(f"{event} {name}")
        if suppressed is not None:
            shown = exc_info if self._log.is_debug() else None  # its text may tell a strategy
            self._log.write(
                logging.WARNING, event, shown, callback=name, suppressed=suppressed, **fields
            )
