"""Look-back that registrations want before their first live bar."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import msgspec

from realtime_stream.errors import HistoryRefusedError, HistoryUnavailableError
from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.ports import BackfillEvent, HistoryRequest
from realtime_stream.runtime.history_worker import HistoryDone, HistoryJob, HistoryPart
from realtime_stream.runtime.stretch import (
    CLOCKS_DIFFER_NS,
    MINUTE_NS,
    NOT_IN_TIME,
    minute_of,
    real_seconds,
    retry_pause,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtime_stream.clock import Clock
    from realtime_stream.errors import StreamingError
    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.bar_ends import BarEnds
    from realtime_stream.runtime.lookback import LookBack
    from realtime_stream.runtime.registry import Registration
    from realtime_stream.runtime.series import SeriesBoard
    from realtime_stream.runtime.stretch import BackfillSettings

__all__ = ["WarmStart", "WarmStartOutlet"]

_Kind: TypeAlias = Literal["bars", "parts"]  # the look-back itself, or the interval that is open
_Key: TypeAlias = tuple[int, str]  # registration and symbol

_DAY_NS: Final = 86_400 * 10**9
# How far back a number of bars is looked for: nights, weekends and quiet times lie between them.
_SPREAD: Final = 5
_SPREAD_DAYS: Final = 2
_AT_LEAST_NS: Final = 10 * _DAY_NS


class WarmStartOutlet(Protocol):
    """Where look-back goes: the dispatcher."""

    def deliver_to(self, registration: Registration, bar: Bar) -> None:
        """Deliver a bar from history to one registration."""

    def deliver_held(self, registration: Registration, bar: Bar) -> None:
        """Deliver a live bar that waited to the registration for which it did."""

    def deliver_due(self) -> None:
        """Deliver the built bars that are due."""

    def accepts(self, bar: Bar) -> bool:
        """Whether validation lets a bar from history pass."""

    def tell(self, event: object) -> None:
        """Call the listeners of this kind of event."""

    def is_over(self) -> bool:
        """Whether the run's time is up, so that nothing is delivered any more."""


@dataclass(slots=True, eq=False)
class _WarmUp:
    """The look-back of one registration and symbol.

    Attributes:
        registration: Who wants it.
        symbol: Symbol.
        timeframe: Of which bars.
        needed_until_ns: The end of the last interval that has to come from history.
        parts_until_ns: The end of the last minute of the open interval that has to.
        held_until: Until when live bars wait, monotonic seconds.
        give_up_at: When it is given up, monotonic seconds.
        bars: What history has brought, by start.
        parts: Minutes of the interval that is open.
        waiting: Live bars, by start, in their newest version.
        sent: Starts of live bars that waited too long and are delivered.
        jobs: What is being fetched.
        reasons: Why something is not complete.
        failures: Failed fetches in a row.
    """

    registration: Registration
    symbol: str
    timeframe: str
    needed_until_ns: int
    parts_until_ns: int
    held_until: float
    give_up_at: float
    bars: dict[int, Bar] = field(default_factory=dict)
    parts: dict[int, Bar] = field(default_factory=dict)
    waiting: dict[int, Bar] = field(default_factory=dict)
    sent: set[int] = field(default_factory=set)
    jobs: dict[HistoryJob, _Kind] = field(default_factory=dict)
    reasons: dict[_Kind, str] = field(default_factory=dict)
    failures: int = 0
    is_cut: bool = False  # the newest part is not to be had, and no longer asked for

    @property
    def key(self) -> _Key:
        return self.registration.number, self.symbol

    @property
    def holding(self) -> bool:
        return self.held_until != math.inf


class WarmStart:
    """Fetches look-back once the connection is whole.

    Live bars wait for it, but only for those registrations that want it.

    Thread safety: used by the dispatch thread.

    Attributes:
        pending: What is being fetched, by registration and symbol.
    """

    def __init__(
        self,
        *,
        settings: BackfillSettings,
        ask: Callable[[HistoryJob], None],
        series: SeriesBoard,
        lookback: LookBack,
        ends: BarEnds,
        clock: Clock,
        data_clock: Clock,
        outlet: WarmStartOutlet,
        warmed: set[_Key],
    ) -> None:
        """Nothing is asked for yet.

        Args:
            settings: How long is waited.
            ask: Has a job fetched.
            series: Gets the minutes of the interval that is open.
            lookback: Keeps what is delivered.
            ends: When intervals end.
            clock: For waits.
            data_clock: For what history may have by now.
            outlet: Delivers.
            warmed: Which (registration, symbol) have had their look-back; outlives a run.
        """
        self._settings = settings
        self._ask = ask
        self._series = series
        self._lookback = lookback
        self._ends = ends
        self._clock = clock
        self._data_clock = data_clock
        self._outlet = outlet
        self._warmed = warmed
        self._of_job: dict[HistoryJob, _WarmUp] = {}
        self.pending: dict[_Key, _WarmUp] = {}

    def begin(self, wanted: Iterable[tuple[Registration, frozenset[str]]]) -> None:
        """Fetch what these registrations want and have not had."""
        for registration, symbols in wanted:
            for symbol in sorted(symbols - {ALL_SYMBOLS}):
                key = (registration.number, symbol)
                if key not in self._warmed and key not in self.pending:
                    self._begin(registration, symbol)

    def takes(self, registration: Registration, bar: Bar) -> bool:
        """Whether a bar has to wait for this registration's look-back."""
        warm_up = self.pending.get((registration.number, bar.symbol))
        if warm_up is None or not warm_up.holding:
            return False
        warm_up.waiting[bar.timestamp_ns] = bar
        if len(warm_up.waiting) > self._settings.hold_bars:
            self._stop_holding(warm_up)
        return True

    def part(self, notice: HistoryPart) -> None:
        """A page has come."""
        warm_up = self._of_job.get(notice.job)
        if warm_up is None:  # nobody waits for it any more
            notice.taken()
            return
        into = warm_up.bars if warm_up.jobs[notice.job] == "bars" else warm_up.parts
        latest_ns = notice.asked_ns + CLOCKS_DIFFER_NS
        try:
            for bar in notice.page.bars:
                if self._ends(bar) <= latest_ns and self._outlet.accepts(bar):
                    into[bar.timestamp_ns] = bar
        finally:
            notice.taken()

    def done(self, notice: HistoryDone) -> None:
        """A fetch has ended."""
        warm_up = self._of_job.pop(notice.job, None)
        if warm_up is None:
            return
        kind = warm_up.jobs.pop(notice.job)
        if notice.error is not None:
            self._failed(warm_up, kind, notice.job, notice.error)
        elif self._is_complete(warm_up, kind, notice.asked_ns):
            warm_up.failures = 0
            if not warm_up.is_cut:
                warm_up.reasons.pop(kind, None)
        else:
            wait_ns = self._settled_ns(warm_up, kind)
            wait = real_seconds(self._data_clock, wait_ns - self._data_clock.utc_now_ns())
            pause = min(max(wait, 0.05), 1.0)
            self._again(warm_up, kind, notice.job.request, pause, NOT_IN_TIME)
        if not warm_up.jobs:
            self._finish(warm_up)

    def expire(self, now: float) -> None:
        """Let live bars go that have waited long enough, and give up what takes too long."""
        for warm_up in list(self.pending.values()):
            if warm_up.held_until <= now:
                self._stop_holding(warm_up)
            if warm_up.give_up_at <= now:
                for kind in warm_up.jobs.values():
                    warm_up.reasons.setdefault(kind, NOT_IN_TIME)
                self._finish(warm_up)

    def finish(self) -> None:
        """The run ends: live bars that wait are delivered; the next run asks for look-back anew."""
        for warm_up in list(self.pending.values()):
            self._stop_holding(warm_up)
            self._forget(warm_up)

    @property
    def deadline(self) -> float:
        """When :meth:`expire` has something to do, monotonic seconds."""
        times = (min(each.held_until, each.give_up_at) for each in self.pending.values())
        return min(times, default=math.inf)

    # --- fetching ---

    def _begin(self, registration: Registration, symbol: str) -> None:
        spec = registration.series
        timeframe = "1m" if spec is None else spec.timeframe
        now, now_ns = self._clock.monotonic(), self._data_clock.utc_now_ns() + CLOCKS_DIFFER_NS
        start_ns = self._ends.start_of(timeframe, now_ns)
        needed_until_ns = now_ns if start_ns is None else start_ns
        warm_up = _WarmUp(
            registration,
            symbol,
            timeframe,
            needed_until_ns,
            minute_of(now_ns),
            now + self._settings.hold,
            now + self._settings.deadline,
        )
        self.pending[warm_up.key] = warm_up
        amount = registration.history
        newest = amount if isinstance(amount, int) else None
        first_ns = max(needed_until_ns - self._length_ns(amount, timeframe, now_ns), 0)
        request = HistoryRequest("bars", (symbol,), first_ns, needed_until_ns, timeframe, newest)
        self._fetch(warm_up, "bars", request)
        if spec is not None and spec.channel == "bars" and needed_until_ns < warm_up.parts_until_ns:
            request = HistoryRequest("bars", (symbol,), needed_until_ns, warm_up.parts_until_ns)
            self._fetch(warm_up, "parts", request)

    def _length_ns(self, amount: int | timedelta | None, timeframe: str, at_ns: int) -> int:
        """How much time has to be looked through."""
        if isinstance(amount, timedelta):
            return amount // timedelta(microseconds=1) * 1000
        begin, end = self._ends.start_of(timeframe, at_ns), self._ends.of(timeframe, at_ns)
        length_ns = MINUTE_NS if begin is None or end is None else end - begin
        spread = _SPREAD_DAYS if timeframe == "1d" else _SPREAD
        return (amount or 0) * length_ns * spread + _AT_LEAST_NS

    def _fetch(
        self, warm_up: _WarmUp, kind: _Kind, request: HistoryRequest, not_before: float = 0.0
    ) -> None:
        job = HistoryJob(request, not_before, "look_back")
        self._of_job[job] = warm_up
        warm_up.jobs[job] = kind
        self._ask(job)

    def _again(
        self, warm_up: _WarmUp, kind: _Kind, request: HistoryRequest, pause: float, reason: str
    ) -> None:
        """Ask once more, if there is time; the reason stands until it has come."""
        warm_up.reasons[kind] = reason
        now = self._clock.monotonic()
        if now + pause < warm_up.give_up_at:
            self._fetch(warm_up, kind, request, now + pause)

    def _failed(
        self, warm_up: _WarmUp, kind: _Kind, job: HistoryJob, error: StreamingError
    ) -> None:
        warm_up.failures += 1
        warm_up.reasons[kind] = str(error)
        if isinstance(error, HistoryRefusedError):
            return
        if isinstance(error, HistoryUnavailableError):
            self._cut(warm_up, kind, job.request, error)
            return
        pause = retry_pause(warm_up.failures)
        self._again(warm_up, kind, job.request, pause, str(error))

    def _cut(
        self,
        warm_up: _WarmUp,
        kind: _Kind,
        request: HistoryRequest,
        error: HistoryUnavailableError,
    ) -> None:
        """The newest is not to be had yet: take what is, without waiting for the rest."""
        delay_ns = error.available_ns - request.end_ns
        end_ns = min(self._data_clock.utc_now_ns() - delay_ns, request.end_ns - 1)
        if kind == "bars" and not warm_up.is_cut and end_ns > request.start_ns:
            warm_up.is_cut = True
            self._fetch(warm_up, kind, replace(request, end_ns=end_ns))

    def _needed_ns(self, warm_up: _WarmUp, kind: _Kind) -> int:
        return warm_up.needed_until_ns if kind == "bars" else warm_up.parts_until_ns

    def _settled_ns(self, warm_up: _WarmUp, kind: _Kind) -> int:
        """From when on an answer has all there will be, by our clock."""
        return self._needed_ns(warm_up, kind) + CLOCKS_DIFFER_NS + self._settings.lag_ns

    def _is_complete(self, warm_up: _WarmUp, kind: _Kind, asked_ns: int) -> bool:
        needed_ns = self._needed_ns(warm_up, kind)
        if warm_up.is_cut or asked_ns >= self._settled_ns(warm_up, kind):
            return True
        found = warm_up.bars if kind == "bars" else warm_up.parts
        newest = found[max(found)] if found else None
        return newest is not None and self._ends(newest) >= needed_ns

    # --- delivering ---

    def _stop_holding(self, warm_up: _WarmUp) -> None:
        """Live bars have waited long enough; the look-back then comes late."""
        warm_up.held_until = math.inf
        waiting, warm_up.waiting = warm_up.waiting, {}
        for start_ns in sorted(waiting):
            warm_up.sent.add(start_ns)
            self._outlet.deliver_held(warm_up.registration, _first(waiting[start_ns]))

    def _finish(self, warm_up: _WarmUp) -> None:
        """Deliver the look-back, then the live bars that waited."""
        self._warmed.add(warm_up.key)
        self._complete_open_interval(warm_up)
        amount = warm_up.registration.history
        starts = sorted(warm_up.bars)
        if isinstance(amount, int):
            starts = starts[-amount:]
        waiting, warm_up.waiting = warm_up.waiting, {}
        was_holding, warm_up.held_until = warm_up.holding, math.inf
        past = {start_ns: warm_up.bars[start_ns] for start_ns in starts}
        for start_ns in sorted(past.keys() | waiting.keys()):
            live = waiting.get(start_ns)
            if live is not None and (start_ns not in past or not live.is_partial):
                self._outlet.deliver_held(warm_up.registration, _first(live))
            elif start_ns not in warm_up.sent:
                self._look_back(warm_up.registration, past[start_ns], is_late=not was_holding)
        self._forget(warm_up)
        reason = "; ".join(warm_up.reasons.values())
        first_ns = starts[0] if starts else warm_up.needed_until_ns
        self._outlet.tell(
            BackfillEvent(
                "bars",
                warm_up.symbol,
                first_ns,
                warm_up.needed_until_ns,
                len(warm_up.bars),
                len(starts),
                not reason,
                reason,
                "look_back",
            )
        )
        if self._outlet.is_over():  # what did not come is for the next run
            self._warmed.discard(warm_up.key)

    def _look_back(self, registration: Registration, bar: Bar, *, is_late: bool) -> None:
        spec = registration.series
        origin = "bars" if spec is None else spec.origin
        known = self._lookback.find(bar.symbol, bar.timeframe, origin, bar.timestamp_ns)
        if known is None or known.is_partial:
            self._lookback.put(bar, origin)
        if is_late:
            bar = msgspec.structs.replace(bar, is_late=True)
        self._outlet.deliver_to(registration, bar)

    def _complete_open_interval(self, warm_up: _WarmUp) -> None:
        """Give the builder what history has of the interval that was open."""
        spec = warm_up.registration.series
        if spec is None or spec.channel != "bars":
            return
        for start_ns in sorted(warm_up.parts):
            self._series.on_bar(warm_up.parts[start_ns])
        known_ns = None if "parts" in warm_up.reasons else warm_up.needed_until_ns
        self._series.look_back_until(
            "bars", warm_up.symbol, spec.timeframe, warm_up.needed_until_ns, known_ns
        )
        self._outlet.deliver_due()

    def _forget(self, warm_up: _WarmUp) -> None:
        self.pending.pop(warm_up.key, None)
        for job in warm_up.jobs:
            job.cancelled.set()
            self._of_job.pop(job, None)
        warm_up.jobs.clear()


def _first(bar: Bar) -> Bar:
    """A bar as the regular one that it is for somebody who has not seen it before."""
    return bar if bar.bar_kind == "regular" else msgspec.structs.replace(bar, bar_kind="regular")
