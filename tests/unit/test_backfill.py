"""Gaps filled from history: what is asked for, what comes of it, and when it is over."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest

from realtime_stream.errors import (
    HistoryError,
    HistoryRefusedError,
    HistoryUnavailableError,
    StreamingError,
)
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import BackfillEvent, Gap, GapEntry, HistoryRequest
from realtime_stream.runtime.inbox import LostEvents
from realtime_stream.runtime.series_spec import SeriesSpec
from tests.unit.test_history_desk import (
    BARS,
    MINUTE,
    SECOND,
    SETTINGS,
    START,
    TRADES,
    Bed,
    lost_and_back,
    minute,
    past,
    trade,
)

BOTH = replace(SETTINGS, channels=frozenset({"bars", "trades"}))
OF_BARS = SeriesSpec("5m", "bars")
OF_TRADES = SeriesSpec("1m", "trades")
EVERYTHING = tuple(past(n) for n in range(4))


def losses(first: int, last: int, channel: str = "bars") -> dict[Subscription, LostEvents]:
    """The inbox gave up the bars from one minute to another."""
    first_ns, last_ns = START + first * MINUTE, START + last * MINUTE
    sent_ns = MINUTE + (30 * SECOND if channel == "updated_bars" else 0)
    return {
        Subscription(channel, "AAPL"): LostEvents(
            first_ns, last_ns, first_ns + sent_ns, last_ns + sent_ns
        )
    }


# --- what is asked for ---


def test_history_is_asked_from_before_the_loss_to_the_minute_that_still_runs() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    assert job.request == HistoryRequest("bars", ("AAPL",), START, START + 4 * MINUTE)
    assert job.not_before <= bed.clock.monotonic()
    assert bed.desk.info().pending == 1


def test_trades_are_asked_for_until_a_moment_beyond_now_as_clocks_differ() -> None:
    bed = Bed(BOTH)
    bed.advance(150)
    bed.lose(TRADES)
    bed.advance(92)
    bed.whole()
    lost_ns = START + 150 * SECOND
    assert bed.jobs[0].request == HistoryRequest(
        "trades", ("AAPL",), lost_ns - 15 * SECOND, START + 247 * SECOND
    )


def test_of_what_had_not_come_before_nothing_older_is_asked_for() -> None:
    bed = Bed(BOTH, at=150)
    bed.lose(BARS, TRADES, seen=())
    bed.advance(92)
    bed.whole()
    starts = {job.request.channel: job.request.start_ns for job in bed.jobs}
    assert starts == {"bars": START + 2 * MINUTE, "trades": START + 144 * SECOND}


def test_symbols_with_the_same_gap_share_a_request() -> None:
    bed = Bed(BOTH, at=150)
    more = [Subscription("bars", symbol) for symbol in ("MSFT", "SPY")]
    bed.served |= frozenset(more)
    bed.lose(BARS, TRADES, *more)
    bed.advance(92)
    bed.whole()
    assert [job.request.symbols for job in bed.jobs] == [("AAPL", "MSFT", "SPY"), ("AAPL",)]
    bed.answer(bed.jobs[0], past(2), past(2, symbol="SPY"), past(3, symbol="SPY"))
    assert [event.symbol for event in bed.reports] == ["SPY"]
    assert bed.jobs[2].request.symbols == ("AAPL", "MSFT")


@pytest.mark.parametrize(
    "key", [("bars", "*"), ("quotes", "AAPL"), ("updated_bars", "AAPL"), ("trades", "AAPL")]
)
def test_what_is_not_to_be_filled_is_not_asked_for(key: tuple[str, str]) -> None:
    bed = Bed()
    bed.lose(Subscription(*key))
    bed.whole()
    assert bed.jobs == []
    assert bed.desk.info().pending == 0


# --- what comes of it ---


def test_what_was_missed_comes_once_in_order_before_what_is_newer() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.live(minute(4))
    bed.answer(job, *EVERYTHING)
    bed.live(minute(5))
    assert bed.minutes() == [0, 1, 2, 3, 4, 5]
    assert [bar.source for bar in bed.seen] == ["stream"] * 2 + ["backfill"] * 2 + ["stream"] * 2
    assert not any(bar.is_late for bar in bed.seen)
    assert {bar.bar_kind for bar in bed.seen} == {"regular"}
    report = BackfillEvent("bars", "AAPL", START, START + 4 * MINUTE, 4, 2, complete=True)
    assert bed.reports == [report]
    assert bed.gaps == []
    info = bed.desk.info()
    assert (info.pending, info.filled, info.failed, info.bars, info.held) == (0, 1, 0, 2, 0)
    assert bed.taken == 1


def test_a_bar_that_history_knows_better_comes_as_an_update() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    better = past(1, "11", trade_count=6)
    bed.answer(job, past(0), better, past(2), past(3))
    assert [bar.bar_kind for bar in bed.seen] == [*["regular"] * 2, "updated", *["regular"] * 2]
    assert bed.minutes() == [0, 1, 1, 2, 3]
    known = bed.lookback.find("AAPL", "1m", "bars", START + MINUTE)
    assert known is not None
    assert (known.close, known.bar_kind) == (Decimal(11), "updated")


def test_history_may_not_have_heard_yet_of_an_update_that_has_just_come() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=60 * SECOND))
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.live(minute(0, "9", bar_kind="updated", received_ns=START + 90 * SECOND))
    bed.live(minute(1, "9", bar_kind="updated", received_ns=START + 149 * SECOND))
    bed.lose()
    bed.advance(50)
    bed.whole()
    bed.page(bed.jobs[0], past(0), past(1), past(2))
    assert [(bar.bar_kind, bar.close) for bar in bed.seen[4:]] == [
        ("updated", Decimal(10)),  # of minute 0, which history has had time enough for
        ("regular", Decimal(10)),
    ]


def test_nor_of_one_that_was_the_first_that_was_seen_of_its_minute() -> None:
    bed = Bed()
    bed.live(minute(0), minute(1))
    bed.advance(215)
    bed.lose()
    bed.advance(1)
    bed.whole()  # the bar of minute 2 was lost
    bed.advance(7)
    updated = {"bar_kind": "updated", "volume": Decimal(101)}
    bed.advance(4)  # the hold is over
    bed.live(minute(2, "12", received_ns=START + 212 * SECOND, **updated))
    assert bed.seen[-1].bar_kind == "regular"
    bed.page(bed.jobs[0], *EVERYTHING[:3], asked_ns=START + 216 * SECOND)
    assert bed.seen[-1].close == Decimal(12)
    bed.page(bed.jobs[0], past(2, "13"), asked_ns=START + 218 * SECOND)
    assert bed.seen[-1].close == Decimal(13)


def test_bars_that_count_no_trades_are_compared_by_what_they_say() -> None:
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0, trade_count=None), minute(1, trade_count=None))
    bed.lose()
    bed.advance(92)
    bed.whole()
    first, second = past(0, trade_count=None), past(1, "11", trade_count=None)
    bed.answer(bed.jobs[0], first, second, past(2), past(3))
    assert bed.minutes() == [0, 1, 1, 2, 3]


def test_average_prices_may_be_rounded_differently() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.answer(job, past(0, vwap=Decimal("10.0001")), past(1), past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3]


def test_a_minute_that_is_not_over_is_left_out() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.page(job, past(2), past(3), past(4))
    assert bed.minutes() == [0, 1, 2, 3]
    bed.done(job)
    assert bed.reports[0].fetched == 2


def test_what_history_has_wrong_is_kept_from_everybody() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    wrong = past(2, low=Decimal(12))
    bed.answer(job, past(0), past(1), wrong, past(3))
    assert bed.minutes() == [0, 1, 3]
    assert bed.rejected == [wrong]
    assert bed.reports[0].delivered == 1


def test_an_update_that_history_has_wrong_is_kept_from_everybody_too() -> None:
    """The same rules for all data: also for a bar that would replace one that is there."""
    bed = Bed()
    job = lost_and_back(bed)
    wrong = past(1, low=Decimal(12), trade_count=6)
    bed.answer(job, past(0), wrong, past(2), past(3))
    assert bed.rejected == [wrong]
    assert bed.minutes() == [0, 1, 2, 3]


def test_bars_of_symbols_that_nobody_asked_about_are_left_out() -> None:
    bed = Bed(BOTH)
    job = lost_and_back(bed)
    bed.page(job, past(2, symbol="MSFT"))
    bed.page(job, trade(150, symbol="MSFT"))
    assert bed.minutes() == [0, 1]
    assert bed.trades == []
    assert bed.taken == 2


def test_trades_come_once_and_into_the_bars_that_are_built_of_them() -> None:
    bed = Bed(BOTH)
    bed.want(OF_TRADES)
    bed.series.watch([TRADES], START)
    bed.advance(10)
    bed.live_trade(trade(5, 1))
    bed.lose(TRADES)
    bed.advance(92)
    bed.whole()
    assert bed.built == []
    bed.page(bed.jobs[0], trade(5, 1), trade(20, 2, price=Decimal(12)), trade(70, 3))
    bed.advance(5)  # by now history has it all
    bed.done(bed.jobs[0])
    assert [each.trade_id for each in bed.trades] == [1, 2, 3]
    assert bed.reports[0].fetched == 3
    assert bed.reports[0].delivered == 2
    assert bed.desk.info().trades == 2
    bed.advance(0)
    assert [bar.high for bar in bed.built] == [Decimal(12)]
    assert not bed.built[0].is_partial


def test_what_history_brings_again_is_no_news_however_much_there_is_of_it() -> None:
    bed = Bed(at=150)
    bed.lose()
    bed.advance(1000 * 60 + 2 - 150)
    bed.whole()
    many = [past(n) for n in range(999)]
    bed.answer(bed.jobs[0], *many)
    bed.answer(bed.jobs[1], *many, past(999))
    assert bed.minutes() == list(range(1000))
    assert bed.reports[0].delivered == 1000


def test_trades_that_history_brings_again_are_no_news() -> None:
    bed = Bed(BOTH)
    bed.lose(TRADES)
    bed.advance(30)
    bed.whole()
    bed.answer(bed.jobs[0], trade(5, 1), trade(28, 2))
    bed.answer(bed.jobs[1], trade(5, 1), trade(28, 2), trade(30, 3))
    assert [each.trade_id for each in bed.trades] == [1, 2, 3]
    assert len(bed.meeting) == 3
    bed = Bed(BOTH)
    bed.lose(TRADES)
    bed.advance(3600)
    bed.whole()
    bed.page(bed.jobs[0], trade(5, 1), trade(3598, 2))
    assert bed.meeting == [False, True]  # near the end of the gap they may come live too


# --- a live bar beside what history has brought ---


def test_a_live_bar_that_history_has_brought_is_old_news() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.answer(job, *EVERYTHING)
    bed.live(minute(3))
    assert bed.minutes() == [0, 1, 2, 3]
    assert bed.minutes(bed.passed_over) == [3]
    assert bed.desk.info().superseded == 1


def test_a_regular_bar_is_not_newer_than_a_history_that_was_asked_after_its_minute() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    over_ns = START + 4 * MINUTE + 5 * SECOND  # for sure: clocks differ
    bed.page(job, *EVERYTHING, asked_ns=over_ns)
    bed.done(job, asked_ns=over_ns)
    bed.live(minute(3, "12", trade_count=9))
    assert bed.minutes() == [0, 1, 2, 3]
    assert bed.desk.info().superseded == 1


def test_history_that_was_asked_while_the_minute_may_have_run_knew_a_part_of_it() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    soon_ns = START + 4 * MINUTE - 3 * SECOND
    bed.page(job, *EVERYTHING, asked_ns=soon_ns)
    bed.done(job, asked_ns=soon_ns)
    bed.live(minute(3, "12", volume=Decimal(101)))
    assert bed.minutes() == [0, 1, 2, 3, 3]
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(12))


def test_history_that_was_asked_so_early_may_have_answered_when_it_knew_more() -> None:
    """Even the updated bar, if the answer was long in coming."""
    bed = Bed()
    job = lost_and_back(bed)
    soon_ns = START + 4 * MINUTE + 2 * SECOND
    bed.page(job, past(2), past(3, "12", volume=Decimal(101)), asked_ns=soon_ns)
    bed.done(job, asked_ns=soon_ns)
    bed.live(minute(3))
    assert [bar.close for bar in bed.seen] == [Decimal(10)] * 3 + [Decimal(12)]


def test_what_history_knew_of_a_minute_that_may_have_run_does_not_replace_its_bar() -> None:
    """The bar came while the answer was on its way, and did not wait for it any more."""
    bed = Bed()
    job = lost_and_back(bed)
    bed.advance(10)
    more = {"volume": Decimal(101)}
    bed.live(minute(2, "12", **more), minute(3, "12", **more))
    bed.page(job, *EVERYTHING, asked_ns=START + 4 * MINUTE - 3 * SECOND)
    assert [(bar.timestamp_ns, bar.close) for bar in bed.seen[4:]] == [
        (START + 2 * MINUTE, Decimal(10)),  # of that minute it knew everything
    ]


def test_an_update_that_came_after_history_was_asked_is_news() -> None:
    """However long the answer was on its way: it was given before the update was made."""
    bed = Bed(replace(SETTINGS, hold=60.0))
    job = lost_and_back(bed)  # at 14:19:02
    asked_ns = bed.clock.utc_now_ns()
    bed.advance(28)
    bed.live(minute(3, "12", bar_kind="updated", received_ns=bed.clock.utc_now_ns()))
    bed.advance(6)
    answered_ns = bed.clock.utc_now_ns()
    bed.page(job, *(past(n, received_ns=answered_ns) for n in range(4)), asked_ns=asked_ns)
    bed.done(job, asked_ns=asked_ns)
    assert bed.minutes() == [0, 1, 2, 3, 3]
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(12))
    assert bed.seen[-2].received_ns == asked_ns


def test_history_that_is_older_than_what_it_has_said_changes_nothing() -> None:
    """Several servers may answer, and not all know the same."""
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(122)
    bed.whole()  # at 14:19:32
    better = past(3, "12", volume=Decimal(120))
    bed.answer(bed.jobs[0], *EVERYTHING[:3], better)
    bed.advance(4)
    bed.answer(bed.jobs[1], past(2), past(3))
    assert bed.seen[-1].close == Decimal(12)
    bed.advance(6)
    bed.lose()
    bed.advance(1)
    bed.whole()
    bed.answer(bed.jobs[-1], past(2), past(3))  # after a cancel: by now it would know the update
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(10))


def test_a_bar_that_history_had_a_part_of_is_not_taken_for_its_update() -> None:
    """It came as an updated one, and the real update was lost."""
    bed = Bed(replace(SETTINGS, lag_ns=90 * SECOND))
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(87)
    bed.whole()  # at 14:18:57
    bed.answer(bed.jobs[0], past(0), past(1), past(2), past(3, "9", volume=Decimal(80)))
    bed.advance(4)
    bed.live(minute(3))
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(10))
    bed.advance(19)
    bed.lose()  # at 14:19:20
    bed.advance(45)
    bed.whole()
    bed.answer(bed.jobs[-1], past(2), past(3, "12", volume=Decimal(120)), past(4))
    assert (bed.seen[-2].bar_kind, bed.seen[-2].close) == ("updated", Decimal(12))


def test_an_update_from_before_history_was_asked_is_old_once_history_has_heard_of_it() -> None:
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(125)
    bed.whole()  # at 14:19:35
    asked_ns = bed.clock.utc_now_ns()
    bed.answer(bed.jobs[0], *EVERYTHING)
    bed.advance(5)
    bed.answer(bed.jobs[1])
    bed.live(minute(3, "12", bar_kind="updated", received_ns=asked_ns - 5 * SECOND))
    assert bed.desk.info().superseded == 1
    bed.live(minute(3, "12", bar_kind="updated", received_ns=asked_ns - 4 * SECOND))
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(12))
    bed.live(minute(2, bar_kind="updated", received_ns=asked_ns + SECOND))  # the same
    assert bed.desk.info().superseded == 2


def test_an_update_of_a_live_bar_stays_one() -> None:
    bed = Bed()
    bed.live(minute(0), minute(1), minute(0, "11", bar_kind="updated"))
    assert bed.seen[-1].bar_kind == "updated"


def test_the_first_that_is_seen_of_a_minute_is_a_regular_bar() -> None:
    """Its regular bar was lost with the connection."""
    bed = Bed()
    bed.live(minute(0), minute(1, bar_kind="updated"))
    assert (bed.seen[1].bar_kind, bed.seen[1].is_late) == ("regular", False)
    bed.live(minute(3), minute(2, bar_kind="updated"))
    assert (bed.seen[3].bar_kind, bed.seen[3].is_late) == ("regular", True)


def test_an_update_of_a_minute_before_the_first_that_was_seen_stays_one() -> None:
    bed = Bed()
    bed.live(minute(1), minute(0, bar_kind="updated"))
    assert [bar.bar_kind for bar in bed.seen] == ["regular", "updated"]


def test_where_bars_are_not_filled_live_bars_are_what_they_are() -> None:
    bed = Bed(replace(SETTINGS, channels=frozenset({"trades"})))
    bed.live(minute(0), minute(1, bar_kind="updated"))
    assert [bar.bar_kind for bar in bed.seen] == ["regular", "updated"]


# --- when it is over ---


def test_history_that_is_not_there_yet_is_asked_again() -> None:
    bed = Bed()
    job = lost_and_back(bed)  # at 14:19:02
    bed.answer(job, past(0), past(1), past(2))
    assert bed.reports == []
    again = bed.jobs[1]
    assert again.request == replace(job.request, start_ns=START + 2 * MINUTE)
    assert 0 < again.not_before - bed.clock.monotonic() <= 1
    bed.advance(1)
    bed.answer(again, *EVERYTHING)
    assert bed.minutes() == [0, 1, 2, 3]
    assert bed.reports[0].complete


def test_a_minute_without_a_bar_is_believed_once_history_must_have_it() -> None:
    bed = Bed()
    job = lost_and_back(bed)  # at 14:19:02; history has what ended at 14:19:00 by 14:19:05
    bed.page(job, past(0), past(1), past(2))
    bed.advance(4.9)
    bed.done(job)
    assert bed.reports == []
    bed.advance(0.1)  # by 14:19:07 history has what was sent until the connection was whole
    bed.answer(bed.jobs[1], past(2))
    assert bed.reports[0].complete


def test_a_clock_that_is_ahead_does_not_cut_the_last_minute_off() -> None:
    """By five seconds: the exchange sent minute 3 when it was 14:19:05 here."""
    bed = Bed(replace(SETTINGS, lag_ns=60 * SECOND))
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(100)
    bed.whole()  # at 14:19:10
    while not bed.reports:
        job = bed.jobs[-1]
        bed.advance(max(job.not_before - bed.clock.monotonic(), 0))
        known_ns = bed.clock.utc_now_ns() - 65 * SECOND
        bars = [past(n) for n in range(4) if START + (n + 1) * MINUTE <= known_ns]
        bed.answer(job, *bars)
    assert bed.minutes() == [0, 1, 2, 3]
    assert bed.reports[0].complete


def test_how_far_ahead_our_clock_is_does_not_make_the_pause_longer() -> None:
    bed = Bed(BOTH, lead=300.0)
    bed.advance(30)
    bed.lose(TRADES)
    bed.advance(60)
    bed.whole()
    bed.answer(bed.jobs[0], trade(40, 1))
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 5


def test_the_last_minute_is_looked_for_often_though_its_update_takes_long() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=60 * SECOND))
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(118)
    bed.whole()  # at 14:19:28
    bed.answer(bed.jobs[0], past(0), past(1), past(2))
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 1
    bed.advance(1)
    bed.answer(bed.jobs[1], past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3]
    assert bed.jobs[2].not_before == bed.clock.monotonic() + 59
    bed.advance(59)
    bed.answer(bed.jobs[2], past(2), past(3))
    assert bed.reports[0].complete


def test_no_pause_takes_all_the_time_that_is_left() -> None:
    bed = Bed(replace(BOTH, lag_ns=240 * SECOND))
    bed.advance(30)
    bed.lose(TRADES)
    bed.advance(60)
    bed.whole()
    bed.answer(bed.jobs[0])
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 60  # of 120
    bed.advance(60)
    bed.answer(bed.jobs[1], trade(40, 1))
    bed.advance(60)
    assert [each.trade_id for each in bed.trades] == [1]
    assert bed.reports[0].reason == "history did not have it in time"


def test_those_that_share_a_request_are_asked_for_when_the_first_needs_it() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=60 * SECOND), at=152)
    of_msft = Subscription("bars", "MSFT")
    bed.served |= {of_msft}
    (lost,) = losses(1, 1, "updated_bars").values()
    bed.desk.events_dropped({
        Subscription("updated_bars", "AAPL"): lost,
        of_msft: lost,
    })
    (job,) = bed.jobs
    bed.answer(job, past(1))
    assert bed.jobs[1].request.symbols == ("AAPL", "MSFT")
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 1


def test_the_last_update_before_the_connection_was_whole_comes_from_history() -> None:
    """History has had the bar itself for long, and may not have the update yet."""
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(122)
    bed.whole()  # at 14:19:32; the update of minute 3 was sent at 14:19:30
    bed.answer(bed.jobs[0], *EVERYTHING)
    assert bed.reports == []
    again = bed.jobs[1]
    assert again.request.start_ns == START + 2 * MINUTE
    assert again.not_before == bed.clock.monotonic() + 5
    bed.advance(5)
    bed.answer(again, past(2), past(3, "12", trade_count=6))
    assert bed.reports[0].complete
    assert [(bar.bar_kind, bar.close) for bar in bed.seen[-2:]] == [
        ("regular", Decimal(10)),
        ("updated", Decimal(12)),
    ]


def test_so_does_the_update_of_the_minute_before_the_first_that_came_live() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=60 * SECOND))
    bed.advance(130)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(107)
    bed.whole()  # at 14:18:57; the update of minute 2 was sent at 14:18:30
    asked_ns = bed.clock.utc_now_ns()
    bed.advance(4)
    bed.live(minute(3))
    bed.page(bed.jobs[0], past(0), past(1), past(2), asked_ns=asked_ns)
    bed.done(bed.jobs[0], asked_ns=asked_ns)
    assert bed.reports == []
    assert bed.jobs[1].not_before == 276  # 14:18:30, clocks that differ by 5 s, 1 s, the lag


def test_an_update_that_was_sent_when_the_connection_was_whole_is_not_waited_for() -> None:
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(114)
    bed.whole()  # at 14:19:24
    bed.answer(bed.jobs[0], *EVERYTHING)
    assert bed.reports[0].complete


def test_trades_are_complete_once_history_must_have_them() -> None:
    """That it has one of after the gap says little: clocks differ."""
    bed = Bed(BOTH)
    bed.advance(30)
    bed.lose(TRADES)
    bed.advance(60)
    bed.whole()
    bed.answer(bed.jobs[0], trade(40, 1), trade(91, 2))
    assert bed.reports == []
    again = bed.jobs[1]
    assert again.not_before == bed.clock.monotonic() + 5
    assert again.request.start_ns == START + 70 * SECOND  # 20 s before it was asked
    bed.advance(5)
    bed.answer(again, trade(89, 3))
    assert bed.reports[0].complete
    assert bed.reports[0].start_ns == START + 15 * SECOND
    assert [each.trade_id for each in bed.trades] == [1, 2, 3]


def test_a_live_bar_that_waits_tells_what_history_must_have() -> None:
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(87)
    bed.whole()  # at 14:18:57: minute 3 will be over in a moment
    assert bed.jobs[0].request.end_ns == START + 4 * MINUTE
    bed.advance(4)
    bed.answer(bed.jobs[0], past(0), past(1), past(2))
    assert bed.reports == []
    bed.live(minute(3))
    bed.answer(bed.jobs[1], past(0), past(1), past(2))
    assert bed.reports[0].complete
    assert bed.minutes() == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [HistoryError("reset"), StreamingError("odd")])
def test_what_fails_is_tried_again_with_growing_pauses(error: StreamingError) -> None:
    bed = Bed()
    job = lost_and_back(bed)
    pauses = []
    for _ in range(9):
        bed.done(job, error)
        job = bed.jobs[-1]
        pauses.append(job.not_before - bed.clock.monotonic())
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    bed.answer(job, *EVERYTHING)
    assert bed.reports[0].complete
    assert bed.gaps == []


def test_an_answer_that_works_makes_the_pauses_short_again() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    for _ in range(5):
        bed.done(job, HistoryError("reset"))
        job = bed.jobs[-1]
    bed.done(job)
    bed.done(bed.jobs[-1], HistoryError("reset"))
    assert bed.jobs[-1].not_before - bed.clock.monotonic() == 0.5


def test_a_refusal_leaves_the_gap_open_at_once() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.live(minute(4))
    bed.done(job, HistoryRefusedError("the plan does not include it"))
    lost_ns, whole_ns = START + 150 * SECOND, START + 242 * SECOND
    assert bed.gaps == [
        Gap("history", lost_ns, whole_ns, (GapEntry("bars", "AAPL", None),)),
    ]
    assert bed.reports == [
        BackfillEvent(
            "bars",
            "AAPL",
            START,
            START + 4 * MINUTE,
            0,
            0,
            complete=False,
            reason="the plan does not include it",
        )
    ]
    assert bed.minutes() == [0, 1, 4]
    assert bed.desk.info().failed == 1
    assert bed.desk.info().pending == 0


def test_what_goes_on_failing_is_given_up_at_the_deadline() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.advance(119.9)
    bed.done(job, HistoryError("reset"))
    assert bed.gaps == []
    bed.advance(0.6)
    bed.done(bed.jobs[-1], HistoryError("reset"))
    assert [gap.cause for gap in bed.gaps] == ["history"]
    assert bed.reports[0].reason == "reset"


def test_what_never_becomes_complete_is_given_up_at_the_deadline() -> None:
    bed = Bed(replace(SETTINGS, lag_ns=3600 * SECOND))
    job = lost_and_back(bed)
    bed.answer(job, past(0), past(1), past(2))
    bed.advance(120)
    bed.done(bed.jobs[-1])
    assert [gap.cause for gap in bed.gaps] == ["history"]
    assert bed.reports[0].reason == "history did not have it in time"
    assert (bed.reports[0].fetched, bed.reports[0].delivered) == (3, 1)


def test_what_is_not_to_be_had_before_a_time_is_asked_for_then() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    available_ns = bed.clock.utc_now_ns() + 90 * SECOND
    bed.done(job, HistoryUnavailableError("too recent", available_ns=available_ns))
    assert bed.jobs[1].not_before == bed.clock.monotonic() + 90
    bed.done(bed.jobs[1], HistoryUnavailableError("too recent", available_ns=0))
    assert bed.jobs[2].not_before == bed.clock.monotonic() + 1  # the server's clock may be behind


def test_what_is_not_to_be_had_before_the_deadline_is_given_up_at_once() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    available_ns = bed.clock.utc_now_ns() + 121 * SECOND
    bed.done(job, HistoryUnavailableError("too recent", available_ns=available_ns))
    assert len(bed.jobs) == 1
    assert bed.reports[0].reason == "too recent"


def test_an_end_without_a_failure_of_a_job_that_is_not_ours_changes_nothing() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.answer(job, *EVERYTHING)
    bed.done(job)
    assert len(bed.reports) == 1


# --- lost again ---


def test_a_second_loss_while_fetching_makes_the_gap_longer() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.page(job, past(0), past(1), past(2))
    bed.lose()
    assert job.cancelled.is_set()
    assert bed.desk.deadline == math.inf
    bed.done(job)
    assert bed.reports == []
    bed.advance(120)
    bed.whole()
    second = bed.jobs[1]
    assert second.request == HistoryRequest(
        "bars", ("AAPL",), START + 2 * MINUTE, START + 6 * MINUTE
    )
    bed.answer(second, *(past(n) for n in range(2, 6)))
    assert bed.minutes() == [0, 1, 2, 3, 4, 5]
    assert [event.complete for event in bed.reports] == [True]
    assert bed.reports[0].start_ns == START


def test_a_job_that_others_still_wait_for_is_not_cancelled() -> None:
    bed = Bed(at=150)
    msft = Subscription("bars", "MSFT")
    bed.served |= {msft}
    bed.lose(BARS, msft)
    bed.advance(92)
    bed.whole()
    bed.lose(BARS)
    assert not bed.jobs[0].cancelled.is_set()
    bed.answer(bed.jobs[0], past(2), past(3, symbol="MSFT"))
    assert [event.symbol for event in bed.reports] == ["MSFT"]
    bed.lose(msft)
    bed.whole()
    assert {job.request.symbols for job in bed.jobs[1:]} == {("AAPL", "MSFT")}


def test_gaps_that_begin_long_after_each_other_are_asked_for_apart() -> None:
    bed = Bed(at=150)
    msft = Subscription("bars", "MSFT")
    bed.served |= {msft}
    bed.lose(BARS)
    bed.advance(7 * 3600)
    bed.lose(msft)
    bed.advance(60)
    bed.whole()
    assert {job.request.symbols for job in bed.jobs} == {("AAPL",), ("MSFT",)}


def test_what_an_answer_has_brought_is_not_asked_for_again() -> None:
    """Even if the connection was lost again before it came."""
    bed = Bed(at=150)
    bed.lose()
    bed.advance(92)
    bed.whole()
    bed.lose()
    bed.advance(600)
    bed.answer(bed.jobs[0], past(2), past(3))
    bed.whole()
    assert bed.jobs[1].request.start_ns > bed.jobs[0].request.start_ns


def test_what_an_answer_brought_for_nobody_is_asked_for_again() -> None:
    """The gap had been given up when it came, and a later one reaches back as far."""
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(692)
    bed.whole()
    asked_ns = bed.clock.utc_now_ns()
    bed.advance(121)
    assert [event.complete for event in bed.reports] == [False]
    bed.page(bed.jobs[0], *(past(n) for n in range(14)), asked_ns=asked_ns)
    bed.desk.session_lost([BARS], START + 130 * SECOND, {"bars": {"AAPL": None}})
    bed.done(bed.jobs[0], asked_ns=asked_ns)
    bed.whole()
    assert bed.jobs[1].request.start_ns == START


def test_what_was_passed_over_before_more_was_missing_is_asked_for_again() -> None:
    bed = Bed(at=600)
    of_msft = Subscription("bars", "MSFT")
    bed.served = frozenset({BARS, of_msft})
    bed.desk.session_lost([BARS], START + 300 * SECOND, {"bars": {"AAPL": None}})
    bed.desk.session_lost([of_msft], START + 590 * SECOND, {"bars": {"MSFT": None}})
    bed.advance(61)
    bed.whole()
    (job,) = bed.jobs
    bed.page(job, *(past(n, symbol="MSFT") for n in range(3, 11)))
    (lost,) = losses(5, 5).values()
    bed.desk.events_dropped({of_msft: lost})
    again = bed.jobs[1]
    bed.done(job)
    bed.done(again, HistoryError("reset"))
    assert bed.jobs[-1].request.symbols == ("MSFT",)
    assert bed.jobs[-1].request.start_ns == START + 5 * MINUTE


def test_what_comes_when_the_time_of_a_run_is_up_is_asked_for_by_the_next() -> None:
    bed = Bed(BOTH)
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose(BARS, TRADES)
    bed.advance(92)
    bed.whole()
    bed.over = True
    bed.page(bed.jobs[0], past(2), past(3))
    bed.done(bed.jobs[0])
    bed.page(bed.jobs[1], trade(160, 1))
    bed.done(bed.jobs[1])
    assert len(bed.jobs) == 2
    assert (bed.taken, bed.minutes(), bed.trades, bed.reports) == (2, [0, 1], [], [])
    bed.restart()
    bed.over = False
    bed.advance(10)
    bed.whole()
    assert bed.jobs[2].request.start_ns == bed.jobs[0].request.start_ns
    bed.answer(bed.jobs[2], past(2), past(3))
    bed.answer(bed.jobs[3], trade(160, 1))
    assert bed.minutes() == [0, 1, 2, 3]
    assert len(bed.trades) == 1


def test_nothing_is_due_any_more_when_the_time_of_a_run_is_up() -> None:
    """What is overdue stays so: dispatch would look at it again and again."""
    bed = Bed()
    lost_and_back(bed)
    bed.over = True
    bed.advance(121)
    assert bed.desk.deadline == math.inf
    assert (bed.reports, bed.desk.info().pending) == ([], 1)


def test_a_callback_that_uses_the_time_up_leaves_the_rest_of_a_page_to_the_next_run() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.registry.add("bars", lambda _: setattr(bed, "over", True), ["AAPL"])
    bed.page(job, past(2), past(3))
    bed.done(job)
    assert bed.minutes() == [0, 1, 2]
    bed.restart()
    bed.over = False
    bed.whole()
    bed.answer(bed.jobs[-1], past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3]


def test_bars_that_waited_when_the_time_was_used_up_come_in_the_next_run() -> None:
    bed = Bed(replace(SETTINGS, hold=600.0, deadline=600.0))
    job = lost_and_back(bed)
    bed.advance(170)
    bed.live(minute(4), minute(5))
    bed.registry.add("bars", lambda bar: setattr(bed, "over", bar.source == "stream"), ["AAPL"])
    with pytest.MonkeyPatch.context() as patch:
        deliver = bed.deliver_live
        patch.setattr(bed, "deliver_live", lambda *bars: None if bed.over else deliver(*bars))
        bed.answer(job, *EVERYTHING)
    assert bed.minutes() == [0, 1, 2, 3, 4]
    assert bed.reports == []
    bed.over = False
    bed.restart()
    bed.whole()
    bed.answer(bed.jobs[-1], *(past(n) for n in range(6)))
    assert bed.minutes() == [0, 1, 2, 3, 4, 5]
    assert bed.reports[0].complete


def test_of_several_pages_one_is_no_older_than_the_other() -> None:
    """What the first says is no reason to doubt the second."""
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(92)
    bed.whole()
    bed.answer(bed.jobs[0], past(0), past(1), past(2, "12", volume=Decimal(120)))
    bed.advance(60)
    job = bed.jobs[1]
    bed.page(job, past(3))
    bed.page(job, past(2))  # after a cancel
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(10))


def test_what_is_delivered_last_is_what_a_store_keeps() -> None:
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1), minute(2))
    bed.lose()
    bed.advance(125)
    bed.whole()
    asked_ns = bed.clock.utc_now_ns()
    bed.answer(bed.jobs[0], *EVERYTHING[:3], past(2, "11", volume=Decimal(110)), past(3))
    update = minute(3, "12", bar_kind="updated", received_ns=asked_ns - 4 * SECOND)
    bed.advance(5)
    bed.answer(bed.jobs[1])
    bed.live(update)
    assert (bed.seen[-1].close, bed.seen[-1].received_ns) == (Decimal(12), asked_ns)


def test_a_listener_that_uses_the_time_up_leaves_its_bar_to_the_next_run() -> None:
    bed = Bed()
    job = lost_and_back(bed)

    def accepts(_: object) -> bool:
        bed.over = True
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bed, "accepts", accepts)
        bed.page(job, past(2))
    bed.restart()
    bed.over = False
    bed.whole()
    bed.answer(bed.jobs[-1], past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3]


def test_bars_that_come_before_the_connection_is_whole_wait_too() -> None:
    bed = Bed(at=150)
    bed.lose()
    assert bed.desk.deadline == math.inf
    bed.advance(92)
    bed.live(minute(3))
    assert bed.desk.deadline == bed.clock.monotonic() + 10
    bed.advance(1)
    bed.whole()
    assert bed.desk.deadline == bed.clock.monotonic() + 9
    bed.advance(9)
    assert bed.minutes() == [3]


def test_bars_that_wait_while_there_is_no_connection_come_when_their_time_is_up() -> None:
    bed = Bed()
    bed.want(OF_BARS)
    bed.series.watch([BARS], START)
    lost_and_back(bed)
    bed.live(minute(4))
    bed.advance(3)
    bed.lose()
    assert bed.desk.deadline == bed.clock.monotonic() + 7
    bed.advance(7)
    assert bed.minutes() == [0, 1, 4]
    assert bed.series.open_gaps()  # what is missing still is
    bed.live(minute(5))  # of a session that has begun, and is not whole
    assert bed.desk.deadline == bed.clock.monotonic() + 10
    bed.advance(2)
    bed.whole()
    assert bed.desk.deadline == bed.clock.monotonic() + 8
    bed.answer(bed.jobs[-1], past(2), past(3))
    assert bed.minutes() == [0, 1, 4, 2, 3, 5]
    bed.advance(60)
    assert [(bar.is_partial, bar.is_late) for bar in bed.built] == [(False, False)]


def test_what_nobody_wants_any_more_is_not_filled() -> None:
    bed = Bed(at=150)
    bed.lose()
    bed.served = frozenset()
    bed.whole()
    assert bed.jobs == []
    assert bed.desk.info().pending == 0
    bed.live(minute(3))
    assert bed.minutes() == [3]


# --- the hold ---


def test_a_hold_that_lasts_too_long_lets_live_bars_go_and_history_comes_late() -> None:
    bed = Bed()
    bed.want(OF_BARS)
    job = lost_and_back(bed)
    bed.live(minute(4))
    bed.advance(10)
    assert bed.minutes() == [0, 1, 4]
    assert bed.desk.deadline == bed.clock.monotonic() + 110  # when it is given up
    bed.live(minute(5))
    bed.answer(job, *EVERYTHING)
    assert bed.minutes() == [0, 1, 4, 5, 2, 3]
    assert [bar.is_late for bar in bed.seen] == [False] * 4 + [True] * 2
    assert bed.desk.info().late == 2
    assert bed.reports[0].complete


def test_what_was_built_over_a_gap_is_partial_and_comes_again_when_it_is_filled() -> None:
    bed = Bed()
    bed.want(OF_BARS)
    bed.series.watch([BARS], START)
    job = lost_and_back(bed)
    bed.live(minute(4))
    bed.advance(60)
    assert [(bar.bar_kind, bar.is_partial, bar.trade_count) for bar in bed.built] == [
        ("regular", True, 15)
    ]
    bed.answer(job, *EVERYTHING)
    bed.build()
    assert [(bar.bar_kind, bar.is_partial, bar.trade_count) for bar in bed.built[1:]] == [
        ("updated", False, 25)
    ]


def test_what_is_built_waits_for_the_gap() -> None:
    bed = Bed(replace(SETTINGS, hold=100.0))
    bed.want(OF_BARS)
    bed.series.watch([BARS], START)
    job = lost_and_back(bed)
    bed.advance(60)
    bed.live(minute(4))
    bed.build()
    assert bed.built == []
    bed.answer(job, *EVERYTHING)
    bed.build()
    assert [(bar.is_partial, bar.trade_count) for bar in bed.built] == [(False, 25)]


def test_trades_wait_for_nobody_but_what_is_built_of_them_waits() -> None:
    bed = Bed(BOTH)
    bed.want(OF_TRADES)
    bed.series.watch([TRADES], START)
    bed.live_trade(trade(5, 1))
    bed.advance(30)
    bed.lose(TRADES)
    bed.advance(32)
    bed.whole()
    assert bed.desk.deadline == bed.clock.monotonic() + 10
    bed.live_trade(trade(61, 3))
    bed.advance(5)
    assert bed.built == []
    bed.advance(5)
    assert [(bar.is_partial, bar.trade_count) for bar in bed.built] == [(True, 1)]


# --- over a restart ---


def test_what_is_open_at_a_stop_is_filled_after_the_restart() -> None:
    bed = Bed()
    lost_and_back(bed)
    bed.lose()
    bed.restart()
    bed.advance(60)
    bed.whole()
    assert bed.jobs[-1].request.start_ns <= START + MINUTE
    bed.answer(bed.jobs[-1], *EVERYTHING, past(4))
    assert bed.minutes() == [0, 1, 2, 3, 4]
    assert bed.reports[0].complete


def test_what_is_still_missing_when_its_hold_is_over_is_not_forgotten_by_a_restart() -> None:
    """It is filled later, or reported as an open gap; it never just vanishes."""
    bed = Bed()
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(452)  # 14:25:02
    bed.whole()
    bed.advance(10)  # the hold is over, the stretch is not
    assert bed.desk.info().pending == 1
    bed.live(minute(10))
    bed.lose()
    bed.restart()
    bed.advance(60)
    bed.whole()
    for job in bed.jobs[1:]:
        first, last = job.request.start_ns, job.request.end_ns
        bed.answer(job, *(past(n) for n in range(11) if first <= START + n * MINUTE < last))
    told = [gap for gap in bed.gaps if gap.cause == "history"]
    assert told == []
    assert sorted(bed.minutes()) == list(range(11))


# --- what the inbox dropped ---


def test_bars_that_the_inbox_dropped_are_fetched() -> None:
    bed = Bed(at=362)
    bed.live(minute(0), minute(1))
    bed.desk.events_dropped(losses(2, 4))
    assert bed.jobs[0].request == HistoryRequest(
        "bars", ("AAPL",), START + 2 * MINUTE, START + 5 * MINUTE
    )
    bed.live(minute(5))
    assert bed.minutes() == [0, 1]
    bed.answer(bed.jobs[0], past(2), past(3), past(4))
    assert bed.minutes() == [0, 1, 2, 3, 4, 5]


def test_what_was_dropped_is_in_history_some_time_after_it_was_received() -> None:
    """Not after it happened: a trade may be reported late."""
    bed = Bed(BOTH, at=70)
    lost = LostEvents(START + 60 * SECOND, START + 60 * SECOND, *[START + 70 * SECOND] * 2)
    bed.desk.events_dropped({TRADES: lost})
    bed.answer(bed.jobs[0])
    assert bed.reports == []
    bed.advance(5)
    bed.answer(bed.jobs[1], trade(60, 1))
    assert bed.reports[0].complete


def test_an_update_that_was_dropped_is_waited_for_though_its_bar_waits() -> None:
    bed = Bed(replace(SETTINGS, hold=120.0))
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(35)
    bed.whole()
    bed.advance(56)
    bed.live(minute(3))  # at 14:19:01
    bed.advance(30)
    bed.desk.events_dropped(losses(3, 3, "updated_bars"))
    bed.answer(bed.jobs[-1], past(2), past(3))
    assert bed.reports == []


def test_what_the_inbox_dropped_on_both_sides_of_a_reconnect_is_fetched() -> None:
    """It tells of that first, and then of the loss and the reconnect."""
    bed = Bed(at=9 * 60 + 42)
    bed.live(*(minute(n) for n in range(9)))
    bed.desk.events_dropped(losses(8, 11))
    bed.desk.session_lost([BARS], START + 570 * SECOND, {"bars": {"AAPL": None}})
    bed.desk.connection_whole(START + 582 * SECOND, bed.served, bed.registry.routes)
    request = bed.jobs[-1].request
    assert (request.start_ns, request.end_ns) == (START + 7 * MINUTE, START + 12 * MINUTE)


def test_bars_and_updates_that_were_dropped_together_are_asked_for_once() -> None:
    bed = Bed(at=152)
    bed.desk.events_dropped({**losses(1, 1), **losses(1, 1, "updated_bars")})
    (job,) = bed.jobs
    assert job.request.symbols == ("AAPL",)
    bed.answer(job, past(1))
    assert bed.reports == []  # its update was received two seconds before


def test_updates_that_the_inbox_dropped_are_in_history() -> None:
    bed = Bed(at=152)
    bed.live(minute(0), minute(1))
    bed.desk.events_dropped(losses(1, 1, "updated_bars"))  # sent at 14:17:30
    job = bed.jobs[0]
    assert job.request == HistoryRequest("bars", ("AAPL",), START + MINUTE, START + 2 * MINUTE)
    bed.answer(job, past(1))
    assert bed.reports == []
    bed.advance(3)
    bed.answer(bed.jobs[1], past(1, "11", trade_count=6))
    assert bed.reports[0].complete
    assert (bed.seen[-1].bar_kind, bed.seen[-1].close) == ("updated", Decimal(11))


def test_updates_that_were_dropped_where_nothing_is_filled_leave_no_gap_open() -> None:
    bed = Bed(history=False)
    bed.want(OF_BARS)
    bed.desk.events_dropped(losses(1, 1, "updated_bars"))
    assert bed.series.open_gaps() == {}


def test_trades_that_the_inbox_dropped_are_fetched() -> None:
    bed = Bed(BOTH, at=62)
    lost = LostEvents(
        START + 10 * SECOND, START + 20 * SECOND, START + 11 * SECOND, START + 21 * SECOND, 3
    )
    bed.desk.events_dropped({TRADES: lost})
    request = bed.jobs[0].request
    assert request.start_ns == START + 10 * SECOND
    assert request.end_ns > START + 20 * SECOND
    bed.answer(bed.jobs[0], trade(20, 1))
    assert bed.reports[0].delivered == 1


def test_what_is_not_filled_and_dropped_makes_bars_partial() -> None:
    bed = Bed()
    bed.want(OF_TRADES)
    bed.series.watch([TRADES], START)
    bed.live_trade(trade(5, 1))
    lost = LostEvents(
        START + 10 * SECOND, START + 20 * SECOND, START + 11 * SECOND, START + 21 * SECOND, 3
    )
    bed.desk.events_dropped({TRADES: lost})
    assert bed.jobs == []
    bed.advance(70)
    assert [bar.is_partial for bar in bed.built] == [True]


def test_bars_that_are_dropped_while_a_gap_is_open_are_fetched_too() -> None:
    bed = Bed(replace(SETTINGS, deadline=300.0))
    bed.want(OF_BARS)
    bed.series.watch([BARS], START)
    job = lost_and_back(bed)  # asks for minutes 0 to 3
    bed.advance(10)
    bed.live(minute(4))
    bed.advance(110)
    bed.desk.events_dropped(losses(5, 5))
    assert job.cancelled.is_set()
    assert bed.jobs[1].request.end_ns == START + 6 * MINUTE
    bed.live(minute(6))
    bed.answer(job, *EVERYTHING)
    for later in bed.jobs[1:]:
        bed.answer(later, *EVERYTHING, past(4), past(5))
    assert bed.minutes() == [0, 1, 4, 2, 3, 5, 6]
    assert bed.series.open_gaps() == {}  # though it had waited long enough before
    for n in range(7, 12):
        bed.live(minute(n))
        bed.advance(60)
    assert bed.minutes(bed.built) == [0, 0, 5]  # the first was given up, and then made whole


def test_bars_that_are_dropped_before_the_connection_is_whole_are_in_its_gap() -> None:
    bed = Bed(at=150)
    bed.lose()
    bed.advance(92)
    bed.desk.events_dropped(losses(-5, 3))
    assert bed.jobs == []
    bed.whole()
    bed.whole()
    (job,) = bed.jobs
    assert (job.request.start_ns, job.request.end_ns) == (START - 5 * MINUTE, START + 4 * MINUTE)


def test_running_totals_that_are_dropped_hold_nothing_up() -> None:
    bed = Bed()
    bed.want(SeriesSpec("1d", "daily_bars"))
    bed.desk.events_dropped(losses(0, 0, "daily_bars"))
    assert bed.series.open_gaps() == {}
    assert bed.jobs == []


# --- without a history ---


def test_without_a_history_a_gap_only_leaves_its_mark() -> None:
    bed = Bed(history=False)
    bed.want(OF_BARS)
    bed.series.watch([BARS], START)
    bed.live(minute(0), minute(1))
    bed.advance(150)
    bed.lose()
    bed.advance(60)
    bed.whole()
    bed.live(minute(3), minute(4))
    bed.advance(120)
    assert [(bar.is_partial, bar.trade_count) for bar in bed.built] == [(True, 20)]


def test_running_totals_hold_what_was_missed() -> None:
    bed = Bed(history=False)
    daily = Subscription("daily_bars", "AAPL")
    bed.want(SeriesSpec("1d", "daily_bars"))
    bed.series.watch([daily], START)
    bed.served = frozenset({daily})
    bed.lose(daily)
    assert bed.series.open_gaps() == {("daily_bars", "AAPL"): START}
    bed.whole()
    assert bed.series.open_gaps() == {}


def test_a_gap_of_what_nobody_wanted_at_the_time_holds_nothing_for_ever() -> None:
    """A series that is asked for later builds its bars."""
    bed = Bed(history=False)
    bed.lose(TRADES)
    bed.advance(10)
    bed.served = frozenset()
    bed.whole()
    bed.advance(50)
    bed.want(OF_TRADES)
    bed.series.watch([TRADES], bed.clock.utc_now_ns())
    bed.live_trade(trade(61, 1))
    bed.advance(70)
    assert bed.minutes(bed.built) == [1]


@pytest.mark.parametrize("history", [False, True])
def test_a_symbol_that_is_first_seen_after_a_gap_of_all_lacks_what_was_in_it(
    *, history: bool
) -> None:
    """With ``*``: what was missed of a symbol that had not come before is known to nobody."""
    bed = Bed(BOTH, history=history)
    every = Subscription("trades", "*")
    bed.want(OF_TRADES)
    bed.series.watch([every], START)
    bed.served = frozenset({every})
    bed.advance(10)
    bed.lose(every, seen=())
    bed.advance(30)
    bed.whole()
    bed.live_trade(trade(55, 1), trade(65, 2))
    bed.advance(120)
    assert [bar.is_partial for bar in bed.built] == [True, False]


def test_a_short_look_back_delivers_no_bar_twice() -> None:
    bed = Bed(lookback=1)
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(92)
    bed.whole()
    bed.answer(bed.jobs[0], *EVERYTHING)
    assert bed.minutes() == [0, 1, 2, 3]


def test_who_had_an_answer_lets_the_others_go_first_the_next_time() -> None:
    bed = Bed(replace(SETTINGS, channels=frozenset({"bars", "trades"})))
    bed.lose(BARS, TRADES)
    bed.advance(92)
    bed.whole()
    first, second = bed.jobs
    bed.done(first, HistoryError("reset"))
    bed.lose(BARS, TRADES)
    bed.advance(1)
    bed.whole()
    assert [job.request.channel for job in bed.jobs[-2:]] == [
        second.request.channel,
        first.request.channel,
    ]
