"""Page tokens: where a page has ended.

They look as Alpaca's do, which are base64 of the symbol, for bars the unit, the time, and for
trades the exchange and the number (as a sum with 2^63, in twenty digits); clients must not care.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from realtime_stream.simulator.wire import SECOND, to_ns

if TYPE_CHECKING:
    from realtime_stream.simulator.tape import TradeKey

__all__ = ["Token", "bars_token", "read_token", "trades_token"]

_NUMBER_BASE: Final = 1 << 63
_BARS_PARTS: Final = 3
_TRADES_PARTS: Final = (4, 5)


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page has ended.

    Attributes:
        symbol: Symbol of its last row.
        t_ns: Time of its last row.
        place: Of trades, the place of its last row.
    """

    symbol: str
    t_ns: int
    place: TradeKey | None = None


def bars_token(symbol: str, unit: str, t_ns: int) -> str:
    """After this bar."""
    return _encoded(symbol, unit[:1], _time(t_ns))


def trades_token(symbol: str, place: TradeKey) -> str:
    """After the trade of this place."""
    t_ns, exchange, number, revision = place
    parts = (symbol, _time(t_ns), exchange, f"{number + _NUMBER_BASE:020d}")
    return _encoded(*parts, *([str(revision)] if revision else []))


def read_token(text: str) -> Token:
    """The token that was given out as this text.

    Raises:
        ValueError: None was.
    """
    try:
        parts = base64.b64decode(text, validate=True).decode().split("|")
        if len(parts) == _BARS_PARTS:
            return Token(parts[0], to_ns(parts[2]))
        if len(parts) in _TRADES_PARTS:
            symbol, moment, exchange, number, *revisions = parts
            t_ns, revision = to_ns(moment), int("".join(revisions) or 0)
            return Token(symbol, t_ns, (t_ns, exchange, int(number) - _NUMBER_BASE, revision))
    except (ValueError, binascii.Error) as exc:
        msg = f"invalid page_token: {text}"
        raise ValueError(msg) from exc
    msg = f"invalid page_token: {text}"
    raise ValueError(msg)


def _encoded(*parts: str) -> str:
    return base64.b64encode("|".join(parts).encode()).decode()


def _time(t_ns: int) -> str:
    seconds, fraction = divmod(t_ns, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
