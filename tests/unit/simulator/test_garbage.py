"""Frames that no server should send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import msgpack  # type: ignore[import-untyped]  # it brings no types
import msgspec
import pytest

from realtime_stream.simulator import GARBAGE, AlpacaSimulator
from tests.unit.simulator.client import TIMEOUT, Client

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

Codec = Literal["json", "msgpack"]
LIMIT = 1 << 20
EVENTS = ("giant", "oversized", "negative_price", "absurd_price")

codecs = pytest.mark.parametrize("codec", ["json", "msgpack"])


def subscriber(
    connect: Connect, codec: str, market: str = "stocks", feed: str | None = None, **channels: Any
) -> Client:
    client = connect(market, feed, codec=codec, max_size=None).login()
    client.subscribe(**(channels or {"quotes": ["MSFT"]}))
    return client


def decode(frame: str | bytes) -> Any:
    if isinstance(frame, str):
        return json.loads(frame)
    return msgpack.unpackb(frame)


def test_what_kinds_there_are() -> None:
    assert {kind for kind, garbage in GARBAGE.items() if garbage.events} == set(EVENTS)
    assert all(garbage.description for garbage in GARBAGE.values())
    with pytest.raises(TypeError):
        GARBAGE["more"] = GARBAGE["nan"]  # type: ignore[index]  # the point of the test


def test_unknown_kinds_are_refused(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="unknown garbage 'rubbish'; allowed are giant"):
        simulator.send_garbage("rubbish")


@codecs
@pytest.mark.parametrize("kind", [kind for kind in GARBAGE if kind not in EVENTS])
def test_garbage_that_is_no_event(
    simulator: AlpacaSimulator, connect: Connect, codec: str, kind: str
) -> None:
    client = subscriber(connect, codec)
    simulator.send_garbage(kind)
    if (kind, codec) == ("invalid_utf8", "json"):  # a text frame must be text
        assert client.wait_closed() == 1006
        assert client.socket.protocol.close_sent is not None
        assert client.socket.protocol.close_sent.code == 1007
    else:
        frame = client.socket.recv(TIMEOUT)
        assert isinstance(frame, str) == ((codec == "json") != (kind == "text_frame"))
        if kind in {"deep", "invalid_utf8", "truncated", "empty"}:
            with pytest.raises((ValueError, RecursionError)):
                decode(frame)
        else:
            assert isinstance(decode(frame), dict if kind == "not_an_array" else list)
        simulator.publish({"T": "q", "S": "MSFT"})
        assert client.receive() == [{"T": "q", "S": "MSFT"}]
        assert len(simulator.ledger) == 1


@codecs
def test_what_the_spoilt_messages_say(
    simulator: AlpacaSimulator, connect: Connect, codec: str
) -> None:
    client = subscriber(connect, codec)
    for kind in ("wrong_types", "missing_fields", "nan", "infinity", "unknown_type"):
        simulator.send_garbage(kind)
    wrong, nameless = client.receive()
    assert (wrong["T"], wrong["S"], nameless["S"]) == ("q", "MSFT", 7)
    assert not any(isinstance(wrong[key], float) for key in ("bp", "ap", "t"))
    bare, named, typeless = client.receive()
    assert (list(bare), list(named), "T" in typeless) == (["T"], ["T", "S"], False)
    (nan,) = client.receive()
    assert nan["bp"] != nan["bp"]  # only NaN differs from itself
    (infinite,) = client.receive()
    assert infinite["ap"] == float("inf")
    assert client.receive()[0]["T"] == "zz"


@codecs
def test_a_giant_frame_of_events(simulator: AlpacaSimulator, connect: Connect, codec: str) -> None:
    client, other = subscriber(connect, codec), connect(feed="sip").login()
    other.subscribe(trades=["*"], quotes=["SPY"])
    simulator.publish({"T": "q", "S": "MSFT", "t": 1_000})
    client.receive()
    simulator.send_garbage("giant")
    frame = client.socket.recv(TIMEOUT)
    assert LIMIT - 250 < len(frame) <= LIMIT
    events = decode(frame)
    assert {(event["T"], event["S"]) for event in events} == {("q", "MSFT")}
    entries = simulator.ledger.entries()
    mine = [entry for entry in entries if entry.symbol == "MSFT"]
    assert len(mine) == 1 + len(events)
    assert {entry.sessions for entry in entries} == {1}
    times = [entry.t_ns or 0 for entry in mine]
    assert times == list(range(1_000, 1_001 + len(events)))
    assert {event["T"] for event in other.receive()} == {"q"}


@codecs
def test_a_frame_that_is_too_long(simulator: AlpacaSimulator, connect: Connect, codec: str) -> None:
    """It is entered as written; what the client makes of it is the client's."""
    client, wide = connect(codec=codec).login(), subscriber(connect, codec, feed="sip")
    client.subscribe(quotes=["MSFT"])
    simulator.send_garbage("oversized")
    assert LIMIT < len(wide.socket.recv(TIMEOUT)) < LIMIT + 20_000
    assert client.wait_closed() == 1006
    assert client.socket.protocol.close_sent is not None
    assert client.socket.protocol.close_sent.code == 1009
    assert {entry.sessions for entry in simulator.ledger} == {1}


@pytest.mark.parametrize(
    ("market", "channels", "priced"),
    [
        ("stocks", {"quotes": ["AAPL"]}, ["bp", "ap"]),
        ("stocks", {"trades": ["*"]}, ["p"]),
        ("stocks", {"dailyBars": ["AAPL"]}, ["o", "h", "l", "c", "vw"]),
        ("crypto", {"quotes": ["*"]}, ["bp", "ap"]),
        ("crypto", {"trades": ["BTC/USD"], "orderbooks": ["*"]}, ["p"]),
        ("crypto", {"bars": ["BTC/USD"]}, ["o", "vw"]),
        ("options", {"trades": ["AAPL261218C00250000"]}, ["p"]),
        ("options", {"quotes": ["AAPL261218C00250000"]}, ["bp", "ap"]),
    ],
)
def test_prices_that_cannot_be(
    simulator: AlpacaSimulator,
    connect: Connect,
    market: str,
    channels: dict[str, list[str]],
    priced: list[str],
) -> None:
    client = subscriber(connect, "msgpack", market, None, **channels)
    simulator.send_garbage("negative_price")
    simulator.send_garbage("absurd_price")
    (negative,), (absurd,) = client.receive(), client.receive()
    assert all(negative[key] < 0 and absurd[key] > 1e13 for key in priced)
    assert absurd["t"].to_unix_nano() > negative["t"].to_unix_nano()
    assert [entry.sessions for entry in simulator.ledger] == [1, 1]


def test_news_have_no_prices(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = subscriber(connect, "msgpack", "news", news=["*"])
    for kind in ("negative_price", "nan", "wrong_types", "giant"):
        simulator.send_garbage(kind)
    assert client.receive()[0]["id"] != 1
    assert client.receive()[0]["headline"] != "Nothing has happened"
    giant = client.socket.recv(TIMEOUT)
    assert LIMIT - 15_000 < len(giant) <= LIMIT
    assert simulator.ledger.by_channel() == {"news": len(decode(giant))}


def test_events_go_only_to_who_wants_such(simulator: AlpacaSimulator, connect: Connect) -> None:
    idle, halts = connect().login(), connect(feed="sip").login()
    halts.subscribe(statuses=["*"])
    for kind in EVENTS:
        simulator.send_garbage(kind)
    simulator.send_garbage("not_an_array")  # that is for everybody
    for client in (idle, halts):
        assert decode(client.socket.recv(TIMEOUT))["T"] == "q"
    assert len(simulator.ledger) == 0


def test_muted_garbage(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = subscriber(connect, "json")
    simulator.faults.mute()
    simulator.send_garbage("not_an_array")
    simulator.send_garbage("negative_price")
    simulator.faults.clear()
    simulator.send_garbage("empty")
    assert client.socket.recv(TIMEOUT) == ""
    assert [entry.sessions for entry in simulator.ledger] == [0]


def test_invalid_text_to_a_client_that_has_gone(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    subscriber(connect, "json")
    simulator.send_garbage("invalid_utf8")
    simulator.drop(None)
    connect(feed="sip").login()


def test_the_deep_frame_is_valid_but_for_its_depth(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = subscriber(connect, "msgpack")
    simulator.send_garbage("deep")
    frame = client.socket.recv(TIMEOUT)
    assert isinstance(frame, bytes)
    assert len(frame) > 100_000
    with pytest.raises(RecursionError):
        msgspec.msgpack.decode(frame)
