"""Everything that has to do with history, behind one counter: gaps, look-back, and who waits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.runtime.backfill import Backfill, Outlet
from realtime_stream.runtime.holding import HoldingPen
from realtime_stream.runtime.warm_start import WarmStart, WarmStartOutlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar
    from realtime_stream.ports import BackfillInfo
    from realtime_stream.runtime.bar_ends import BarEnds
    from realtime_stream.runtime.history_worker import HistoryDone, HistoryJob, HistoryPart
    from realtime_stream.runtime.inbox import LostEvents
    from realtime_stream.runtime.lookback import LookBack
    from realtime_stream.runtime.registry import Registration, Routes
    from realtime_stream.runtime.series import SeriesBoard
    from realtime_stream.runtime.stretch import BackfillSettings, HistoryMemory

__all__ = ["HistoryDesk", "HistoryOutlet"]


class HistoryOutlet(Outlet, WarmStartOutlet, Protocol):
    """Where events go that did not come the straight way: the dispatcher."""

    def deliver_live(self, bar: Bar, received: Bar) -> None:
        """Deliver a bar that waited; ``received`` is what it was before it was compared."""

    def pass_over(self, bar: Bar) -> None:
        """A live bar is not delivered, as history has brought the same."""


class HistoryDesk:
    """Fills gaps and gives look-back; live bars that must not overtake them wait here.

    Thread safety: used by the dispatch thread; :meth:`info` by any.

    Attributes:
        deadline: When somebody has waited long enough, monotonic seconds.
    """

    def __init__(
        self,
        *,
        settings: BackfillSettings,
        ask: Callable[[HistoryJob], None] | None,
        series: SeriesBoard,
        lookback: LookBack,
        ends: BarEnds,
        clock: Clock,
        data_clock: Clock,
        exchange: Clock,
        outlet: HistoryOutlet,
        memory: HistoryMemory,
    ) -> None:
        """Nothing is missing yet.

        Args:
            settings: What is filled, and how long is waited.
            ask: Has a job fetched; ``None`` without a history.
            series: The bars that are built here.
            lookback: Which bars were delivered.
            ends: When intervals end.
            clock: For waits.
            data_clock: The one that says when history was asked.
            exchange: The exchange's.
            outlet: Delivers.
            memory: What outlives a run.
        """
        self._settings = settings
        self._series = series
        self._clock = clock
        self._outlet = outlet
        self._pen = HoldingPen(settings.hold_bars, self._release)
        self._backfill = Backfill(
            settings=settings,
            ask=ask,
            series=series,
            lookback=lookback,
            pen=self._pen,
            clock=clock,
            data_clock=data_clock,
            outlet=outlet,
            memory=memory,
        )
        self._warm_start: WarmStart | None = None
        if ask is not None:
            self._warm_start = WarmStart(
                settings=settings,
                ask=ask,
                series=series,
                lookback=lookback,
                ends=ends,
                clock=clock,
                data_clock=exchange,
                outlet=outlet,
                warmed=memory.warmed,
            )
        self._whole = False
        self.deadline = math.inf

    def _note_deadline(self) -> None:
        if self._outlet.is_over():  # what is open is for the next run
            self.deadline = math.inf
            return
        self._pen.start_over()
        warm = math.inf if self._warm_start is None else self._warm_start.deadline
        self.deadline = min(self._backfill.deadline, warm, self._pen.soonest)

    def session_lost(
        self, keys: Iterable[Subscription], at_ns: int, seen: Mapping[str, Mapping[str, object]]
    ) -> None:
        """A session has ended: from ``at_ns`` on events of these keys may be missing."""
        self._whole = False
        watched = ((channel, symbol) for channel, symbols in seen.items() for symbol in symbols)
        self._backfill.session_lost(keys, at_ns, watched)
        self._note_deadline()

    def connection_whole(self, at_ns: int, served: frozenset[Subscription], routes: Routes) -> None:
        """The connection is whole: watch what is served, and ask for what was missed."""
        self._whole = True
        self._series.watch(served, at_ns)
        self._backfill.connection_whole(
            at_ns,
            lambda key: Subscription(*key) in served or Subscription(key[0], ALL_SYMBOLS) in served,
        )
        self.registrations_changed(routes)

    def registrations_changed(self, routes: Routes) -> None:
        """Give look-back to who wants it now."""
        if self._whole and self._warm_start is not None:
            self._warm_start.begin(routes.warm)
        self._note_deadline()

    def events_dropped(self, losses: Mapping[Subscription, LostEvents]) -> None:
        """The inbox had to give up events: as good as a gap."""
        self._backfill.events_dropped(losses)
        self._note_deadline()

    def admit(self, bar: Bar) -> Bar | None:
        """A live bar as it is to be delivered; ``None`` if it waits, or brings nothing new."""
        if bar.bar_kind == "daily":
            return bar
        until = self._clock.monotonic() + self._settings.hold
        if self._pen.takes(bar, until):
            self.deadline = min(self.deadline, self._pen.soonest)
            return None
        compared = self._backfill.compared(bar)
        if compared is None:
            self._outlet.pass_over(bar)
        return compared

    def wait(self, bar: Bar, registrations: Sequence[Registration]) -> Sequence[Registration]:
        """Those of the registrations that get a bar now; for others it waits for look-back."""
        warm_start = self._warm_start
        if warm_start is None or not warm_start.pending:
            return registrations
        ready = [each for each in registrations if not warm_start.takes(each, bar)]
        self._note_deadline()
        return ready

    def part(self, notice: HistoryPart) -> None:
        """A page has come; after the end of a run's time it is dropped: the next run asks anew."""
        if self._outlet.is_over():
            notice.taken()
            return
        if notice.job.purpose == "gap" or self._warm_start is None:
            self._backfill.part(notice)
        else:
            self._warm_start.part(notice)

    def done(self, notice: HistoryDone) -> None:
        """A fetch has ended; see :meth:`part`."""
        if self._outlet.is_over():
            return
        if notice.job.purpose == "gap" or self._warm_start is None:
            self._backfill.done(notice)
        else:
            self._warm_start.done(notice)
        self._note_deadline()

    def expire(self, now: float) -> None:
        """Let go what has waited long enough; see :meth:`part`."""
        if not self._outlet.is_over():
            self._backfill.expire(now)
            if self._warm_start is not None:
                self._warm_start.expire(now)
        self._note_deadline()

    def finish(self) -> None:
        """The run ends: deliver what waits."""
        self._backfill.finish()
        if self._warm_start is not None:
            self._warm_start.finish()

    def info(self) -> BackfillInfo:
        """Counters."""
        return self._backfill.info()

    def _release(self, bar: Bar) -> None:
        compared = self._backfill.compared(bar)
        if compared is None:
            self._outlet.pass_over(bar)
        else:
            self._outlet.deliver_live(compared, bar)
