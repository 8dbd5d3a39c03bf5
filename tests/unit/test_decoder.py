from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from decimal import Decimal as Dec
from typing import Any, Literal

import msgpack  # type: ignore[import-untyped]  # it brings no types
import msgspec
import pytest
from msgspec.msgpack import Ext

from realtime_stream.market.models import (
    LULD,
    Bar,
    BookLevel,
    Imbalance,
    MarketEvent,
    News,
    OrderBook,
    Quote,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingStatus,
)
from realtime_stream.ports import RejectedMessage
from realtime_stream.providers.alpaca import decoder, wire
from realtime_stream.providers.alpaca.decoder import Decoded, FrameDecoder

SECONDS = 1_709_562_600
TRADE = {"T": "t", "S": "AAPL", "i": 1, "x": "V", "p": 133.85, "s": 100, "z": "C"}
TEXT = "2024-03-04T14:30:00.123456789Z"
NS = SECONDS * 10**9 + 123_456_789
RECEIVED = 4_242
Codec = Literal["msgpack", "json"]
CODECS: tuple[Codec, ...] = ("msgpack", "json")
each_codec = pytest.mark.parametrize("codec", CODECS)


def stamp(codec: Codec) -> object:
    return TEXT if codec == "json" else msgpack.Timestamp(SECONDS, NS % 10**9)


def frame(codec: Codec, *messages: Any) -> bytes:
    if codec == "json":
        return json.dumps(messages).encode()
    packed = msgpack.packb(list(messages))
    assert isinstance(packed, bytes)
    return packed


def decode(codec: Codec, *messages: Any) -> Decoded:
    return FrameDecoder(codec).decode(frame(codec, *messages), RECEIVED)


def only(decoded: Decoded) -> MarketEvent:
    assert decoded.rejects == []
    (event,) = decoded.events
    return event


BAR_WIRE = {"S": "A", "o": 1, "h": 2.5, "l": 0.5, "c": 2, "v": 100, "n": 7, "vw": 1.25}
BAR: dict[str, Any] = {
    "symbol": "A", "timestamp_ns": NS, "open": Dec(1), "high": Dec("2.5"), "low": Dec("0.5"),
    "close": Dec(2), "volume": Dec(100), "trade_count": 7, "vwap": Dec("1.25"),
}  # fmt: skip
MESSAGES: list[tuple[str, dict[str, Any], MarketEvent]] = [
    (
        "stock trade",
        {"T": "t", "S": "A", "i": 52983525029461, "x": "D", "p": 1.1, "s": 10, "c": ["@", "I"],
         "z": "C", "r": "internal", "NewField": {"deep": [1]}},
        Trade(symbol="A", timestamp_ns=NS, trade_id=52983525029461, exchange="D", price=Dec("1.1"),
              size=Dec(10), conditions=("@", "I"), tape="C"),
    ),
    (
        "crypto trade",
        {"T": "t", "S": "BTC/USD", "p": 63500.5, "s": 0.000001, "i": 9, "tks": "B"},
        Trade(symbol="BTC/USD", timestamp_ns=NS, trade_id=9, price=Dec("63500.5"),
              size=Dec("0.000001"), taker_side="B"),
    ),
    (
        "option trade",
        {"T": "t", "S": "AAPL240315C00172500", "p": 2.84, "s": 1, "x": "N", "c": "S"},
        Trade(symbol="AAPL240315C00172500", timestamp_ns=NS, price=Dec("2.84"), size=Dec(1),
              exchange="N", conditions=("S",)),
    ),
    (
        "quote",
        {"T": "q", "S": "A", "bx": "U", "bp": 87.66, "bs": 1, "ax": "X", "ap": 87.68, "as": 4,
         "c": ["R"], "z": "C"},
        Quote(symbol="A", timestamp_ns=NS, bid_price=Dec("87.66"), bid_size=Dec(1),
              bid_exchange="U",
              ask_price=Dec("87.68"), ask_size=Dec(4), ask_exchange="X", conditions=("R",),
              tape="C"),
    ),
    (
        "option quote",
        {"T": "q", "S": "A", "bp": 0, "bs": 0, "ap": 1, "as": 2, "c": " "},
        Quote(symbol="A", timestamp_ns=NS, bid_price=Dec(0), bid_size=Dec(0), ask_price=Dec(1),
              ask_size=Dec(2), conditions=(" ",)),
    ),
    (
        "quote without conditions",
        {"T": "q", "S": "A", "bp": 1, "bs": 1, "ap": 1, "as": 2, "c": None},
        Quote(symbol="A", timestamp_ns=NS, bid_price=Dec(1), bid_size=Dec(1), ask_price=Dec(1),
              ask_size=Dec(2)),
    ),
    ("bar", {"T": "b", **BAR_WIRE}, Bar(**BAR)),
    ("updated bar", {"T": "u", **BAR_WIRE}, Bar(**BAR, bar_kind="updated")),
    ("daily bar", {"T": "d", **BAR_WIRE}, Bar(**BAR, bar_kind="daily", timeframe="1d")),
    (
        "bar of quotes",
        {"T": "b", "S": "BTC/USD", "o": 1, "h": 1, "l": 1, "c": 1, "v": 0},
        Bar(symbol="BTC/USD", timestamp_ns=NS, open=Dec(1), high=Dec(1), low=Dec(1), close=Dec(1),
            volume=Dec(0)),
    ),
    (
        "status",
        {"T": "s", "S": "A", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "", "z": "C"},
        TradingStatus(symbol="A", timestamp_ns=NS, status_code="H", status_message="Trading Halt",
                      reason_code="T12", tape="C"),
    ),
    (
        "luld",
        {"T": "l", "S": "A", "u": 3.2, "d": 2.8, "i": "B", "z": "A"},
        LULD(symbol="A", timestamp_ns=NS, limit_up_price=Dec("3.2"), limit_down_price=Dec("2.8"),
             indicator="B", tape="A"),
    ),
    (
        "correction",
        {"T": "c", "S": "A", "x": "M", "oi": 1, "op": 1.5, "os": 2, "oc": ["@"],
         "ci": 2, "cp": 1.6, "cs": 3, "cc": None, "z": "A"},
        TradeCorrection(symbol="A", timestamp_ns=NS, exchange="M", original_id=1,
                        original_price=Dec("1.5"), original_size=Dec(2), original_conditions=("@",),
                        corrected_id=2, corrected_price=Dec("1.6"), corrected_size=Dec(3),
                        tape="A"),
    ),
    (
        "cancel",
        {"T": "x", "S": "A", "i": 7, "x": "V", "p": 1.5, "s": 2, "a": "C", "z": "B"},
        TradeCancel(symbol="A", timestamp_ns=NS, trade_id=7, exchange="V", price=Dec("1.5"),
                    size=Dec(2), action="C", tape="B"),
    ),
    (
        "imbalance",
        {"T": "i", "S": "A", "p": 9.12, "z": "C"},
        Imbalance(symbol="A", timestamp_ns=NS, price=Dec("9.12"), tape="C"),
    ),
    (
        "order book",
        {"T": "o", "S": "BTC/USD", "b": [{"p": 1, "s": 2}], "a": [{"p": 3, "s": 0}], "r": True},
        OrderBook(symbol="BTC/USD", timestamp_ns=NS, bids=(BookLevel(Dec(1), Dec(2)),),
                  asks=(BookLevel(Dec(3), Dec(0)),), is_snapshot=True),
    ),
]  # fmt: skip


@each_codec
@pytest.mark.parametrize(
    ("message", "expected"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES]
)
def test_every_kind_of_event_is_decoded(
    codec: Codec, message: dict[str, Any], expected: MarketEvent
) -> None:
    event = only(decode(codec, {**message, "t": stamp(codec)}))
    assert event == expected
    assert event.channel == expected.channel
    assert event.received_ns == RECEIVED
    assert event.timestamp == datetime(2024, 3, 4, 14, 30, 0, 123_456, tzinfo=UTC)


@each_codec
@pytest.mark.parametrize(("symbols", "first"), [(["AAPL", "TSLA"], "AAPL"), ([], "*"), (None, "*")])
def test_news_is_decoded(codec: Codec, symbols: list[str] | None, first: str) -> None:
    message = {
        "T": "n", "id": 24918784, "headline": "Up", "summary": "s", "author": "a",
        "created_at": stamp(codec), "updated_at": stamp(codec), "url": None, "content": "<p>",
        "symbols": symbols, "source": "x",
    }  # fmt: skip
    assert only(decode(codec, message)) == News(
        symbol=first, timestamp_ns=NS, created_ns=NS, news_id=24918784, headline="Up", summary="s",
        author="a", content="<p>", symbols=tuple(symbols or ()), source="x",
    )  # fmt: skip


@each_codec
def test_control_messages_are_kept_apart_in_their_order(codec: Codec) -> None:
    trade = {"T": "t", "S": "A", "p": 1, "s": 1, "t": stamp(codec)}
    decoded = decode(
        codec,
        {"T": "success", "msg": "connected"},
        trade,
        {"T": "error", "code": 406, "msg": "connection limit exceeded"},
        {"T": "error", "code": 500},
        {"T": "subscription", "trades": ["A"], "quotes": None, "updatedBars": ["B"], "new": ["C"]},
    )
    assert decoded.controls == [
        wire.Success("connected"),
        wire.ServerError(406, "connection limit exceeded"),
        wire.ServerError(500),
        wire.Subscriptions(trades=("A",), quotes=None, updated_bars=("B",)),
    ]
    assert len(decoded.events) == 1
    assert decoded.rejects == []


@each_codec
def test_an_empty_frame_holds_nothing(codec: Codec) -> None:
    assert decode(codec) == Decoded()


# --- times ---


def imbalance(t: object) -> dict[str, object]:
    return {"T": "i", "S": "A", "p": 1, "t": t}


def decode_extension(extension: Ext) -> Decoded:
    data = msgspec.msgpack.encode([imbalance(extension)])
    return FrameDecoder("msgpack").decode(data, RECEIVED)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (struct.pack(">I", SECONDS), SECONDS * 10**9),
        (struct.pack(">Q", 123_456_789 << 34 | SECONDS), NS),
        (struct.pack(">Q", 999_999_999 << 34 | (2**34 - 1)), (2**34 - 1) * 10**9 + 999_999_999),
        (struct.pack(">Iq", 123_456_789, SECONDS), NS),
        (struct.pack(">Iq", 5, -1), -(10**9) + 5),
    ],
)
def test_a_timestamp_extension_of_any_width_is_exact(data: bytes, expected: int) -> None:
    event = only(decode_extension(Ext(-1, data)))
    assert event.timestamp_ns == expected


@pytest.mark.parametrize(
    "extension",
    [
        Ext(-1, b""),
        Ext(-1, b"\0" * 5),
        Ext(-1, b"\0" * 16),
        Ext(1, b"\0" * 8),
        Ext(-1, struct.pack(">Iq", 0, 2**62)),  # no datetime is so late
        Ext(-1, struct.pack(">Iq", 0, -(2**62))),
    ],
)
def test_any_other_extension_is_rejected(extension: Ext) -> None:
    decoded = decode_extension(extension)
    assert decoded.events == []
    assert len(decoded.rejects) == 1


@pytest.mark.parametrize("digits", range(10))
def test_fractions_of_any_length_are_exact(digits: int) -> None:
    fraction = "123456789"[:digits]
    text = f"2024-03-04T14:30:00{'.' if digits else ''}{fraction}Z"
    for codec in CODECS:
        event = only(decode(codec, imbalance(text)))
        assert event.timestamp_ns == SECONDS * 10**9 + int(fraction.ljust(9, "0") or 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-04T09:30:00.5-05:00", SECONDS * 10**9 + 500_000_000),
        ("2024-03-04T20:00:00+05:30", SECONDS * 10**9),
        ("1969-12-31T23:59:59.000000001Z", -999_999_999),
        ("1970-01-01T00:00:00Z", 0),
        ("2024-03-04T14:30:59.9999996Z", (SECONDS + 59) * 10**9 + 999_999_600),
    ],
)
def test_zones_and_edges_of_written_times(text: str, expected: int) -> None:
    assert only(decode("json", imbalance(text))).timestamp_ns == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2024-03-04",
        "2024-03-04T14:30:00",
        "2024-03-04T14:30:00.123",
        "2024-03-04T14:30:00.Z",
        "2024-03-04T14:30:00.1234567890Z",
        "2024-03-04T14:30:00.12x4Z",
        "2024-03-04T14:30:00.\u0661Z",
        "2024-03-04T14:30:00,5Z",
        "2024-13-04T14:30:00Z",
        "9999-12-31T23:59:59-05:00",  # no UTC datetime is so late
        "0001-01-01T00:00:00+05:00",
        "2024-03-04T25:30:00Z",
        1709562600,
        None,
        ["2024-03-04T14:30:00Z"],
    ],
)
def test_what_is_no_time_is_rejected(text: object) -> None:
    decoded = decode("json", imbalance(text))
    assert decoded.events == []
    assert len(decoded.rejects) == 1


# --- one bad message costs only itself ---

GOOD = {"T": "i", "S": "GOOD", "p": 1}
BAD: list[Any] = [
    {"T": "z", "S": "A"},
    {"S": "A", "p": 1},
    {},
    [],
    None,
    "text",
    7,
    {"T": "t", "S": "A", "s": 1},
    {"T": "t", "S": 5, "p": 1, "s": 1},
    {"T": "t", "S": "A", "p": "one", "s": 1},
    {"T": "t", "S": "A", "p": True, "s": 1},
    {"T": "t", "S": "A", "p": None, "s": 1},
    {"T": "t", "S": "A", "p": 1, "s": 1, "c": [1]},
    {"T": "q", "S": "A", "bp": 1, "bs": 1, "ap": 1},
    {"T": "b", "S": "A", "o": 1, "h": 1, "l": 1, "c": 1},
    {"T": "o", "S": "A", "b": [{"p": 1}]},
    {"T": "error", "code": "many"},
    {"T": "success"},
    {"T": "subscription", "trades": "A"},
    {"T": "n", "id": 1, "headline": "Up", "created_at": "x"},
]


@each_codec
@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_malformed_or_unknown_message_costs_only_itself(codec: Codec, bad: Any) -> None:
    if isinstance(bad, dict):
        bad = {**bad, "t": stamp(codec), "updated_at": stamp(codec)}
    good = {**GOOD, "t": stamp(codec)}
    decoded = decode(codec, good, bad, {**good, "S": "TOO"})
    assert [event.symbol for event in decoded.events] == ["GOOD", "TOO"]
    assert decoded.controls == []
    (reject,) = decoded.rejects
    assert isinstance(reject, RejectedMessage)
    assert reject.reason
    assert reject.received_ns == RECEIVED
    assert reject.raw == frame(codec, bad)[1:][: 512 if codec == "msgpack" else -1]


NUMBERS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"T": "t", "S": "A", "p": 1, "s": 1}, ("p", "s")),
    ({"T": "q", "S": "A", "bp": 1, "bs": 1, "ap": 1, "as": 1}, ("bp", "bs", "ap", "as")),
    ({"T": "b", **BAR_WIRE}, ("o", "h", "l", "c", "v", "vw")),
    ({"T": "l", "S": "A", "u": 1, "d": 1, "i": "B"}, ("u", "d")),
    (
        {"T": "c", "S": "A", "oi": 1, "op": 1, "os": 1, "ci": 1, "cp": 1, "cs": 1},
        ("op", "os", "cp", "cs"),
    ),
    ({"T": "x", "S": "A", "i": 1, "p": 1, "s": 1, "a": "C"}, ("p", "s")),
    ({"T": "i", "S": "A", "p": 1}, ("p",)),
]


@each_codec
@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("message", "key"), [(message, key) for message, keys in NUMBERS for key in keys]
)
def test_numbers_that_are_not_finite_are_rejected(
    codec: Codec, message: dict[str, Any], key: str, number: str
) -> None:
    values: list[object] = [number]
    if codec == "msgpack" and number != "sNaN":
        values.append(float(number))
    for value in values:
        decoded = decode(codec, {**message, key: value, "t": stamp(codec)})
        assert decoded.events == []
        assert "not finite" in decoded.rejects[0].reason


@each_codec
def test_a_book_level_that_is_not_finite_is_rejected(codec: Codec) -> None:
    message = {"T": "o", "S": "A", "a": [{"p": 1, "s": "NaN"}], "t": stamp(codec)}
    assert len(decode(codec, message).rejects) == 1


@each_codec
@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x00", b"\xff" * 40, b"not a frame", b"{}", b"null", b"[", b"[{]", b"\xc1", b"\x91"],
)
def test_garbage_is_one_reject(codec: Codec, garbage: bytes) -> None:
    decoded = FrameDecoder(codec).decode(garbage, RECEIVED)
    assert (decoded.events, decoded.controls) == ([], [])
    (reject,) = decoded.rejects
    assert reject.raw == garbage
    assert reject.reason


@each_codec
def test_text_instead_of_bytes_never_raises(codec: Codec) -> None:
    text = frame("json", {**GOOD, "t": TEXT}, {"T": "z"}).decode()
    decoded = FrameDecoder(codec).decode(text, RECEIVED)
    if codec == "json":
        assert [event.symbol for event in decoded.events] == ["GOOD"]
    assert len(decoded.rejects) == 1


def test_text_that_is_no_json_is_one_reject() -> None:
    decoded = FrameDecoder("json").decode("caf\u00e9 \ud800", RECEIVED)
    (reject,) = decoded.rejects
    assert reject.raw.startswith("caf\u00e9".encode())


@each_codec
def test_nesting_deeper_than_the_stack_is_rejected(codec: Codec) -> None:
    data = b"[" * 100_000 if codec == "json" else b"\x91" * 100_000
    assert len(FrameDecoder(codec).decode(data, RECEIVED).rejects) == 1


def test_only_the_first_bytes_of_a_reject_are_kept() -> None:
    decoded = decode("json", {"T": "z", "S": "A" * 10_000})
    assert len(decoded.rejects[0].raw) == 512


def test_prices_keep_the_digits_of_the_wire() -> None:
    data = b'[{"T":"t","S":"A","p":1.10,"s":100,"t":"2024-03-04T14:30:00Z"}]'
    event = only(FrameDecoder("json").decode(data, RECEIVED))
    assert isinstance(event, Trade)
    assert str(event.price) == "1.10"


def test_after_a_hundred_rejects_the_rest_of_a_frame_is_one() -> None:
    decoded = FrameDecoder("msgpack").decode(msgpack.packb([{"T": "?" * 1000}] * 350), 7)
    assert len(decoded.rejects) == 101
    assert [reject.count for reject in decoded.rejects[-2:]] == [1, 250]
    assert all(len(reject.reason) <= 200 for reject in decoded.rejects)
    exactly = FrameDecoder("msgpack").decode(msgpack.packb([{}] * 100), 7)
    assert [reject.count for reject in exactly.rejects] == [1] * 100


@each_codec
@pytest.mark.parametrize(
    ("codes", "is_shared"),
    [(["@", "I"], True), (["@"] * 16, True), (["@"] * 17, False), (["@" * 33], False)],
)
def test_trades_share_their_condition_codes(
    codec: Codec, codes: list[str], is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "_SHARED_CODES", {})
    one, another = (only(decode(codec, TRADE | {"c": codes, "t": stamp(codec)})) for _ in range(2))
    assert isinstance(one, Trade)
    assert isinstance(another, Trade)
    assert one.conditions == another.conditions == tuple(codes)
    assert (one.conditions is another.conditions) == is_shared


def test_only_so_many_combinations_of_condition_codes_are_shared_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared: dict[object, object] = {}
    monkeypatch.setattr(decoder, "_SHARED_CODES", shared)
    trades = [
        only(decode("json", TRADE | {"c": [codes], "t": TEXT}))
        for codes in (*map(str, range(5000)), "0", "4999")
    ]
    first, last, *again = (
        each.conditions for each in (trades[0], *trades[-3:]) if isinstance(each, Trade)
    )
    assert again == [first, last]
    assert [codes is known for codes, known in zip(again, (first, last), strict=True)] == [
        False,
        True,
    ]
    assert len(shared) == 5001 - 4096


def test_codes_of_a_trade_that_is_rejected_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: dict[object, object] = {}
    monkeypatch.setattr(decoder, "_SHARED_CODES", shared)
    decoded = decode("msgpack", TRADE | {"c": ["@", "I"], "p": float("nan"), "t": stamp("msgpack")})
    assert len(decoded.rejects) == 1
    assert shared == {}
