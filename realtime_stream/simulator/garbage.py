"""Frames that a server should never send, and that a client should survive."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from realtime_stream.simulator.samples import PRICES, event, events
from realtime_stream.simulator.wire import Message, encode_array, encode_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtime_stream.simulator.samples import Subject
    from realtime_stream.simulator.wire import Codec

__all__ = ["GARBAGE", "Garbage", "RawFrame", "check_garbage", "market_events", "raw_frame"]

_FRAME_LIMIT: Final = 1 << 20  # bytes; what websockets and the SDK take by default
_EXCESS: Final = 1 << 14  # bytes; more than one event has
_DEPTH: Final = 100_000
_ABSURD: Final = 1e12
_SIZES: Final = {"giant": _FRAME_LIMIT, "oversized": _FRAME_LIMIT + _EXCESS}
_NOT_UTF8: Final = b"\xff\xfe\xfd"

_Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Garbage:
    """One kind of garbage.

    Attributes:
        description: What is sent.
        events: Whether it is made of market events that a client can read. Those are published as
            others are: only to who is subscribed, and with an entry in the ledger.
    """

    description: str
    events: bool = False


GARBAGE: Final[Mapping[str, Garbage]] = MappingProxyType({
    "giant": Garbage("a frame of events that is just within 1 MiB", events=True),
    "oversized": Garbage("a frame of events that is just beyond 1 MiB", events=True),
    "deep": Garbage(f"an unknown key of a message with {_DEPTH} arrays in each other"),
    "invalid_utf8": Garbage("a symbol that is not UTF-8"),
    "wrong_types": Garbage("prices, sizes and times of types they cannot have"),
    "missing_fields": Garbage("messages without price, symbol, or type"),
    "nan": Garbage("prices that are not a number"),
    "infinity": Garbage("prices that are infinite"),
    "negative_price": Garbage("an event with negative prices", events=True),
    "absurd_price": Garbage("an event with prices a trillion times too high", events=True),
    "unknown_type": Garbage("a message of a type that does not exist"),
    "truncated": Garbage("half of a frame"),
    "not_an_array": Garbage("a message without the array around it"),
    "text_frame": Garbage("a text frame to a msgpack session, a binary one to a JSON session"),
    "empty": Garbage("a frame of no bytes"),
})
"""What ``AlpacaSimulator.send_garbage`` can send, by kind."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame as it is: its bytes, and whether it says that they are text."""

    data: bytes
    text: bool


def check_garbage(kind: str) -> None:
    """Raises: ``ValueError`` if there is no such kind."""
    if kind not in GARBAGE:
        msg = f"unknown garbage {kind!r}; allowed are {', '.join(GARBAGE)}"
        raise ValueError(msg)


def market_events(kind: str, codec: Codec, subject: Subject, t_ns: int) -> list[Message]:
    """The events of a kind that has them: those of one frame, with times after ``t_ns``."""
    if kind in _SIZES:
        return _filling(_SIZES[kind], codec, subject, t_ns)
    factor = -1.0 if kind == "negative_price" else _ABSURD
    fields = event(subject, 1, t_ns)
    scaled = {key: fields[key] * factor for key in _priced(fields)}
    return [subject.message({**fields, **scaled})] if scaled else []


def raw_frame(kind: str, codec: Codec, subject: Subject, t_ns: int) -> RawFrame:
    """The frame of a kind without events, about a subject that the client knows."""
    data = _FRAMES[kind](event(subject, 1, t_ns), codec)
    return RawFrame(data, text=(codec == "json") != (kind == "text_frame"))


def _filling(size: int, codec: Codec, subject: Subject, t_ns: int) -> list[Message]:
    """As many events as a frame of this size has room for."""
    room = size - 5  # the header of a long msgpack array
    comma = int(codec == "json")
    filling: list[Message] = []
    for fields in events(subject, t_ns):
        message = subject.message(fields)
        room -= len(message.encoded(codec)) + comma
        if room < 0:
            break
        filling.append(message)
    return filling


def _priced(fields: _Fields) -> list[str]:
    return [key for key in PRICES if isinstance(fields.get(key), float)]


def _encoded(fields: _Fields, codec: Codec) -> bytes:
    return Message(fields, "", ()).encoded(codec)


def _empty(_fields: _Fields, _codec: Codec) -> bytes:
    return b""


def _other_kind_of_frame(fields: _Fields, codec: Codec) -> bytes:
    other: Codec = "json" if codec == "msgpack" else "msgpack"
    return encode_array([_encoded(fields, other)], other)


def _truncated(fields: _Fields, codec: Codec) -> bytes:
    whole = encode_array([_encoded(fields, codec)], codec)
    return whole[: len(whole) // 2]


def _invalid_utf8(fields: _Fields, codec: Codec) -> bytes:
    quoted = b'"' + _NOT_UTF8 + b'"'
    short = bytes((0xA0 | len(_NOT_UTF8),)) + _NOT_UTF8  # msgpack's fixstr
    symbol = msgspec.Raw(quoted if codec == "json" else short)
    return encode_array([_encoded({**fields, "S": symbol}, codec)], codec)


def _deep(fields: _Fields, codec: Codec) -> bytes:
    nested = b"\x91" * _DEPTH + b"\xc0" if codec == "msgpack" else b"[" * _DEPTH + b"]" * _DEPTH
    return encode_array([_encoded({**fields, "deep": msgspec.Raw(nested)}, codec)], codec)


def _wrong_types(fields: _Fields, codec: Codec) -> bytes:
    wrong: list[object] = ["high", True, None, [1], {"a": 1}]
    mixed = {
        key: value if key in ("T", "S") else wrong[n % len(wrong)]
        for n, (key, value) in enumerate(fields.items())
    }
    nameless = {"T": fields["T"], "S": 7}
    return encode_array([encode_object(each, codec) for each in (mixed, nameless)], codec)


def _missing_fields(fields: _Fields, codec: Codec) -> bytes:
    bare = {"T": fields["T"]}
    without_type = {key: value for key, value in fields.items() if key != "T"}
    spoilt = (bare, {**bare, "S": "AAPL"}, without_type)
    return encode_array([_encoded(each, codec) for each in spoilt], codec)


def _not_finite(literal: str) -> Callable[[_Fields, Codec], bytes]:
    def make(fields: _Fields, codec: Codec) -> bytes:
        # JSON has no such numbers, but lax encoders write them, and lax decoders read them.
        value = float(literal) if codec == "msgpack" else msgspec.Raw(literal.encode())
        spoilt = {**fields, **dict.fromkeys(_priced(fields) or ["id"], value)}
        return encode_array([_encoded(spoilt, codec)], codec)

    return make


def _unknown_type(fields: _Fields, codec: Codec) -> bytes:
    return encode_array([_encoded({**fields, "T": "zz"}, codec)], codec)


_FRAMES: Final[Mapping[str, Callable[[_Fields, Codec], bytes]]] = {
    "deep": _deep,
    "empty": _empty,
    "infinity": _not_finite("Infinity"),
    "invalid_utf8": _invalid_utf8,
    "missing_fields": _missing_fields,
    "nan": _not_finite("NaN"),
    "not_an_array": _encoded,
    "text_frame": _other_kind_of_frame,
    "truncated": _truncated,
    "unknown_type": _unknown_type,
    "wrong_types": _wrong_types,
}
