"""What the HTTP upgrade says about the session to come."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.datastructures import Headers

    from realtime_stream.simulator.wire import Codec

__all__ = ["codec_of", "credentials_of"]


def credentials_of(headers: Headers) -> tuple[str, str] | None:
    """Credentials of the HTTP upgrade, if it has any; empty ones if they cannot be read."""
    keys = headers.get_all("APCA-API-KEY-ID")
    if keys:
        return keys[0], "".join(headers.get_all("APCA-API-SECRET-KEY"))
    scheme, _, encoded = "".join(headers.get_all("Authorization")).partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return key, secret


def codec_of(headers: Headers) -> Codec:
    """How messages are to be encoded: by default as JSON."""
    content_type = "".join(headers.get_all("Content-Type")).partition(";")[0].strip().lower()
    return "msgpack" if content_type == "application/msgpack" else "json"
