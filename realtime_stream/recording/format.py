"""The layout of a segment: a magic, then blocks that each stand for themselves.

A block is a head and a body. The head is 17 bytes, big-endian: the marker ``RSBK``, the length of
the body, its length uncompressed, a CRC-32 over all the rest of the block, and flags. The body is
a MessagePack array of records, compressed by zlib. A block that is cut off, or of which a bit is
wrong, is recognised by length and CRC; everything before it is whole.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from realtime_stream.recording.records import FrameReceived, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAGIC", "Block", "TornBlockError", "blocks", "pack"]

MAGIC: Final = b"RSREC\r\n\x00"  # a transfer as text would change it
_MARKER: Final = b"RSBK"
_HEAD: Final = struct.Struct(">4sIIIB")
_SUMMED: Final = struct.Struct(">IIB")
_LEVEL: Final = 1  # of zlib: a quarter of the size at several times the speed of the usual level
_MAX_BODY: Final = 2**28  # bytes; nothing that is written comes near
_HAS_NOTES: Final = 1  # flag: a record that is no frame is in it

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Record]).decode


class TornBlockError(ValueError):
    """What stands here is not a whole block."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block as it was read; its body is looked into only when somebody asks.

    Attributes:
        body: Compressed records.
        length: Length of the body, uncompressed.
        has_notes: Whether it holds anything but frames.
        end: Position in the segment of the byte after it.
    """

    body: bytes
    length: int
    has_notes: bool
    end: int

    def records(self) -> list[Record]:
        """What it holds.

        Raises:
            TornBlockError: It cannot be understood, though its CRC is right.
        """
        try:
            return _decode(zlib.decompressobj().decompress(self.body, self.length))
        except (zlib.error, msgspec.MsgspecError) as exc:
            msg = "a block that is whole holds no records"
            raise TornBlockError(msg) from exc


def pack(records: Sequence[Record]) -> bytes:
    """A whole block."""
    raw = _encode(records)
    body = zlib.compress(raw, _LEVEL)
    flags = 0 if all(isinstance(record, FrameReceived) for record in records) else _HAS_NOTES
    crc = _crc(len(body), len(raw), flags, body)
    return _HEAD.pack(_MARKER, len(body), len(raw), crc, flags) + body


def blocks(file: BinaryIO) -> Iterator[Block]:
    """The blocks of a segment, from behind its magic.

    Raises:
        TornBlockError: What comes next is not a whole block.
    """
    position = file.tell()
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            msg = "the head of a block is cut off"
            raise TornBlockError(msg)
        marker, length, raw_length, crc, flags = _HEAD.unpack(head)
        if marker != _MARKER or max(length, raw_length) > _MAX_BODY:
            msg = "not the head of a block"
            raise TornBlockError(msg)
        body = file.read(length)
        if len(body) < length or _crc(length, raw_length, flags, body) != crc:
            msg = "the body of a block is cut off or wrong"
            raise TornBlockError(msg)
        position += _HEAD.size + length
        yield Block(body, raw_length, bool(flags & _HAS_NOTES), position)


def _crc(length: int, raw_length: int, flags: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_SUMMED.pack(length, raw_length, flags)))
