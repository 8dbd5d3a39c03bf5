"""Look-back that registrations want before their first live bar."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from realtime_stream.errors import HistoryError, HistoryRefusedError, HistoryUnavailableError
from realtime_stream.market.channels import MARKET_CHANNELS
from realtime_stream.ports import BackfillEvent, HistoryRequest
from realtime_stream.runtime.series_spec import SeriesSpec, series_spec
from tests.unit.test_history_desk import (
    MINUTE,
    SECOND,
    SETTINGS,
    START,
    Bed,
    minute,
    past,
    trade,
)

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar

OF_BARS = SeriesSpec("5m", "bars")


def fives(bars: list[Bar]) -> list[int]:
    return [(bar.timestamp_ns - START) // (5 * MINUTE) for bar in bars]


def five(n: int, close: str = "10", **fields: object) -> Bar:
    received_ns = START + (5 * n + 5) * MINUTE + SECOND
    return past(5 * n, close, timeframe="5m", received_ns=received_ns, **fields)


@pytest.fixture
def bed() -> Bed:
    """14:30:20, connected."""
    bed = Bed(at=920)
    bed.whole()
    return bed


# --- what is asked for ---


@pytest.mark.parametrize(
    ("timeframe", "minutes", "days"), [("1m", 5 * 3, 10), ("1h", 5 * 180, 10), ("1d", 0, 10 + 6)]
)
def test_a_number_of_bars_is_looked_for_far_back(timeframe: str, minutes: int, days: int) -> None:
    """Nights, weekends and quiet times lie between them."""
    bed = Bed(at=920)
    bed.whole()
    spec = series_spec(timeframe, None, fill=False, channels=MARKET_CHANNELS["stocks"])
    bed.register(3, series=spec)
    request = bed.jobs[0].request
    assert (request.symbols, request.timeframe, request.newest) == (("AAPL",), timeframe, 3)
    assert request.end_ns - request.start_ns == minutes * MINUTE + days * 86_400 * SECOND


def test_a_time_is_asked_for_as_such(bed: Bed) -> None:
    bed.register(timedelta(minutes=10))
    end_ns = START + 15 * MINUTE
    assert bed.jobs[0].request == HistoryRequest(
        "bars", ("AAPL",), end_ns - 10 * MINUTE, end_ns, "1m", None
    )


def test_minutes_of_the_interval_that_runs_are_asked_for_too(bed: Bed) -> None:
    bed.advance(130)  # 14:32:30
    bed.register(3, series=OF_BARS)
    assert [job.request.timeframe for job in bed.jobs] == ["5m", "1m"]
    assert bed.jobs[0].request.end_ns == START + 15 * MINUTE
    assert bed.jobs[1].request == HistoryRequest(
        "bars", ("AAPL",), START + 15 * MINUTE, START + 17 * MINUTE
    )


@pytest.mark.parametrize("spec", [SeriesSpec("5m", "trades"), SeriesSpec("1d", "daily_bars")])
def test_what_is_not_built_of_minutes_needs_none(bed: Bed, spec: SeriesSpec) -> None:
    bed.register(3, series=spec)
    assert [job.request.timeframe for job in bed.jobs] == [spec.timeframe]


def test_each_registration_and_symbol_gets_its_own_once(bed: Bed) -> None:
    bed.register(3, symbols=("AAPL", "MSFT"))
    bed.register(2)
    bed.register()
    asked = [(job.request.symbols, job.request.newest) for job in bed.jobs]
    assert asked == [(("AAPL",), 3), (("MSFT",), 3), (("AAPL",), 2)]
    bed.follow()
    bed.lose()
    bed.whole()
    assert len([job for job in bed.jobs if job.request.newest]) == 3


# --- what comes of it ---


def test_look_back_comes_before_the_first_live_bar(bed: Bed) -> None:
    got, other = bed.register(3), bed.register()
    bed.live(minute(15))
    assert got == []
    assert bed.minutes(other) == [15]
    assert bed.desk.info().held == 0
    bed.answer(bed.jobs[0], past(12), past(13), past(14))
    assert bed.minutes(got) == [12, 13, 14, 15]
    assert [bar.source for bar in got] == ["backfill"] * 3 + ["stream"]
    assert bed.minutes(other) == [15]
    first_ns, end_ns = START + 12 * MINUTE, START + 15 * MINUTE
    assert bed.reports == [
        BackfillEvent("bars", "AAPL", first_ns, end_ns, 3, 3, complete=True, purpose="look_back")
    ]
    assert bed.desk.deadline == math.inf
    recent = bed.lookback.recent("AAPL", 10, "1m", ["bars"])
    assert bed.minutes(recent) == [12, 13, 14, 15]


def test_pages_come_together_and_repeat_each_other(bed: Bed) -> None:
    got = bed.register(4)
    (job,) = bed.jobs
    bed.page(job, past(13), past(14, "11"))
    bed.page(job, past(11), past(12), past(14))
    assert got == []
    bed.done(job)
    assert bed.minutes(got) == [11, 12, 13, 14]
    assert got[-1].close == 10
    assert bed.taken == 2


def test_more_than_was_asked_for_is_cut(bed: Bed) -> None:
    got = bed.register(2)
    bed.answer(bed.jobs[0], *(past(n) for n in range(10, 15)))
    assert bed.minutes(got) == [13, 14]


def test_fewer_than_were_asked_for_are_all_there_are(bed: Bed) -> None:
    got = bed.register(50)
    bed.answer(bed.jobs[0], past(14))
    assert bed.minutes(got) == [14]
    assert bed.reports[0].complete


def test_nothing_at_all_is_an_answer_once_history_must_have_it(bed: Bed) -> None:
    got = bed.register(50)
    bed.answer(bed.jobs[0])
    assert got == []
    end_ns = START + 15 * MINUTE
    assert bed.reports == [
        BackfillEvent("bars", "AAPL", end_ns, end_ns, 0, 0, complete=True, purpose="look_back")
    ]


def test_the_newest_bar_may_not_be_in_history_yet() -> None:
    bed = Bed(at=901)  # 14:30:01
    bed.whole()
    got = bed.register(3)
    bed.answer(bed.jobs[0], past(12), past(13))
    assert got == []
    again = bed.jobs[1]
    assert again.request == bed.jobs[0].request
    assert 0 < again.not_before - bed.clock.monotonic() <= 1
    bed.advance(1)
    bed.answer(again, past(12), past(13), past(14))
    assert bed.minutes(got) == [12, 13, 14]
    assert bed.reports[0].complete


def test_a_clock_that_is_ahead_does_not_cut_the_newest_bar_off() -> None:
    """By five seconds: the exchange sent minute 14 when it was 14:30:05 here."""
    bed = Bed(at=905)
    bed.whole()
    got = bed.register(3)
    bed.answer(bed.jobs[0], past(12), past(13))
    assert got == []
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 1
    bed.advance(5)
    bed.answer(bed.jobs[-1], past(12), past(13), past(14))
    assert bed.minutes(got) == [12, 13, 14]


def test_what_was_not_over_when_history_was_asked_is_left_out() -> None:
    bed = Bed(at=890)
    bed.whole()
    got = bed.register(3)
    bed.advance(20)
    bed.page(bed.jobs[0], past(12), past(13), past(14), asked_ns=START + 890 * SECOND)
    bed.done(bed.jobs[0])
    assert bed.minutes(got) == [12, 13]


def test_look_back_that_the_end_of_a_run_cut_off_comes_in_the_next(bed: Bed) -> None:
    got: list[Bar] = []

    def use_the_time_up(bar: Bar) -> None:
        got.append(bar)
        bed.over = True

    bed.registry.add("bars", use_the_time_up, ["AAPL"], history=3)
    bed.follow()
    bed.answer(bed.jobs[0], past(13), past(14))
    bed.restart()
    bed.over = False
    bed.whole()
    assert len(bed.jobs) == 2


def test_an_interval_that_is_not_over_is_left_out(bed: Bed) -> None:
    got = bed.register(timedelta(minutes=10))
    bed.answer(bed.jobs[0], past(14), past(15))
    assert bed.minutes(got) == [14]


def test_what_history_has_wrong_is_left_out(bed: Bed) -> None:
    got = bed.register(3)
    wrong = past(13, low=Decimal(12))
    bed.answer(bed.jobs[0], past(12), wrong, past(14))
    assert bed.minutes(got) == [12, 14]
    assert bed.rejected == [wrong]


def test_what_was_delivered_live_stays_what_is_known(bed: Bed) -> None:
    bed.live(minute(13, "11"), minute(14, "12"))
    got = bed.register(3)
    bed.answer(bed.jobs[0], past(12), past(13), past(14))
    assert bed.minutes(got) == [12, 13, 14]
    recent = bed.lookback.recent("AAPL", 9, "1m", ["bars"])
    assert [bar.source for bar in recent] == ["backfill", "stream", "stream"]
    bed.live(minute(14, "13", bar_kind="updated"))
    assert bed.seen[-1].bar_kind == "updated"


def test_a_bar_that_waits_and_is_in_the_look_back_reaches_those_who_have_none(
    bed: Bed,
) -> None:
    """Only one registration is given the look-back: the others must not lose the live bar."""
    bed.advance(40)  # 14:31:00: minute 15 is over, and on its way
    plain, warm = bed.register(), bed.register(3)
    bed.live(minute(15))
    bed.answer(bed.jobs[0], past(13), past(14), past(15))
    assert bed.minutes(warm) == [13, 14, 15]
    assert bed.minutes(plain) == [15]


def test_a_bar_that_waits_and_is_in_the_look_back_is_in_the_bars_that_are_built() -> None:
    bed = Bed(at=895)
    bed.whole()
    fiver = bed.register(series=OF_BARS)
    bed.live(*(minute(n) for n in range(15, 19)))
    bed.advance(305)
    bed.register(3)  # 14:35:00: minute 19 is over, and on its way
    bed.live(minute(19))
    bed.answer(bed.jobs[-1], past(17), past(18), past(19))
    bed.advance(10)
    assert [(bar.trade_count, bar.is_partial) for bar in fiver] == [(25, False)]


# --- the interval that runs ---


def test_the_interval_that_runs_is_built_on(bed: Bed) -> None:
    got = bed.register(2, series=OF_BARS)
    assert len(bed.jobs) == 1  # no minute of it is over
    bed.answer(bed.jobs[0], five(1), five(2))
    assert fives(got) == [1, 2]
    bed.live(*(minute(n) for n in range(15, 20)))
    bed.build()
    assert fives(got) == [1, 2, 3]
    assert (got[-1].trade_count, got[-1].is_partial) == (25, False)


def test_the_first_live_bar_has_the_minutes_from_before_the_start() -> None:
    bed = Bed(at=1050)  # 14:32:30
    bed.whole()
    got = bed.register(2, series=OF_BARS)
    bed.answer(bed.jobs[0], five(1), five(2))
    assert got == []
    bed.answer(bed.jobs[1], past(15, "12"), past(16))
    assert fives(got) == [1, 2]
    bed.advance(150)
    bed.live(minute(17), minute(18), minute(19))
    bed.build()
    assert fives(got) == [1, 2, 3]
    assert [got[-1].high, got[-1].trade_count, got[-1].is_partial] == [12, 25, False]
    minutes = bed.lookback.recent("AAPL", 9, "1m", ["bars"])
    assert bed.minutes(minutes) == [17, 18, 19]  # what was delivered


def test_a_minute_that_was_seen_is_not_fed_twice() -> None:
    bed = Bed(at=1050)
    bed.whole()
    bed.live(minute(16, "13"))
    got = bed.register(2, series=OF_BARS)
    bed.answer(bed.jobs[0], five(2))
    bed.answer(bed.jobs[1], past(15), past(16, "11"))
    bed.advance(150)
    bed.live(minute(17), minute(18), minute(19))
    bed.build()
    assert got[-1].trade_count == 25 or bed.lookback.find("AAPL", "1m", "bars", START) is None


def test_minutes_that_history_has_wrong_are_not_built_of() -> None:
    bed = Bed(at=1050)
    bed.whole()
    got = bed.register(2, series=OF_BARS)
    wrong = past(15, low=Decimal(12))
    bed.answer(bed.jobs[1], wrong, past(16))
    bed.answer(bed.jobs[0], five(2))
    assert bed.rejected == [wrong]
    bed.live(minute(17), minute(18), minute(19))
    bed.build()
    assert got[-1].trade_count == 20


def test_without_the_minutes_from_before_the_first_live_bar_is_partial() -> None:
    bed = Bed(at=1050)
    bed.whole()
    got = bed.register(2, series=OF_BARS)
    bed.answer(bed.jobs[0], five(2))
    bed.done(bed.jobs[1], HistoryRefusedError("no"))
    bed.advance(150)
    bed.live(minute(17), minute(18), minute(19))
    bed.build()
    assert fives(got) == [2, 3]
    assert got[-1].is_partial
    assert not bed.reports[0].complete
    assert bed.reports[0].reason == "no"


def test_an_update_of_a_minute_in_the_look_back_makes_no_bar_of_it_alone(bed: Bed) -> None:
    """Alpaca's come half a minute after their minute's end: right after a start."""
    got = bed.register(2, series=OF_BARS)
    bed.answer(bed.jobs[0], five(1), five(2))
    bed.advance(10)
    bed.live(minute(14, "11", bar_kind="updated"))
    bed.advance(5)
    regular = [bar for bar in got if bar.bar_kind == "regular"]
    assert fives(regular) == [1, 2]
    known = bed.lookback.find("AAPL", "5m", "bars", START + 10 * MINUTE)
    assert known is not None
    assert not known.is_partial


def test_a_start_right_before_the_end_of_an_interval_gives_each_bar_once() -> None:
    """14:29:58: the interval that ends in two seconds comes from history or is built, whole."""
    bed = Bed(at=898)
    bed.whole()
    got = bed.register(2, series=OF_BARS)
    bed.advance(2.5)
    bed.live(minute(14, "12"))
    for job in list(bed.jobs):
        if job.request.timeframe == "5m":
            bed.answer(job, five(1), five(2, trade_count=25))
        else:
            wanted = [past(n) for n in range(10, 15)]
            first, last = job.request.start_ns, job.request.end_ns
            bed.answer(job, *(bar for bar in wanted if first <= bar.timestamp_ns < last))
    bed.advance(30)
    assert [each for each in fives(got) if each == 2] == [2]
    assert [bar.trade_count for bar in got if fives([bar]) == [2]] == [25]


# --- failures ---


def test_what_fails_is_tried_again_and_what_works_then_is_complete(bed: Bed) -> None:
    got = bed.register(2)
    pauses = []
    for _ in range(8):
        bed.done(bed.jobs[-1], HistoryError("reset"))
        pauses.append(bed.jobs[-1].not_before - bed.clock.monotonic())
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    bed.answer(bed.jobs[-1], past(13), past(14))
    assert bed.minutes(got) == [13, 14]
    assert bed.reports[0].complete
    assert bed.reports[0].reason == ""


def test_minutes_that_failed_at_first_count_in_full_and_once() -> None:
    bed = Bed(at=1050)
    bed.whole()
    got = bed.register(2, series=OF_BARS)
    bed.answer(bed.jobs[0], five(2))
    bed.page(bed.jobs[1], past(15))
    bed.done(bed.jobs[1], HistoryError("reset"))
    bed.answer(bed.jobs[2], past(15), past(16))
    bed.advance(150)
    bed.live(minute(17), minute(18), minute(19))
    bed.build()
    assert (got[-1].trade_count, got[-1].is_partial) == (25, False)


def test_a_refusal_ends_the_wait(bed: Bed) -> None:
    got = bed.register(2)
    bed.advance(45)
    bed.live(minute(15))
    bed.done(bed.jobs[0], HistoryRefusedError("not in the plan"))
    assert len(bed.jobs) == 1
    assert bed.minutes(got) == [15]
    assert (bed.reports[0].complete, bed.reports[0].reason) == (False, "not in the plan")


def test_what_goes_on_failing_is_given_up_at_the_deadline(bed: Bed) -> None:
    bed.register(2)
    bed.advance(119.8)
    bed.done(bed.jobs[0], HistoryError("reset"))
    assert len(bed.jobs) == 1
    assert (bed.reports[0].complete, bed.reports[0].reason) == (False, "reset")


def test_what_never_answers_is_given_up_at_the_deadline(bed: Bed) -> None:
    got = bed.register(2)
    bed.page(bed.jobs[0], past(13))
    bed.advance(120)
    assert bed.jobs[0].cancelled.is_set()
    assert not bed.reports[0].complete
    assert bed.reports[0].reason
    assert bed.minutes(got) == [13]
    bed.done(bed.jobs[0])
    assert len(bed.reports) == 1


def test_what_never_becomes_complete_is_given_up_at_the_deadline() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=3600 * SECOND), at=920)
    bed.whole()
    got = bed.register(3)
    bed.answer(bed.jobs[0], past(12), past(13))
    bed.advance(120)
    bed.answer(bed.jobs[-1], past(12), past(13))
    assert bed.minutes(got) == [12, 13]
    assert len(bed.reports) == 1


def test_what_is_too_recent_is_left_out_and_the_rest_is_given(bed: Bed) -> None:
    """A plan without the newest 15 minutes has the bars before them."""
    got = bed.register(2)
    job = bed.jobs[0]
    available_ns = job.request.end_ns + 900 * SECOND
    bed.done(job, HistoryUnavailableError("too recent", available_ns=available_ns))
    cut = bed.jobs[1]
    assert cut.request.end_ns == bed.clock.utc_now_ns() - 900 * SECOND
    assert (cut.request.newest, cut.not_before) == (2, 0.0)
    bed.answer(cut, past(-2), past(-1))
    assert bed.minutes(got) == [-2, -1]
    assert (bed.reports[0].complete, bed.reports[0].reason) == (False, "too recent")


def test_what_is_too_recent_twice_is_given_up(bed: Bed) -> None:
    bed.register(2)
    for _ in range(2):
        available_ns = bed.jobs[-1].request.end_ns + 900 * SECOND
        bed.done(bed.jobs[-1], HistoryUnavailableError("too recent", available_ns=available_ns))
    assert len(bed.jobs) == 2
    assert not bed.reports[0].complete


# --- the hold ---


def test_a_hold_that_lasts_too_long_lets_live_bars_go_and_look_back_comes_late(
    bed: Bed,
) -> None:
    got = bed.register(2)
    bed.advance(9.9)
    bed.live(minute(15, received_ns=bed.clock.utc_now_ns()))
    assert got == []
    bed.advance(0.1)
    assert bed.minutes(got) == [15]
    assert bed.desk.deadline == bed.clock.monotonic() + 110  # when it is given up
    bed.answer(bed.jobs[0], past(13), past(14))
    assert bed.minutes(got) == [15, 13, 14]
    assert [bar.is_late for bar in got] == [False, True, True]


def test_too_many_waiting_bars_end_the_wait() -> None:
    bed = Bed(replace(SETTINGS, hold_bars=2), at=920)
    bed.whole()
    got = bed.register(2)
    bed.live(minute(15), minute(16), minute(17))
    bed.desk.expire(bed.clock.monotonic())
    assert bed.minutes(got) == [15, 16, 17]


def test_the_end_of_a_run_lets_live_bars_go(bed: Bed) -> None:
    got = bed.register(3)
    job = bed.jobs[0]
    bed.page(job, past(13), past(14))
    bed.live(minute(15))
    bed.desk.finish()
    assert bed.minutes(got) == [15]
    assert bed.reports == []
    assert job.cancelled.is_set()
    bed.done(job)
    assert bed.reports == []


def test_look_back_that_a_restart_cut_short_is_asked_for_again(bed: Bed) -> None:
    got = bed.register(2)
    bed.restart()
    bed.whole()
    assert [job.request.newest for job in bed.jobs] == [2, 2]
    bed.answer(bed.jobs[1], past(13), past(14))
    assert bed.minutes(got) == [13, 14]
    bed.restart()
    bed.whole()
    assert len(bed.jobs) == 2


def test_bars_that_are_built_of_trades_wait_for_the_look_back_too() -> None:
    bed = Bed(replace(SETTINGS, hold=30.0), at=950)
    bed.whole()
    got = bed.register(2, series=SeriesSpec("1m", "trades"))
    bed.live_trade(trade(952, 1))
    bed.advance(13)  # 14:31:03: the bar of 14:30 is due
    assert bed.minutes(bed.built) == [15]
    assert got == []
    bed.answer(bed.jobs[0], past(13), past(14))
    assert bed.minutes(got) == [13, 14, 15]


def test_a_bar_that_history_has_whole_and_was_built_in_part_is_given_whole() -> None:
    bed = Bed(replace(SETTINGS, hold=30.0), at=957)  # look-back goes to 14:31
    bed.whole()
    got = bed.register(2, series=SeriesSpec("1m", "trades"))
    bed.live_trade(trade(958, 1))
    bed.advance(5)
    assert [bar.is_partial for bar in bed.built] == [True]
    bed.answer(bed.jobs[0], past(14), past(15))
    assert [(bar.source, bar.is_partial) for bar in got] == [("backfill", False)] * 2
    known = bed.lookback.find("AAPL", "1m", "trades", START + 15 * MINUTE)
    assert known is not None
    assert not known.is_partial
