"""Puts together what events pass through after the inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realtime_stream.market.validation import Validator
from realtime_stream.runtime.bar_desk import BarDesk
from realtime_stream.runtime.bar_ends import BarEnds
from realtime_stream.runtime.dispatcher import Dispatcher
from realtime_stream.runtime.exchange_clock import ExchangeClock
from realtime_stream.runtime.history_desk import HistoryDesk
from realtime_stream.runtime.history_worker import HistoryWorker
from realtime_stream.runtime.latency_desk import LatencyDesk
from realtime_stream.runtime.screen import Screen
from realtime_stream.runtime.stretch import BackfillSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from realtime_stream.config import Credentials, StreamConfig
    from realtime_stream.errors import CallbackExitError
    from realtime_stream.runtime.bar_desk import BarTaker
    from realtime_stream.runtime.guard import CallbackGuard
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.lag import LagMeter
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.run import Memory, Surroundings

__all__ = ["DataPath"]

_NS: Final = 10**9


class DataPath:
    """The parts of a run that look at data.

    Thread safety: the dispatch thread uses the parts; their accounts may be read by any.

    Attributes:
        dispatcher: Brings events to their callbacks.
        screen: Validation and its accounts.
        history: Gaps and look-back.
        latency: From event to delivery.
        worker: Fetches history; ``None`` without one.
    """

    def __init__(
        self,
        *,
        around: Surroundings,
        memory: Memory,
        inbox: Inbox,
        guard: CallbackGuard,
        lag: LagMeter,
        log: EventLog,
        takers: Sequence[BarTaker],
        credentials: Callable[[], Credentials],
        on_callback_exit: Callable[[CallbackExitError], None],
    ) -> None:
        """Wire the parts together; nothing runs yet.

        Args:
            around: What outlives a run.
            memory: What is known about the market.
            inbox: Where frames and notices come from.
            guard: Calls user code.
            lag: From receive to delivery.
            log: Where records go.
            takers: Those who store bars.
            credentials: The key pair for history.
            on_callback_exit: Told when a callback wants the run to end.
        """
        config, clock, data_clock = around.config, around.clock, around.data_clock
        self.latency = LatencyDesk(config.latency_alarm, log, self._tell)
        exchange = ExchangeClock(data_clock, self.latency)
        memory.series.lead_ns = self.latency.lead
        self.worker: HistoryWorker | None = None
        if around.new_history is not None:
            self.worker = HistoryWorker(
                new_history=around.new_history,
                credentials=credentials,
                inbox=inbox,
                clock=clock,
                data_clock=data_clock,
                log=log,
            )
        self.screen = Screen(
            validator=memory.validator,
            log=log,
            clock=clock,
            keep=config.rejected_events,
            tell=self._tell,
            log_interval=config.error_log_interval,
        )
        ends = BarEnds(around.calendar, config.bar_alignment)
        self.dispatcher = Dispatcher(
            inbox=inbox,
            registry=around.registry,
            guard=guard,
            gaps=memory.gaps,
            queues=around.queues,
            lag=lag,
            clock=clock,
            data_clock=data_clock,
            exchange=exchange,
            log=log,
            latest=memory.latest,
            screen=self.screen,
            past=Validator(config.validation, config.market),
            series=memory.series,
            desk=BarDesk(
                lookback=memory.lookback,
                series=memory.series,
                takers=takers,
                ends=ends,
                latency=self.latency,
            ),
            latency=self.latency,
            on_callback_exit=on_callback_exit,
        )
        self.history = HistoryDesk(
            settings=_settings(config),
            ask=None if self.worker is None else self.worker.ask,
            series=memory.series,
            lookback=memory.lookback,
            ends=ends,
            clock=clock,
            data_clock=data_clock,
            exchange=exchange,
            outlet=self.dispatcher,
            memory=memory.history,
        )
        self.dispatcher.history = self.history

    def _tell(self, event: object) -> None:
        self.dispatcher.tell(event)


def _settings(config: StreamConfig) -> BackfillSettings:
    return BackfillSettings(
        channels=frozenset(config.backfill),
        hold=config.backfill_hold,
        hold_bars=config.backfill_hold_bars,
        deadline=config.backfill_deadline,
        lag_ns=int(config.history_lag * _NS),
    )
