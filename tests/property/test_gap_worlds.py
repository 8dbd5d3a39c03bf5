"""Gaps filled from history, in random worlds.

An exchange sends bars and updates of them, a connection is lost and comes back, history answers
slowly, in pages, with what it knew a while ago, or not at all; the inbox drops bars, and runs end
and begin anew. Whatever happens, the bot ends up with the exchange's last word on each minute. A
world follows from its seed: the one that a failing test names can be run alone, and what happened
in it stands in the failure.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from realtime_stream.errors import HistoryError
from realtime_stream.market.channels import Subscription
from tests.property.support_gap_world import (
    MINUTES,
    UNTIL,
    Agenda,
    Flavour,
    Reply,
    Session,
    Version,
    drawn,
    losses_of,
    nanoseconds,
)
from tests.unit.test_history_desk import MINUTE, START, Bed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.history_worker import HistoryJob

SEEDS = range(150)
FLAVOURS = {"plain": Flavour(gives_up=True), "rough": Flavour(drops=True, restarts=True)}
MOST_STEPS = 20_000
MOST_ASKED = 14  # how often history is asked in 5 s
MOMENT = 1e-6  # seconds; more than the rounding of any sum of times here


class World(Bed):
    """Lets a plan happen to a history desk.

    Attributes:
        plan: What is to happen.
        came: When live bars came (symbol, minute, kind), unless a run ended while they waited.
        longest_wait: Of a live bar, but for those that a stuck callback kept.
        asked: When history was asked.
        dropped: How many bars the inbox gave up.
        runs: How many there were.
        diary: What happened.
    """

    def __init__(self, seed: int, flavour: Flavour) -> None:
        self._chance = random.Random(f"gap world {seed}")  # noqa: S311  # repeatable
        self.plan = drawn(self._chance, flavour)
        super().__init__(self.plan.settings)
        self._keys = [Subscription("bars", symbol) for symbol in self.plan.symbols]
        self.served = frozenset(self._keys)
        self.came: dict[tuple[str, int, str], float] = {}
        self.longest_wait = 0.0
        self.asked: list[float] = []
        self.dropped = 0
        self.runs = 1
        self.diary = [f"{self.plan.settings}, exchange behind by {self.plan.behind:.2f} s"]
        self._agenda = Agenda()
        self._freed = -1.0  # when a callback was last stuck no more
        self._answered = 0.0  # when history is asked again at the earliest

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def run(self) -> World:
        """Let it all happen."""
        self._lay_out()
        for _ in range(MOST_STEPS):
            moment = self._next_moment()
            if moment > UNTIL:
                return self
            self._reach(moment)
        raise AssertionError("\n".join(["time does not get on", *self.diary[-100:]]))

    def _lay_out(self) -> None:
        for session in self.plan.sessions:
            if session.begin:
                self._agenda.add(session.begin, partial(self._begin_session, session))
            if session.time_up is not None:
                self._agenda.add(session.time_up, self._end_time)
            self._agenda.add(session.end, partial(self._end_session, session))
            for version in filter(session.brings, self.plan.versions):
                self._agenda.add(version.received, partial(self._receive, version), version)
        for begin, end in self.plan.stuck:
            self._agenda.add_elsewhere(begin, self._be_stuck)
            self._agenda.add_elsewhere(end, self._be_free)

    def _next_moment(self) -> float:
        moments = [self._agenda.next_moment()]
        if not self._agenda.is_stuck:
            moments.append(self.desk.deadline)
        job = self._next_job()
        if job is not None:
            moments.append(max(job.not_before, self._answered))
        return max(min(moments), self.now)

    def _reach(self, moment: float) -> None:
        if self._agenda.is_stuck:
            self._pass(moment - self.now)
        else:
            self.advance(moment - self.now)
        job = self._next_job()
        if job is not None and max(job.not_before, self._answered) <= self.now:
            self._ask(job)
        self._agenda.proceed(self.now + MOMENT)

    def _note(self, text: str) -> None:
        self.diary.append(f"{self.now:8.2f} {text}")

    # --- history ---

    def _next_job(self) -> HistoryJob | None:
        waiting = (job for job in self.jobs if not job.cancelled.is_set())
        return min(waiting, key=lambda job: job.not_before, default=None)

    def _ask(self, job: HistoryJob) -> None:
        self.jobs.remove(job)
        asked_ns = self.clock.utc_now_ns()
        self.asked.append(self.now)
        reply = self.plan.reply(self._chance, self.now)
        self._answered = reply.answered
        self._note(f"asks for {job.request.symbols}: {reply}")
        if reply.turn:
            turn = partial(self._turn_page, job, reply, asked_ns, self.runs)
            self._agenda.add(reply.turned, turn)
        self._agenda.add(reply.answered, partial(self._hear, job, reply, asked_ns, self.runs))

    def _turn_page(self, job: HistoryJob, reply: Reply, asked_ns: int, run: int) -> None:
        if run == self.runs:
            bars = self.plan.known(job.request, reply.known_first, range(reply.turn))
            self._note(f"first page: {told(bars)}")
            self.page(job, *bars, asked_ns=asked_ns)

    def _hear(self, job: HistoryJob, reply: Reply, asked_ns: int, run: int) -> None:
        if run != self.runs:  # nobody waits for it any more
            return
        if reply.fails:
            self._note("no answer")
            self.done(job, HistoryError("not now"), asked_ns)
            return
        bars = self.plan.known(job.request, reply.known, range(reply.turn, MINUTES))
        self._note(f"answer: {told(bars)}")
        self.page(job, *bars, asked_ns=asked_ns)
        self.done(job, asked_ns=asked_ns)

    # --- the stream ---

    def _begin_session(self, session: Session) -> None:
        self._note(f"connected since {session.begin:.2f}")
        self.desk.connection_whole(nanoseconds(session.begin), self.served, self.registry.routes)

    def _end_time(self) -> None:
        self._note("time is up")
        self.over = True

    def _end_session(self, session: Session) -> None:
        self._note(f"lost, seen until {session.seen_until:.2f}, by time {session.time_up}")
        lost_ns = nanoseconds(session.seen_until - self.plan.behind)
        self.desk.session_lost(self._keys, lost_ns, {"bars": {bar.symbol: 0 for bar in self.seen}})
        if session.time_up is not None:
            self.jobs.clear()
            self.restart()
            self.over = False
            self.runs += 1

    def _receive(self, version: Version) -> None:
        if not self.over:
            self._note(f"bar: {version}")
            self.came[version.symbol, version.place, version.kind] = self.now
            self.live(version.live())

    def _be_stuck(self) -> None:
        self._note("stuck")
        self._agenda.is_stuck = True

    def _be_free(self) -> None:
        lost = self._agenda.drop(self._chance)
        self._note(f"stuck no more; dropped: {lost}")
        self._agenda.is_stuck, self._freed = False, self.now
        self.dropped += len(lost)
        if lost:
            self.desk.events_dropped(losses_of(lost))

    def _time_wait(self, bar: Bar) -> None:
        if self.now != self._freed and not self.over:
            came = self.came[bar.symbol, place_of(bar), bar.bar_kind]
            self.longest_wait = max(self.longest_wait, self.now - came)

    def deliver_live(self, bar: Bar, received: Bar) -> None:
        self._time_wait(received)
        if self.over:  # it had waited until the time was up: lost with the run
            del self.came[bar.symbol, place_of(bar), received.bar_kind]
        else:
            super().deliver_live(bar, received)

    def pass_over(self, bar: Bar) -> None:
        self._time_wait(bar)
        super().pass_over(bar)


def place_of(bar: Bar) -> int:
    """Which minute after the start a bar is of."""
    return (bar.timestamp_ns - START) // MINUTE


def told(bars: Iterable[Bar]) -> str:
    return ", ".join(f"{bar.symbol} {place_of(bar)} {bar.volume}" for bar in bars)


# --- what must hold ---


def wrong_ends(world: World) -> Iterator[str]:
    """The exchange's last word on each minute is the bot's, but where history was given up."""
    volumes = {(bar.symbol, place_of(bar)): int(bar.volume) for bar in world.seen}
    given_up = {
        (report.symbol, place)
        for report in world.reports
        for place in range(MINUTES)
        if not report.complete and report.start_ns <= START + place * MINUTE < report.end_ns
    }
    expected = world.plan.last_versions()
    yield from (f"{minute} is invented" for minute in volumes.keys() - expected.keys())
    for minute in sorted(expected.keys() - given_up):
        if volumes.get(minute) != expected[minute].volume:
            yield f"{minute} ends with {volumes.get(minute)}, not with {expected[minute]}"


def wrong_kinds(world: World) -> Iterator[str]:
    """Each minute comes once as a regular bar, first, and then as updated ones.

    But the very first bar of a symbol is taken for what it says: nobody knows of one before it.
    """
    begun: set[tuple[str, int]] = set()
    symbols: set[str] = set()
    for bar in world.seen:
        minute = (bar.symbol, place_of(bar))
        is_very_first = bar.symbol not in symbols and (*minute, "regular") not in world.came
        is_expected = (bar.bar_kind == "regular") == (minute not in begun)
        if not is_expected and not (is_very_first and bar.source == "stream"):
            yield f"{minute} {'begun' if minute in begun else 'begins'} as {bar.bar_kind}"
        begun.add(minute)
        symbols.add(bar.symbol)


def wrong_order(world: World) -> Iterator[str]:
    """Regular bars of a symbol that are not marked late come in the order of their starts."""
    for symbol in world.plan.symbols:
        bars = (bar for bar in world.seen if bar.symbol == symbol and not bar.is_late)
        for before, bar in pairwise(bar for bar in bars if bar.bar_kind == "regular"):
            if bar.timestamp_ns <= before.timestamp_ns:
                yield f"{symbol} {place_of(bar)} after {place_of(before)}"


def what_is_left(world: World) -> Iterator[str]:
    """Nothing is pending, held or open at the end; nobody waited too long or asked too often."""
    info = world.desk.info()
    if info.pending or info.held or world.series.open_gaps():
        yield f"{info.pending} pending, {info.held} held, open: {world.series.open_gaps()}"
    if world.longest_wait > world.plan.settings.hold + MOMENT:
        yield f"a bar waited {world.longest_wait:.2f} s"
    for first, last in zip(world.asked, world.asked[MOST_ASKED:], strict=False):
        if last < first + 5:
            yield f"asked {MOST_ASKED + 1} times from {first:.2f} to {last:.2f}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_last_word_on_each_minute_comes(flavour: str, seed: int) -> None:
    world = World(seed, FLAVOURS[flavour]).run()
    claims = (wrong_ends, wrong_kinds, wrong_order, what_is_left)
    faults = [fault for claim in claims for fault in claim(world)]
    assert not faults, "\n".join([*faults, *world.diary])


def test_these_worlds_are_not_quiet() -> None:
    plain, rough = ([World(seed, each).run() for seed in SEEDS[:40]] for each in FLAVOURS.values())
    assert sum(not report.complete for world in plain for report in world.reports) > 3
    assert sum(bar.is_late for world in plain for bar in world.seen) > 5
    assert sum(len(world.passed_over) for world in plain) > 5
    assert sum(world.dropped for world in rough) > 30
    assert sum(world.runs - 1 for world in rough) > 40
