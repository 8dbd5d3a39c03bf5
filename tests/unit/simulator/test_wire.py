"""Bytes on the wire: times, key order, frames and requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_stream.simulator import wire

SECOND = 1_000_000_000
YEAR_9999 = 253_402_300_799 * SECOND


@pytest.mark.parametrize(
    ("text", "t_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2021-02-22T15:51:44.208Z", 1_614_009_104_208_000_000),
        ("2024-07-24T07:56:53.639713735Z", 1_721_807_813_639_713_735),
        ("2023-04-06T13:15:42.83540958Z", 1_680_786_942_835_409_580),
        ("2023-04-06T09:15:42.5-04:00", 1_680_786_942_500_000_000),
        ("1969-12-31t23:59:59.999999999z", -1),
    ],
)
def test_texts_are_read_to_the_nanosecond(text: str, t_ns: int) -> None:
    assert wire.to_ns(text) == t_ns


@pytest.mark.parametrize("text", ["2023-04-06", "2023-04-06T13:15:42", "now", ""])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        wire.to_ns(text)


def test_datetimes_are_exact_and_need_a_zone() -> None:
    eastern = timezone(timedelta(hours=-5))
    assert wire.to_ns(datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1_000
    assert wire.to_ns(datetime(1969, 12, 31, 19, tzinfo=eastern)) == 0
    with pytest.raises(ValueError, match="time zone"):
        wire.to_ns(datetime(2026, 1, 1))  # noqa: DTZ001  # the point of the test
    with pytest.raises(TypeError):
        wire.to_ns(1.5)


@given(st.integers(-62_135_596_800 * SECOND, YEAR_9999))
def test_every_time_survives_both_codecs(t_ns: int) -> None:
    assert wire.to_ns(wire.format_time(t_ns)) == t_ns
    message = wire.prepare({"T": "q", "S": "AAPL", "t": t_ns}, "stocks")
    stamp = msgpack.unpackb(message.encoded("msgpack"))["t"]
    assert stamp == msgpack.Timestamp.from_unix_nano(t_ns)


@pytest.mark.parametrize(
    ("t_ns", "prefix"),
    [
        (5 * SECOND, b"\xd6\xff"),  # fixext 4
        (5 * SECOND + 1, b"\xd7\xff"),  # fixext 8
        ((1 << 33) * SECOND, b"\xd7\xff"),
        (-1, b"\xc7\x0c\xff"),  # 96 bits
        ((1 << 34) * SECOND, b"\xc7\x0c\xff"),
    ],
)
def test_timestamps_take_the_shortest_form(t_ns: int, prefix: bytes) -> None:
    data = wire.prepare({"T": "q", "S": "A", "t": t_ns}, "stocks").encoded("msgpack")
    assert prefix in data


@pytest.mark.parametrize(("t_ns", "text"), [(0, "00"), (10, "00.00000001"), (10**8, "00.1")])
def test_trailing_zeros_are_trimmed(t_ns: int, text: str) -> None:
    assert wire.format_time(t_ns) == f"1970-01-01T00:00:{text}Z"


def test_the_type_comes_first_and_other_values_stay_as_they_are() -> None:
    given_message = {"S": "AAPL", "p": 136, "vw": 133.7, "c": ["@", "I"], "T": "t", "t": 0}
    encoded = wire.prepare(given_message, "stocks").encoded("json")
    assert encoded == (
        b'{"T":"t","S":"AAPL","p":136,"vw":133.7,"c":["@","I"],"t":"1970-01-01T00:00:00Z"}'
    )
    assert given_message["t"] == 0


def test_a_message_is_encoded_once_per_codec() -> None:
    message = wire.prepare({"T": "q", "S": "A"}, "stocks")
    assert message.encoded("json") is message.encoded("json")
    assert message.t_ns is None


@pytest.mark.parametrize(
    ("message", "market"),
    [
        ({"S": "AAPL"}, "stocks"),
        ({"T": "success", "msg": "connected"}, "stocks"),
        ({"T": ["q"], "S": "AAPL"}, "stocks"),
        ({"T": "o", "S": "AAPL"}, "stocks"),
        ({"T": "q"}, "stocks"),
        ({"T": "q", "S": 1}, "stocks"),
        ({"T": "n", "symbols": ["AAPL", None]}, "news"),
    ],
)
def test_what_is_no_data_message_of_the_market_is_refused(
    message: dict[str, Any], market: str
) -> None:
    with pytest.raises(ValueError, match=r"no data messages|needs its symbol"):
        wire.prepare(message, market)


def test_news_has_any_number_of_symbols_and_the_time_of_its_last_change() -> None:
    news = wire.prepare({"T": "n", "created_at": 1, "updated_at": 2}, "news")
    assert (news.symbols, news.t_ns, news.channel) == ((), 2, "news")
    assert wire.prepare({"T": "n", "created_at": 1, "symbols": ["A", "B"]}, "news").t_ns == 1


@pytest.mark.parametrize("length", [0, 1, 15, 16, 300, 70_000])
def test_frames_of_every_length(length: int) -> None:
    item = wire.encode_object({"T": "q"}, "msgpack")
    frame = wire.encode_frame([item] * length, "msgpack")
    assert msgpack.unpackb(frame) == [{"T": "q"}] * length


def test_json_frames_are_text() -> None:
    assert wire.encode_frame([b"{}", b"{}"], "json") == "[{},{}]"


def test_errors_have_the_documented_texts_by_default() -> None:
    assert wire.error(406) == {"T": "error", "code": 406, "msg": "connection limit exceeded"}
    assert wire.error(406, "other")["msg"] == "other"
    assert wire.error(599)["msg"] == "internal error"


@pytest.mark.parametrize(
    ("data", "codec", "expected"),
    [
        ('{"action":"auth"}', "json", {"action": "auth"}),
        (b'{"action":"auth"}', "json", {"action": "auth"}),
        (msgpack.packb({"action": "auth"}), "msgpack", {"action": "auth"}),
        ('{"action":"auth"}', "msgpack", None),
        (msgpack.packb({"action": "auth"}), "json", None),
        ("[]", "json", None),
        ("{", "json", None),
        (b'"\xff"', "json", None),
        (msgpack.packb({1: 2}), "msgpack", None),
        (b"", "msgpack", None),
    ],
)
def test_requests_are_maps_in_the_codec_of_the_session(
    data: bytes | str, codec: wire.Codec, expected: object
) -> None:
    assert wire.decode_request(data, codec) == expected
