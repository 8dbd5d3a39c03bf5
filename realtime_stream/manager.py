"""The public face: callbacks in, market events out. It has no logic of its own."""

from __future__ import annotations

import importlib
import itertools
import random
from typing import TYPE_CHECKING, Final, Self, cast

from realtime_stream.clock import Clock, SystemClock
from realtime_stream.config import StreamConfig
from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import SessionCalendar, default_calendar
from realtime_stream.market.timeframe import parse_timeframe
from realtime_stream.recording import Recorder
from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
from realtime_stream.runtime.engine import Engine
from realtime_stream.runtime.hooks import BarHook, EventHook, ListenerHook
from realtime_stream.runtime.queues import EventQueues, EventStream
from realtime_stream.runtime.registry import Registry
from realtime_stream.runtime.run import Surroundings
from realtime_stream.runtime.series_spec import BuiltFrom, check_origin, origin_of
from realtime_stream.runtime.states import StateBoard
from realtime_stream.runtime.status import snapshot
from realtime_stream.runtime.storage import checked_sinks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from pandas import DataFrame

    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.channels import Channel, Subscription
    from realtime_stream.market.models import (
        LULD,
        Bar,
        Imbalance,
        News,
        OrderBook,
        Quote,
        Trade,
        TradeCancel,
        TradeCorrection,
        TradingStatus,
    )
    from realtime_stream.ports import (
        BackfillEvent,
        ConnectionEvent,
        ConnectionState,
        DeadLetter,
        DisconnectEvent,
        ErrorEvent,
        Gap,
        HistoryFactory,
        HistoryProvider,
        MarketDataProvider,
        ProviderFactory,
        RejectedEvent,
        RejectedMessage,
        Sink,
        StaleEvent,
        StateChange,
        Status,
    )
    from realtime_stream.runtime.supervisor import GetSymbols
from realtime_stream.runtime.timeouts import checked_timeout, checked_wait

__all__ = ["RealTimeStreamManager"]

_numbers: Final = itertools.count(1)


class RealTimeStreamManager:
    """Live market data for a synchronous program.

    Runs the provider's stream on a background thread and calls the registered callbacks on
    another, so that neither a slow callback nor a lost connection disturbs the program's own loop::

        manager = RealTimeStreamManager(StreamConfig(feed="iex"))
        manager.on_quote(lambda quote: print(quote.mid_price), "AAPL")
        with manager:
            ...

    One manager is one endpoint. What each method does in each state is one table in the docs
    (Concepts, Lifecycle).

    Attributes:
        on_trade: Registers callbacks for trades.
        on_quote: Registers callbacks for quotes.
        on_bar: Registers callbacks for bars: minutes, or any other ``timeframe``.
        on_updated_bar: Registers callbacks for bars that come again after a late trade.
        on_daily_bar: Registers callbacks for running totals of the day.
        on_status: Registers callbacks for halts and resumptions.
        on_luld: Registers callbacks for limit-up limit-down bands.
        on_correction: Registers callbacks for corrected trades.
        on_cancel: Registers callbacks for cancelled trades.
        on_imbalance: Registers callbacks for order imbalances.
        on_orderbook: Registers callbacks for order books (crypto).
        on_news: Registers callbacks for news articles.
        on_connect: Registers listeners for each session that becomes connected.
        on_disconnect: Registers listeners for each connected session that ends.
        on_gap: Registers listeners for stretches of time in which events may have been missed.
        on_backfill: Registers listeners for gaps that history has filled, or could not fill, and
            for look-back.
        on_rejected: Registers listeners for events that validation rejects or flags.
        on_stale: Registers listeners for silence: connected, but no data while the market is open.
        on_error: Registers listeners for failures in the background.
        on_state_change: Registers listeners for every move of the two state machines.

    Thread safety: every method may be called from any thread, several at once. From a callback
    everything but ``start``, ``restart`` and the two waits may be called; ``stop`` then returns at
    once. A manager belongs to the process that made it: in a forked child every method raises
    :class:`~realtime_stream.ForkedProcessError`, and a manager made there works.
    """

    def __init__(
        self,
        config: StreamConfig | None = None,
        *,
        get_symbols: GetSymbols | None = None,
        clock: Clock | None = None,
        data_clock: Clock | None = None,
        calendar: MarketCalendar | None = None,
        rng: random.Random | None = None,
        provider: ProviderFactory | None = None,
        history: HistoryFactory | None = None,
        sinks: Iterable[Sink] = (),
        record: Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            config: Settings; by default everything comes from the environment.
            get_symbols: Asked for symbols before each session; they join the watchlist. It runs on
                the dispatch thread, for at most ``config.symbols_timeout`` seconds; if it fails,
                its last answer holds.
            clock: For waits, backoff and lag; tests may bring their own.
            data_clock: For stamps and ages of data, where data time is not real time (replays).
            calendar: When the market is open, so that silence means something; default: regular US
                hours for stocks and options, always for crypto, news and the test feed, never for
                the night feeds, whose hours are not known here.
            rng: Draws the jitter of reconnects.
            provider: Makes the source of events, for each start; default: Alpaca's streams.
            history: Makes the source of history, for each start; default: Alpaca's. Used only when
                ``config.backfill`` names a channel.
            sinks: Where delivered bars are stored. They are closed by whoever made them.
            record: Folder to record into, for a replay; only Alpaca's streams can be recorded.

        Raises:
            ConfigurationError: A setting is not acceptable.
        """
        config = StreamConfig() if config is None else config
        if record is not None and provider is not None:
            msg = "record: only Alpaca's streams can be recorded, not another provider's"
            raise ConfigurationError(msg)
        clock = SystemClock() if clock is None else clock
        if calendar is None:
            calendar = default_calendar(config.market, config.feed)
        if config.bar_alignment == "session" and not isinstance(calendar, SessionCalendar):
            msg = "calendar: bars aligned to the session need one with day_of and session_of"
            raise ConfigurationError(msg)
        registry = Registry(
            config.market,
            config.watchlist,
            config.watchlist_channels,
            self._wanted_changed,
            has_history=bool(config.backfill),
            aligned=config.bar_alignment,
            has_days=isinstance(calendar, SessionCalendar),
        )
        self._provider = provider
        self._history = history
        self._around = Surroundings(
            name=config.name or f"{config.market}-{next(_numbers)}",
            config=config,
            registry=registry,
            board=StateBoard(),
            breaker=ConnectionCircuitBreaker(config.breaker, clock=clock),
            queues=EventQueues(),
            clock=clock,
            data_clock=clock if data_clock is None else data_clock,
            calendar=calendar,
            rng=random.Random() if rng is None else rng,  # noqa: S311  # jitter, not cryptography
            get_symbols=get_symbols,
            new_history=self._new_history if config.backfill else None,
            sinks=checked_sinks(sinks),
        )
        if record is not None:
            self._around.recorder = Recorder(
                record,
                manager=self._around.name,
                provider="alpaca",
                market=config.market,
                feed=config.feed,
                clock=clock,
                data_clock=self._around.data_clock,
            )
        self._engine = Engine(self._around, self._new_provider)
        self.on_trade: EventHook[Trade] = EventHook(registry, "trades")
        self.on_quote: EventHook[Quote] = EventHook(registry, "quotes")
        self.on_bar = BarHook(registry, "bars")
        self.on_updated_bar = BarHook(registry, "updated_bars")
        self.on_daily_bar: EventHook[Bar] = EventHook(registry, "daily_bars")
        self.on_status: EventHook[TradingStatus] = EventHook(registry, "statuses")
        self.on_luld: EventHook[LULD] = EventHook(registry, "lulds")
        self.on_correction: EventHook[TradeCorrection] = EventHook(registry, "corrections")
        self.on_cancel: EventHook[TradeCancel] = EventHook(registry, "cancels")
        self.on_imbalance: EventHook[Imbalance] = EventHook(registry, "imbalances")
        self.on_orderbook: EventHook[OrderBook] = EventHook(registry, "orderbooks")
        self.on_news: EventHook[News] = EventHook(registry, "news")
        self.on_connect: ListenerHook[ConnectionEvent] = ListenerHook(registry, "connect")
        self.on_disconnect: ListenerHook[DisconnectEvent] = ListenerHook(registry, "disconnect")
        self.on_gap: ListenerHook[Gap] = ListenerHook(registry, "gap")
        self.on_backfill: ListenerHook[BackfillEvent] = ListenerHook(registry, "backfill")
        self.on_rejected: ListenerHook[RejectedEvent] = ListenerHook(registry, "rejected")
        self.on_stale: ListenerHook[StaleEvent] = ListenerHook(registry, "stale")
        self.on_error: ListenerHook[ErrorEvent] = ListenerHook(registry, "error")
        self.on_state_change: ListenerHook[StateChange] = ListenerHook(registry, "state_change")

    def __repr__(self) -> str:
        """Name and states, nothing secret."""
        board = self._around.board
        states = f"{board.lifecycle.value}, {board.connection.value}"
        return f"<RealTimeStreamManager {self._around.name}: {states}>"

    # --- lifecycle ---

    def start(self, timeout: float = 10.0) -> ConnectionState:
        """Connect, and return once connected (or idle, when nothing is wanted).

        Starting a manager that is starting or running waits for the same connection. A start that
        does not succeed leaves no thread behind.

        Args:
            timeout: Seconds to wait; 0 returns at once and goes on connecting in the background.

        Returns:
            ``CONNECTED``, ``IDLE``, or with ``timeout=0`` whatever the state is.

        Raises:
            ConfigurationError: Keys are missing.
            AuthenticationError: The keys were refused.
            InsufficientSubscriptionError: The plan does not include the feed.
            SubscriptionRefusedError: Every wanted subscription was refused.
            StartTimeoutError: Not connected in time; the last failure is chained.
            StreamStoppedError: Another thread called :meth:`stop`.
            StreamFailedError: Another thread's start failed.
            CallbackContextError: Called from a callback.
        """
        return self._engine.start(checked_timeout(timeout))

    def stop(self, timeout: float = 5.0) -> None:
        """Disconnect, deliver what has been received for at most half the time, end all threads.

        Does nothing when stopped. From a callback it only asks for the stop and returns. Not for
        signal handlers, which may interrupt a call of this very object: use
        :func:`~realtime_stream.shutdown_on_signals`.

        Args:
            timeout: Seconds until the call gives up waiting; the threads still end on their own.

        Raises:
            StopTimeoutError: A thread is still alive; the message names the callback it is in.
            StreamFailedError: The manager had failed in the background, and no call has said so.
                Neither is raised while the caller is handling an exception of its own: that gets
                a note instead.
        """
        self._engine.stop(checked_timeout(timeout))

    def restart(self, timeout: float = 15.0) -> ConnectionState:
        """Stop if running, then start; what was missed meanwhile is reported as a gap.

        Args:
            timeout: Seconds for both together; half of them for the stop.

        Returns:
            As :meth:`start`.

        Raises:
            StreamingError: As :meth:`stop` and :meth:`start`.
        """
        return self._engine.restart(checked_timeout(timeout))

    def __enter__(self) -> Self:
        """:meth:`start` with its default timeout."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """:meth:`stop`; never hides the exception that ended the block."""
        self.stop()

    def is_connected(self) -> bool:
        """Whether a session is authenticated and its subscriptions are acknowledged."""
        self._around.home.check()
        return self._around.board.connected.is_set()

    def wait_until_connected(self, timeout: float | None = None) -> bool:
        """Wait for the connection.

        Returns:
            ``False`` when ``timeout`` seconds passed or the manager is stopped.

        Raises:
            StreamFailedError: The manager has failed.
            CallbackContextError: Called from a callback.
        """
        return self._engine.wait_until_connected(checked_wait(timeout))

    def wait_until_stopped(self, timeout: float | None = None) -> bool:
        """Wait until the run is over, whoever ends it.

        Returns:
            ``False`` when ``timeout`` seconds passed.

        Raises:
            StreamFailedError: The manager has failed.
            CallbackContextError: Called from a callback.
        """
        return self._engine.wait_until_stopped(checked_wait(timeout))

    # --- what is wanted ---

    def subscribe(self, channel: Channel, *symbols: str) -> None:
        """Want a channel of these symbols without a callback; never blocks.

        The events reach :meth:`events` and the ``latest_*`` methods.

        Raises:
            ConfigurationError: Unknown channel, or no symbol.
            InvalidSymbolError: A symbol does not have the form the market uses.
            StreamFailedError: The manager has failed.
        """
        self._engine.check()
        self._around.registry.subscribe(channel, symbols)

    def unsubscribe(self, channel: Channel, *symbols: str) -> None:
        """Take back :meth:`subscribe`; callbacks keep what they are registered for. Never blocks.

        Raises:
            ConfigurationError: As :meth:`subscribe`.
            StreamFailedError: The manager has failed.
        """
        self._engine.check()
        self._around.registry.unsubscribe(channel, symbols)

    def subscriptions(self) -> frozenset[Subscription]:
        """Everything wanted now; :meth:`status` tells what of it is acknowledged."""
        self._around.home.check()
        return self._around.registry.wanted()

    # --- pull ---

    def latest_quote(self, symbol: str) -> Quote | None:
        """The last quote delivered, or ``None``.

        Raises:
            StreamFailedError: The manager has failed: what it knows is out of date.
        """
        return cast("Quote | None", self._latest("quotes", symbol))

    def latest_trade(self, symbol: str) -> Trade | None:
        """The last trade delivered, or ``None``.

        Raises:
            StreamFailedError: As :meth:`latest_quote`.
        """
        return cast("Trade | None", self._latest("trades", symbol))

    def latest_bar(self, symbol: str) -> Bar | None:
        """The last minute bar delivered, in its updated form if one came; or ``None``.

        Raises:
            StreamFailedError: As :meth:`latest_quote`.
        """
        self._engine.check()
        return self._engine.memory.latest_bar(symbol)

    def recent_bars(
        self,
        symbol: str,
        n: int,
        timeframe: str = "1m",
        *,
        built_from: BuiltFrom | None = None,
        fill: bool = False,
    ) -> list[Bar]:
        """The newest bars of a series, oldest first, each in its newest version.

        Those of the feed, and those of any timeframe that a callback is registered for; a
        registration's look-back is among them. At most ``config.lookback`` are kept.

        Args:
            symbol: Symbol.
            n: How many at most.
            timeframe: As registered.
            built_from: Which series, where there is one built of ``bars`` and one of ``trades``;
                by default that of bars.
            fill: The series that was registered with ``fill``.

        Raises:
            ConfigurationError: There is no such timeframe, or ``n`` is below 1.
            StreamFailedError: The manager has failed: what it knows is out of date.
        """
        self._engine.check()
        given: object = n
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            msg = "n must be an integer, 1 or more"
            raise ConfigurationError(msg)
        text = parse_timeframe(timeframe).text
        check_origin(built_from, fill=fill)
        kinds: tuple[BuiltFrom, ...] = ("bars", "trades") if built_from is None else (built_from,)
        origins = [origin_of(kind, fill=fill) for kind in kinds]
        return self._engine.memory.lookback.recent(symbol, n, text, origins)

    def recent_frame(
        self,
        symbol: str,
        n: int,
        timeframe: str = "1m",
        *,
        built_from: BuiltFrom | None = None,
        fill: bool = False,
    ) -> DataFrame:
        """:meth:`recent_bars` as a pandas DataFrame.

        Returns:
            Indexed by ``timestamp`` (UTC); columns ``open``, ``high``, ``low``, ``close``,
            ``volume``, ``vwap`` as floats, and ``trade_count``.

        Raises:
            StreamingError: As :meth:`recent_bars`.
        """
        bars = self.recent_bars(symbol, n, timeframe, built_from=built_from, fill=fill)
        # Loaded here and not on import: pandas is large, and comes with alpaca-py.
        module = importlib.import_module("realtime_stream.runtime.frames")
        frame: DataFrame = module.data_frame(bars)
        return frame

    def events(self, timeout: float | None = None) -> EventStream:
        """Iterate over every event delivered from now on.

        Args:
            timeout: Seconds to wait for the next event before the iteration ends; ``None`` waits
                until the manager stops.

        Raises:
            StreamFailedError: The manager has failed; also raised by the iterator when it fails.
        """
        self._engine.check()
        engine = self._engine
        stream = EventStream(
            self._around.config.event_queue,
            checked_wait(timeout),
            check=engine.check,
            before_wait=lambda: engine.forbid_in_callback("events()"),
        )
        self._engine.open_stream(stream)
        return stream

    # --- reports ---

    def status(self) -> Status:
        """One frozen look at states, counters, ages, lag and breaker."""
        self._around.home.check()
        return snapshot(self._around, self._engine)

    def gaps(self) -> tuple[Gap, ...]:
        """The gaps reported since the last fresh start (the newest 1000), oldest first.

        Unlike the report that ``on_gap`` got, they carry the first event after as far as known.
        """
        self._around.home.check()
        return self._engine.memory.gaps.gaps()

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The newest events whose callbacks failed, of this run or the last."""
        self._around.home.check()
        run = self._engine.run
        return () if run is None else tuple(run.guard.dead_letters.copy())

    def rejects(self) -> tuple[RejectedMessage, ...]:
        """The newest messages that could not be understood, of this run or the last."""
        self._around.home.check()
        run = self._engine.run
        return () if run is None else tuple(run.recorder.rejects.copy())

    def rejected_events(self) -> tuple[RejectedEvent, ...]:
        """The newest events that validation kept from everybody, of this run or the last."""
        self._around.home.check()
        run = self._engine.run
        return () if run is None else tuple(run.path.screen.kept.copy())

    # --- wiring ---

    def _latest(self, channel: str, symbol: str) -> object:
        self._engine.check()
        return self._engine.memory.latest[channel].get(symbol)

    def _wanted_changed(self) -> None:
        self._engine.wanted_changed()

    def _new_history(self) -> HistoryProvider:
        if self._history is not None:
            return self._history()
        around = self._around
        module = importlib.import_module("realtime_stream.providers.alpaca.history")
        history: HistoryProvider = module.AlpacaHistory(
            around.config,
            around.clock,
            around.data_clock,
            random.Random(),  # noqa: S311  # jitter, not cryptography
            url=around.config.history_url,
            owner=around.name,
        )
        return history

    def _new_provider(self) -> MarketDataProvider:
        if self._provider is not None:
            return self._provider()
        around = self._around
        if around.config.credentials is None:
            around.config.resolve_credentials()  # missing keys are told before a thread starts
        # Loaded here and not on import: alpaca-py costs half a second and some 80 MB.
        module = importlib.import_module("realtime_stream.providers.alpaca.adapter")
        provider: MarketDataProvider = module.AlpacaAdapter(
            around.config, around.name, around.data_clock, tap=around.recorder
        )
        return provider
