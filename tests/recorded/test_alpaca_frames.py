"""Frames nobody here wrote: the documented and recorded ones arrive digit for digit.

As MessagePack through the manager and the SDK, and as JSON through the same decoder from a
websocket-client connection.
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it brings no types
import msgspec
import pytest
import websocket

from realtime_stream import MarketEvent, RealTimeStreamManager
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.support import Recorder, config

FRAMES = (
    Path(__file__).resolve().parents[3] / "shared" / "data" / "alpaca" / "stream_examples.jsonl"
)

pytestmark = pytest.mark.skipif(
    not FRAMES.is_file(), reason="the recorded data is not part of the project"
)

CONTROL = {"success", "error", "subscription"}
FEEDS = {"stocks": "iex", "crypto": "us", "options": "indicative"}
HOOKS = {
    "t": "on_trade",
    "q": "on_quote",
    "b": "on_bar",
    "s": "on_status",
    "l": "on_luld",
    "i": "on_imbalance",
    "o": "on_orderbook",
    "c": "on_correction",
    "x": "on_cancel",
}
# Attribute of each wire key, written down apart from the code under test.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "t": {
        "p": "price",
        "s": "size",
        "x": "exchange",
        "i": "trade_id",
        "z": "tape",
        "tks": "taker_side",
    },
    "q": {
        "bp": "bid_price",
        "bs": "bid_size",
        "bx": "bid_exchange",
        "ap": "ask_price",
        "as": "ask_size",
        "ax": "ask_exchange",
        "z": "tape",
    },
    "b": {
        "o": "open",
        "h": "high",
        "l": "low",
        "c": "close",
        "v": "volume",
        "n": "trade_count",
        "vw": "vwap",
    },
    "s": {
        "sc": "status_code",
        "sm": "status_message",
        "rc": "reason_code",
        "rm": "reason_message",
        "z": "tape",
    },
    "l": {"u": "limit_up_price", "d": "limit_down_price", "i": "indicator", "z": "tape"},
    "i": {"p": "price", "z": "tape"},
    "o": {},
    "c": {
        "x": "exchange",
        "oi": "original_id",
        "op": "original_price",
        "os": "original_size",
        "ci": "corrected_id",
        "cp": "corrected_price",
        "cs": "corrected_size",
        "z": "tape",
    },
    "x": {"i": "trade_id", "x": "exchange", "p": "price", "s": "size", "a": "action", "z": "tape"},
}  # fmt: skip


@dataclass
class Recorded:
    """One server frame with data: its own text, and what it says with exact numbers."""

    text: str
    market: str
    exact: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.market}-{self.exact[0]['T']}-{self.exact[0]['S']}"


class _Line(msgspec.Struct):
    src: str
    dir: str
    frame: msgspec.Raw


def recorded() -> list[Recorded]:
    found = []
    for text in FRAMES.read_bytes().splitlines() if FRAMES.is_file() else ():
        line = msgspec.json.decode(text, type=_Line)
        raw = bytes(line.frame).decode()
        frame = json.loads(raw, parse_float=Decimal)
        if line.dir != "<" or frame[0]["T"] in CONTROL:
            continue
        market = "crypto" if "/" in frame[0]["S"] else "stocks"
        market = "options" if "option" in line.src else market
        found.append(Recorded(raw, market, frame))
    return found


def exact_ns(text: str) -> int:
    head, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0") or 0)


def check(event: MarketEvent, message: dict[str, Any]) -> None:
    """Compare every documented key with the event, digit for digit."""
    assert event.symbol == message["S"]
    assert event.timestamp_ns == exact_ns(message["t"])
    assert event.timestamp.microsecond == event.timestamp_ns // 1000 % 10**6
    field = functools.partial(getattr, event)
    for key, attribute in ATTRIBUTES[message["T"]].items():
        if key not in message:
            continue
        value, expected = getattr(event, attribute), message[key]
        assert value == expected, (attribute, value, expected)
        if isinstance(value, Decimal):
            assert value == Decimal(str(expected))
    if message["T"] in {"t", "q"}:
        codes = message.get("c", [])
        assert field("conditions") == ((codes,) if isinstance(codes, str) else tuple(codes))
    if message["T"] == "c":
        assert field("original_conditions") == tuple(message["oc"])
        assert field("corrected_conditions") == tuple(message["cc"])
    if message["T"] == "o":
        for side, attribute in (("b", "bids"), ("a", "asks")):
            levels = [(level.price, level.size) for level in getattr(event, attribute)]
            assert levels == [(level["p"], level["s"]) for level in message[side]]


def to_msgpack(frame: list[dict[str, Any]]) -> bytes:
    """The frame as the MessagePack wire has it: float64 numbers, timestamp extensions."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal):
            return float(value)
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    messages = [plain(message) for message in frame]
    for message in messages:
        seconds, nanoseconds = divmod(exact_ns(message["t"]), 10**9)
        message["t"] = msgpack.Timestamp(seconds, nanoseconds)
    packed: bytes = msgpack.packb(messages)
    return packed


ALL = recorded()


def test_there_are_frames_of_every_documented_type() -> None:
    assert len(ALL) >= 20
    assert {message["T"] for frame in ALL for message in frame.exact} == set(HOOKS)


@pytest.mark.parametrize("frame", ALL, ids=str)
def test_as_msgpack_through_manager_and_sdk(frame: Recorded) -> None:
    with AlpacaSimulator() as simulator:
        settings = {"market": frame.market, "path_feed": FEEDS[frame.market]}
        manager = RealTimeStreamManager(config(simulator, **settings))
        events = Recorder[MarketEvent]()
        for kind in {message["T"] for message in frame.exact}:
            hook = getattr(manager, HOOKS[kind])
            hook(events, *{message["S"] for message in frame.exact})
        manager.start()
        simulator.publish_raw(to_msgpack(frame.exact))
        received = events.wait_for(len(frame.exact))
        manager.stop()
    for event, message in zip(received, frame.exact, strict=True):
        check(event, message)
        assert abs(event.received_ns - time.time_ns()) < 60 * 10**9
    assert manager.status().rejected == 0


@pytest.mark.parametrize("frame", ALL, ids=str)
def test_as_json_through_websocket_client(frame: Recorded) -> None:
    if frame.market == "options":
        decoded = FrameDecoder("json").decode(frame.text, 1)  # the real stream refuses JSON (412)
    else:
        with AlpacaSimulator() as simulator:
            client = websocket.create_connection(
                simulator.url(frame.market, FEEDS[frame.market]), timeout=5
            )
            assert json.loads(client.recv())[0]["msg"] == "connected"
            auth = {"action": "auth", "key": SIMULATOR_KEY, "secret": SIMULATOR_SECRET}
            client.send(json.dumps(auth))
            assert json.loads(client.recv())[0]["msg"] == "authenticated"
            simulator.publish_raw(frame.text)
            decoded = FrameDecoder("json").decode(client.recv(), 1)
            client.close()
    assert decoded.rejects == []
    for event, message in zip(decoded.events, frame.exact, strict=True):
        check(event, message)
