"""Some minutes of an exchange, a stream that comes and goes, and a history, all drawn from a seed.

All times are seconds after the start by the bot's clock.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from realtime_stream.market.channels import Subscription
from realtime_stream.runtime.inbox import LostEvents
from tests.unit.test_history_desk import MINUTE, SECOND, SETTINGS, START, minute, past

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from realtime_stream.market.models import Bar
    from realtime_stream.ports import HistoryRequest
    from realtime_stream.runtime.stretch import BackfillSettings

__all__ = ["MINUTES", "UNTIL", "Agenda", "Flavour", "Plan", "Reply", "Session", "Version"]
__all__ += ["drawn", "losses_of", "nanoseconds"]

Kind = Literal["regular", "updated"]

MINUTES = 20
UNTIL = MINUTES * 60.0 + 700.0  # when everything must have come to its end
FOR_EVER = 1e9
SETTLED = (MINUTES - 3) * 60.0  # from here on the connection stands, so that it all comes to an end
SAID: tuple[tuple[Kind, int, float], ...] = (("regular", 100, 0.0), ("updated", 120, 30.0))
SILENCE = 0.01  # seconds; so long at least has nothing come when a time is up


@dataclass(frozen=True)
class Flavour:
    """What may happen beside outages and answers that fail, come late, and in pages."""

    gives_up: bool = False
    drops: bool = False
    restarts: bool = False


@dataclass(frozen=True)
class Version:
    """What the exchange said of a minute, when it said it, and when that would have come."""

    symbol: str
    place: int
    kind: Kind
    volume: int
    sent: float
    received: float

    def live(self) -> Bar:
        """As it comes over the stream."""
        return minute(
            self.place,
            symbol=self.symbol,
            bar_kind=self.kind,
            volume=Decimal(self.volume),
            received_ns=nanoseconds(self.received),
        )


@dataclass(frozen=True)
class Session:
    """A connection: the last frame comes at ``heard_until``, and at ``end`` that is noticed.

    With a ``time_up`` the run's time is up before the end, and another run follows.
    """

    begin: float
    heard_until: float = FOR_EVER
    end: float = FOR_EVER
    time_up: float | None = None

    @property
    def seen_until(self) -> float:
        """When the last frame came of which the bot was told."""
        if self.time_up is None:
            return self.heard_until
        return min(self.heard_until, self.time_up - SILENCE)

    def brings(self, version: Version) -> bool:
        """Whether a bar comes over this connection."""
        return self.begin <= version.sent and version.received <= self.heard_until


@dataclass(frozen=True)
class Reply:
    """How history answers once: by ``known_first`` and ``known`` was sent what its pages hold.

    The first page holds the minutes before ``turn``, if there is one.
    """

    turn: int
    turned: float
    answered: float
    known_first: float
    known: float
    fails: bool


@dataclass(frozen=True)
class Plan:
    """What is to happen.

    Attributes:
        settings: The bot's.
        symbols: What it watches.
        versions: What the exchange says.
        sessions: When it is heard.
        stuck: From when until when callbacks of the bot are stuck.
        behind: How far behind ours the bot takes the exchange's clock to be.
        pace: How fast history answers.
    """

    settings: BackfillSettings
    symbols: tuple[str, ...]
    versions: tuple[Version, ...]
    sessions: tuple[Session, ...]
    stuck: tuple[tuple[float, float], ...]
    behind: float
    pace: Literal["quick", "slow", "changing"]

    def last_versions(self) -> dict[tuple[str, int], Version]:
        """The exchange's last word on each minute."""
        return {(version.symbol, version.place): version for version in self.versions}

    def known(self, request: HistoryRequest, by: float, places: range) -> list[Bar]:
        """What history is asked for and was sent by a time, of some of the minutes."""
        bars: dict[tuple[int, str], Bar] = {}
        for version in self.versions:
            if version.sent <= by and version.place in places:
                bar = past(version.place, symbol=version.symbol, volume=Decimal(version.volume))
                if request.start_ns <= bar.timestamp_ns < request.end_ns:
                    bars[version.place, version.symbol] = bar
        return [bars[key] for key in sorted(bars) if key[1] in request.symbols]

    def reply(self, chance: random.Random, asked: float) -> Reply:
        """How history answers what it is asked now; it may go back behind what it knew before."""
        takes = _answering_time(self.pace, chance)
        lag = self.settings.lag_ns / SECOND
        answered, oldest = asked + takes, asked - lag
        known = chance.choice([oldest, answered, chance.uniform(oldest, answered)])
        turned = asked + takes * chance.random()
        return Reply(
            turn=chance.choice([0, chance.randrange(MINUTES)]),
            turned=turned,
            answered=answered,
            known_first=min(known, turned),
            known=known,
            fails=chance.random() < 0.2,
        )


class Agenda:
    """What is to come; while a callback is stuck, it waits in the inbox.

    Attributes:
        is_stuck: Whether one is.
    """

    def __init__(self) -> None:
        self.is_stuck = False
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._inbox: deque[tuple[Callable[[], None], Version | None]] = deque()
        self._numbers = itertools.count()

    def add(self, moment: float, act: Callable[[], None], version: Version | None = None) -> None:
        """The bot will be told something: of a bar that comes, if it is one."""
        self.add_elsewhere(moment, lambda: self._inbox.append((act, version)))

    def add_elsewhere(self, moment: float, act: Callable[[], None]) -> None:
        """Something will happen that does not wait in the inbox."""
        heapq.heappush(self._coming, (moment, next(self._numbers), act))

    def next_moment(self) -> float:
        """When something happens next."""
        return self._coming[0][0] if self._coming else math.inf

    def proceed(self, now: float) -> None:
        """Let happen what is due."""
        while self.next_moment() <= now:
            heapq.heappop(self._coming)[2]()
            while self._inbox and not self.is_stuck:
                self._inbox.popleft()[0]()

    def drop(self, chance: random.Random) -> list[Version]:
        """The inbox gives up some of the bars that wait in it, the oldest."""
        waiting = [version for _, version in self._inbox if version is not None]
        lost = waiting[: chance.choice([len(waiting), chance.randrange(len(waiting) + 1)])]
        self._inbox = deque(item for item in self._inbox if item[1] not in lost)
        return lost


def losses_of(versions: list[Version]) -> dict[Subscription, LostEvents]:
    """What the desk is told of bars that the inbox gave up."""
    losses: dict[Subscription, LostEvents] = {}
    for version in versions:
        key = Subscription("bars" if version.kind == "regular" else "updated_bars", version.symbol)
        at_ns, received_ns = START + version.place * MINUTE, nanoseconds(version.received)
        lost = losses.setdefault(key, LostEvents(at_ns, at_ns, received_ns, received_ns, 0))
        lost.first_ns, lost.last_ns = min(lost.first_ns, at_ns), max(lost.last_ns, at_ns)
        lost.received_until_ns = received_ns
        lost.count += 1
    return losses


def nanoseconds(moment: float) -> int:
    """A time of the plan, since the epoch."""
    return START + int(moment * SECOND)


def drawn(chance: random.Random, flavour: Flavour) -> Plan:
    """A plan for a world."""
    ahead = chance.choice([0.0, 0.0, 4.9, -4.9, chance.uniform(-4.9, 4.9)])
    symbols = chance.choice([("AAPL",), ("AAPL",), ("AAPL", "MSFT")])
    return Plan(
        settings=replace(
            SETTINGS,
            lag_ns=chance.choice([0, 1, 5, 5, 30, 60]) * SECOND,
            hold=chance.choice([1.0, 10.0, 10.0, 60.0, 200.0]),
            deadline=chance.choice([FOR_EVER, 120.0, 30.0]) if flavour.gives_up else FOR_EVER,
        ),
        symbols=symbols,
        versions=tuple(each for symbol in symbols for each in _versions(chance, symbol, ahead)),
        sessions=_sessions(chance, flavour),
        stuck=_stuck(chance) if flavour.drops else (),
        behind=chance.choice([0.0, max(ahead, 0.0)]),
        pace=chance.choice(["quick", "slow", "changing", "changing"]),
    )


def _versions(chance: random.Random, symbol: str, ahead: float) -> list[Version]:
    """A bar at each minute's end by the exchange's clock, and for half of them an update."""
    busy = chance.choice([1.0, 0.9, 0.4])
    versions: list[Version] = []
    for place in range(MINUTES):
        if chance.random() > busy and place < MINUTES - 2:
            continue
        for kind, volume, later in SAID[: chance.choice([1, 2])]:
            sent = (place + 1) * 60 + later + ahead + chance.uniform(0, 0.05)
            received = sent + chance.choice([0.01, chance.uniform(0, 0.5)])
            versions.append(Version(symbol, place, kind, volume, sent, received))
    return versions


def _sessions(chance: random.Random, flavour: Flavour) -> tuple[Session, ...]:
    """The first one stands at the start, the last one to the end."""
    sessions: list[Session] = []
    begin, lasts = 0.0, chance.uniform(20, 130)
    while begin + lasts < SETTLED:
        end = begin + lasts
        heard_until = max(end - chance.choice([chance.uniform(0, 1), chance.uniform(0, 15)]), begin)
        time_up = None
        if flavour.restarts and chance.random() < 0.5:
            time_up = max(end - chance.uniform(0, 6), begin + SILENCE)
        sessions.append(Session(begin, heard_until, end, time_up))
        begin = end + _short_or_long(chance)
        lasts = _short_or_long(chance)
    return (*sessions, Session(begin))


def _stuck(chance: random.Random) -> tuple[tuple[float, float], ...]:
    spans: list[tuple[float, float]] = []
    begin = chance.uniform(50, 300)
    while begin < SETTLED:
        end = begin + chance.choice([chance.uniform(1, 20), chance.uniform(30, 150)])
        spans.append((begin, end))
        begin = end + chance.uniform(20, 300)
    return tuple(spans)


def _short_or_long(chance: random.Random) -> float:
    return chance.choice([chance.uniform(0.2, 5), chance.uniform(1, 70), chance.uniform(60, 300)])


def _answering_time(pace: str, chance: random.Random) -> float:
    if pace == "quick":
        return chance.uniform(0.01, 0.05)
    if pace == "slow":
        return chance.uniform(5, 40)
    return chance.choice([0.01, 0.05, chance.uniform(0.1, 2), chance.uniform(1, 40)])
