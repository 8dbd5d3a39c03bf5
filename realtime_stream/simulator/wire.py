"""Messages as bytes: Alpaca's msgpack and JSON, its times, and its control messages.

A time is RFC 3339 with nanoseconds and trimmed zeros in JSON; in msgpack it is the timestamp
extension (type -1) in the shortest of its three forms.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from realtime_stream.simulator.endpoints import CHANNEL_OF_TYPE, MARKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ERROR_TEXTS",
    "SECOND",
    "Codec",
    "Message",
    "decode_request",
    "encode_array",
    "encode_frame",
    "encode_object",
    "error",
    "format_time",
    "prepare",
    "success",
    "to_ns",
]

Codec = Literal["msgpack", "json"]

SECOND: Final = 1_000_000_000  # nanoseconds
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_KEYS: Final = ("t", "created_at", "updated_at")
_TIMESTAMP_EXTENSION: Final = -1
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)"
)

# Alpaca's page on streaming market data; 408 is in its older one, 411 in its Go SDK.
ERROR_TEXTS: Final[dict[int, str]] = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    408: "v2 not enabled",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    411: "insufficient scope",
    412: "option messages are only available in MsgPack format",
    413: "star subscription is not allowed for option quotes",
    500: "internal error",
}

_msgpack_encoder: Final = msgspec.msgpack.Encoder()
_json_encoder: Final = msgspec.json.Encoder()


class Message:
    """One data message, ready to be encoded: at most once for each codec.

    Attributes:
        fields: Keys and values, "T" first; times as nanoseconds since the epoch.
        channel: Its channel.
        symbols: Its symbols: one, or for news any number.
    """

    __slots__ = ("_encoded", "channel", "fields", "symbols")

    def __init__(self, fields: dict[str, Any], channel: str, symbols: tuple[str, ...]) -> None:
        """Use :func:`prepare`."""
        self.fields = fields
        self.channel = channel
        self.symbols = symbols
        self._encoded: dict[Codec, bytes] = {}

    @property
    def t_ns(self) -> int | None:
        """Its own time (of news, of the last change), nanoseconds since the epoch."""
        for key in ("t", "updated_at", "created_at"):
            if key in self.fields:
                return int(self.fields[key])
        return None

    def shifted(self, ns: int) -> Message:
        """The same with times that are so many nanoseconds later."""
        fields = dict(self.fields)
        for key in _TIME_KEYS:
            if key in fields:
                fields[key] += ns
        return Message(fields, self.channel, self.symbols)

    def encoded(self, codec: Codec) -> bytes:
        """The message alone, without the array around it."""
        if codec not in self._encoded:
            self._encoded[codec] = _encode(self.fields, codec)
        return self._encoded[codec]


def prepare(message: Mapping[str, Any], market: str) -> Message:
    """Check a data message and put its keys and times in their wire order and form.

    Raises:
        ValueError: The market has no data messages of this "T", there is no symbol, or a time is
            not one.
        TypeError: A time is neither nanoseconds, nor text, nor a datetime.
    """
    kind = message.get("T")
    if not isinstance(kind, str) or CHANNEL_OF_TYPE.get(kind) not in MARKETS[market].channels:
        msg = f"{market} has no data messages of type {kind!r}"
        raise ValueError(msg)
    fields: dict[str, Any] = {"T": kind, **message}
    for key in _TIME_KEYS:
        if key in fields:
            fields[key] = to_ns(fields[key])
    symbols: list[object] = list(fields.get("symbols", ())) if kind == "n" else [fields.get("S")]
    named = tuple(symbol for symbol in symbols if isinstance(symbol, str))
    if len(named) < len(symbols):
        msg = f"a message of type {kind!r} needs its symbol"
        raise ValueError(msg)
    return Message(fields, CHANNEL_OF_TYPE[kind], named)


def to_ns(time: object) -> int:
    """A time (nanoseconds, RFC 3339 text or datetime) as nanoseconds since the epoch, exactly.

    Raises:
        ValueError: The text is not RFC 3339, or the datetime has no zone.
        TypeError: It is of another type.
    """
    if isinstance(time, int):
        return time
    if isinstance(time, datetime):
        if time.tzinfo is None:
            msg = "a datetime needs a time zone"
            raise ValueError(msg)
        return (time - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not isinstance(time, str):
        msg = f"not a time: {time!r}"
        raise TypeError(msg)
    match = _RFC3339.fullmatch(time)
    if match is None:
        msg = f"not an RFC 3339 time: {time!r}"
        raise ValueError(msg)
    date, clock, fraction, zone = match.groups()
    whole = datetime.fromisoformat(f"{date}T{clock}{zone.upper().replace('Z', '+00:00')}")
    return to_ns(whole) + int((fraction or "").ljust(9, "0"))


def format_time(t_ns: int) -> str:
    """RFC 3339 in UTC with as many digits as needed."""
    seconds, fraction = divmod(t_ns, SECOND)
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{whole}{digits}Z"


def _timestamp_extension(t_ns: int) -> msgspec.msgpack.Ext:
    seconds, fraction = divmod(t_ns, SECOND)
    if fraction == 0 and 0 <= seconds < 1 << 32:
        data = seconds.to_bytes(4, "big")
    elif 0 <= seconds < 1 << 34:
        data = (fraction << 34 | seconds).to_bytes(8, "big")
    else:
        data = fraction.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True)
    return msgspec.msgpack.Ext(_TIMESTAMP_EXTENSION, data)


def _encode(fields: dict[str, Any], codec: Codec) -> bytes:
    timed = dict(fields)
    for key in _TIME_KEYS:
        if key in fields:
            t_ns = fields[key]
            timed[key] = _timestamp_extension(t_ns) if codec == "msgpack" else format_time(t_ns)
    return encode_object(timed, codec)


def encode_object(value: object, codec: Codec) -> bytes:
    """Any value that both codecs know."""
    return _msgpack_encoder.encode(value) if codec == "msgpack" else _json_encoder.encode(value)


def encode_frame(messages: Sequence[bytes], codec: Codec) -> bytes | str:
    """An array of encoded messages: bytes for a binary frame, or text."""
    data = encode_array(messages, codec)
    return data.decode() if codec == "json" else data


def encode_array(messages: Sequence[bytes], codec: Codec) -> bytes:
    """An array of encoded messages."""
    if codec == "json":
        return b"[" + b",".join(messages) + b"]"
    return _array_header(len(messages)) + b"".join(messages)


def _array_header(length: int) -> bytes:
    if length < 1 << 4:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")


def success(text: str) -> dict[str, object]:
    """Control message: "connected" or "authenticated"."""
    return {"T": "success", "msg": text}


def error(code: int, text: str | None = None) -> dict[str, object]:
    """Control message: an error, by default with Alpaca's text for the code."""
    default = ERROR_TEXTS.get(code, "internal error")
    return {"T": "error", "code": code, "msg": default if text is None else text}


def decode_request(data: bytes | str, codec: Codec) -> dict[str, Any] | None:
    """A client's message; ``None`` when it is not a map in the session's codec."""
    raw = data.encode() if isinstance(data, str) else data
    decode = msgspec.msgpack.decode if codec == "msgpack" else msgspec.json.decode
    try:
        request = decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(request, dict) or not all(isinstance(key, str) for key in request):
        return None
    return request
