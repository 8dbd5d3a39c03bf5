"""How messages look on the wire: MessagePack or JSON, ``T`` first, timestamps exact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec.msgpack import Ext

__all__ = ["ERROR_TEXTS", "Codec", "decode", "encode", "error", "rfc3339", "success", "to_ns"]

Codec: TypeAlias = Literal["msgpack", "json"]

_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("t", "created_at", "updated_at")

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


def success(text: str) -> dict[str, Any]:
    """``connected`` or ``authenticated``."""
    return {"T": "success", "msg": text}


def error(code: int, text: str | None = None) -> dict[str, Any]:
    """A numbered error."""
    return {"T": "error", "code": code, "msg": ERROR_TEXTS.get(code, "") if text is None else text}


def to_ns(value: object) -> int | None:
    """Nanoseconds since the epoch of an int, RFC-3339 string or datetime; ``None`` for others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1) * 1000
    if isinstance(value, str):
        head, dot, rest = value.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        moment = datetime.fromisoformat(head + rest[len(digits) :] if dot else value)
        return to_ns(moment.astimezone(UTC)) // _NS * _NS + int(digits.ljust(9, "0") or 0)  # type: ignore[operator]
    return None


def rfc3339(ns: int) -> str:
    """RFC-3339 with as many digits as it takes."""
    seconds, fraction = divmod(ns, _NS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text}{digits}Z"


def encode(messages: list[Mapping[str, Any]], codec: Codec) -> bytes | str:
    """One frame."""
    ready = [_ready(message, codec) for message in messages]
    if codec == "json":
        return msgspec.json.encode(ready).decode()
    return msgspec.msgpack.encode(ready)


def decode(data: bytes | str, codec: Codec) -> Any:  # noqa: ANN401  # whatever the client sent
    """A client's message.

    Raises:
        ValueError: It is not of this codec.
    """
    try:
        if codec == "json":
            return msgspec.json.decode(data)
        if isinstance(data, str):
            msg = "text in a MessagePack session"
            raise ValueError(msg)
        return msgspec.msgpack.decode(data)
    except msgspec.DecodeError as exc:
        raise ValueError(str(exc)) from exc


def _ready(message: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    ready: dict[str, Any] = {"T": message["T"]}
    for key, value in message.items():
        ns = to_ns(value) if key in _TIMES else None
        ready[key] = value if ns is None else (rfc3339(ns) if codec == "json" else _extension(ns))
    return ready


def _extension(ns: int) -> Ext:
    seconds, fraction = divmod(ns, _NS)
    if not 0 <= seconds < 1 << 34:
        data = fraction.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True)
    elif fraction == 0 and seconds < 1 << 32:
        data = seconds.to_bytes(4, "big")
    else:
        data = (fraction << 34 | seconds).to_bytes(8, "big")
    return Ext(-1, data)
