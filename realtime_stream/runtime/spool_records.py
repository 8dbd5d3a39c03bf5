"""How bars lie in a spool file: a header, then one frame a bar, each with length and checksum.

::

    file   = magic (8 bytes) | progress | frame*
    progress = offset of the first frame that is not dealt with (u64) | CRC-32 of it (u32)
    frame  = length of the bar (u32) | CRC-32 of the bar (u32) | the bar, MessagePack

Numbers are little-endian. The progress is overwritten in place, which needs no room on a full disk;
one that is torn does no harm: the file is then replayed from its start. Prices are written as
strings, so they come back with exactly their digits.
"""

from __future__ import annotations

import struct
import zlib
from decimal import Context, Decimal, InvalidOperation, Rounded
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from realtime_stream.market.models import Bar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FIRST_FRAME",
    "LARGEST_BAR",
    "PROGRESS_AT",
    "Frame",
    "decode_bar",
    "encode_frame",
    "frame_ends",
    "frames",
    "is_torn",
    "new_header",
    "pack_progress",
    "read_header",
    "unfit",
]

_MAGIC: Final = b"RTSPOOL1"
_PROGRESS: Final = struct.Struct("<QI")
_OFFSET: Final = struct.Struct("<Q")
_FRAME: Final = struct.Struct("<II")
PROGRESS_AT: Final = len(_MAGIC)
FIRST_FRAME: Final = PROGRESS_AT + _PROGRESS.size
LARGEST_BAR: Final = 65_536  # bytes; a bar takes some 250, so a longer one is a broken length

# A custom provider may put its own number types into a bar; what they say is kept.
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "vwap")
_NAMES: Final = ("symbol", "timeframe", "bar_kind", "source")
_FLAGS: Final = ("is_filled", "is_late", "is_partial")
_LONGEST_NAME: Final = 100
_COUNT_END: Final = 2**63
_MOST_DIGITS: Final = 1000
_ALL_DIGITS: Final = Context(prec=_MOST_DIGITS, traps=[Rounded, InvalidOperation]).plus
_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=str)
_DECODER: Final = msgspec.msgpack.Decoder(Bar)


class Frame(NamedTuple):
    """One frame as it was read.

    Attributes:
        body: The encoded bar.
        sound: Whether its checksum is right.
        end: Offset of what follows it, from where the reading began.
    """

    body: bytes
    sound: bool
    end: int


def unfit(bar: Bar) -> str:
    """Why a bar cannot be kept in a file; empty if it can."""
    return _unfit_number(bar) or _unfit_field(bar)


def _unfit_number(bar: Bar) -> str:
    for name in _NUMBERS:
        value = getattr(bar, name)
        if name == "vwap" and value is None:
            continue
        if type(value) is not Decimal:
            return f"{name} must be a Decimal, not {type(value).__name__}"
        try:
            _ALL_DIGITS(value)
        except ArithmeticError:
            return f"{name} has more than {_MOST_DIGITS} digits"
    count = bar.trade_count
    if count is not None and not (type(count) is int and 0 <= count < _COUNT_END):
        return "trade_count must be an integer from 0 on, below 2**63"
    return ""


def _unfit_field(bar: Bar) -> str:
    for name in _NAMES:
        value = getattr(bar, name)
        if type(value) is not str or not value.isascii() or len(value) > _LONGEST_NAME:
            return f"{name} must be ASCII text, of at most {_LONGEST_NAME} characters"
    for name in ("timestamp_ns", "received_ns"):
        value = getattr(bar, name)
        if type(value) is not int or not -_COUNT_END <= value < _COUNT_END:
            return f"{name} must be an integer of 64 bits"
    for name in _FLAGS:
        if type(getattr(bar, name)) is not bool:
            return f"{name} must be True or False"
    return ""


def encode_frame(bar: Bar) -> bytes:
    """A bar with length and checksum; whatever provider made it, under the names of ``Bar``."""
    body = _ENCODER.encode(msgspec.structs.asdict(bar))
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def decode_bar(body: bytes) -> Bar | None:
    """The bar of a frame; ``None`` when it is not one, as after a change of version."""
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError:
        return None


def frames(data: bytes) -> Iterator[Frame]:
    """The whole frames that ``data`` begins with; ends before the first that is torn."""
    for start, end in _bounds(data):
        body = data[start:end]
        _, checksum = _FRAME.unpack_from(data, start - _FRAME.size)
        yield Frame(body, zlib.crc32(body) == checksum, end)


def frame_ends(data: bytes) -> list[int]:
    """Where the whole frames that ``data`` begins with end; checksums are not looked at."""
    return [end for _, end in _bounds(data)]


def _bounds(data: bytes) -> Iterator[tuple[int, int]]:
    at, size = 0, len(data)
    while at + _FRAME.size <= size:
        length, _ = _FRAME.unpack_from(data, at)
        start = at + _FRAME.size
        at = start + length
        if not 0 < length <= LARGEST_BAR or at > size:
            return
        yield start, at


def is_torn(rest: bytes) -> bool:
    """Whether what follows the whole frames is what a crash leaves: a part of one, or zeros."""
    if len(rest) < _FRAME.size or not any(rest):
        return True
    length: int = _FRAME.unpack_from(rest)[0]
    return 0 < length <= LARGEST_BAR


def new_header() -> bytes:
    """The header of a file nothing of which is dealt with."""
    return _MAGIC + pack_progress(FIRST_FRAME)


def pack_progress(offset: int) -> bytes:
    """What stands at ``PROGRESS_AT`` when everything before ``offset`` is dealt with."""
    packed = _OFFSET.pack(offset)
    return packed + zlib.crc32(packed).to_bytes(4, "little")


def read_header(data: bytes) -> int | None:
    """The offset in a file's header; ``None`` when this is no spool file."""
    if not _MAGIC.startswith(data[:PROGRESS_AT]):  # a crash may have left a part of it, or nothing
        return None
    packed = data[PROGRESS_AT:FIRST_FRAME]
    if len(packed) < _PROGRESS.size:
        return FIRST_FRAME
    offset: int
    offset, checksum = _PROGRESS.unpack(packed)
    return offset if zlib.crc32(packed[: _OFFSET.size]) == checksum else FIRST_FRAME
