from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal as Dec

from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import Bar, MarketEvent, Trade
from realtime_stream.ports import Gap, GapEntry
from realtime_stream.runtime.gaps import GapTracker
from realtime_stream.runtime.inbox import LostEvents

TRADES_A, TRADES_B = Subscription("trades", "A"), Subscription("trades", "B")
BARS_A, BARS_B = Subscription("bars", "A"), Subscription("bars", "B")
BOTH = frozenset({TRADES_A, TRADES_B})
Latest = dict[str, dict[str, MarketEvent]]


def trade(ns: int, symbol: str = "A") -> Trade:
    return Trade(symbol=symbol, timestamp_ns=ns, price=Dec(1), size=Dec(1))


def bar(ns: int, symbol: str = "A", received_ns: int = 0) -> Bar:
    one = Dec(1)
    return Bar(
        symbol=symbol, timestamp_ns=ns, received_ns=received_ns,
        open=one, high=one, low=one, close=one, volume=one,
    )  # fmt: skip


def latest(*events: MarketEvent) -> Latest:
    found: Latest = {channel: {} for channel in CHANNELS}
    for event in events:
        found[event.channel][event.symbol] = event
    return found


def test_a_reconnect_reports_what_may_have_been_missed() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), BOTH)
    gap = gaps.connection_whole(200, BOTH)
    assert gap is not None
    assert (gap.cause, gap.start_ns, gap.end_ns) == ("reconnect", 100, 200)
    assert set(gap.entries) == {GapEntry("trades", "A", 90), GapEntry("trades", "B", None)}
    assert gaps.reported == 1


def test_the_next_event_of_a_key_closes_its_hole() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), BOTH)
    gaps.connection_whole(200, BOTH)
    gaps.first_after(trade(210))
    gaps.first_after(trade(220))
    (gap,) = gaps.gaps()
    assert GapEntry("trades", "A", 90, 210) in gap.entries
    assert GapEntry("trades", "B", None, None) in gap.entries
    assert set(gaps.open) == {TRADES_B}


def test_an_event_before_the_connection_is_whole_is_in_the_report() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [TRADES_A])
    gaps.first_after(trade(150))
    gap = gaps.connection_whole(200, frozenset())
    assert gap is not None
    assert gap.entries == (GapEntry("trades", "A", 90, 150),)


def test_failed_sessions_in_between_make_one_long_gap() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [TRADES_A])
    gaps.session_ended(150, latest(trade(90)), [])
    gap = gaps.connection_whole(200, frozenset({TRADES_A}))
    assert gap is not None
    assert (gap.start_ns, gap.end_ns, len(gap.entries)) == (100, 200, 1)


def test_a_star_stands_for_every_symbol_and_has_an_entry_for_the_unheard_of() -> None:
    star = Subscription("trades", "*")
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [star])
    gap = gaps.connection_whole(200, frozenset({star}))
    assert gap is not None
    assert set(gap.entries) == {GapEntry("trades", "*", None), GapEntry("trades", "A", 90)}
    assert set(gaps.open) == {TRADES_A}
    gaps.session_ended(300, latest(), [star])
    second = gaps.connection_whole(400, frozenset({star}))
    assert second is not None
    assert GapEntry("trades", "*", None) in second.entries


def test_a_key_that_is_refused_for_a_while_is_reported_when_it_is_served() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [TRADES_A])
    assert gaps.connection_whole(200, frozenset({TRADES_B}), BOTH) is None
    event = Trade(symbol="A", timestamp_ns=310, received_ns=311, price=Dec(1), size=Dec(1))
    gap = gaps.first_after(event)
    assert gap is not None
    assert (gap.start_ns, gap.end_ns) == (100, 311)
    assert gap.entries == (GapEntry("trades", "A", 90, 310),)
    assert gaps.first_after(event) is None
    assert gaps.reported == 1


def test_what_is_not_served_again_is_no_gap() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90), bar(60)), [TRADES_A, BARS_A])
    gap = gaps.connection_whole(200, frozenset({BARS_A}))
    assert gap is not None
    assert gap.entries == (GapEntry("bars", "A", 60),)
    assert set(gaps.open) == {BARS_A}


def test_nothing_missed_is_nothing_reported() -> None:
    gaps = GapTracker()
    assert gaps.connection_whole(100, BOTH) is None
    gaps.session_ended(200, latest(), [])
    assert gaps.connection_whole(300, BOTH) is None
    gaps.session_ended(400, latest(trade(390)), [])
    assert gaps.connection_whole(500, frozenset()) is None
    assert gaps.gaps() == ()
    assert gaps.reported == 0


def test_a_later_reconnect_has_a_gap_of_its_own() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [TRADES_A])
    gaps.connection_whole(200, frozenset({TRADES_A}))
    gaps.first_after(trade(210))
    gaps.session_ended(300, latest(trade(210)), [TRADES_A])
    gap = gaps.connection_whole(400, frozenset({TRADES_A}))
    assert gap is not None
    assert (gap.start_ns, gap.end_ns, gap.entries) == (
        300, 400, (GapEntry("trades", "A", 210),),
    )  # fmt: skip
    assert gaps.reported == 2


def test_a_hole_still_open_at_the_next_reconnect_is_closed_by_the_next_event() -> None:
    gaps = GapTracker()
    for start in (100, 300):
        gaps.session_ended(start, latest(trade(90)), [TRADES_A])
        gaps.connection_whole(start + 100, frozenset({TRADES_A}))
    gaps.first_after(trade(410))
    assert gaps.gaps()[0].entries == (GapEntry("trades", "A", 90, 410),)


def test_an_outage_is_reported_even_if_no_event_came_since_the_one_before() -> None:
    gaps = GapTracker()
    gaps.session_ended(100, latest(trade(90)), [TRADES_A])
    gaps.connection_whole(200, frozenset({TRADES_A}))
    gaps.session_ended(300, latest(trade(90)), [TRADES_A])
    gap = gaps.connection_whole(400, frozenset({TRADES_A}))
    assert gap is not None
    assert (gap.start_ns, gap.end_ns) == (300, 400)


def test_dropped_bars_are_reported_with_their_number() -> None:
    gaps = GapTracker()
    losses = {BARS_A: LostEvents(60, 120, 1000, 1100, 2), BARS_B: LostEvents(60, 60, 500, 500)}
    gap = gaps.bars_dropped(9999, losses)
    assert gap is not None
    assert (gap.cause, gap.start_ns, gap.end_ns) == ("overflow", 500, 9999)
    assert gap.entries == (
        GapEntry("bars", "A", 60, 120, lost=2),
        GapEntry("bars", "B", 60, 60, lost=1),
    )
    assert gaps.gaps() == (gap,)


def test_the_newest_thousand_reports_are_kept() -> None:
    gaps = GapTracker()
    for n in range(1003):
        gaps.bars_dropped(n, {BARS_A: LostEvents(n, n, n, n)})
    kept = gaps.gaps()
    assert (len(kept), kept[0].end_ns, kept[-1].end_ns) == (1000, 3, 1002)
    assert gaps.reported == 1003


def test_a_gap_tells_its_times_and_the_last_event_of_each_symbol() -> None:
    second = 1_000_000_000
    gap = Gap(
        "reconnect",
        second,
        2 * second,
        (
            GapEntry("trades", "A", 5 * second),
            GapEntry("quotes", "A", 9 * second),
            GapEntry("bars", "A", None),
            GapEntry("bars", "B", None),
            GapEntry("trades", "B", 3 * second),
            GapEntry("bars", "C", None),
        ),
    )
    assert gap.start == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert gap.end == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert gap.last_events == {
        "A": datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC),
        "B": datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC),
        "C": None,
    }
