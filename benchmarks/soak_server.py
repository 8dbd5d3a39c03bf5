"""The soak's exchange: the simulator in a process of its own, steered through a pipe.

Its own process, so that memory, threads and descriptors measured beside it are the library's: the
generator and the ledger of a whole day grow by tens of megabytes. Faults are steered by calls that
return when they have taken effect.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from realtime_stream.simulator import AlpacaSimulator
from realtime_stream.simulator.generator import SyntheticSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext, SpawnProcess
    from pathlib import Path
    from types import TracebackType

    from realtime_stream.simulator.playback import PlaybackHandle

__all__ = ["MALFORMED", "Exchange", "ExchangeError", "Feed", "Seen"]

MALFORMED: Final = "BAD"  # every message of this symbol is malformed; there is no other one of it

_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")
_PATIENCE: Final = 30.0  # seconds for any answer of the process
_SPOILT: Final[tuple[dict[str, object], ...]] = (
    {"bp": "cheap"},
    {"bp": None},
    {"ap": math.nan},
    {"ap": math.inf},
    {"bs": [1, 2]},
    {"c": 7},
)


class ExchangeError(Exception):
    """The exchange could not do what it was asked to do, or has ended."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What is played: a made-up session; see ``SyntheticSession``."""

    seed: int
    symbols: tuple[str, ...]
    start: datetime
    minutes: int
    speed: float
    quotes_per_minute: int = 120
    trades_per_minute: int = 30

    @property
    def rate(self) -> float:
        """Events per real second, about."""
        per_minute = len(self.symbols) * (self.quotes_per_minute + self.trades_per_minute)
        return per_minute * self.speed / 60

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.minutes * 60 / self.speed


@dataclass(frozen=True, slots=True)
class Seen:
    """What the exchange has seen of its client so far."""

    attempts: int
    handshakes: int
    auth_attempts: int


class _Server:
    """What the process can be asked to do; each method is one command."""

    def __init__(self, simulator: AlpacaSimulator) -> None:
        self._simulator = simulator
        self._playback: PlaybackHandle | None = None
        self._spoilt = 0

    def url(self) -> str:
        return self._simulator.url("stocks", "sip")

    def play(self, feed: Feed) -> None:
        session = SyntheticSession(
            feed.seed,
            feed.symbols,
            start=feed.start,
            minutes=feed.minutes,
            quotes_per_minute=feed.quotes_per_minute,
            trades_per_minute=feed.trades_per_minute,
        )
        self._playback = self._simulator.play(session, speed=feed.speed)

    def finished(self) -> bool:
        return self._playback is not None and self._playback.finished

    def end(self) -> None:
        if self._playback is not None:
            self._playback.cancel()
            self._playback.wait(_PATIENCE)

    def mark(self) -> int:
        return len(self._simulator.ledger)

    def newest(self, keys: int) -> dict[tuple[str, str], int]:
        """Time of the newest message written to a session, of as many keys as there are."""
        found: dict[tuple[str, str], int] = {}
        for entry in reversed(self._simulator.ledger.entries()):
            if entry.sessions and entry.t_ns is not None and entry.symbol != MALFORMED:
                found.setdefault((entry.channel, entry.symbol), entry.t_ns)
                if len(found) == keys:
                    break
        return found

    def seen(self) -> Seen:
        simulator = self._simulator
        return Seen(simulator.attempts, simulator.handshakes, simulator.auth_attempts)

    def drop(self, code: int | None) -> int:
        return self._simulator.drop(code)

    def send_error(self, code: int) -> None:
        self._simulator.send_error(code)

    def send_garbage(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            self._simulator.send_garbage(kind)

    def send_malformed(self, count: int) -> None:
        for _ in range(count):
            spoilt = _SPOILT[self._spoilt % len(_SPOILT)]
            self._spoilt += 1
            quote = {"T": "q", "S": MALFORMED, "bx": "K", "bp": 1.5, "bs": 1, "ax": "P", "ap": 1.6}
            rest = {"as": 1, "c": ["R"], "z": "C", "t": self._spoilt}
            self._simulator.publish({**quote, **rest, **spoilt})

    def fault(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        getattr(self._simulator.faults, name)(*arguments, **options)

    def write_ledger(self, path: Path) -> None:
        self._simulator.ledger.write(path)


def _serve(commands: Connection) -> None:
    """Obey until the other end is closed; the process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the bot; it ends this process
    with contextlib.suppress(EOFError), AlpacaSimulator() as simulator:
        server = _Server(simulator)
        while True:
            name, arguments = commands.recv()
            try:
                answer = getattr(server, name)(*arguments)
            except (ValueError, TypeError, RuntimeError, OSError) as exc:
                commands.send((f"{name}: {exc}", None))
            else:
                commands.send((None, answer))


class Exchange:
    """The process, seen from the bot's side; ended with the block.

    Thread safety: used by one thread.
    """

    def __init__(self) -> None:
        """Start the process.

        Raises:
            ExchangeError: It did not come up.
        """
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here
        self.url: str = self._ask("url")

    def __enter__(self) -> Self:
        """Nothing more to do: it runs."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()

    def play(self, feed: Feed) -> None:
        """Begin to play, now and whether or not anybody listens."""
        self._ask("play", feed)

    @property
    def finished(self) -> bool:
        """Whether the whole feed has been played."""
        return bool(self._ask("finished"))

    def end(self) -> None:
        """Play nothing more; the ledger is complete then."""
        self._ask("end")

    def mark(self) -> int:
        """How many messages have been published: a moment, as the ledger counts time."""
        return int(self._ask("mark"))

    def newest(self, keys: int) -> dict[tuple[str, str], int]:
        """Time of the newest message that was written to a session, per (channel, symbol)."""
        found: dict[tuple[str, str], int] = self._ask("newest", keys)
        return found

    def seen(self) -> Seen:
        """What the exchange has seen of its client so far."""
        seen: Seen = self._ask("seen")
        return seen

    def drop(self, code: int | None = None) -> None:
        """Close every connection; see ``AlpacaSimulator.drop``."""
        self._ask("drop", code)

    def send_error(self, code: int) -> None:
        """Send an error message to every session."""
        self._ask("send_error", code)

    def send_garbage(self, kinds: Sequence[str]) -> None:
        """Send frames of these kinds; see ``AlpacaSimulator.send_garbage``. No ledger has them."""
        self._ask("send_garbage", kinds)

    def send_malformed(self, count: int) -> None:
        """Publish quotes of the symbol MALFORMED that nobody can make sense of."""
        self._ask("send_malformed", count)

    def fault(self, name: str, *arguments: object, **options: object) -> None:
        """Call a method of the simulator's ``faults``."""
        self._ask("fault", name, arguments, options)

    def write_ledger(self, path: Path) -> None:
        """Write what was published; see ``Ledger.write``."""
        self._ask("write_ledger", path)

    def _ask(self, name: str, *arguments: object) -> Any:
        try:
            self._pipe.send((name, arguments))
            if not self._pipe.poll(_PATIENCE):
                msg = f"the exchange did not answer to {name!r}"
                raise ExchangeError(msg)
            problem, answer = self._pipe.recv()
        except (EOFError, OSError) as exc:
            msg = "the exchange has ended early"
            raise ExchangeError(msg) from exc
        if problem is not None:
            raise ExchangeError(problem)
        return answer
