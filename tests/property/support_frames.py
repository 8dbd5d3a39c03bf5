"""Frames as the server sends them, and what a decoder may make of any frame at all."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

import msgpack  # type: ignore[import-untyped]  # it brings no types
from msgspec.structs import fields

from realtime_stream.market.models import BookLevel, MarketEvent
from realtime_stream.providers.alpaca import wire
from realtime_stream.providers.alpaca.decoder import Decoded, FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CODECS", "DECODERS", "MESSAGES", "RECEIVED_NS", "Codec", "encode", "well_formed"]

Codec = Literal["msgpack", "json"]
CODECS: tuple[Codec, ...] = ("msgpack", "json")
DECODERS = {codec: FrameDecoder(codec) for codec in CODECS}
RECEIVED_NS = 1_790_000_000_123_456_789

_STAMP = "2024-03-04T14:30:00.123456789Z"
_TIMES = frozenset({"t", "created_at", "updated_at"})
_CONTROLS = (wire.Success, wire.ServerError, wire.Subscriptions)
_YEARS_NS = (-62_135_596_800 * 10**9, 253_402_300_799 * 10**9 + 999_999_999)  # 1 to 9999
_SAID = 512  # characters of a reason, and bytes of a message, that may be kept

# One of each kind, with every field it can have.
MESSAGES: tuple[dict[str, Any], ...] = (
    {"T": "t", "S": "AAPL", "i": 96921, "x": "D", "p": 126.55, "s": 1, "t": _STAMP,
     "c": ["@", "I"], "z": "C"},
    {"T": "t", "S": "BTC/USD", "i": 5, "p": 67123.45, "s": 0.00012, "t": _STAMP, "tks": "B"},
    {"T": "t", "S": "AAPL240621C00190000", "p": 2.5, "s": 1, "x": "N", "c": "S", "t": _STAMP},
    {"T": "q", "S": "AMD", "bx": "U", "bp": 87.66, "bs": 100, "ax": "Q", "ap": 87.68, "as": 400,
     "t": _STAMP, "c": ["R"], "z": "C"},
    {"T": "q", "S": "AAPL240621C00190000", "bx": "N", "bp": 2.4, "bs": 7, "ax": "C", "ap": 2.6,
     "as": 9, "c": "A", "t": _STAMP},
    {"T": "b", "S": "SPY", "o": 388.985, "h": 389.13, "l": 388.975, "c": 389.12, "v": 49378,
     "n": 461, "vw": 389.062639, "t": _STAMP},
    {"T": "u", "S": "SPY", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "n": 1, "vw": 1.5, "t": _STAMP},
    {"T": "d", "S": "SPY", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "n": 1, "vw": 1.5, "t": _STAMP},
    {"T": "c", "S": "EEM", "x": "M", "oi": 5, "op": 98.19, "os": 1, "oc": [" "], "ci": 52,
     "cp": 98.2, "cs": 2, "cc": ["@"], "z": "A", "t": _STAMP},
    {"T": "x", "S": "GOOGL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C", "z": "C",
     "t": _STAMP},
    {"T": "l", "S": "IONM", "u": 3.24, "d": 2.65, "i": "B", "t": _STAMP, "z": "C"},
    {"T": "s", "S": "AAPL", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "Asked",
     "t": _STAMP, "z": "C"},
    {"T": "i", "S": "AAPL", "p": 126.55, "t": _STAMP, "z": "C"},
    {"T": "o", "S": "BTC/USD", "t": _STAMP, "b": [{"p": 67123.4, "s": 0.5}],
     "a": [{"p": 67125.1, "s": 0}], "r": True},
    {"T": "n", "id": 24918784, "headline": "Up", "summary": "", "author": "A", "created_at": _STAMP,
     "updated_at": _STAMP, "url": "https://example.com", "content": "<p>x</p>",
     "symbols": ["AAPL", "TSLA"], "source": "wire"},
    {"T": "success", "msg": "connected"},
    {"T": "error", "code": 406, "msg": "connection limit exceeded"},
    {"T": "subscription", "trades": ["AAPL"], "quotes": ["AMD", "CLDR"], "bars": ["*"],
     "updatedBars": [], "dailyBars": [], "statuses": ["*"], "lulds": [], "imbalances": [],
     "orderbooks": [], "news": [], "corrections": ["AAPL"], "cancelErrors": ["AAPL"]},
)  # fmt: skip


def encode(codec: Codec, messages: Iterable[Any]) -> bytes:
    """A frame of these messages; in MessagePack the known times are timestamp extensions."""
    if codec == "json":
        return json.dumps(list(messages)).encode()
    return cast("bytes", msgpack.packb([_stamped(message) for message in messages]))


def _stamped(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    stamp = msgpack.Timestamp(1_709_562_600, 123_456_789)
    return {
        key: stamp if key in _TIMES and value == _STAMP else value for key, value in message.items()
    }


def well_formed(decoded: Decoded) -> int:
    """Check that everything in it is what its type says; return how many messages it stands for."""
    for event in decoded.events:
        assert isinstance(event, MarketEvent)
        assert type(event.timestamp_ns) is int
        assert _YEARS_NS[0] <= event.timestamp_ns <= _YEARS_NS[1]
        assert event.received_ns == RECEIVED_NS
        assert event.timestamp.tzinfo is not None
        for field in fields(event):
            _whole(getattr(event, field.name))
        assert isinstance(hash(event), int)
        assert event == event.kind(**{
            name: getattr(event, name) for name in event.kind.__struct_fields__
        })
    for control in decoded.controls:
        assert isinstance(control, _CONTROLS)
    for reject in decoded.rejects:
        assert 0 < len(reject.reason) <= _SAID
        assert type(reject.raw) is bytes
        assert len(reject.raw) <= _SAID
        assert reject.received_ns == RECEIVED_NS
    rejected = sum(reject.count for reject in decoded.rejects)
    return len(decoded.events) + len(decoded.controls) + rejected


def _whole(value: object) -> None:
    if isinstance(value, Decimal):
        assert value.is_finite()
        str(value)
    elif isinstance(value, str):
        value.encode()  # no half of a surrogate pair
    elif isinstance(value, tuple):
        for item in value:
            _whole(item)
    elif isinstance(value, BookLevel):
        _whole((value.price, value.size))
    else:
        assert value is None or type(value) in {int, bool}, type(value)
