"""What the benchmarks send: realistic quotes, as finished WebSocket frames.

Everything is encoded before the first byte is sent, so that a run costs the server no more than
the system call. A feed begins with a quote of ``FIRST`` and ends with one of ``LAST``, which no
other quote has: clients know by them when to start and stop their clocks.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["FIRST", "LAST", "SYMBOLS", "Feed", "control_frame", "frames", "mark"]

SYMBOLS: Final = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NVDA", "SPY", "TSLA")
FIRST: Final = "FIRST"
LAST: Final = "LAST"

_START_NS: Final = 1_790_000_000_123_456_789
_SECOND: Final = 1_000_000_000  # nanoseconds
_TIMESTAMP_EXTENSION: Final = -1
_EXCHANGES: Final = "KNPQVZ"
_SEED: Final = 7
_SLOWEST: Final = 2000.0  # quotes per second
_SHORT: Final = 126  # below: the length stands in the second byte of a WebSocket frame
_LONG: Final = 1 << 16
_BINARY: Final = 0x82  # FIN and the opcode of a binary message

_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Feed:
    """What one session is sent.

    Attributes:
        quotes: How many, beside the two marks.
        per_frame: Quotes in a frame.
        rate: Quotes per second; ``None`` for as fast as TCP takes them.
        burst: With a rate: quotes that are sent at once, a multiple of ``per_frame``.
    """

    quotes: int
    per_frame: int = 1
    rate: float | None = None
    burst: int = 1

    @property
    def seconds(self) -> float:
        """How long the feed takes; without a rate, with a client slower than any compared here."""
        return self.quotes / (self.rate or _SLOWEST)


def frames(feed: Feed) -> list[bytes]:
    """The quotes between the marks, ``per_frame`` to a frame."""
    messages = list(_quotes(feed.quotes))
    return [
        _binary(_array(messages[start : start + feed.per_frame]))
        for start in range(0, len(messages), feed.per_frame)
    ]


def mark(symbol: str) -> bytes:
    """A frame with one quote of ``FIRST`` or ``LAST``."""
    return _binary(_array([_quote(symbol, 10_000, 1, _START_NS)]))


def control_frame(**message: Any) -> bytes:
    """A frame with one control message; ``T`` is to be given first."""
    return _binary(_array([_encode(message)]))


def _quotes(count: int) -> Iterator[bytes]:
    chance = random.Random(_SEED)  # noqa: S311  # the same prices in every run
    cents = {symbol: chance.randrange(5_000, 60_000) for symbol in SYMBOLS}
    now = _START_NS
    for _ in range(count):
        symbol = chance.choice(SYMBOLS)
        cents[symbol] = max(cents[symbol] + chance.randint(-2, 2), 100)
        now += chance.randrange(1_000, 2_000_000)
        yield _quote(symbol, cents[symbol], chance.randint(1, 3), now)


def _quote(symbol: str, bid_cents: int, spread_cents: int, now_ns: int) -> bytes:
    return _encode({
        "T": "q",
        "S": symbol,
        "bx": _EXCHANGES[bid_cents % len(_EXCHANGES)],
        "bp": bid_cents / 100,
        "bs": 100 * (1 + bid_cents % 9),
        "ax": _EXCHANGES[now_ns % len(_EXCHANGES)],
        "ap": (bid_cents + spread_cents) / 100,
        "as": 100 * (1 + now_ns % 9),
        "c": ["R"],
        "t": _timestamp(now_ns),
        "z": "C",
    })


def _timestamp(now_ns: int) -> msgspec.msgpack.Ext:
    """MessagePack's 64-bit timestamp: 30 bits of nanoseconds, 34 bits of seconds."""
    seconds, nanoseconds = divmod(now_ns, _SECOND)
    return msgspec.msgpack.Ext(_TIMESTAMP_EXTENSION, struct.pack("!Q", nanoseconds << 34 | seconds))


def _array(messages: Sequence[bytes]) -> bytes:
    """A MessagePack array of messages that are encoded already."""
    return _encode([msgspec.Raw(message) for message in messages])


def _binary(payload: bytes) -> bytes:
    """An unmasked WebSocket frame, as servers send them."""
    size = len(payload)
    if size < _SHORT:
        return bytes((_BINARY, size)) + payload
    if size < _LONG:
        return struct.pack("!BBH", _BINARY, _SHORT, size) + payload
    return struct.pack("!BBQ", _BINARY, _SHORT + 1, size) + payload
