"""How a server may end a connection."""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

__all__ = ["ABNORMAL_CLOSURE", "check_close"]

ABNORMAL_CLOSURE: Final = 1006  # stands for a connection that ends without a close frame
_MAX_REASON: Final = 123  # bytes, RFC 6455


def check_close(code: int | None, reason: str) -> None:
    """Check what a connection is to be closed with; ``None`` is a reset, 1006 is no close frame.

    Raises:
        ValueError: A close frame cannot have such a code or reason.
    """
    if code in (None, ABNORMAL_CLOSURE):
        return
    try:
        Close(code, reason).check()
    except ProtocolError as exc:
        msg = f"close code {code} cannot be sent"
        raise ValueError(msg) from exc
    if len(reason.encode()) > _MAX_REASON:
        msg = f"a close reason has at most {_MAX_REASON} bytes"
        raise ValueError(msg)
