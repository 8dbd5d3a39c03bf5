"""Commands and their options; each hands over to a module of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeAlias

import typer

from realtime_stream import __version__
from realtime_stream.cli.backfill import BackfillOptions, parse_moment, run_backfill
from realtime_stream.cli.check import EXIT_CODES, CheckOptions, run_check
from realtime_stream.cli.demo import run_demo
from realtime_stream.cli.record import RecordOptions, run_record
from realtime_stream.cli.replay import ReplayOptions, parse_speed, run_replay
from realtime_stream.cli.replay_dead_letters import run_replay_dead_letters
from realtime_stream.cli.run import RunOptions, run_watch
from realtime_stream.cli.store import open_sql_sink
from realtime_stream.config import StreamConfig
from realtime_stream.errors import InvalidSymbolError, StreamingError
from realtime_stream.market.channels import MARKETS, validate_symbol
from realtime_stream.simulator.process import SimulateOptions, serve

__all__ = ["app", "main"]

app = typer.Typer(
    name="realtime-stream",
    help="Live market data for synchronous programs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, and so might show keys
)


# Options that several commands have.
_Symbols: TypeAlias = Annotated[
    str | None, typer.Option("--symbols", "-s", help="Comma-separated symbols.")
]
_WatchlistFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with one symbol a line.", exists=True, dir_okay=False)
]
_Channels: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Channel of the symbols; may be given several times.")
]
_Market: TypeAlias = Annotated[str, typer.Option(help="stocks, crypto, options or news.")]
_Feed: TypeAlias = Annotated[str | None, typer.Option(help="Feed of the market.")]
_Url: TypeAlias = Annotated[str | None, typer.Option(help="Whole WebSocket URL instead.")]
_HistoryUrl: TypeAlias = Annotated[str | None, typer.Option(help="Base URL of the history.")]
_Duration: TypeAlias = Annotated[
    float | None, typer.Option(help="Stop after so many seconds.", min=0)
]
_Timeframes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Bars to build besides, such as 5m; may be given several times."),
]
_Store: TypeAlias = Annotated[str, typer.Option(help="Database, such as sqlite:///bars.db.")]
_Quiet: TypeAlias = Annotated[bool, typer.Option(help="Print final figures only.")]


def main() -> NoReturn:
    """Entry point of the installed command."""
    app()
    raise SystemExit(0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


# For a market without bars.
_DEFAULT_CHANNELS: Final = {"news": "news", "options": "trades"}


def _symbols(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _settings(market: str, feed: str | None, url: str | None) -> dict[str, Any]:
    return {"market": market, "feed": feed, "url": url}


def _watchlist(
    market: str, symbols: str | None, watchlist_file: Path | None, channel: list[str] | None
) -> dict[str, Any]:
    """What to watch, as settings; without symbols the environment's watchlist stands."""
    listed = list(_symbols(symbols or ""))
    if watchlist_file is not None:
        try:
            listed += watchlist_file.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"the watchlist file cannot be read: {exc}"
            raise typer.BadParameter(msg) from exc
    channels = channel or [_DEFAULT_CHANNELS.get(market, "bars")]
    return {"watchlist": tuple(listed) or None, "watchlist_channels": tuple(channels)}


@app.callback(invoke_without_command=True)
def _root(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    *,
    seconds: Annotated[
        float, typer.Option(help="Length of the show, in seconds of your time.", min=4, max=20)
    ] = 12.0,
) -> None:
    """Run a bot against a simulated exchange: live data, a lost connection, a clean stop."""
    raise typer.Exit(run_demo(seconds))


@app.command()
def run(  # noqa: PLR0917  # typer reads the options from the parameters
    symbols: _Symbols = None,
    watchlist_file: _WatchlistFile = None,
    channel: _Channels = None,
    market: _Market = "stocks",
    feed: _Feed = None,
    url: _Url = None,
    duration: _Duration = None,
    *,
    quiet: _Quiet = False,
    timeframe: _Timeframes = None,
    store: Annotated[
        str | None, typer.Option(help="Database for bars, such as sqlite:///bars.db.")
    ] = None,
    backfill_gaps: Annotated[
        bool, typer.Option("--backfill", help="Fill gaps in bars from history.")
    ] = False,
    history_url: _HistoryUrl = None,
) -> None:
    """Watch symbols until stopped (SIGINT, SIGTERM or --duration), then print figures.

    Keys come from ALPACA_API_KEY and ALPACA_SECRET_KEY or .env; symbols from --symbols,
    --watchlist-file, or WATCHLIST_SYMBOLS.
    """
    given = _settings(market, feed, url)
    given |= _watchlist(market, symbols, watchlist_file, channel)
    given |= {"history_url": history_url, "backfill": ("bars",) if backfill_gaps else ()}
    try:
        options = RunOptions(
            StreamConfig(**given),
            duration,
            quiet=quiet,
            timeframes=tuple(timeframe or ()),
            store=store,
        )
        code = run_watch(options)
    except StreamingError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command()
def backfill(  # noqa: PLR0917  # typer reads the options from the parameters
    start: Annotated[str, typer.Option(help="First moment: a date, or a time in ISO form; UTC.")],
    store: _Store,
    end: Annotated[
        str | None,
        typer.Option(help="The moment after the last; by default, the end of the last whole bar."),
    ] = None,
    symbols: _Symbols = None,
    watchlist_file: _WatchlistFile = None,
    timeframe: Annotated[str, typer.Option(help="Of the bars: 1m to 12h, or 1d.")] = "1m",
    market: Annotated[str, typer.Option(help="stocks or crypto.")] = "stocks",
    feed: _Feed = None,
    history_url: _HistoryUrl = None,
) -> None:
    """Fetch past bars into a database and show how far it is."""
    given = _settings(market, feed, None)
    given |= _watchlist(market, symbols, watchlist_file, None)
    given |= {"history_url": history_url}
    try:
        moments = parse_moment(start), None if end is None else parse_moment(end)
    except ValueError as exc:
        _fail(f"start and end: {exc}")
    try:
        code = run_backfill(BackfillOptions(StreamConfig(**given), *moments, timeframe, store))
    except StreamingError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command()
def record(  # noqa: PLR0917  # typer reads the options from the parameters
    out: Annotated[Path, typer.Option(help="Folder of the recording.", file_okay=False)],
    symbols: _Symbols = None,
    watchlist_file: _WatchlistFile = None,
    channel: _Channels = None,
    market: _Market = "stocks",
    feed: _Feed = None,
    url: _Url = None,
    duration: _Duration = None,
    *,
    quiet: _Quiet = False,
) -> None:
    """Watch symbols like `run`, and keep every frame received for a replay."""
    given = _settings(market, feed, url)
    given |= _watchlist(market, symbols, watchlist_file, channel)
    try:
        code = run_record(RecordOptions(StreamConfig(**given), out, duration, quiet=quiet))
    except StreamingError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="Folder of the recording.", exists=True)],
    speed: Annotated[str, typer.Option(help="Recorded seconds per second, or max.")] = "max",
    log: Annotated[
        Path | None, typer.Option(help="Write what is delivered here, as JSON Lines.")
    ] = None,
    timeframe: _Timeframes = None,
    *,
    quiet: _Quiet = False,
) -> None:
    """Play a recording through the same machinery; the same recording gives the same log."""
    try:
        pace = parse_speed(speed)
    except ValueError as exc:
        _fail(f"speed: {exc}")
    options = ReplayOptions(recording, pace, log, tuple(timeframe or ()), quiet=quiet)
    try:
        code = run_replay(options)
    except StreamingError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command(name="replay-dead-letters")
def replay_dead_letters(
    file: Annotated[Path, typer.Argument(help="Dead-letter file, or spool folder.")],
    store: _Store,
) -> None:
    """Load bars that could not be stored into a database; what is refused again stays."""
    try:
        with contextlib.closing(open_sql_sink(store)) as sink:
            code = run_replay_dead_letters(file, sink)
    except StreamingError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command(epilog=EXIT_CODES)
def check(  # noqa: PLR0917  # typer reads the options from the parameters
    symbols: _Symbols = None,
    watchlist_file: _WatchlistFile = None,
    channel: _Channels = None,
    market: _Market = "stocks",
    feed: _Feed = None,
    url: _Url = None,
    step_timeout: Annotated[
        float, typer.Option(help="Seconds that each step may take.", min=0.1, max=4)
    ] = 4.0,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is right or wrong with a setup: versions, keys, network, plan, feed, clock.

    Keys come from where `run` takes them and are never printed. Each kind of problem has an exit
    code of its own; the first failure decides, then the first warning.
    """
    given = _settings(market, feed, url)
    given |= _watchlist(market, symbols, watchlist_file, channel)
    raise typer.Exit(run_check(CheckOptions(given, step_timeout, as_json=as_json)))


@app.command()
def simulate(  # noqa: PLR0917  # typer reads the options from the parameters
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8765,
    symbols: Annotated[
        str, typer.Option("--symbols", "-s", help="Comma-separated symbols.")
    ] = "AAPL,MSFT,SPY",
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 1,
    minutes: Annotated[int, typer.Option(help="Minutes of market time.", min=1)] = 390,
    speed: Annotated[float, typer.Option(help="Market seconds per second.", min=0.001)] = 1.0,
    market: Annotated[str, typer.Option(help="stocks or crypto.")] = "stocks",
    feed: _Feed = None,
    quotes_per_minute: Annotated[int, typer.Option(help="Per symbol.", min=0)] = 120,
    trades_per_minute: Annotated[int, typer.Option(help="Per symbol.", min=0)] = 30,
    drop_after: Annotated[
        list[float] | None,
        typer.Option(help="Drop every connection after so many seconds; several times."),
    ] = None,
    outage: Annotated[
        float, typer.Option(help="Seconds after a drop that connections are refused.", min=0)
    ] = 0.0,
    recording: Annotated[
        Path | None, typer.Option(help="Replay this recording.", exists=True, dir_okay=False)
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Write every published message here at the end.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Market time of the first message, in ISO form; as late as may be."),
    ] = None,
    linger: Annotated[
        float | None, typer.Option(help="Seconds to stay up after the last message.", min=0)
    ] = None,
    certfile: Annotated[Path | None, typer.Option(help="Serve TLS with this.")] = None,
    keyfile: Annotated[Path | None, typer.Option(help="The certificate's key.")] = None,
    *,
    wait_for_client: Annotated[
        bool, typer.Option(help="Begin with the first subscription.")
    ] = True,
) -> None:
    """Serve Alpaca's stream protocol locally; one JSON line per happening on standard output."""
    if market not in MARKETS:
        _fail(f"market: allowed are {', '.join(MARKETS)}")
    if recording is None and market not in {"stocks", "crypto"}:
        _fail("market: synthetic data exists for stocks and crypto; others need --recording")
    try:
        names = tuple(validate_symbol(symbol, market) for symbol in _symbols(symbols))
    except InvalidSymbolError as exc:
        _fail(f"symbols: {exc}")
    try:
        begin = None if start is None else parse_moment(start)
    except ValueError as exc:
        _fail(f"start: {exc}")
    options = SimulateOptions(
        start=begin,
        host=host,
        port=port,
        seed=seed,
        symbols=names,
        minutes=minutes,
        speed=speed,
        quotes_per_minute=quotes_per_minute,
        trades_per_minute=trades_per_minute,
        market=market,
        feed=feed,
        drop_after=tuple(drop_after or ()),
        outage=outage,
        ledger=ledger,
        recording=recording,
        wait_for_client=wait_for_client,
        linger=linger,
        certfile=certfile,
        keyfile=keyfile,
    )
    try:
        code = serve(options)
    except (OSError, ValueError) as exc:  # a port in use, a certificate, a recording
        _fail(str(exc))
    raise typer.Exit(code)
