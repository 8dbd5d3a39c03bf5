"""Whole frames that no server should send: too large, or not to be read at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from realtime_stream import DisconnectEvent, FailureKind, SessionClosedError
from tests.abuse.wire import packed, streaming, survives, wire_quote
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

MEBIBYTE = 2**20


# --- giant frames ---


def giant(size: int) -> tuple[bytes, int]:
    """A frame of quotes of at most ``size`` bytes, and how many they are."""
    one = len(packed(wire_quote())) - 1
    count = (size - 5) // one
    return packed(*(wire_quote() for _ in range(count))), count


def test_a_frame_of_just_under_the_limit_is_delivered_whole(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    frame, count = giant(MEBIBYTE)
    assert MEBIBYTE - 200 < len(frame) <= MEBIBYTE
    manager = new_manager(max_message_size=MEBIBYTE)
    quotes = streaming(manager)
    simulator.publish_raw(frame)
    quotes.wait_for(count)
    survives(simulator, manager, quotes, rejected=0, delivered=count)


def test_a_frame_beyond_the_limit_ends_the_session_and_the_stream_comes_back(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(max_message_size=MEBIBYTE)
    lost, found = Recorder[DisconnectEvent](), Recorder[object]()
    manager.on_disconnect(lost)
    manager.on_connect(found)
    quotes = streaming(manager)
    simulator.publish_raw(giant(MEBIBYTE + 500)[0])
    failure = lost.wait_for()[0].failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == (FailureKind.CLOSED, True)
    assert isinstance(failure.error, SessionClosedError)
    assert "1009" in failure.text  # we closed it, and why is to be told
    found.wait_for(2)
    simulator.publish(quote())
    assert len(quotes.wait_for()) == 1


def test_by_default_a_frame_of_several_mebibytes_is_delivered(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """alpaca-py: the 1 MiB of its WebSocket library; news can be longer."""
    frame, count = giant(4 * MEBIBYTE)
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(frame)
    quotes.wait_for(count, timeout=30)
    survives(simulator, manager, quotes, rejected=0, delivered=count)


# --- frames that cannot be read at all ---

WHOLE = packed(wire_quote(), wire_quote())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        WHOLE[: len(WHOLE) // 2],
        WHOLE + b"\x00",
        msgspec.msgpack.encode(wire_quote()),
        msgspec.msgpack.encode(7),
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000 + b"\xc0",
        '[{"T":"q","S":"AAPL","bp":1,"bs":1,"ap":2,"as":1,"t":"2026-09-21T12:00:00Z"}]',
        "text",
    ],
    ids=[
        *("no-bytes", "never-used-byte", "no-msgpack", "half", "too-much", "no-array", "number"),
        *("4-billion-messages", "4-gibibytes", "only-nesting", "json-text", "text"),
    ],
)
def test_a_frame_that_cannot_be_read_is_one_reject(
    simulator: AlpacaSimulator, new_manager: NewManager, frame: bytes | str
) -> None:
    manager = new_manager()
    quotes = streaming(manager)
    simulator.publish_raw(frame)
    survives(simulator, manager, quotes, rejected=1)
    raw = manager.rejects()[0].raw
    assert raw == (frame.encode() if isinstance(frame, str) else frame)[:512]
