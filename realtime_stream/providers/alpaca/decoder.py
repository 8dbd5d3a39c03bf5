"""Frames to events, once. A message that cannot be understood costs only itself."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.msgpack import Ext
from msgspec.structs import force_setattr

from realtime_stream.ports import RejectedMessage
from realtime_stream.providers.alpaca import wire
from realtime_stream.resilience.failures import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from realtime_stream.market.models import MarketEvent

__all__ = ["Decoded", "FrameDecoder", "nanoseconds"]

_RAW_KEPT: Final = 512  # bytes of a rejected message that are kept
_MAX_REJECTS: Final = 100  # in one frame; a frame full of them must not hold the session up
_TOO_MANY: Final = "the rest of a frame with too many malformed messages"
_TIMESTAMP_EXT: Final = -1
_USUAL_LENGTH: Final = 8  # bytes; seconds in 34 bits, nanoseconds in 30
_SECONDS_MASK: Final = (1 << 34) - 1
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_NS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * _NS
_LAST_NS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * _NS
_MAX_SHARED: Final = 4096  # combinations of condition codes; the tape has some hundreds
_LONGEST_SHARED: Final = 32  # characters
_SHARED_CODES: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}  # any thread may add to it
_uint64: Final = struct.Struct(">Q").unpack

# What a decoder may raise on bytes that nobody checked: malformed or mistyped data, text that is
# not UTF-8, numbers no datetime or Decimal can hold, nesting deeper than the stack.
_BAD_DATA: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


@dataclass(slots=True)
class Decoded:
    """What one frame held, each kind in its own order."""

    events: list[MarketEvent] = field(default_factory=list)
    controls: list[wire.Control] = field(default_factory=list)
    rejects: list[RejectedMessage] = field(default_factory=list)


class FrameDecoder:
    """Decodes frames of one session, as MessagePack or JSON.

    Thread safety: it keeps nothing between frames; any thread may decode.
    """

    def __init__(self, codec: Literal["msgpack", "json"]) -> None:
        """Build the decoders."""
        self._binary = codec == "msgpack"
        kind = msgspec.msgpack if self._binary else msgspec.json
        frame: Any = kind.Decoder(list[wire.WireMessage])
        self._decode_frame: Callable[[bytes | str], list[Any]] = frame.decode
        parts: Any = kind.Decoder(list[msgspec.Raw])
        self._split: Callable[[bytes | str], list[msgspec.Raw]] = parts.decode
        one: Any = kind.Decoder(wire.WireMessage)
        self._decode_one: Callable[[msgspec.Raw], Any] = one.decode

    def decode(self, data: bytes | str, received_ns: int) -> Decoded:
        """Decode a frame; never raises, whatever the bytes.

        Args:
            data: The frame's payload.
            received_ns: Stamped on every event.
        """
        if self._binary and isinstance(data, str):
            data = data.encode("utf-8", "replace")  # will be rejected as what it is
        try:
            messages = self._decode_frame(data)
            controls = _complete(messages, received_ns)
        except _BAD_DATA as exc:
            return self._decode_each(data, received_ns, str(exc))
        if controls:
            messages = [message for message in messages if message.__class__ in _COMPLETE]
        return Decoded(messages, controls, [])

    def decode_events(self, data: bytes, received_ns: int) -> list[MarketEvent] | None:
        """Decode a frame that is as it should be: events alone. ``None`` if it is not."""
        try:
            messages = self._decode_frame(data)
            return None if _complete(messages, received_ns) else messages
        except _BAD_DATA:
            return None

    def _decode_each(self, data: bytes | str, received_ns: int, reason: str) -> Decoded:
        """The slow way, for a frame in which something is wrong."""
        try:
            parts = self._split(data)
        except _BAD_DATA:
            return Decoded(rejects=[_reject(data, reason, received_ns)])
        events: list[MarketEvent] = []
        controls: list[wire.Control] = []
        rejects: list[RejectedMessage] = []
        for number, part in enumerate(parts):
            try:
                message = self._decode_one(part)
                found = _complete([message], received_ns)
            except _BAD_DATA as exc:
                rejects.append(_reject(bytes(part), str(exc), received_ns))
                if len(rejects) == _MAX_REJECTS and number + 1 < len(parts):
                    rest = len(parts) - number - 1
                    rejects.append(_reject(bytes(parts[-1]), _TOO_MANY, received_ns, rest))
                    break
                continue
            controls.extend(found)
            if not found:
                events.append(message)
        return Decoded(events, controls, rejects)


def _reject(raw: bytes | str, reason: str, received_ns: int, count: int = 1) -> RejectedMessage:
    data = raw.encode("utf-8", "replace") if isinstance(raw, str) else raw
    said = harmless(reason) or "not a message"  # the decoder quotes what was sent
    return RejectedMessage(said, bytes(data[:_RAW_KEPT]), received_ns, count)


def _complete(messages: Sequence[Any], received_ns: int) -> list[wire.Control]:
    """Turn what was decoded into events, in place; return the control messages among them.

    This runs once per message, so what nearly all of them are comes first and without a call.

    Raises:
        ValueError: On the first message that says something impossible.
    """
    controls: list[wire.Control] = []
    quote: Any = wire.Quote  # Any: compared, not narrowed
    ext: Any = Ext
    for message in messages:
        if message.__class__ is quote:
            stamp = message.timestamp_ns
            if (
                stamp.__class__ is ext
                and stamp.code == _TIMESTAMP_EXT
                and len(stamp.data) == _USUAL_LENGTH
                and message.conditions.__class__ is tuple
                and message.bid_price.is_finite()
                and message.ask_price.is_finite()
                and message.bid_size.is_finite()
                and message.ask_size.is_finite()
            ):
                (value,) = _uint64(stamp.data)
                force_setattr(
                    message, "timestamp_ns", (value & _SECONDS_MASK) * _NS + (value >> 34)
                )
                force_setattr(message, "received_ns", received_ns)
                continue
        complete = _COMPLETE.get(message.__class__)
        if complete is None:
            controls.append(message)
            continue
        force_setattr(message, "timestamp_ns", nanoseconds(message.timestamp_ns))
        force_setattr(message, "received_ns", received_ns)
        complete(message)
    return controls


def nanoseconds(stamp: wire.WireTime) -> int:
    """Exact nanoseconds since the epoch.

    Raises:
        ValueError: Neither a timestamp extension nor an RFC-3339 string.
    """
    if isinstance(stamp, str):
        return _in_range(_parse_rfc3339(stamp))
    data = bytes(stamp.data)
    if stamp.code == _TIMESTAMP_EXT:
        match len(data):
            case 4:
                return int.from_bytes(data, "big") * _NS
            case 8:
                value = int.from_bytes(data, "big")
                return (value & _SECONDS_MASK) * _NS + (value >> 34)
            case 12:
                seconds = int.from_bytes(data[4:], "big", signed=True)
                return _in_range(seconds * _NS + int.from_bytes(data[:4], "big"))
    msg = f"not a timestamp: extension {stamp.code} of {len(data)} bytes"
    raise ValueError(msg)


def _in_range(timestamp_ns: int) -> int:
    if not _FIRST_NS <= timestamp_ns <= _LAST_NS:
        msg = f"timestamp beyond the years 1 to 9999: {timestamp_ns} ns"
        raise ValueError(msg)
    return timestamp_ns


def _parse_rfc3339(text: str) -> int:
    if "," in text:  # the parser below would take it for a decimal point
        msg = f"not a timestamp: {ascii(text)[:40]}"
        raise ValueError(msg)
    head, dot, tail = text.partition(".")
    fraction = ""
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        fraction, tail = tail[:digits], tail[digits:]
        if not fraction or len(fraction) > 9:  # noqa: PLR2004  # nanoseconds have nine digits
            msg = f"not a timestamp: {ascii(text)[:40]}"
            raise ValueError(msg)
        head += tail
    moment = datetime.fromisoformat(head)
    if moment.tzinfo is None:
        msg = f"timestamp without a zone: {ascii(text)[:40]}"
        raise ValueError(msg)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * _NS + int(fraction.ljust(9, "0") or 0)


def _finite(message: object, *numbers: Decimal) -> None:
    for number in numbers:
        if not number.is_finite():
            msg = f"a number of {type(message).__name__} is not finite"
            raise ValueError(msg)


def _complete_trade(trade: Any) -> None:  # a wire class: its fields are not yet the public types
    if not (trade.price.is_finite() and trade.size.is_finite()):
        _finite(trade, trade.price, trade.size)
    codes = trade.conditions
    if codes.__class__ is not tuple:
        codes = _codes(codes)
    if codes:
        codes = _SHARED_CODES.get(codes) or _shared(codes)
    force_setattr(trade, "conditions", codes)


def _complete_quote(quote: Any) -> None:  # as above
    if quote.conditions.__class__ is not tuple:
        force_setattr(quote, "conditions", _codes(quote.conditions))
    _finite(quote, quote.bid_price, quote.ask_price, quote.bid_size, quote.ask_size)


def _complete_bar(bar: wire.Bar) -> None:
    _finite(bar, bar.open, bar.high, bar.low, bar.close, bar.volume)
    if bar.vwap is not None:
        _finite(bar, bar.vwap)


def _complete_correction(correction: Any) -> None:  # as above
    for name in ("original_conditions", "corrected_conditions"):
        force_setattr(correction, name, _codes(getattr(correction, name)))
    _finite(
        correction,
        correction.original_price,
        correction.original_size,
        correction.corrected_price,
        correction.corrected_size,
    )


def _complete_book(book: wire.OrderBook) -> None:
    for level in (*book.bids, *book.asks):
        _finite(book, level.price, level.size)


def _complete_news(news: Any) -> None:  # as above
    force_setattr(news, "created_ns", nanoseconds(news.created_ns))
    symbols = news.symbols or ()
    force_setattr(news, "symbols", symbols)
    force_setattr(news, "symbol", symbols[0] if symbols else "*")


def _codes(codes: tuple[str, ...] | str | None) -> tuple[str, ...]:
    """Condition codes as a tuple: options send one string, some messages null."""
    if codes is None or codes == "":
        return ()
    return (codes,) if isinstance(codes, str) else codes


def _shared(codes: tuple[str, ...]) -> tuple[str, ...]:
    """Share these codes with the trades to come that have the same.

    Trades are kept by the thousand, and every tuple that is kept brings the next garbage collection
    nearer, which stops the whole process for tens of milliseconds.
    """
    if len("|".join(codes)) > _LONGEST_SHARED:
        return codes
    if len(_SHARED_CODES) >= _MAX_SHARED:
        _SHARED_CODES.clear()
    return _SHARED_CODES.setdefault(codes, codes)


_COMPLETE: Final[dict[type, Callable[[Any], None]]] = {
    wire.Trade: _complete_trade,
    wire.Quote: _complete_quote,
    wire.Bar: _complete_bar,
    wire.UpdatedBar: _complete_bar,
    wire.DailyBar: _complete_bar,
    wire.TradingStatus: lambda _: None,
    wire.LULD: lambda luld: _finite(luld, luld.limit_up_price, luld.limit_down_price),
    wire.TradeCorrection: _complete_correction,
    wire.TradeCancel: lambda cancel: _finite(cancel, cancel.price, cancel.size),
    wire.Imbalance: lambda imbalance: _finite(imbalance, imbalance.price),
    wire.OrderBook: _complete_book,
    wire.News: _complete_news,
}
