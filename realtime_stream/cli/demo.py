"""``realtime-stream demo``: the main job, end to end, without an account."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from realtime_stream.cli.accounts import Accounts, Sent, balance, read_ledger
from realtime_stream.cli.demo_store import DemoStore
from realtime_stream.cli.exchange import Exchange
from realtime_stream.cli.show import live_table, plain_line, print_summary
from realtime_stream.clock import ScaledClock, SystemClock
from realtime_stream.config import StreamConfig
from realtime_stream.manager import RealTimeStreamManager
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.models import Bar, MarketEvent
    from realtime_stream.ports import DisconnectEvent, Status

__all__ = ["Result", "run_demo"]

_SYMBOLS: Final = ("AAPL", "MSFT", "SPY")
_WATCHED: Final = frozenset({"bars", "updated_bars", "quotes", "trades"})
_SPEED: Final = 120.0  # market seconds per second: a bar every half second
_OUTAGE: Final = 1.0  # seconds
_TICK: Final = 0.25  # seconds between two turns of the bot's loop
_SETTLE: Final = 3.0  # seconds for the last messages to arrive
# Market seconds: at this speed a twentieth of a second is six of them.
_HISTORY_LAG: Final = 30.0
_BAR_GRACE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """How the demo went."""

    status: Status
    accounts: Accounts
    reconnects: int
    stop_seconds: float
    bars_seen: int
    larger_bars: int
    stored: str

    @property
    def good(self) -> bool:
        """Whether it showed what it is meant to show."""
        return self.accounts.add_up and self.reconnects == 1 and self.stop_seconds < 1


class _Bot:
    """A trading bot as users write them: callbacks on one side, a plain loop on the other."""

    def __init__(self, manager: RealTimeStreamManager) -> None:
        self.manager = manager
        self.bars_seen = 0
        self.larger_bars = 0
        manager.on_bar(self.on_bar, *_SYMBOLS)
        manager.on_bar(self.on_larger_bar, *_SYMBOLS, timeframe="5m")
        manager.subscribe("quotes", *_SYMBOLS)
        manager.subscribe("trades", *_SYMBOLS)

    def on_bar(self, _: Bar) -> None:
        self.bars_seen += 1

    def on_larger_bar(self, _: Bar) -> None:
        self.larger_bars += 1


def run_demo(seconds: float) -> int:
    """Run the show for about ``seconds``; return the exit code."""
    console = Console()
    minutes = max(int(seconds * _SPEED / 60), 2)
    with tempfile.TemporaryDirectory() as folder, shutdown_on_signals() as request:
        ledger = Path(folder) / "ledger.jsonl"
        arguments = (
            *("--port", "0", "--symbols", ",".join(_SYMBOLS), "--minutes", str(minutes)),
            *("--speed", str(_SPEED), "--drop-after", str(seconds / 2), "--outage", str(_OUTAGE)),
            *("--ledger", str(ledger), "--wait-for-client"),
            *("--start", datetime.now(UTC).isoformat()),
        )
        console.print("starting a simulated exchange; no account needed")
        with Exchange(*arguments) as exchange:
            result = _play(console, exchange, Path(folder), request)
    if result is None:
        console.print("interrupted")
        return 130
    return 0 if result.good else 1


def _play(
    console: Console, exchange: Exchange, folder: Path, request: ShutdownRequest
) -> Result | None:
    listening = exchange.expect("listening")
    ledger = folder / "ledger.jsonl"
    config = StreamConfig(
        url=str(listening["url"]),
        api_key=SIMULATOR_KEY,
        secret_key=SIMULATOR_SECRET,
        watchlist_channels=(),
        name="demo",
        history_url=str(listening["rest_url"]),
        backfill=("bars",),
        history_lag=_HISTORY_LAG,
        bar_grace=_BAR_GRACE,
        spool=folder / "spool",
        # Without jitter: an unlucky draw could open the breaker within the short outage.
        reconnect=ReconnectPolicy(initial=0.5, maximum=2.0, jitter=False),
    )
    store = DemoStore(folder / "bars.db")
    manager = RealTimeStreamManager(
        config, data_clock=ScaledClock(datetime.now(UTC), _SPEED), sinks=store.sinks
    )
    manager.on_disconnect(lambda event: _print_disconnect(console, event))
    bot = _Bot(manager)
    manager.start(timeout=10)
    try:
        if not _loop(console, exchange, bot, request):
            return None
        # Daily bars are published too, but this bot does not watch them.
        sent = [message for message in read_ledger(ledger) if message.channel in _WATCHED]
        _await_last(manager, sent)
    finally:
        clock = SystemClock()
        began = clock.monotonic()
        manager.stop()
        stop_seconds = clock.monotonic() - began
        store.close()
    status = manager.status()
    accounts = balance(sent, manager.gaps(), status)
    result = Result(
        status,
        accounts,
        reconnects=status.sessions - 1,
        stop_seconds=stop_seconds,
        bars_seen=bot.bars_seen,
        larger_bars=bot.larger_bars,
        stored=store.read_back(_SYMBOLS),
    )
    print_summary(console, result, manager.gaps())
    return result


def _print_disconnect(console: Console, event: DisconnectEvent) -> None:
    if event.failure is not None:  # not our own stop
        console.print(f"disconnected: {event.failure.text}", highlight=False, soft_wrap=True)


def _loop(console: Console, exchange: Exchange, bot: _Bot, request: ShutdownRequest) -> bool:
    """The bot's own loop; ``False`` when interrupted before the exchange has finished."""
    live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
    turns = 0
    with live or contextlib.nullcontext():
        while not request.wait(_TICK):
            said = exchange.news()
            if said is not None and said["event"] == "dropped":
                console.print("the exchange drops the connection")
            if said is not None and said["event"] == "finished":
                return True
            quotes = {symbol: bot.manager.latest_quote(symbol) for symbol in _SYMBOLS}
            turns += 1
            if live is not None:
                live.update(live_table(quotes, bot.manager))
            elif turns % 4 == 0:
                console.print(plain_line(quotes, bot.manager), highlight=False)
    return False


def _await_last(manager: RealTimeStreamManager, sent: list[Sent]) -> None:
    """Let the last messages arrive: they are on the wire when the exchange says it has finished."""
    last = {(message.channel, message.symbol): message.t_ns for message in sent}
    events = manager.events(timeout=_SETTLE)
    while not _has(manager, last) and next(events, None) is not None:
        pass


def _has(manager: RealTimeStreamManager, last: dict[tuple[str, str], int]) -> bool:
    newest: dict[str, Callable[[str], MarketEvent | None]] = {
        "quotes": manager.latest_quote,
        "trades": manager.latest_trade,
        "bars": manager.latest_bar,
    }
    return all(
        (event := newest[channel](symbol)) is not None and event.timestamp_ns >= t_ns
        for (channel, symbol), t_ns in last.items()
        if channel in newest  # updated bars come long before the last quote
    )
