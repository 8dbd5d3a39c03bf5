from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]  # it brings no types
import pytest

from realtime_stream import FakeClock
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.providers.alpaca.frame import EncodedEvents, data_messages
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.overflow import Frame

if TYPE_CHECKING:
    from realtime_stream.ports import RejectedMessage

QUOTE = {
    "T": "q", "S": "AAPL", "bp": 1.5, "bs": 1, "ap": 2, "as": 3, "t": msgpack.Timestamp(1, 2),
}  # fmt: skip
WRONG = {"T": "q", "S": "AAPL"}


def encoded(*messages: dict[str, Any]) -> tuple[EncodedEvents, list[RejectedMessage]]:
    rejects: list[RejectedMessage] = []
    data = msgpack.packb(list(messages))
    return EncodedEvents(data, len(messages), 7, FrameDecoder("msgpack"), rejects.append), rejects


@pytest.mark.parametrize("count", [1, 2, 15, 16, 300])
def test_a_glance_counts_market_data(count: int) -> None:
    assert data_messages(msgpack.packb([QUOTE] * count)) == count


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "[]",
        msgpack.packb([]),
        msgpack.packb({}),
        msgpack.packb([{"T": "success", "msg": "connected"}]),
        msgpack.packb([{"T": "error", "code": 406, "msg": "connection limit exceeded"}]),
        msgpack.packb([{"T": "subscription", "quotes": ["AAPL"]}]),
        msgpack.packb([QUOTE, {"T": "error", "code": 405, "msg": "no"}, QUOTE]),
        msgpack.packb([{"msg": "no", "T": "error", "code": 405}]),
        b"\xdc\xff\xff" + b"\xc0" * 100,  # says 65535, and is too short for that
        b"\xdc",
        b"\xdd\x00\x00\x00\x01" + msgpack.packb(QUOTE),
        b"\x9f",
        b"\x91\x82\xa1T\xd9\x05error\xa4code\xcd\x01\x95",  # spelled the long way
        msgpack.packb([{"T": "n", "headline": "x" * 3000}]),
    ],
)
def test_anything_else_is_decoded_at_once(data: bytes | str) -> None:
    assert data_messages(data) == 0


def test_it_is_decoded_at_the_first_iteration_and_never_again() -> None:
    events, rejects = encoded(QUOTE, WRONG, QUOTE)
    assert len(events) == 3
    assert rejects == []
    first = list(events)
    assert [event.received_ns for event in first] == [7, 7]
    assert len(events) == 2
    assert len(rejects) == 1
    assert list(events) == first
    assert first[0] in events
    assert len(rejects) == 1


def test_a_compaction_decodes_and_corrects_the_count() -> None:
    inbox = Inbox(2, FakeClock())
    inbox.put_frame(encoded(QUOTE, WRONG)[0], 0)
    assert inbox.counts().received == 2
    inbox.put_frame(encoded(QUOTE, QUOTE, WRONG)[0], 0)
    counts = inbox.counts()
    assert (counts.received, counts.waiting) == (3, 1)
    assert counts.dropped == {("quotes", "conflated"): 2}
    frame = inbox.get(0)
    assert isinstance(frame, Frame)
    assert len(list(frame.events)) == 1


def test_a_frame_that_says_it_holds_more_than_it_does_drops_nothing() -> None:
    inbox = Inbox(4, FakeClock())
    inbox.put_frame(encoded(QUOTE, WRONG, WRONG)[0], 0)
    assert inbox.put_frame(encoded(QUOTE, WRONG)[0], 0) == 0
    counts = inbox.counts()
    assert (counts.received, counts.waiting, counts.dropped) == (2, 2, {})
