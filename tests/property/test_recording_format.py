"""A recording gives back what was written, however it was cut off and whatever bit is wrong."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream import errors
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Connected,
    Refused,
    ServerReport,
    Settled,
)
from realtime_stream.recording.format import TornBlockError, blocks, pack
from realtime_stream.recording.records import (
    FrameReceived,
    Header,
    Lost,
    Record,
    ServerReported,
    SessionBegun,
    Step,
    SubscriptionsRefused,
    SubscriptionsServed,
    control_of,
    ended,
    frame_received,
    note_of,
    session_end,
)
from realtime_stream.resilience.failures import FailureKind, SessionEnd, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.ports import Control

_ns = st.integers(0, 2**62)
_text = st.text(max_size=20)
_subscriptions = st.frozensets(
    st.builds(Subscription, st.sampled_from(CHANNELS), st.text(max_size=6)), max_size=5
)
_controls: st.SearchStrategy[Control] = st.one_of(
    st.sampled_from([Connected(), Authenticated(), Settled()]),
    st.builds(Acknowledged, _subscriptions),
    st.builds(Refused, _subscriptions, st.integers(0, 999), _text),
    st.builds(ServerReport, st.integers(0, 999), _text),
)
_typed: list[Callable[[str], BaseException]] = [
    errors.HandshakeTimeoutError,
    errors.NameResolutionError,
    errors.WSConnectionError,
    errors.StaleDataError,
    errors.ProtocolError,
    errors.ConfigurationError,
    errors.AuthenticationError,
    errors.StreamingError,
    lambda text: errors.SessionClosedError(text, code=1011),
    lambda text: errors.HandshakeError(text, status=503),
    ConnectionResetError,
    ConnectionRefusedError,
    TimeoutError,
    OSError,
    ValueError,
]
_exceptions = st.builds(lambda make, text: make(text), st.sampled_from(_typed), _text)
_ends = st.builds(
    SessionEnd,
    requested=st.booleans(),
    server_code=st.none() | st.sampled_from([400, 402, 405, 406, 407, 409, 411, 500, 999]),
    server_message=st.text(),
    http_status=st.none() | st.sampled_from([401, 429, 503]),
    retry_after=st.none() | st.floats(0, 1e4),
    close_code=st.none() | st.integers(1000, 4999),
    close_reason=st.text(),
    unacknowledged=st.integers(0, 3),
    all_refused=st.booleans(),
    error=st.none() | _exceptions,
)
_records: st.SearchStrategy[Record] = st.one_of(
    st.builds(frame_received, st.binary(max_size=60) | _text, _ns),
    st.builds(lambda control, at: note_of(control, at) or Step(at, "settled"), _controls, _ns),
    st.builds(ended, st.integers(0, 9), _ends, _ns),
    st.builds(Header, st.just(1), _text, _text, _text, st.integers(1, 9), _ns),
    st.builds(SessionBegun, st.integers(0, 9), _ns, _subscriptions.map(tuple)),
    st.builds(Lost, _ns, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
_blocks = st.lists(st.lists(_records, min_size=1, max_size=5), min_size=1, max_size=5)


def _read(data: bytes) -> tuple[list[list[Record]], bool]:
    """The blocks that are whole, and whether something is left over."""
    found: list[list[Record]] = []
    try:
        for block in blocks(io.BytesIO(data)):
            found.append(block.records())
    except TornBlockError:
        return found, True
    return found, False


@given(_blocks)
def test_what_was_written_is_read(written: list[list[Record]]) -> None:
    assert _read(b"".join(map(pack, written))) == (written, False)


@given(_blocks, st.data())
@settings(max_examples=60)
def test_whatever_is_cut_off_everything_before_is_read(
    written: list[list[Record]], data: st.DataObject
) -> None:
    packed = [pack(records) for records in written]
    whole = b"".join(packed)
    length = data.draw(st.integers(0, len(whole)))
    read, is_torn = _read(whole[:length])
    ends = [sum(map(len, packed[: n + 1])) for n in range(len(packed))]
    assert read == written[: sum(end <= length for end in ends)]
    assert is_torn == (length not in {0, *ends})


@given(_blocks, st.data())
@settings(max_examples=60)
def test_whatever_bit_is_wrong_nothing_wrong_is_read(
    written: list[list[Record]], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(map(pack, written)))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    read, is_torn = _read(bytes(whole))
    assert read == written[: len(read)]
    assert is_torn


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_reading_them_raises_nothing_else(data: bytes) -> None:
    _read(data)
    _read(pack([FrameReceived(1, b"")]) + data)


@given(st.binary(max_size=60) | st.text(max_size=30), _ns)
def test_a_frame_is_what_the_websocket_gave(data: bytes | str, received_ns: int) -> None:
    frame = frame_received(data, received_ns)
    assert frame.payload == data
    assert type(frame.payload) is type(data)


@given(_controls, _ns)
def test_what_a_provider_told_is_told_again(control: Control, at_ns: int) -> None:
    note = note_of(control, at_ns)
    assert isinstance(note, Step | SubscriptionsServed | SubscriptionsRefused | ServerReported)
    assert note.at_ns == at_ns
    assert control_of(note) == control


@given(_ends, st.integers(1, 5))
def test_a_recorded_end_means_the_same(end: SessionEnd, consecutive: int) -> None:
    again = session_end(ended(1, end, 7))
    assert again.requested == end.requested
    before = classify(end, consecutive=consecutive)
    after = classify(again, consecutive=consecutive)
    assert (before.kind, before.retryable) == (after.kind, after.retryable)
    assert (before.min_wait, before.code, before.text) == (after.min_wait, after.code, after.text)
    assert type(before.error) is type(after.error)


@pytest.mark.parametrize(
    "error", [KeyError("secret"), OSError(5, "a", "secret"), ValueError("secret")]
)
def test_what_a_foreign_exception_says_is_not_kept(error: Exception) -> None:
    assert "secret" not in repr(ended(1, SessionEnd(error=error), 7))


def test_a_text_that_is_none_is_kept_as_far_as_it_goes() -> None:
    end = session_end(ended(1, SessionEnd(close_code=1000, close_reason="a\ud800b"), 7))
    assert end.close_reason == "a?b"
    assert classify(end).kind is FailureKind.CLOSED
