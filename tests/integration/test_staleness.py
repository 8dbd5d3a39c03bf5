"""Connected but mute, through the real stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream import AlwaysOpen, DisconnectEvent, FailureKind, Quote, StaleEvent
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

QUICK = {"stale_after": 0.2, "symbol_stale_after": 0}


class Closed(AlwaysOpen):
    def open_ns(self, start_ns: int, end_ns: int) -> int:
        return 0


def test_a_mute_stream_is_reported_while_it_stays_connected(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(manager={"calendar": AlwaysOpen()}, **QUICK)
    quotes, silent = Recorder[Quote](), Recorder[StaleEvent]()
    manager.on_quote(quotes, "AAPL")
    manager.on_stale(silent)
    manager.start()
    simulator.faults.mute()
    (event,) = silent.wait_for(1)
    assert event.symbol == "*"
    assert event.age > 0.2
    assert manager.is_connected()
    assert list(manager.status().stale) == ["*"]
    simulator.faults.mute(False)
    simulator.publish(quote())
    quotes.wait_for(1)
    silent.wait_for(2)  # that it was reported again shows that it had ended
    assert manager.status().sessions == 1


def test_a_single_mute_symbol_is_found_beside_one_that_talks(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(manager={"calendar": AlwaysOpen()}, stale_after=0, symbol_stale_after=0.2)
    silent = Recorder[StaleEvent]()
    manager.on_quote(lambda _: simulator.publish(quote("AAPL")), "AAPL", "MSFT")
    manager.on_stale(silent)
    manager.start()
    simulator.publish(quote("AAPL"))
    (event,) = silent.wait_for(1)
    assert (event.symbol, event.last_received_ns) == ("MSFT", None)
    assert list(manager.status().stale) == ["MSFT"]


def test_nothing_is_stale_while_the_market_is_closed(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    judged, unjudged = Recorder[StaleEvent](), Recorder[StaleEvent]()
    closed = new_manager(manager={"calendar": Closed()}, **QUICK)
    opened = new_manager(
        manager={"calendar": AlwaysOpen()}, market="crypto", path_feed="us", **QUICK
    )
    for manager, seen, symbol in ((closed, unjudged, "AAPL"), (opened, judged, "BTC/USD")):
        manager.subscribe("quotes", symbol)
        manager.on_stale(seen)
        manager.start()
    judged.wait_for(1)
    assert unjudged.items == []


def test_the_supervisor_makes_one_new_session_when_told_to_and_no_second(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(
        manager={"calendar": AlwaysOpen()}, reconnect_when_stale="stream", **QUICK
    )
    silent, lost = Recorder[StaleEvent](), Recorder[DisconnectEvent]()
    manager.subscribe("quotes", "AAPL")
    manager.on_stale(silent)
    manager.on_disconnect(lost)
    manager.start()
    (event,) = lost.wait_for(1)
    assert event.failure is not None
    assert event.failure.kind is FailureKind.STALE
    silent.wait_for(2)  # the new session is silent too
    assert manager.status().sessions == 2
    assert manager.is_connected()
    assert simulator.attempts == 2
