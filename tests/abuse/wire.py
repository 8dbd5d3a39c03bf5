"""What the tests of bad frames share: messages as they are on the wire, and what must survive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from realtime_stream import Quote
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream import RealTimeStreamManager
    from realtime_stream.simulator import AlpacaSimulator

__all__ = ["STAMP", "packed", "streaming", "survives", "wire_quote"]

STAMP = msgspec.msgpack.Ext(-1, (1_790_000_000).to_bytes(4, "big"))


def wire_quote(**fields: Any) -> dict[str, Any]:
    """A quote as msgpack has it, with a time in whole seconds."""
    return {**quote(), "t": STAMP, **fields}


def packed(*messages: Any) -> bytes:
    """A frame with these messages, whatever they are."""
    return msgspec.msgpack.encode(messages)


def streaming(manager: RealTimeStreamManager) -> Recorder[Quote]:
    """Connect, and record the quotes of AAPL."""
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    return quotes


def survives(
    simulator: AlpacaSimulator,
    manager: RealTimeStreamManager,
    quotes: Recorder[Quote],
    *,
    rejected: int,
    delivered: int = 0,
) -> None:
    """What is sent next arrives over the same connection; what was bad has been counted."""
    simulator.publish(quote(bp=77))
    quotes.wait_until(lambda items: any(event.bid_price == 77 for event in items))
    status = manager.status()
    assert status.rejected == rejected
    assert len(manager.rejects()) == rejected
    assert all(reject.reason for reject in manager.rejects())
    assert len(quotes.items) == status.received == delivered + 1
    assert status.sessions == 1
    assert simulator.attempts == 1
