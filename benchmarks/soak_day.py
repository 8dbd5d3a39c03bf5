"""A day of the soak, from the first start to the balance."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from benchmarks.soak_accounts import Accounts, Evidence, explain, read_ledger
from benchmarks.soak_bot import CHANNELS, Bot, Totals, config_for, read_record
from benchmarks.soak_faults import FAULTS, deck
from benchmarks.soak_samples import Growth, Sample, Sampler, growth, take
from benchmarks.soak_scene import InterruptedSoakError, NotRecoveredError, Scene, Window
from benchmarks.soak_server import Exchange, Feed
from realtime_stream import ScaledClock, StreamingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream import ShutdownRequest

__all__ = ["OPENING", "Done", "Plan", "Result", "run_day"]

OPENING: Final = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)  # a Monday, when the market opens
_SAMPLES: Final = 60
_QUIET: Final = 0.02  # share of the day before the first and after the last fault
_LOOSE: Final = 0.5  # share of a fault's slot within which it begins
_ENDING: Final = 5.0  # seconds for threads that were told to end
_LOOK: Final = 0.05  # seconds between two looks at them
_SHORT: Final = 60.0  # real seconds; a day that is shorter begins with the quick faults


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: see the options of ``soak.py``.

    Attributes:
        feed: The market data.
        faults: How many faults, spread over the day.
        tell: Called with each fault when it is over.
    """

    feed: Feed
    faults: int
    tell: Callable[[Done], None]


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done.

    Attributes:
        name: Which.
        detail: Which variant; empty if there is one only.
        minute: Market minute in which it began.
        seconds: Real seconds until everything was whole again.
    """

    name: str
    detail: str
    minute: float
    seconds: float


@dataclass(slots=True)
class Result:
    """How it went.

    Attributes:
        minutes: Market minutes that were played.
        seconds: Real seconds it took.
        done: The faults.
        accounts: Where every message has gone.
        totals: The manager's own counters.
        windows: When what was to be expected, as marks in the ledger.
        samples: Looks at the process over the day.
        before: The process before the day, after a first start and stop.
        after: The same after the last stop.
        stale: Reports of silence.
        undelivered_at_restarts: Received but not delivered before a restart; they are in its gap.
        interrupted: Whether a signal ended it.
        failure: What ended it before its time, in words.
    """

    minutes: float = 0.0
    seconds: float = 0.0
    done: list[Done] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    totals: Totals = field(default_factory=Totals)
    windows: list[Window] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    before: Sample | None = None
    after: Sample | None = None
    stale: int = 0
    undelivered_at_restarts: int = 0
    interrupted: bool = False
    failure: str = ""

    @property
    def kinds_of_faults(self) -> Counter[str]:
        """How often each fault was done."""
        return Counter(done.name for done in self.done)

    @property
    def growth(self) -> Growth | None:
        """Memory and threads over the day; ``None`` after a few seconds only."""
        return growth(self.samples)

    @property
    def threads_grown(self) -> bool:
        """Whether threads were left behind, or became more over the day."""
        left = self.before and self.after and self.after.threads > self.before.threads
        over_the_day = self.growth
        return bool(left or (over_the_day and over_the_day.threads_grown > 0))

    @property
    def good(self) -> bool:
        """Whether it showed what it is meant to show."""
        return self.accounts.add_up and not self.threads_grown and not self.failure


def run_day(plan: Plan, request: ShutdownRequest) -> Result:
    """Run the day; a request for shutdown ends it early, with what is known so far.

    Raises:
        ExchangeError: The exchange did not come up, or has ended.
        StreamingError: The library did not get through a first start and stop.
    """
    with tempfile.TemporaryDirectory() as folder, Exchange() as exchange:
        path = Path(folder)
        with (path / "record").open("wb") as record:
            day = _Day(plan, exchange, request, record)
            day.run()
        exchange.write_ledger(path / "ledger")
        return day.balance(path / "ledger", path / "record")


class _Day:
    def __init__(
        self, plan: Plan, exchange: Exchange, request: ShutdownRequest, record: BinaryIO
    ) -> None:
        self._plan = plan
        self._exchange = exchange
        self._result = Result()
        self._now = "first start"
        self._rng = random.Random(plan.feed.seed)  # noqa: S311  # faults, not secrets
        self._config = config_for(exchange.url, plan.feed.rate)
        self._warm_up(record)
        exchange.play(plan.feed)
        self._began = time.monotonic()
        clock = ScaledClock(plan.feed.start, plan.feed.speed)
        self._bot = Bot(self._config, plan.feed.symbols, record, data_clock=clock)
        self._scene = Scene(self._bot, exchange, self._rng, request)

    def run(self) -> None:
        """Play the day, with its faults, to its end."""
        result, scene = self._result, self._scene
        sampler = Sampler(self._plan.feed.seconds / _SAMPLES)
        try:
            scene.start()
            self._faults()
            while not self._exchange.finished:
                scene.pause(0.1)
            scene.recover()
            scene.catch_up()
        except InterruptedSoakError:
            result.interrupted = True
        except (NotRecoveredError, StreamingError) as exc:
            result.failure = f"{self._now}: {type(exc).__name__}: {exc}"
        finally:
            sampler.end()
            self._close()
            result.samples = sampler.samples

    def balance(self, ledger: Path, record: Path) -> Result:
        """Say where everything has gone."""
        result, scene, bot = self._result, self._scene, self._bot
        result.totals, result.stale = bot.totals, bot.stale
        result.windows = scene.windows
        result.undelivered_at_restarts = scene.restarts_behind
        evidence = Evidence(
            delivered=read_record(record, bot.keys),
            periods=scene.periods,
            windows=scene.windows,
            totals=bot.totals,
            garbage=scene.garbage,
            undelivered_at_restarts=scene.restarts_behind,
        )
        result.accounts = explain(read_ledger(ledger, CHANNELS), evidence)
        return result

    def _warm_up(self, record: BinaryIO) -> None:
        """One start and stop, so that what libraries keep for good is there before the count."""
        own = threading.active_count()
        bot = Bot(self._config, self._plan.feed.symbols, record)
        bot.manager.start()
        bot.manager.stop()
        self._result.before = _settled(lambda _: threading.active_count() <= own)

    def _faults(self) -> None:
        plan, scene = self._plan, self._scene
        names = deck(self._rng, quick=plan.feed.seconds < _SHORT)
        whole = plan.feed.seconds * (1 - 2 * _QUIET)
        slot = whole / max(plan.faults, 1)
        for number in range(plan.faults):
            due = plan.feed.seconds * _QUIET + slot * (number + self._rng.uniform(0, _LOOSE))
            scene.pause(due - self._seconds())
            if self._exchange.finished:  # the faults took longer than the day
                return
            name = self._now = next(names)
            began = self._seconds()
            detail = FAULTS[name](scene)
            scene.recover()
            minute = began * plan.feed.speed / 60
            done = Done(name, detail or "", minute, self._seconds() - began)
            self._result.done.append(done)
            plan.tell(done)
            self._now = f"after {name}"

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _close(self) -> None:
        """End everything, however far it has come."""
        result, scene = self._result, self._scene
        result.seconds = self._seconds()
        result.minutes = min(
            result.seconds * self._plan.feed.speed / 60, float(self._plan.feed.minutes)
        )
        self._bot.trouble = None
        self._exchange.end()
        try:
            if scene.periods and scene.periods[-1].end is None:
                scene.stop()
            else:
                self._bot.manager.stop()
        except StreamingError as exc:
            result.failure = result.failure or f"{type(exc).__name__}: {exc}"
        scene.end()
        before = result.before
        result.after = _settled(lambda now: before is None or now.threads <= before.threads)


def _settled(predicate: Callable[[Sample], bool]) -> Sample:
    """The process once ``predicate`` holds, or else after a while: threads end on their own."""
    deadline = time.monotonic() + _ENDING
    while True:
        time.sleep(_LOOK)
        sample = take()
        if predicate(sample) or time.monotonic() >= deadline:
            return sample
