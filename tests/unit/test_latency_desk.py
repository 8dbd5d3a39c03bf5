"""Where latencies are measured, and who is told when they are high."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from realtime_stream.runtime.latency_desk import LatencyDesk
from realtime_stream.runtime.log import EventLog
from tests.unit.test_history_desk import MINUTE, SECOND, START

if TYPE_CHECKING:
    import pytest

    from realtime_stream.ports import ErrorEvent


class Desk(LatencyDesk):
    """A desk that keeps what it tells."""

    def __init__(self, threshold: float = 10.0) -> None:
        self.told: list[ErrorEvent] = []
        super().__init__(threshold, EventLog("test"), self.told.append)

    def ticks(self, count: int, late: float, lane: str = "trades", seconds: float = 1.0) -> None:
        """So many events, one after the other, each received and dealt with so late."""
        for n in range(count):
            event_ns = START + int(n * seconds * SECOND)
            now_ns = event_ns + int(late * SECOND)
            self.tick(lane, event_ns, now_ns, now_ns)

    @property
    def texts(self) -> list[str]:
        return [str(event.error) for event in self.told]


def test_nothing_is_known_before_an_event() -> None:
    desk = Desk()
    assert desk.info() == {}
    assert desk.lead() is None
    assert desk.ahead_ns > 10**18


def test_only_channels_that_tell_a_latency_are_measured() -> None:
    desk = Desk()
    desk.ticks(3, 0.5)
    desk.ticks(2, 0.5, "quotes")
    desk.ticks(1, 0.5, "statuses")
    infos = desk.info()
    assert {lane: info.count for lane, info in infos.items()} == {"trades": 3, "quotes": 2}
    assert infos["trades"].highest == 0.5
    assert infos["trades"].skew == 0.5


def test_a_lead_is_how_much_later_everything_comes() -> None:
    desk = Desk(1e6)
    desk.ticks(100, 900.0)
    assert desk.lead() == desk.ahead_ns == 900 * SECOND
    behind = Desk(1e6)
    behind.ticks(3, -4.0)
    assert behind.lead() == behind.ahead_ns == 0


def test_delivery_that_falls_behind_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.ticks(5, 0.1)
    for n in range(30):
        event_ns = START + n * SECOND
        desk.tick("trades", event_ns, event_ns + SECOND // 10, event_ns + 30 * SECOND)
    assert desk.texts == ["events come, or are delivered, late"]
    assert desk.told[0].source == "latency"
    assert not desk.told[0].fatal
    records = [r for r in caplog.records if r.getMessage() == "realtime_latency_high"]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert desk.info()["trades"].alarms == 1


def test_single_late_trades_are_told_of_by_nobody() -> None:
    desk = Desk()
    for n in range(100):
        late = 60 * SECOND if n % 10 == 0 else 0
        event_ns = START + n * SECOND - late
        desk.tick("trades", event_ns, START + n * SECOND, START + n * SECOND)
    assert desk.told == []


def test_a_single_late_bar_is_told_of() -> None:
    desk = Desk()
    end_ns = START + MINUTE
    desk.bar(end_ns, end_ns + SECOND // 2, end_ns + SECOND // 2)
    desk.bar(end_ns + MINUTE, end_ns + MINUTE + SECOND // 2, end_ns + MINUTE + 20 * SECOND)
    assert desk.texts == ["events come, or are delivered, late"]
    assert desk.info()["bars"].count == 2


def test_a_clock_that_is_behind_is_told_of_by_ticks_and_by_bars() -> None:
    ticks, bars = Desk(), Desk()
    ticks.ticks(3, -4.0)
    end_ns = START + MINUTE
    for _ in range(2):  # one event with a wrong time says nothing
        bars.bar(end_ns, end_ns - 4 * SECOND, end_ns - 4 * SECOND)
    for desk in (ticks, bars):
        assert desk.texts == ["this machine's clock and the exchange's differ"]


def test_a_bar_that_was_made_here_says_nothing_about_clocks() -> None:
    desk = Desk()
    desk.bar(START, None, START + SECOND)
    assert desk.lead() is None
    assert desk.info()["bars"].count == 1
