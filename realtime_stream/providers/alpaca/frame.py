"""A frame of market data that is decoded by the thread that reads its events.

Decoding makes some fifteen objects a quote. Made on one core, used and freed on another, they cost
as much again in cache misses as decoding itself; so the io thread only glances at a frame and hands
its bytes over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from realtime_stream.market.models import MarketEvent
from realtime_stream.ports import RejectedMessage
from realtime_stream.providers.alpaca.decoder import FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["EncodedEvents", "data_messages"]

# First bytes of MessagePack arrays.
_NO_MESSAGES: Final = 0x90
_FIFTEEN_MESSAGES: Final = 0x9F
_ARRAY_16: Final = 0xDC
_DATA_TAG: Final = b"\xa1T\xa1"  # a key "T" with a value of one character: market data
_SHORTEST_MESSAGE: Final = 8  # bytes; nothing that says less is worth the trust
_LONGEST_MESSAGE: Final = 2048  # bytes; what is longer must not wait undecoded: nobody bounds it


def data_messages(data: bytes | str) -> int:
    """How many messages a MessagePack frame holds, if at a glance all are market data; else 0.

    Anything unusual is 0, and so is a frame in which a control message may be.
    """
    if isinstance(data, str) or not data:
        return 0
    first = data[0]
    count = first - _NO_MESSAGES if _NO_MESSAGES <= first <= _FIFTEEN_MESSAGES else 0
    if first == _ARRAY_16:
        count = int.from_bytes(data[1:3], "big")
    if not count * _SHORTEST_MESSAGE <= len(data) <= count * _LONGEST_MESSAGE:
        return 0
    return count if data.count(_DATA_TAG) == count else 0


class EncodedEvents(Struct, gc=False):
    """The events of a frame, decoded at the first iteration, on that thread.

    Its length is the number of messages until then, and that of the events after it. Many may
    wait, so the garbage collector is spared them.

    Thread safety: one thread at a time, whichever has the frame.

    Attributes:
        data: The frame.
        messages: How many messages it holds.
        received_ns: Stamped on every event.
        decoder: Decodes it; it keeps no state between frames.
        on_reject: Told of each malformed message, on the thread that decodes.
        events: What came out, once it is decoded.
    """

    data: bytes
    messages: int
    received_ns: int
    decoder: FrameDecoder
    on_reject: Callable[[RejectedMessage], None]
    events: list[MarketEvent] | None = None

    def __len__(self) -> int:
        """Messages, or events once they are decoded."""
        return self.messages if self.events is None else len(self.events)

    def __iter__(self) -> Iterator[MarketEvent]:
        """Decode, unless that is done; then iterate."""
        events = self.events
        if events is None:
            events = self.decoder.decode_events(self.data, self.received_ns)
            if events is None:
                events = self._decode_malformed()
            self.events, self.data = events, b""
        return iter(events)

    def _decode_malformed(self) -> list[MarketEvent]:
        decoded = self.decoder.decode(self.data, self.received_ns)
        for reject in decoded.rejects:
            self.on_reject(reject)
        return decoded.events

    def __contains__(self, event: object) -> bool:
        """Whether the frame brought this event."""
        return any(each == event for each in self)
