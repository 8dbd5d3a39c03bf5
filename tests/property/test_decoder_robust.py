"""The decoder never raises, and whatever comes is an event, a control message or a reject."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import msgpack  # type: ignore[import-untyped]  # it brings no types
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream.market.models import MarketEvent
from realtime_stream.providers.alpaca.decoder import Decoded, FrameDecoder

Codec = Literal["msgpack", "json"]
DECODERS: dict[str, FrameDecoder] = {
    "msgpack": FrameDecoder("msgpack"),
    "json": FrameDecoder("json"),
}
codecs = st.sampled_from(sorted(DECODERS))
TIME = "2024-03-04T14:30:00.123456789Z"
STAMP = msgpack.Timestamp(1_709_562_600, 123_456_789)
NUMBER = 1.25
MESSAGES: list[dict[str, Any]] = [
    {"T": "t", "S": "A", "i": 1, "x": "D", "p": NUMBER, "s": 1, "c": ["@"], "z": "C"},
    {"T": "q", "S": "A", "bp": NUMBER, "bs": 1, "ap": 2, "as": 1, "c": ["R"]},
    {"T": "b", "S": "A", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "n": 1, "vw": NUMBER},
    {"T": "s", "S": "A", "sc": "H"},
    {"T": "l", "S": "A", "u": 2, "d": 1, "i": "B"},
    {"T": "c", "S": "A", "oi": 1, "op": 1, "os": 1, "ci": 1, "cp": 1, "cs": 1},
    {"T": "x", "S": "A", "i": 1, "p": 1, "s": 1, "a": "C"},
    {"T": "i", "S": "A", "p": 1},
    {"T": "o", "S": "A", "b": [{"p": 1, "s": 1}], "a": []},
    {"T": "n", "id": 1, "headline": "Up"},
    {"T": "success", "msg": "connected"},
    {"T": "error", "code": 500, "msg": "internal error"},
    {"T": "subscription", "trades": ["A"]},
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["NaN", "1e400", "1e999999999999", "-0", TIME]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def finite(value: Any) -> Any:
    """JSON has no word for what is not finite; a sender can only write it as text."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def encode(codec: str, messages: list[Any]) -> bytes:
    def timed(message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        stamp = TIME if codec == "json" else STAMP
        keys = ("updated_at", "created_at") if message.get("T") == "n" else ("t",)
        return {**dict.fromkeys(keys, stamp), **message}

    timed_messages = [timed(message) for message in messages]
    if codec == "json":
        return json.dumps(finite(timed_messages)).encode("utf-8", "replace")
    packed = msgpack.packb(timed_messages, unicode_errors="replace")
    assert isinstance(packed, bytes)
    return packed


def check(decoded: Decoded) -> int:
    """Everything in it is whole; return how many messages it accounts for."""
    for event in decoded.events:
        assert isinstance(event, MarketEvent)
        assert isinstance(event.timestamp_ns, int)
        assert event.received_ns == 7
        assert event.timestamp.tzinfo is not None
        assert event == event.kind(**{
            name: getattr(event, name) for name in event.kind.__struct_fields__
        })
        hash(event)
    for reject in decoded.rejects:
        assert reject.reason
        assert len(reject.raw) <= 512
        assert reject.received_ns == 7
    return len(decoded.events) + len(decoded.controls) + len(decoded.rejects)


@settings(deadline=None)  # a busy machine is no failure
@given(codecs, st.binary(max_size=200))
def test_random_bytes_never_raise(codec: str, data: bytes) -> None:
    check(DECODERS[codec].decode(data, 7))


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=200))
def test_random_text_never_raises(text: str) -> None:
    check(DECODERS["json"].decode(text, 7))


@settings(deadline=None)  # a busy machine is no failure
@given(codecs, st.lists(st.sampled_from(MESSAGES), max_size=8), st.data())
def test_damaged_frames_never_raise(
    codec: str, messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    frame = bytearray(encode(codec, messages))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(frame) - 1))
        frame[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    check(DECODERS[codec].decode(bytes(frame), 7))
    check(DECODERS[codec].decode(bytes(frame[:cut]), 7))


@settings(deadline=None)  # a busy machine is no failure
@given(codecs, st.lists(st.sampled_from(MESSAGES) | values, max_size=8))
def test_every_message_of_a_whole_frame_is_accounted_for(codec: str, messages: list[Any]) -> None:
    assert check(DECODERS[codec].decode(encode(codec, messages), 7)) == len(messages)


@settings(deadline=None)  # a busy machine is no failure
@given(codecs, st.sampled_from(MESSAGES), st.data())
def test_one_damaged_field_costs_at_most_its_message(
    codec: str, message: dict[str, Any], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from([*message, "t"]))
    damaged = {**message, key: data.draw(values)}
    good = MESSAGES[7]
    decoded = DECODERS[codec].decode(encode(codec, [good, damaged, good]), 7)
    assert check(decoded) == 3
    assert len(decoded.events) >= 2
