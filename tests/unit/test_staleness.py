from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import Quote, TradingStatus
from realtime_stream.runtime.session import SessionView
from realtime_stream.runtime.staleness import StalenessWatch

if TYPE_CHECKING:
    from realtime_stream.runtime.dispatcher import Latest

NS = 1_000_000_000
START = 1_790_000_000 * NS


ONE = Decimal(1)


class Hours:
    """Open but for the seconds from ``closes`` to ``opens`` after START."""

    def __init__(self, closes: float, opens: float) -> None:
        self._closes, self._opens = START + int(closes * NS), START + int(opens * NS)

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        closed = min(end_ns, self._opens) - max(start_ns, self._closes)
        return end_ns - start_ns - max(closed, 0)

    def is_open(self, at_ns: int) -> bool:
        return not self._closes <= at_ns < self._opens


class Setup:
    """A watch, connected at START with some subscriptions, and the clock of its looks."""

    def __init__(
        self,
        *wanted: str,
        calendar: Any = None,
        stream: float = 60,
        symbol: float = 60,
    ) -> None:
        self.watch = StalenessWatch(
            AlwaysOpen() if calendar is None else calendar, stream_after=stream, symbol_after=symbol
        )
        self.latest: Latest = {channel: {} for channel in CHANNELS}
        self.last = START
        self.view = SessionView()
        self.connect(*(wanted or ("quotes A", "quotes B")))
        assert self.look(0) == []

    def connect(self, *wanted: str) -> None:
        self.view = SessionView(
            sessions=self.view.sessions + 1,
            connected_since=1.0,
            acknowledged=frozenset(Subscription(*each.split()) for each in wanted),
        )

    def receive(self, symbol: str, at: float) -> None:
        self.last = START + int(at * NS)
        self.latest["quotes"][symbol] = Quote(
            symbol=symbol,
            timestamp_ns=1,
            received_ns=self.last,
            bid_price=ONE,
            bid_size=ONE,
            ask_price=ONE,
            ask_size=ONE,
        )

    def look(self, at: float, *, behind: bool = False) -> list[str]:
        now = START + int(at * NS)
        found = self.watch.look(now, self.view, self.last, None if behind else self.latest)
        return [event.symbol for event in found]


def test_a_silent_stream_is_reported_once_and_its_symbols_are_not() -> None:
    setup = Setup()
    assert [setup.look(t) for t in (59, 60, 61, 62, 300)] == [[], [], ["*"], [], []]
    assert setup.watch.stale == {"*": 300.0}


def test_data_end_the_silence_and_another_one_is_reported_again() -> None:
    setup = Setup()
    assert setup.look(61) == ["*"]
    setup.receive("A", 70)
    setup.receive("B", 70)
    assert setup.look(71) == []
    assert setup.watch.stale == {}
    assert setup.look(131) == ["*"]


def test_a_symbol_that_never_ticked_is_stale_from_its_acknowledgement() -> None:
    setup = Setup()
    setup.receive("A", 50)
    assert setup.look(61) == ["B"]
    assert setup.watch.stale == {"B": 61.0}
    setup.receive("A", 100)
    setup.receive("B", 100)
    assert setup.look(101) == []
    assert setup.watch.stale == {}


def test_the_last_event_of_a_symbol_is_told() -> None:
    setup = Setup()
    setup.receive("B", 10)
    setup.receive("A", 50)
    now = START + 71 * NS
    (found,) = setup.watch.look(now, setup.view, setup.last, setup.latest)
    assert (found.symbol, found.last_received_ns, found.age) == ("B", START + 10 * NS, 61.0)


def test_only_market_time_counts() -> None:
    setup = Setup(calendar=Hours(closes=10, opens=1000))
    assert [setup.look(t) for t in (100, 999, 1049, 1051)] == [[], [], [], ["*"]]
    assert setup.watch.stale == {"*": 61.0}


def test_a_symbol_is_not_judged_while_events_wait_for_their_delivery() -> None:
    setup = Setup()
    setup.receive("A", 50)
    assert setup.look(61, behind=True) == []
    assert setup.look(62) == ["B"]


@pytest.mark.parametrize("channel", ["statuses", "lulds", "corrections", "cancels", "news"])
def test_channels_that_speak_only_when_something_happens_are_never_stale(channel: str) -> None:
    setup = Setup(f"{channel} A")
    assert setup.look(1000) == []
    assert setup.watch.stale == {}


def test_an_event_of_such_a_channel_is_no_data_of_the_symbol() -> None:
    setup = Setup("quotes A", "statuses A", "quotes B")
    setup.receive("B", 50)
    setup.latest["statuses"]["A"] = TradingStatus(
        symbol="A", timestamp_ns=1, received_ns=START + 50 * NS, status_code="H"
    )
    assert setup.look(61) == ["A"]


def test_a_star_is_watched_as_a_stream_only() -> None:
    setup = Setup("quotes *")
    setup.receive("A", 50)
    assert setup.look(100) == []
    assert setup.watch.symbols == 0
    assert setup.look(111) == ["*"]


def test_each_threshold_can_be_switched_off() -> None:
    setup = Setup(stream=0)
    assert sorted(setup.look(61)) == ["A", "B"]
    setup = Setup(symbol=0)
    setup.receive("A", 50)
    assert setup.look(100) == []


def test_a_new_session_starts_anew() -> None:
    setup = Setup()
    assert setup.look(61) == ["*"]
    setup.connect("quotes A")
    assert setup.look(62) == []
    assert setup.watch.stale == {}
    assert setup.look(123) == ["*"]


def test_without_a_connection_nothing_is_stale() -> None:
    setup = Setup()
    assert setup.look(61) == ["*"]
    setup.view = SessionView(sessions=1)
    assert setup.look(62) == []
    assert setup.watch.stale == {}


def test_a_symbol_subscribed_later_counts_from_then_and_one_that_left_is_forgotten() -> None:
    setup = Setup("quotes A")
    setup.receive("A", 100)
    session = setup.view.sessions
    setup.view = SessionView(
        sessions=session,
        connected_since=1.0,
        acknowledged=frozenset({Subscription("quotes", "A"), Subscription("quotes", "B")}),
    )
    assert setup.look(101) == []
    setup.receive("A", 160)
    assert setup.look(162) == ["B"]
    setup.view = SessionView(
        sessions=session, connected_since=1.0, acknowledged=frozenset({Subscription("quotes", "A")})
    )
    assert setup.look(163) == []
    assert setup.watch.stale == {}


def test_all_symbols_are_looked_at_ten_times_within_a_threshold_at_most() -> None:
    setup = Setup("quotes A", stream=0)
    assert setup.look(0.1) == []
    assert setup.look(60.05) == ["A"]
    setup.receive("A", 60.1)
    assert setup.look(61) == []  # what is stale is looked at each time
    assert setup.watch.stale == {}
    assert setup.look(65) == []
    setup.receive("A", 5.5)  # as if it had been silent for a minute
    assert [setup.look(t) for t in (66, 66.1)] == [[], ["A"]]


def test_when_the_stream_comes_back_each_symbol_has_the_time_it_had_left() -> None:
    setup = Setup(stream=30)
    setup.receive("B", 5)
    setup.receive("A", 10)
    assert setup.look(41) == ["*"]
    setup.receive("A", 100)
    assert setup.look(100) == []
    setup.receive("A", 125)
    assert setup.look(150) == []  # B: 5 s before the silence, 50 s after it
    setup.receive("A", 151)
    assert setup.look(157) == ["B"]


def test_a_clock_that_is_set_back_starts_the_count_anew() -> None:
    setup = Setup()
    assert setup.look(61) == ["*"]
    setup.last = START - 4000 * NS
    assert setup.look(-3600) == []
    assert setup.look(-3541) == []
    assert setup.look(-3539) == ["*"]


def test_a_small_step_back_changes_nothing() -> None:
    setup = Setup()
    assert setup.look(61) == ["*"]
    assert setup.look(60.9) == []
    assert "*" in setup.watch.stale


def test_stamps_from_before_the_clock_was_set_back_do_not_count() -> None:
    setup = Setup()
    setup.receive("A", 10)
    setup.receive("B", 10)
    assert setup.look(-3600) == []
    setup.receive("A", -3545)
    assert setup.look(-3539) == ["B"]
