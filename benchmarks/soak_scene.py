"""What a fault has at hand: the bot, the exchange, and a diary of when what was to be expected."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterator

    from benchmarks.soak_bot import Bot, Key
    from benchmarks.soak_server import Exchange
    from realtime_stream import Gap, ShutdownRequest

__all__ = ["InterruptedSoakError", "NotRecoveredError", "Period", "Scene", "Window"]

_RECOVERY: Final = 30.0  # seconds from the end of a fault to a whole connection
_LOOK: Final = 0.02  # seconds between two looks at the other process
_TURN: Final = 0.5  # seconds between two looks whether the day is over
_CATCH_UP: Final = 5.0  # seconds for what was sent to be delivered


class InterruptedSoakError(Exception):
    """Ctrl-C or a signal."""


class NotRecoveredError(Exception):
    """The library did not come back after a fault."""


@dataclass(slots=True)
class Window:
    """A stretch of the day in which something other than delivery was to be expected.

    Begin and end are marks: numbers of messages in the ledger.

    Attributes:
        kind: ``stopped``, ``unsubscribed``, ``muted``, ``behind`` (callbacks were too slow) or
            ``unheard`` (on its way when its callback was removed, and delivered to nobody).
        begin: The messages up to this number were published before.
        end: Those after this number were published afterwards; ``None`` while it is open.
        keys: Which (channel, symbol) it is about; ``None`` is all.
        reaches_back: Whether what was on its way when it began was lost with it.
    """

    kind: str
    begin: int
    end: int | None = None
    keys: frozenset[Key] | None = None
    reaches_back: bool = False


@dataclass(slots=True)
class Period:
    """From a fresh ``start()`` to its ``stop()``: the manager's memory of gaps lasts as long.

    Attributes:
        begin: Mark of the moment in which the one before ended.
        end: Mark of its stop; ``None`` while it lasts.
        gaps: What was reported, as far as known by now, by cause, start and end.
    """

    begin: int
    end: int | None = None
    gaps: dict[tuple[str, int, int], Gap] = field(default_factory=dict)


class Scene:
    """Bot, exchange and chance; everything a fault does goes through here.

    Attributes:
        bot: The bot.
        exchange: The exchange.
        rng: Draws what is random.
        garbage: How many frames were sent that each must be counted as one reject.
        restarts_behind: Undelivered events of restarts; they lie in the gap of the restart.

    Thread safety: used by the main thread.
    """

    def __init__(
        self, bot: Bot, exchange: Exchange, rng: random.Random, request: ShutdownRequest
    ) -> None:
        """Nothing is started."""
        self.bot = bot
        self.exchange = exchange
        self.rng = rng
        self.garbage = 0
        self.restarts_behind = 0
        self.windows: list[Window] = []
        self.periods: list[Period] = []
        self._request = request
        self._stopped = Window("stopped", 0, reaches_back=True)
        self.windows.append(self._stopped)

    # --- time ---

    def pause(self, least: float, most: float | None = None) -> None:
        """Let real time pass: ``least`` seconds, or a random time from there to ``most``.

        Raises:
            InterruptedSoakError: A signal came.
        """
        seconds = least if most is None else self.rng.uniform(least, most)
        if self._request.wait(max(seconds, 0.0)):
            raise InterruptedSoakError

    def until(self, predicate: Callable[[], bool], seconds: float) -> bool:
        """Look again and again until ``predicate`` holds, at most so long; tell whether it does.

        What is waited for happens in another process, so there is nothing to be woken by.

        Raises:
            InterruptedSoakError: A signal came.
        """
        deadline = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() >= deadline:
                return False
            self.pause(_LOOK)
        return True

    def expect(self, predicate: Callable[[], bool]) -> None:
        """Wait for something that must happen, unless the day ends before.

        Raises:
            NotRecoveredError: It has not happened in time.
            InterruptedSoakError: A signal came.
        """
        deadline = time.monotonic() + _RECOVERY
        while not (self.until(predicate, _TURN) or self.exchange.finished):
            if time.monotonic() >= deadline:
                msg = f"what was to be expected did not happen within {_RECOVERY:g} s"
                raise NotRecoveredError(msg)

    # --- the bot's own lifecycle ---

    def start(self) -> None:
        """A fresh start; returns once connected."""
        self.bot.manager.start(timeout=_RECOVERY)
        self._stopped.end = self.exchange.mark()
        self.periods.append(Period(self._stopped.begin))

    def stop(self, timeout: float = 5.0) -> None:
        """Stop; what is sent until the next start is missed without a report."""
        period = self.periods[-1]
        period.end = self.exchange.mark()
        self._stopped = Window("stopped", period.end, reaches_back=True)
        self.windows.append(self._stopped)
        self.bot.manager.stop(timeout)
        self.collect()

    def restart(self, timeout: float = 15.0) -> None:
        """Restart; what is missed is reported as a gap."""
        before = self.bot.totals.undelivered
        self.bot.manager.restart(timeout)
        self.restarts_behind += self.bot.totals.undelivered - before

    def end(self) -> None:
        """Close the diary."""
        mark = self.exchange.mark()
        for window in self.windows:
            window.end = mark if window.end is None else window.end

    # --- what a fault needs ---

    def drop(self, code: int | None = None) -> None:
        """Close the connection; without a code it is reset."""
        self.exchange.drop(code)

    @contextlib.contextmanager
    def window(
        self, kind: str, keys: Collection[Key] | None = None, *, reaches_back: bool = False
    ) -> Iterator[None]:
        """Enter in the diary what is to be expected while the block runs."""
        named = None if keys is None else frozenset(keys)
        window = Window(kind, self.exchange.mark(), None, named, reaches_back)
        self.windows.append(window)
        yield
        window.end = self.exchange.mark()

    def unheard(self, keys: Collection[Key]) -> None:
        """Enter in the diary that callbacks are about to be removed from a whole connection."""
        mark = self.exchange.mark()
        self.windows.append(Window("unheard", mark, mark, frozenset(keys), reaches_back=True))

    def recover(self) -> None:
        """Take every fault back and wait until the connection is whole.

        Raises:
            NotRecoveredError: It has not become whole in time.
        """
        self.bot.trouble = None
        self.exchange.fault("clear")
        if not self.until(self.bot.served, _RECOVERY):
            status = self.bot.manager.status()
            state, last = status.connection.value, status.last_error
            why = "" if last is None else f", the last failure was: {last.text}"
            msg = f"{state} {_RECOVERY:g} s after the fault was taken back{why}"
            raise NotRecoveredError(msg)
        self.collect()

    def catch_up(self) -> bool:
        """Wait until what was sent up to now has been delivered; tell whether it has."""
        newest = self.exchange.newest(len(self.bot.keys))
        return self.until(lambda: self.bot.caught_up(newest), _CATCH_UP)

    def collect(self) -> None:
        """Take over the gaps as far as they are known by now."""
        known = self.periods[-1].gaps
        for gap in self.bot.manager.gaps():
            known[gap.cause, gap.start_ns, gap.end_ns] = gap

    def some_symbol(self) -> str:
        """Any of the symbols."""
        return self.rng.choice(self.bot.keys)[1]
