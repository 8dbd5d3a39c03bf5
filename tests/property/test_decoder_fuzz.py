"""Hostile frames: no exception leaves the decoder, what it returns is whole, memory is bounded."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream.providers.alpaca.decoder import FrameDecoder
from tests.property.support_frames import (
    CODECS,
    DECODERS,
    MESSAGES,
    RECEIVED_NS,
    Codec,
    encode,
    well_formed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.providers.alpaca.decoder import Decoded

# What a frame may cost at most while it is decoded, in bytes for each of its bytes and all told.
# Events are a dozen small objects each: measured are 18 for the smallest quotes and 38 for a book
# of the smallest levels. A frame with something wrong in it is split first: one object a message,
# of 56 bytes, where the smallest message is one byte.
PER_BYTE = 100
AT_MOST = 1 << 16
SIZE = 1 << 17  # bytes of a frame of small messages
RETAINED = 1 << 16  # bytes that may differ after ten thousand frames: caches of the interpreter

codecs = st.sampled_from(CODECS)
messages = st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4)


def decode(codec: Codec, data: bytes | str) -> Decoded:
    decoded = DECODERS[codec].decode(data, RECEIVED_NS)
    well_formed(decoded)
    return decoded


# --- damaged frames ---


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("message", MESSAGES, ids=[f"{m['T']}-{m.get('S')}" for m in MESSAGES])
def test_every_bit_flipped_and_every_cut(codec: Codec, message: dict[str, Any]) -> None:
    frame = encode(codec, [message])
    for place in range(len(frame)):
        decode(codec, frame[:place])
        decode(codec, frame[:place] + frame[place + 1 :])
        for byte in (*(frame[place] ^ 1 << bit for bit in range(8)), 0x00, 0xC1, 0xFF):
            decode(codec, frame[:place] + bytes([byte]) + frame[place + 1 :])


@st.composite
def damaged(draw: st.DrawFn, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(draw(st.integers(1, 6))):
        first, last = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.sampled_from(("insert", "delete", "replace", "repeat", "swap"))):
            case "insert":
                data[first:first] = draw(st.binary(max_size=9))
            case "delete":
                del data[first:last]
            case "replace":
                data[first : first + 4] = draw(st.binary(max_size=4))
            case "repeat":
                data[last:last] = data[first:last]
            case _:
                data = data[last:] + data[first:last] + data[:first]
    return bytes(data)


@settings(deadline=None, max_examples=300)  # a busy machine is no failure
@given(codecs, messages, st.data())
def test_mutated_frames(codec: Codec, several: list[dict[str, Any]], data: st.DataObject) -> None:
    decode(codec, data.draw(damaged(encode(codec, several))))


@settings(deadline=None, max_examples=300)  # as above
@given(codecs, codecs, messages)
def test_frames_of_the_other_codec(
    codec: Codec, other: Codec, several: list[dict[str, Any]]
) -> None:
    frame = encode(codec, several)
    decode(other, frame)
    decode(other, frame.decode("latin-1"))


@settings(deadline=None, max_examples=300)  # as above
@given(codecs, st.binary(max_size=4000))
def test_noise(codec: Codec, noise: bytes) -> None:
    decode(codec, noise)
    decode(codec, b"\x91" + noise)  # as one MessagePack message
    decode(codec, b'[{"T":' + noise)


# --- lengths, depths and numbers ---

_MOST = b"\xff\xff\xff\xff"
HEADERS = {
    "str32": b"\xdb" + _MOST,
    "bin32": b"\xc6" + _MOST,
    "array32": b"\xdd" + _MOST,
    "map32": b"\xdf" + _MOST,
    "ext32": b"\xc9" + _MOST + b"\xff",
    "str16": b"\xda\xff\xff",
    "array16": b"\xdc\xff\xff",
    "map16": b"\xde\xff\xff",
    "ext8": b"\xc7\xff\xff",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_lengths_that_are_declared_and_do_not_come(header: bytes) -> None:
    decode("msgpack", header)
    decode("msgpack", b"\x91" + header)
    decode("msgpack", b"\x91\x81" + header)  # in the place of a key
    for message in MESSAGES:
        whole = encode("msgpack", [message])
        for key in (*message, "unknown"):
            packed = msgpack.packb({**message, key: None})[1:]
            place = packed.index(msgpack.packb(key) + b"\xc0") + len(msgpack.packb(key))
            head = b"\x91\xde" + len({**message, key: 0}).to_bytes(2, "big")
            frame = head + packed[:place] + header + packed[place + 1 :]
            peak, decoded = peak_of("msgpack", frame)
            assert len(decoded.events) == 0
            assert peak <= PER_BYTE * len(frame) + AT_MOST
        assert well_formed(DECODERS["msgpack"].decode(whole, RECEIVED_NS)) == 1


@pytest.mark.parametrize("depth", [100, 1000, 10_000, 1_000_000])
@pytest.mark.parametrize(("codec", "opening", "closing"), [
    ("json", b"[", b"]"),
    ("json", b'{"a":', b"}"),
    ("msgpack", b"\x91", b""),
    ("msgpack", b"\x81\xa1a", b""),
    ("msgpack", b"\xdd\x00\x00\x00\x01", b""),
])  # fmt: skip
def test_deep_nesting(codec: Codec, opening: bytes, closing: bytes, depth: int) -> None:
    inner = b"1" if codec == "json" else b"\x01"
    nest = opening * depth + inner + closing * depth
    frames = [nest, opening * depth]
    for key in ("S", "p", "t", "c", "b", "unknown"):
        if codec == "json":
            frames.append(b'[{"T":"t","S":"A","p":1,"s":1,"' + key.encode() + b'":' + nest + b"}]")
        else:
            frames.append(
                b"\x91\x85\xa1T\xa1t\xa1S\xa1A\xa1p\x01\xa1s\x01" + msgpack.packb(key) + nest
            )
    for frame in frames:
        peak, decoded = peak_of(codec, frame)
        assert not decoded.events
        assert peak <= PER_BYTE * len(frame) + AT_MOST


NUMBERS: tuple[str, ...] = (
    "1e999999", "-1e999999", "1e-999999", "1e999999999999999999999", "9" * 100_000, "1e308",
    "1.8e308", "5e-324", "0." + "0" * 5000 + "1", "-0", "NaN", "sNaN", "Infinity", "-inf",
    "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1_000", " 1", "0x10",
    "\u0663", "", "1e", "--1", "1,5", "\U0001f600",
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: ascii(text[:24]))
@pytest.mark.parametrize("message", MESSAGES[:14], ids=lambda m: f"{m['T']}-{m['S']}")
def test_numbers_no_market_has(message: dict[str, Any], number: str) -> None:
    """As text in both codecs and as a bare word in JSON, in the place of every value."""
    for key in message:
        if key != "T":
            decode("msgpack", encode("msgpack", [{**message, key: number}]))
            decode("json", encode("json", [{**message, key: number}]))
            bare = json.dumps([{**message, key: "@@"}], ensure_ascii=False)
            decode("json", bare.replace('"@@"', number).encode())


@pytest.mark.parametrize(
    "value",
    [2**64 - 1, -(2**63), 1e308, 5e-324, float("nan"), float("inf"), float("-inf"), -0.0, True],
    ids=repr,
)
@pytest.mark.parametrize("message", MESSAGES[:14], ids=lambda m: f"{m['T']}-{m['S']}")
def test_binary_numbers_no_market_has(message: dict[str, Any], value: float) -> None:
    for key in message:
        if key != "T":
            decode("msgpack", encode("msgpack", [{**message, key: value}]))


@settings(deadline=None, max_examples=300)  # a busy machine is no failure
@given(st.integers(-128, 127), st.binary(max_size=16))
def test_time_extensions(code: int, data: bytes) -> None:
    packed = msgpack.packb({
        "T": "q",
        "S": "A",
        "bp": 1,
        "bs": 1,
        "ap": 1,
        "as": 1,
        "t": msgpack.ExtType(5, data),
    })
    place = packed.rindex(b"\xa1t") + 2
    head = packed[place : place + (3 if packed[place] == 0xC7 else 2)]
    stamped = packed[:place] + head[:-1] + code.to_bytes(1, "big", signed=True) + data
    decode("msgpack", b"\x91" + stamped)


@settings(deadline=None, max_examples=300)  # as above
@given(
    st.from_regex(
        r"[0-9]{1,5}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,12})?"
        r"(Z|[+-][0-9]{2}:?[0-9]{2}(:[0-9]{2})?)?",
        fullmatch=True,
    )
    | st.text(max_size=40)
)
def test_times_in_words(text: str) -> None:
    decode("json", encode("json", [{**MESSAGES[3], "t": text}]))


# --- text, keys and dialects of JSON ---


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "text",
    [
        b"\xed\xa0\x80",
        b"\xed\xb0\x80\xed\xa0\x80",
        b"\xc0\x80",
        b"\xff",
        b"\xf4\x90\x80\x80",
        b"\0",
    ],
    ids=bytes.hex,
)
def test_text_that_is_not_utf_8(codec: Codec, text: bytes) -> None:
    for message in MESSAGES:
        for key in message:
            for marked in ({**message, key: "@@"}, {**message, "@@": 1}):
                frame = encode(codec, [marked]).replace(b"\xa2@@", bytes([0xA0 + len(text)]) + text)
                decode(codec, frame.replace(b"@@", text))


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00\ud800", r"\U0001f600", r"\u0000", r"\x"])
def test_escapes_in_json(escape: str) -> None:
    for message in MESSAGES:
        for key in message:
            decode("json", json.dumps([{**message, key: "@@"}]).replace("@@", escape).encode())
    decode("json", json.dumps([MESSAGES[3]]).replace('"S"', f'"{escape}"'))


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udc80b"])
def test_text_frames_with_halves_of_surrogate_pairs(surrogate: str) -> None:
    for codec in CODECS:
        decode(codec, surrogate)
        decode(codec, json.dumps([{**MESSAGES[3], "S": "@@"}]).replace("@@", surrogate))


def pairs(draw: st.DrawFn, message: dict[str, Any]) -> list[tuple[str, Any]]:
    extra = draw(st.lists(st.sampled_from([*message.items(), ("T", "t"), ("T", 5)]), max_size=3))
    return draw(st.permutations([*message.items(), *extra]))


@settings(deadline=None, max_examples=300)  # a busy machine is no failure
@given(st.sampled_from(MESSAGES), st.data())
def test_keys_that_come_twice_and_in_any_order(
    message: dict[str, Any], data: st.DataObject
) -> None:
    """Nobody says which value counts; it is one message all the same, and its neighbour is safe."""
    items = data.draw(st.composite(pairs)(message))
    text = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in items)
    good = json.dumps(MESSAGES[3])
    decoded = decode("json", f"[{{{text}}},{good}]")
    assert well_formed(decoded) == 2
    binary = b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in items)
    head = b"\xdc\x00\x02\xde" + len(items).to_bytes(2, "big")
    decoded = decode("msgpack", head + binary + encode("msgpack", [MESSAGES[3]])[1:])
    assert well_formed(decoded) == 2
    assert decoded.events


@pytest.mark.parametrize(
    "dialect",
    [
        "\ufeff{}", "{} {}", "{}{}", "[{}", "{},", "[{},]", "{} // no", "/* no */ {}", "({})",
        "\x00{}", "{}\x00", " \t\r\n{}\n", "[{}]", "{}]", "NaN", "null", "true", "1", '"text"', "{",
        "}", "'", "\\u005b\\u005d", "\x1e{}\n",
    ],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-7"])
def test_dialects_of_json(dialect: str, encoding: str) -> None:
    text = dialect.replace("{}", json.dumps(MESSAGES[:4]))
    decode("json", text)
    decode("json", text.encode(encoding))
    decode("msgpack", text.encode(encoding))


# --- memory ---


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_of(codec: Codec, frame: bytes) -> tuple[int, Decoded]:
    """Bytes that decoding a frame needed at most, its result included."""
    begun = not tracemalloc.is_tracing()
    if begun:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        decoded = DECODERS[codec].decode(frame, RECEIVED_NS)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if begun:
            tracemalloc.stop()
    well_formed(decoded)
    return peak, decoded


def many(codec: Codec, piece: bytes) -> bytes:
    """A frame with one and the same message again and again."""
    count = SIZE // len(piece)
    if codec == "json":
        return b"[" + b",".join([piece] * count) + b"]"
    return b"\xdd" + count.to_bytes(4, "big") + piece * count


SMALL: dict[str, tuple[Codec, bytes]] = {
    "nil": ("msgpack", b"\xc0"),
    "empty map": ("msgpack", b"\x80"),
    "unknown type": ("msgpack", b"\x81\xa1T\xa1z"),
    "success": ("msgpack", msgpack.packb({"T": "success", "msg": ""})),
    "acknowledgement": ("msgpack", msgpack.packb({"T": "subscription"})),
    "quote": ("msgpack", encode("msgpack", [MESSAGES[3]])[1:]),
    "quote without time": ("msgpack", msgpack.packb({"T": "q", "S": "A", "bp": 1, "bs": 1})),
    "0": ("json", b"0"),
    "{}": ("json", b"{}"),
    "quote in words": ("json", json.dumps(MESSAGES[3]).encode()),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_frame_of_small_messages_is_not_blown_up(name: str) -> None:
    codec, piece = SMALL[name]
    frame = many(codec, piece)
    peak, decoded = peak_of(codec, frame)
    assert peak <= PER_BYTE * len(frame) + AT_MOST
    assert well_formed(decoded) == SIZE // len(piece)
    assert len(decoded.rejects) <= 101


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("key", ["T", "S", "p", "t", "c", "i", "x", "z", "unknown"])
def test_one_huge_value_is_not_blown_up_nor_kept_when_rejected(codec: Codec, key: str) -> None:
    for value in ("A" * 1_000_000, "9" * 1_000_000, ["A" * 1_000_000]):
        frame = encode(codec, [{**MESSAGES[0], key: value}])
        peak, _ = peak_of(codec, frame)
        assert peak <= PER_BYTE * len(frame) + AT_MOST


@settings(deadline=None, max_examples=100)  # a busy machine is no failure
@given(codecs, messages, st.integers(1, 200), st.data())
def test_memory_grows_no_faster_than_the_frame(
    codec: Codec, several: list[dict[str, Any]], times: int, data: st.DataObject
) -> None:
    frame = data.draw(damaged(encode(codec, several * times)))
    peak, _ = peak_of(codec, frame)
    assert peak <= PER_BYTE * len(frame) + AT_MOST


def test_nothing_is_kept_of_ten_thousand_frames(tracing: None) -> None:
    rng = random.Random(11)  # noqa: S311  # a test that can be repeated
    frames = [(codec, encode(codec, [message] * 3)) for codec in CODECS for message in MESSAGES]
    decoders = {codec: FrameDecoder(codec) for codec in CODECS}

    def feed(count: int) -> None:
        for _ in range(count):
            codec, frame = rng.choice(frames)
            place = rng.randrange(len(frame))
            hurt = frame[:place] + rng.randbytes(rng.randrange(4)) + frame[place + 1 :]
            decoders[codec].decode(hurt, RECEIVED_NS)

    feed(1000)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    feed(10_000)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - before <= RETAINED
