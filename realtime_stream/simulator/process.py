"""The simulator as a process of its own: what ``realtime-stream simulate`` runs."""

from __future__ import annotations

import signal
import ssl
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from realtime_stream.simulator.generator import SyntheticSession
from realtime_stream.simulator.replay import read_recording
from realtime_stream.simulator.server import AlpacaSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from realtime_stream.simulator.playback import PlaybackHandle

__all__ = ["SimulateOptions", "serve"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_Happening = Literal["started", "finished", "signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What to serve.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        seed: Same seed, same data (but for its time, which is now).
        symbols: Symbols of the made-up session.
        minutes: Its length, in minutes of market time.
        speed: Seconds of market time per second.
        quotes_per_minute: Per symbol.
        trades_per_minute: Per symbol.
        market: "stocks" or "crypto"; with a recording any market.
        feed: Feed; ``None`` is the market's usual one, and data goes to every feed.
        drop_after: Seconds after the start of the data at which every connection is dropped.
        outage: Seconds after each drop during which new connections are refused.
        ledger: Where to write every published message, once the data has ended.
        recording: Replay this instead of a made-up session.
        wait_for_client: Begin with the first subscription.
        start: Market time at which it begins; ``None`` is as late as it may be without running
            ahead of real time.
        linger: Seconds to stay up after the data has ended; ``None`` is until a signal comes.
        certfile: Serve TLS with this certificate chain.
        keyfile: Its key, if that is not in the same file.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    symbols: tuple[str, ...] = ("AAPL", "MSFT", "SPY")
    minutes: int = 390
    speed: float = 1.0
    quotes_per_minute: int = 120
    trades_per_minute: int = 30
    market: str = "stocks"
    feed: str | None = None
    drop_after: tuple[float, ...] = ()
    outage: float = 0.0
    ledger: Path | None = None
    recording: Path | None = None
    wait_for_client: bool = True
    start: datetime | None = None
    linger: float | None = None
    certfile: Path | None = None
    keyfile: Path | None = None


def serve(options: SimulateOptions) -> int:
    """Serve until a signal comes or the data has ended and the time to linger is over.

    Prints one JSON object a line to standard output: "listening" with url, rest_url and port,
    "started", "dropped" with the number of sessions, "finished" with the number of messages, in
    all and by channel. The ledger is written before "finished".

    Installs handlers for SIGTERM and SIGINT while it runs, so it must run on the main thread.

    Returns:
        Exit code: 0.

    Raises:
        ValueError: An option or the recording is not valid.
        OSError: The address or a file cannot be used.
    """
    happenings: SimpleQueue[_Happening] = SimpleQueue()

    def handle(_number: int, _frame: FrameType | None) -> None:
        happenings.put("signal")  # unlike an Event's set(), it may interrupt its own get()

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        with AlpacaSimulator(
            host=options.host, port=options.port, ssl_context=_ssl_context(options)
        ) as simulator:
            _Run(options, simulator, happenings).run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _ssl_context(options: SimulateOptions) -> ssl.SSLContext | None:
    if options.certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certfile, options.keyfile)
    return context


def _say(event: str, **details: object) -> None:
    sys.stdout.write(msgspec.json.encode({"event": event, **details}).decode() + "\n")
    sys.stdout.flush()


def _source(options: SimulateOptions) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Begins when it is first asked, which is when the playback begins."""
    if options.recording is not None:
        yield from read_recording(options.recording)
        return
    yield from SyntheticSession(
        options.seed,
        options.symbols,
        start=options.start or _soonest(options),
        minutes=options.minutes,
        quotes_per_minute=options.quotes_per_minute,
        trades_per_minute=options.trades_per_minute,
        market=options.market,
    )


def _soonest(options: SimulateOptions) -> datetime:
    """The latest moment to begin at so that market time never runs ahead of ours.

    A client would not believe what comes from the future.
    """
    length = timedelta(minutes=options.minutes)
    return datetime.now(UTC) - length * max(1 - 1 / options.speed, 0.0)


class _Run:
    """One run: what is to be done when, on the main thread."""

    def __init__(
        self,
        options: SimulateOptions,
        simulator: AlpacaSimulator,
        happenings: SimpleQueue[_Happening],
    ) -> None:
        self._options = options
        self._simulator = simulator
        self._happenings = happenings
        self._due: list[tuple[float, Callable[[], None]]] = []  # soonest first
        self._ended = False

    def run(self) -> None:
        options, simulator = self._options, self._simulator
        url = simulator.url(options.market, options.feed)
        _say("listening", url=url, rest_url=simulator.rest_url, port=simulator.port)
        playback = simulator.play(
            _source(options),
            speed=options.speed,
            market=options.market,
            feed=options.feed,
            wait_for_subscription=options.wait_for_client,
            on_change=self._happenings.put,
        )
        while not self._ended:
            match self._next():
                case "started":
                    _say("started")
                    for seconds in options.drop_after:
                        self._schedule(seconds, self._drop)
                case "finished":
                    self._finish(playback)
                case "signal":
                    self._end()
        if not playback.finished:
            playback.cancel()
            playback.wait()
            self._write_ledger()

    def _next(self) -> _Happening | None:
        """Wait for something to happen, or for something to be due, and then do that."""
        wait = max(self._due[0][0] - time.monotonic(), 0) if self._due else None
        try:
            return self._happenings.get(timeout=wait)
        except Empty:
            self._due.pop(0)[1]()
            return None

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, action))
        self._due.sort(key=lambda each: each[0])

    def _drop(self) -> None:
        if self._options.outage > 0:
            self._simulator.faults.refuse_connections()
            self._schedule(self._options.outage, self._reopen)
        _say("dropped", sessions=self._simulator.drop(None))

    def _reopen(self) -> None:
        self._simulator.faults.refuse_connections(False)

    def _finish(self, playback: PlaybackHandle) -> None:
        playback.wait()  # raises what has ended it
        self._write_ledger()
        _say(
            "finished",
            published=playback.published,
            by_channel=self._simulator.ledger.by_channel(),
        )
        if self._options.linger is not None:
            self._schedule(self._options.linger, self._end)

    def _end(self) -> None:
        self._ended = True

    def _write_ledger(self) -> None:
        if self._options.ledger is not None:
            self._simulator.ledger.write(self._options.ledger)
