"""A JSON client on websocket-client, which knows no permessage-deflate, works as with Alpaca."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import websocket

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 5.0
QUOTE = {
    "T": "q",
    "S": "AAPL",
    "bx": "K",
    "bp": 133.85,
    "bs": 4,
    "ax": "P",
    "ap": 135.77,
    "as": 5,
    "c": ["R"],
    "z": "C",
    "t": "2024-07-24T07:56:53.639713735Z",
}


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator() as running:
        yield running


@pytest.fixture
def client(simulator: AlpacaSimulator) -> Iterator[websocket.WebSocket]:
    connection = websocket.create_connection(simulator.url(), timeout=TIMEOUT)
    yield connection
    connection.shutdown()  # type: ignore[no-untyped-call]  # theirs


def receive(client: websocket.WebSocket) -> list[dict[str, Any]]:
    opcode, data = client.recv_data()
    assert opcode == websocket.ABNF.OPCODE_TEXT
    messages = json.loads(data)
    assert isinstance(messages, list)
    return messages


def ask(client: websocket.WebSocket, **request: Any) -> dict[str, Any]:
    client.send(json.dumps(request))
    (reply,) = receive(client)
    return reply


def login(client: websocket.WebSocket) -> None:
    assert receive(client) == [{"T": "success", "msg": "connected"}]
    reply = ask(client, action="auth", key=SIMULATOR_KEY, secret=SIMULATOR_SECRET)
    assert reply == {"T": "success", "msg": "authenticated"}


def test_from_the_greeting_to_the_data(
    simulator: AlpacaSimulator, client: websocket.WebSocket
) -> None:
    login(client)
    assert ask(client, action="subscribe", quotes=["AAPL"])["quotes"] == ["AAPL"]
    simulator.publish(QUOTE)
    assert receive(client) == [QUOTE]
    assert ask(client, action="unsubscribe", quotes=["AAPL"])["quotes"] == []
    assert simulator.sessions()[0].codec == "json"


def test_no_extension_is_negotiated(client: websocket.WebSocket) -> None:
    assert "sec-websocket-extensions" not in (client.getheaders() or {})


def test_a_request_in_fragments(client: websocket.WebSocket) -> None:
    login(client)
    text = json.dumps({"action": "subscribe", "bars": ["*"]})
    client.send_frame(websocket.ABNF.create_frame(text[:9], websocket.ABNF.OPCODE_TEXT, 0))
    client.send_frame(websocket.ABNF.create_frame(text[9:], websocket.ABNF.OPCODE_CONT, 1))
    assert receive(client)[0]["bars"] == ["*"]


def test_keys_in_headers(simulator: AlpacaSimulator) -> None:
    header = {"APCA-API-KEY-ID": SIMULATOR_KEY, "APCA-API-SECRET-KEY": SIMULATOR_SECRET}
    connection = websocket.create_connection(simulator.url(), timeout=TIMEOUT, header=header)
    assert receive(connection)[0]["msg"] == "connected"
    assert receive(connection)[0]["msg"] == "authenticated"
    connection.shutdown()  # type: ignore[no-untyped-call]  # theirs


def test_pings_are_answered(client: websocket.WebSocket) -> None:
    login(client)
    client.ping("are you there")
    opcode, data = client.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"are you there")


def test_a_drop_is_seen_with_its_code(
    simulator: AlpacaSimulator, client: websocket.WebSocket
) -> None:
    login(client)
    simulator.drop(1001)
    opcode, data = client.recv_data(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2], "big") == 1001


def test_a_refused_upgrade_is_seen_with_its_headers(simulator: AlpacaSimulator) -> None:
    simulator.faults.refuse_http(429, retry_after=7)
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(simulator.url(), timeout=TIMEOUT)
    assert caught.value.status_code == 429
    assert (caught.value.resp_headers or {})["retry-after"] == "7"
