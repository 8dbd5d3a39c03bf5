"""What goes wrong on a simulated day: drawn from a seed, and shown so that one can read it.

A day has three tracks. On the one of the connection, one scene follows the other: drops, outages,
sessions that begin slowly. On that of the data, messages come twice or in another order. On that of
history, requests are answered late, with errors, with rubbish or not at all, or with the newest
part still missing. What goes on on one track does not care about the others, but for one thing:
whenever history is in trouble, the connection is soon lost as well, or nobody would notice.

All that is withheld from a session is followed by its end. What a server keeps to itself while the
connection stands is missed by nobody, as no provider could know of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream.simulator import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream.simulator import Fault

__all__ = ["HISTORY_LAG", "SYMBOLS", "Day", "draw_day"]

SYMBOLS: Final = ("AAPL", "AMZN", "MSFT", "NVDA", "SPY")
HISTORY_LAG: Final = 0.4  # seconds of real time by which history may be late

Scene = list[tuple[float, "Fault"]]  # seconds from its beginning

_FIRST: Final = 0.5  # seconds of real time, before the first fault
_CALM: Final = 0.85  # of the day; then only what has begun comes to its end
_RESETS: Final = (None, 1006, 1006, 1001, 1000, 1011)


@dataclass(frozen=True, slots=True)
class Day:
    """Everything that is decided about one day.

    Attributes:
        seed: What it was drawn from; also that of the market.
        minutes: How long it is.
        speed: Seconds of the day per second.
        trades: Trades per symbol and minute.
        late_trades: Of them, those reported after their minute's bar; 0 is one now and then.
        quiet_share: Share of the minutes without trades that have a say in prices.
        hold: Seconds of real time that live bars wait for history.
        faults: What goes wrong, by seconds of real time from the beginning.
    """

    seed: int
    minutes: int
    speed: float
    trades: int
    late_trades: int
    quiet_share: float
    hold: float
    faults: tuple[tuple[float, Fault], ...]

    @property
    def seconds(self) -> float:
        """How long it takes, in real time."""
        return self.minutes * 60 / self.speed

    def __str__(self) -> str:
        """The settings, and a line for each fault with its time in minutes of the day."""
        head = (
            f"day {self.seed}: {self.minutes} minutes at {self.speed:g}, {self.trades} trades a"
            f" minute, late {self.late_trades}, quiet {self.quiet_share}, hold {self.hold} s"
        )
        lines = (
            f"  {at:8.3f} s  minute {at * self.speed / 60:7.2f}  {each}" for at, each in self.faults
        )
        return "\n".join((head, *lines))


def draw_day(seed: int, *, minutes: int, speed: float) -> Day:
    """The day of a seed: the same each time, as long as its length and speed are the same."""
    rng = random.Random(f"day {seed}")  # noqa: S311  # no secret
    end = minutes * 60 / speed * _CALM
    script: Scene = []
    for scenes, pause in ((_CONNECTION, 0.4), (_DATA, 1.0), (_HISTORY, 1.0)):
        at = _FIRST + rng.expovariate(1 / pause)
        while at < end:
            scene = rng.choice(scenes)(rng, speed)
            script += [(at + offset, each) for offset, each in scene]
            at += max(offset for offset, _ in scene) + rng.expovariate(1 / pause)
    return Day(
        seed=seed,
        minutes=minutes,
        speed=speed,
        trades=rng.randint(8, 14),
        late_trades=rng.choice((0, 1, 3)),
        quiet_share=rng.choice((0.0, 0.0, 0.2)),
        hold=rng.choice((0.2, 1.0, 10.0)),
        faults=tuple(sorted(script, key=lambda pair: pair[0])),
    )


# --- the connection ---


def _drop(rng: random.Random, _: float) -> Scene:
    return [(0, fault("drop", code=rng.choice(_RESETS)))]


def _drops(rng: random.Random, _: float) -> Scene:
    """One after the other, so that some hit a session that has only begun."""
    moments = _walk(rng, rng.randint(2, 4), 0.15)
    return [(at, fault("drop", code=rng.choice(_RESETS))) for at in moments]


def _outage(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("refuse_connections")),
        (0, fault("drop", code=rng.choice(_RESETS))),
        (rng.uniform(0.05, 0.8), fault("refuse_connections", on=False)),
    ]


def _silence(rng: random.Random, _: float) -> Scene:
    """The session stands, but nothing comes any more; then it ends.

    The data come back only when nobody is connected: in a session that had begun meanwhile,
    something would be missing that no client could know of.
    """
    silent = rng.uniform(0.05, 0.5)
    return [
        (0, fault("mute")),
        (silent, fault("refuse_connections")),
        (silent, fault("drop", code=rng.choice(_RESETS))),
        (silent + 0.02, fault("mute", on=False)),
        (silent + rng.uniform(0.03, 0.3), fault("refuse_connections", on=False)),
    ]


def _slow_step(rng: random.Random, _: float) -> Scene:
    stage = rng.choice(("http", "greeting", "auth", "subscription", "subscription"))
    return [
        (0, fault("delay_at", stage=stage, seconds=rng.uniform(0.05, 0.5))),
        (0, fault("drop", code=rng.choice(_RESETS))),
        (rng.uniform(0.2, 0.7), fault("delay_at", stage=stage, seconds=0)),
    ]


def _no_answer(rng: random.Random, _: float) -> Scene:
    """A step that is not answered; half the time the server is cut off in the middle of it."""
    scene = [
        (0.0, fault("silent_at", stage=rng.choice(("http", "greeting", "auth", "subscription")))),
        (0.0, fault("drop", code=rng.choice(_RESETS))),
        (rng.uniform(0.1, 0.5), fault("silent_at", stage=None)),
    ]
    if rng.random() < 0.5:
        scene.append((rng.uniform(0.5, 0.6), fault("drop", code=rng.choice(_RESETS))))
    return scene


def _lost_acknowledgement(rng: random.Random, _: float) -> Scene:
    """It serves what was asked for without a word: what comes by then has come."""
    return [
        (0, fault("lose_acknowledgement", times=rng.randint(1, 2))),
        (0, fault("drop", code=rng.choice(_RESETS))),
    ]


def _refused_upgrade(rng: random.Random, _: float) -> Scene:
    status = rng.choice((429, 500, 503))
    return [
        (0, fault("refuse_http", status=status, retry_after=0, times=rng.randint(1, 3))),
        (0, fault("drop", code=rng.choice(_RESETS))),
    ]


# --- the data ---


def _twice(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("duplicate", every=rng.randint(1, 7))),
        (rng.uniform(0.2, 2), fault("duplicate", every=0)),
    ]


def _disorder(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("reorder", window=rng.randint(2, 10))),
        (rng.uniform(0.2, 2), fault("reorder", window=0)),
    ]


def _lag(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("delay", seconds=rng.uniform(0.02, 0.3))),
        (rng.uniform(0.2, 2), fault("delay", seconds=0)),
    ]


# --- history ---


def _rest_errors(rng: random.Random, _: float) -> Scene:
    return [
        (
            0,
            fault(
                "rest_error",
                status=rng.choice((429, 500, 502, 503, 504)),
                times=rng.randint(1, 6),
                retry_after=rng.choice((None, 0, 1)),
            ),
        ),
        *_soon(rng),
    ]


def _rest_slow(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("rest_delay", seconds=rng.uniform(0.05, 0.8), outdated=rng.random() < 0.5)),
        *_soon(rng),
        (rng.uniform(0.5, 2), fault("rest_delay", seconds=0)),
    ]


def _rest_rubbish(rng: random.Random, _: float) -> Scene:
    kind = rng.choice(("text", "cut"))
    return [(0, fault("rest_garbage", kind=kind, times=rng.randint(1, 3))), *_soon(rng)]


def _rest_cut_off(rng: random.Random, _: float) -> Scene:
    return [(0, fault("rest_drop", times=rng.randint(1, 3))), *_soon(rng)]


def _rest_silence(rng: random.Random, _: float) -> Scene:
    """A request is never answered; its connection ends long before anybody's patience."""
    end = rng.uniform(0.4, 1)
    return [
        (0, fault("rest_silent", times=1)),
        *_soon(rng),
        (end, fault("rest_silent", times=0)),
        (end + 0.01, fault("drop", code=rng.choice(_RESETS))),
    ]


def _rest_limit(rng: random.Random, _: float) -> Scene:
    return [
        (0, fault("rest_rate_limit", per_minute=rng.randint(1, 4), minute=1.0)),
        *_soon(rng),
        (rng.uniform(0.5, 1.5), fault("rest_rate_limit", per_minute=None)),
    ]


def _rest_behind(rng: random.Random, speed: float) -> Scene:
    """History is behind: less than it was announced to be (see ``HISTORY_LAG``)."""
    return [
        (0, fault("history_lag", seconds=rng.uniform(0.02, 0.3) * speed)),
        *_soon(rng),
        (rng.uniform(0.5, 2), fault("history_lag", seconds=0)),
    ]


def _soon(rng: random.Random) -> Scene:
    return [(rng.uniform(0, 0.3), fault("drop", code=rng.choice(_RESETS)))]


def _walk(rng: random.Random, steps: int, mean: float) -> Iterator[float]:
    at = 0.0
    for _ in range(steps):
        yield at
        at += rng.expovariate(1 / mean)


_CONNECTION: Final[tuple[Callable[[random.Random, float], Scene], ...]] = (
    _drop,
    _drop,
    _drops,
    _outage,
    _outage,
    _silence,
    _slow_step,
    _no_answer,
    _lost_acknowledgement,
    _refused_upgrade,
)
_DATA: Final[tuple[Callable[[random.Random, float], Scene], ...]] = (_twice, _disorder, _lag)
_HISTORY: Final[tuple[Callable[[random.Random, float], Scene], ...]] = (
    _rest_errors,
    _rest_slow,
    _rest_rubbish,
    _rest_cut_off,
    _rest_silence,
    _rest_limit,
    _rest_behind,
)
