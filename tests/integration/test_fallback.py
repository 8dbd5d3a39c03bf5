"""When an SDK refuses the frame tap, its own handlers serve, with what they can tell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.legacy import client

from realtime_stream import (
    AuthenticationError,
    ConnectionState,
    FailureKind,
    Gap,
    Quote,
    ReconnectPolicy,
    StartTimeoutError,
    StreamingError,
    Trade,
    TradeCancel,
    UnsupportedChannelError,
)
from tests.support import START_NS, Recorder, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

ONCE = ReconnectPolicy(initial=0.01, max_attempts=1)


@pytest.fixture(autouse=True)
def refusing_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK on another WebSocket client, which does not know the hook."""
    real = client.connect

    def connect(url: str, **keywords: Any) -> Any:
        if "create_protocol" in keywords:
            msg = "connect() got an unexpected keyword argument 'create_protocol'"
            raise TypeError(msg)
        return real(url, **keywords)

    monkeypatch.setattr(client, "connect", connect)


def test_events_arrive_with_exact_digits_and_it_is_said_once(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager = new_manager()
    quotes, gaps = Recorder[Quote](), Recorder[Gap]()
    manager.on_quote(quotes, "AAPL")
    manager.on_gap(gaps)
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    assert not manager.is_connected()  # nothing tells so yet
    simulator.publish(quote(n=0))
    assert quotes.wait_for()[0].timestamp_ns == START_NS
    assert str(quotes.items[0].bid_price) == "133.85"
    assert manager.wait_until_connected(5)
    simulator.drop(1011)
    assert simulator.wait_for(
        lambda s: s.authenticated == 2 and bool(s.sessions()[0].subscriptions)
    )
    simulator.publish(quote(n=5))
    quotes.wait_for(2)
    assert gaps.wait_for()[0].cause == "reconnect"
    said = [r for r in caplog.records if r.message == "realtime_sdk_hook_refused"]
    assert len(said) == 1


def test_a_change_of_what_is_wanted_is_a_new_session(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    manager.subscribe("trades", "MSFT")
    trades = Recorder[Trade]()
    manager.on_trade(trades, "MSFT")
    assert simulator.wait_for(
        lambda s: any(("trades", "MSFT") in x.subscriptions for x in s.sessions())
    )
    simulator.publish(trade("MSFT"))
    trades.wait_for()


def test_cancels_bring_the_trades_they_need(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    cancels = Recorder[TradeCancel]()
    manager.on_cancel(cancels, "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    cancel = {"T": "x", "S": "AAPL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C"}
    simulator.publish({**cancel, "t": START_NS})
    assert cancels.wait_for()[0].trade_id == 465


def test_lulds_are_not_to_be_had(new_manager: NewManager) -> None:
    manager = new_manager()
    manager.on_luld(print, "AAPL")
    with pytest.raises(UnsupportedChannelError, match="lulds"):
        manager.start()


def test_refused_keys_are_fatal(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    simulator.faults.refuse_auth(402)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(AuthenticationError):
        manager.start()


@pytest.mark.parametrize(
    ("code", "kind"), [(406, FailureKind.CONNECTION_LIMIT), (500, FailureKind.SERVER_ERROR)]
)
def test_other_refusals_keep_their_meaning(
    simulator: AlpacaSimulator, new_manager: NewManager, code: int, kind: FailureKind
) -> None:
    simulator.faults.refuse_auth(code)
    manager = new_manager(reconnect=ONCE)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match=str(code)):
        manager.start()
    last = manager.status().last_error
    assert last is not None
    assert last.kind is kind


def test_a_quiet_stream_is_not_called_connected(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StartTimeoutError):
        manager.start(timeout=0.5)


@pytest.mark.parametrize("stage", ["http", "greeting", "auth", None])
def test_stop_is_as_prompt_as_with_the_tap(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any
) -> None:
    simulator.faults.silent_at(stage)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: s.attempts >= 1)
    if stage is None:
        assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    began = time.monotonic()
    manager.stop()
    assert time.monotonic() - began < 1
    assert manager.status().threads == ()
    assert manager.status().connection is ConnectionState.DISCONNECTED
