"""The simulator as a process: plays a session or a recording and says what happens."""

from __future__ import annotations

import ssl
import sys
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from realtime_stream.clock import SystemClock
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals
from realtime_stream.simulator.generator import SyntheticSession
from realtime_stream.simulator.replay import read_recording
from realtime_stream.simulator.server import AlpacaSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from realtime_stream.simulator.playback import PlaybackHandle

__all__ = ["SimulateOptions", "serve"]

_LOOK: Final = 0.05  # seconds between two looks at what is due
_DEFAULT_FEEDS: Final = {"stocks": "iex", "crypto": "us", "options": "indicative", "news": "news"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What to serve, and which faults to make.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        seed: Decides the synthetic session.
        symbols: Its instruments.
        minutes: Its length.
        speed: Market seconds per second.
        quotes_per_minute: Per symbol.
        trades_per_minute: Per symbol.
        market: Market to serve.
        feed: Feed named in the printed URL; every feed of the market is served.
        drop_after: Seconds after the first message at which every connection is dropped.
        outage: Seconds after a drop during which connections are refused.
        ledger: File that receives every published message at the end.
        recording: Replayed instead of the synthetic session.
        wait_for_client: Begin with the first subscription.
        linger: Seconds to stay up after the last message; ``None`` stays until a signal.
        certfile: Serve TLS with this certificate.
        keyfile: Its key.
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
    linger: float | None = None
    certfile: Path | None = None
    keyfile: Path | None = None


def serve(options: SimulateOptions) -> int:
    """Serve until the end of the data and ``linger``, or until SIGTERM or SIGINT.

    Prints one JSON object a line: ``listening``, ``started``, ``dropped``, ``finished``.

    Returns:
        The exit code, 0.

    Raises:
        OSError: The address, certificate or recording cannot be used.
        ConfigurationError: Not called from the main thread.
    """
    simulator = AlpacaSimulator(host=options.host, port=options.port, ssl_context=_tls(options))
    with shutdown_on_signals() as request, simulator:
        url = simulator.url(options.market, options.feed or _DEFAULT_FEEDS[options.market])
        _say("listening", url=url, port=simulator.port)
        handle = simulator.play(
            _source(options),
            speed=options.speed,
            market=options.market,
            feed=options.feed,
            wait_for_subscription=options.wait_for_client,
        )
        _follow(simulator, handle, options, request)
        handle.cancel()
    return 0


def _follow(
    simulator: AlpacaSimulator,
    handle: PlaybackHandle,
    options: SimulateOptions,
    request: ShutdownRequest,
) -> None:
    """Make the faults at their times, and report the end."""
    while not simulator.wait_for(lambda s: len(s.ledger) > 0, _LOOK):
        if request.is_requested():
            return
    _say("started")
    clock = SystemClock()
    began = clock.monotonic()
    actions = deque(_actions(simulator, options))
    while not request.is_requested():
        if actions and clock.monotonic() - began >= actions[0][0]:
            actions.popleft()[1]()
        elif handle.wait(_LOOK) and not actions:
            break
    _finish(simulator, options)
    if not request.is_requested():
        request.wait(options.linger)


def _actions(
    simulator: AlpacaSimulator, options: SimulateOptions
) -> list[tuple[float, Callable[[], None]]]:
    """Drops and the ends of their outages, in order of time (seconds after the start)."""

    def drop() -> None:
        if options.outage:
            simulator.faults.refuse_connections()
        _say("dropped", sessions=simulator.drop(None))

    actions: list[tuple[float, Callable[[], None]]] = []
    for moment in options.drop_after:
        actions.append((moment, drop))
        if options.outage:
            actions.append((moment + options.outage, simulator.faults.clear))
    return sorted(actions, key=lambda action: action[0])


def _finish(simulator: AlpacaSimulator, options: SimulateOptions) -> None:
    if options.ledger is not None:
        simulator.ledger.write(options.ledger)
    _say("finished", published=len(simulator.ledger), by_channel=simulator.ledger.by_channel())


def _source(options: SimulateOptions) -> Iterable[tuple[int, Mapping[str, Any]]]:
    if options.recording is not None:
        return read_recording(options.recording)
    return SyntheticSession(
        options.seed,
        options.symbols,
        start=datetime.now(UTC),
        minutes=options.minutes,
        quotes_per_minute=options.quotes_per_minute,
        trades_per_minute=options.trades_per_minute,
        market=options.market,
    )


def _tls(options: SimulateOptions) -> ssl.SSLContext | None:
    if options.certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certfile, options.keyfile)
    return context


def _say(event: str, **fields: object) -> None:
    sys.stdout.write(msgspec.json.encode({"event": event, **fields}).decode() + "\n")
    sys.stdout.flush()
