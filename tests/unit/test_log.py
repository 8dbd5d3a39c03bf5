from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from realtime_stream.runtime.log import EventLog, new_id

if TYPE_CHECKING:
    import pytest


def test_ids_are_short_and_unlike() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 12


def test_each_session_names_the_one_before_as_its_cause() -> None:
    log = EventLog("bot")
    assert (log.connection_id, log.causation_id) == ("", "")
    first = log.next_connection()
    assert (log.connection_id, log.causation_id) == (first, "")
    second = log.next_connection()
    assert (log.connection_id, log.causation_id) == (second, first)
    assert second != first


def test_every_record_carries_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog("bot")
    connection = log.next_connection()
    with caplog.at_level(logging.INFO, "realtime_stream"):
        log.write(logging.INFO, "realtime_feed_connected", subscriptions=3)
        log.write(logging.DEBUG, "realtime_feed_greeted")
    (record,) = caplog.records
    fields = vars(record)
    assert record.getMessage() == "realtime_feed_connected"
    assert fields["manager"] == "bot"
    assert fields["correlation_id"] == log.correlation_id
    assert fields["connection_id"] == connection
    assert fields["causation_id"] == ""
    assert fields["subscriptions"] == 3


def test_debug_is_known_beforehand(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog("bot")
    with caplog.at_level(logging.DEBUG, "realtime_stream"):
        assert log.is_debug()
    with caplog.at_level(logging.INFO, "realtime_stream"):
        assert not log.is_debug()
