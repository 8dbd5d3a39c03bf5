"""``realtime-stream backfill``: past bars into a database, with progress."""

from __future__ import annotations

import importlib
import random
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from realtime_stream.cli.backfill_fetch import PieceFetcher, WholeBars
from realtime_stream.cli.store import open_sql_sink
from realtime_stream.clock import SystemClock, datetime_from_ns
from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import default_calendar
from realtime_stream.market.timeframe import parse_timeframe
from realtime_stream.signals import shutdown_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from realtime_stream.cli.backfill_fetch import Tally
    from realtime_stream.clock import Clock
    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import HistoryProvider
    from realtime_stream.signals import ShutdownRequest

__all__ = ["BackfillOptions", "parse_moment", "run_backfill"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_NS: Final = 86_400 * 10**9
_PIECE_NS: Final = _DAY_NS  # asked for at a time, so that there is progress to show
_LONG_PIECE_NS: Final = 365 * _DAY_NS  # of bars of a day


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """What to fetch, and where to.

    Attributes:
        config: Endpoint, keys and watchlist.
        start: First moment, UTC-aware.
        end: The moment after the last, UTC-aware; ``None`` for as late as there are whole bars.
        timeframe: Of the bars.
        store: URL of the database.
    """

    config: StreamConfig
    start: datetime
    end: datetime | None
    timeframe: str
    store: str


def parse_moment(text: str) -> datetime:
    """A date (midnight UTC) or a time in ISO form; without a zone it is in UTC.

    Raises:
        ValueError: It is neither, or lies beyond the years 1 to 9999.
    """
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        msg = f"{text} lies beyond the years 1 to 9999 in UTC"
        raise ValueError(msg) from None


def run_backfill(options: BackfillOptions) -> int:
    """Fetch and store; what is stored already does no harm.

    Bars whose interval still runs are left out. Those that validation rejects, or that the database
    will never take, are counted and named, and the others are stored.

    Returns:
        The exit code: 0 when everything is stored, 1 when bars were refused, 130 when interrupted.

    Raises:
        StreamingError: Nothing more can be fetched or stored.
    """
    config, clock = options.config, SystemClock()
    if not config.watchlist:
        msg = "symbols: give some with --symbols, --watchlist-file or WATCHLIST_SYMBOLS"
        raise ConfigurationError(msg)
    spec = parse_timeframe(options.timeframe)
    until_ns = clock.utc_now_ns() - int(config.history_lag * 1e9)
    whole = WholeBars(spec, default_calendar(config.market, config.feed), until_ns=until_ns)
    start_ns, end_ns = _stretch(options, whole, clock)
    pieces = _pieces(start_ns, end_ns, _LONG_PIECE_NS if spec.is_day else _PIECE_NS)
    credentials = config.resolve_credentials()
    history = _open_history(config, clock)
    sink = open_sql_sink(options.store)
    try:
        sink.prepare()  # what is wrong with the database is better known before hours of fetching
        with (
            _progress_bar() as bar,
            shutdown_on_signals() as request,
            _closing(history, request) as interrupted,
        ):
            fetcher = PieceFetcher(
                history,
                sink,
                config=config,
                credentials=credentials,
                whole=whole,
                clock=clock,
                interrupted=interrupted,
                say=partial(bar.console.print, markup=False, highlight=False, soft_wrap=True),
            )
            return _fetch_all(fetcher, pieces, bar, interrupted)
    finally:
        history.close()
        sink.close()


def _stretch(options: BackfillOptions, whole: WholeBars, clock: Clock) -> tuple[int, int]:
    """First moment, and the one after the last, of what is over."""
    start_ns = _ns(options.start)
    asked_ns = clock.utc_now_ns() if options.end is None else _ns(options.end)
    if start_ns >= asked_ns:
        msg = "start must be before end"
        raise ConfigurationError(msg)
    end_ns = whole.cut(asked_ns)
    if options.end is not None and end_ns < asked_ns:
        until = datetime_from_ns(end_ns)
        typer.echo(f"only until {until:%Y-%m-%d %H:%M} UTC: later bars are not over", err=True)
    return start_ns, end_ns


def _open_history(config: StreamConfig, clock: Clock) -> HistoryProvider:
    # Loaded here and not on import: alpaca-py costs half a second and some 80 MB.
    module = importlib.import_module("realtime_stream.providers.alpaca.history")
    history: HistoryProvider = module.AlpacaHistory(
        config,
        clock,
        clock,
        random.Random(),  # noqa: S311  # jitter, not cryptography
        url=config.history_url,
    )
    return history


def _progress_bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def _closing(history: HistoryProvider, request: ShutdownRequest) -> Iterator[threading.Event]:
    """While the block runs, the request ends what is being fetched.

    Yields:
        Set when that has happened.
    """
    interrupted, over = threading.Event(), threading.Event()

    def watch() -> None:
        request.wait()
        if not over.is_set():
            interrupted.set()
            history.close()

    watcher = threading.Thread(target=watch, name="realtime-stream/backfill-watch", daemon=True)
    watcher.start()
    try:
        yield interrupted
    finally:
        over.set()
        request.request()  # nobody but the watcher is interested any more
        watcher.join()


def _fetch_all(
    fetcher: PieceFetcher,
    pieces: Sequence[tuple[int, int]],
    bar: Progress,
    interrupted: threading.Event,
) -> int:
    """Fetch the pieces and say what became of their bars, also of those before an error."""
    task = bar.add_task(f"{fetcher.spec.text} bars", total=len(pieces))
    try:
        for start_ns, end_ns in pieces:
            fetcher.fetch(
                start_ns,
                end_ns,
                lambda: bar.update(task, description=f"{fetcher.tally.stored} bars"),
            )
            if interrupted.is_set():
                return 130
            bar.advance(task)
    finally:
        bar.stop()
        _print(fetcher.tally)
    return 1 if fetcher.tally.refused else 0


def _print(tally: Tally) -> None:
    typer.echo(f"bars stored: {tally.stored}")
    if tally.refused:
        typer.echo(f"refused: {tally.refused} (first: {tally.first})")


def _pieces(start_ns: int, end_ns: int, length_ns: int) -> list[tuple[int, int]]:
    starts = range(start_ns, end_ns, length_ns)
    return [(each_ns, min(each_ns + length_ns, end_ns)) for each_ns in starts]


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
