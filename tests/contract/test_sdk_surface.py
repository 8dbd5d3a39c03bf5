"""What we rely on in alpaca-py and in the WebSocket library under it, each by its name.

A failure here means that a new release changed something the adapter stands on.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import socket
import sys
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import alpaca.data.live as sdk
import pytest
from alpaca.data.live import websocket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError
from websockets.legacy.client import WebSocketClientProtocol
from websockets.legacy.exceptions import InvalidStatusCode

from realtime_stream.providers.alpaca.endpoints import ENDPOINTS
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.support import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = ["StockDataStream", "CryptoDataStream", "OptionDataStream", "NewsDataStream"]


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator() as running:
        yield running


async def ignore(_: object) -> None:
    """A handler the SDK accepts."""


class OneSession(sdk.StockDataStream):
    """Ends after one session, as the adapter's streams do, and keeps what close() was told."""

    def __init__(self, url: str, secret: str = SIMULATOR_SECRET, **params: Any) -> None:
        super().__init__(
            SIMULATOR_KEY, secret, raw_data=True, url_override=url, websocket_params=params
        )
        self.reasons: list[BaseException | None] = []

    async def close(self) -> None:
        self.reasons.append(sys.exception())
        try:
            await super().close()
        finally:
            await super().stop_ws()


def test_version_is_one_that_closes_on_every_failure() -> None:
    assert tuple(int(part) for part in version("alpaca-py").split(".")[:2]) >= (0, 44)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_take_the_arguments_we_give(name: str) -> None:
    parameters = inspect.signature(getattr(sdk, name).__init__).parameters
    wanted = {"api_key", "secret_key", "raw_data", "websocket_params", "url_override"}
    assert wanted <= parameters.keys()
    assert list(parameters)[1:3] == ["api_key", "secret_key"]


@pytest.mark.parametrize("market", list(ENDPOINTS))
def test_streams_have_the_subscribe_methods_we_call(market: str) -> None:
    endpoint = ENDPOINTS[market]
    stream = getattr(sdk, endpoint.stream_class)
    for method in (endpoint.primer, *endpoint.sdk_methods.values()):
        assert callable(getattr(stream, method))


def test_stocks_have_no_subscribe_for_lulds() -> None:
    assert not hasattr(sdk.StockDataStream, "subscribe_lulds")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1006])
def test_close_is_called_and_ends_run_after_one_session(
    simulator: AlpacaSimulator, code: int
) -> None:
    stream = OneSession(simulator.url())
    stream.subscribe_quotes(ignore, "AAPL")
    runner = threading.Thread(target=stream.run)
    runner.start()
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    simulator.drop(code)
    runner.join(10)
    assert not runner.is_alive()
    assert simulator.attempts == 1
    if code in {1008, 1011}:
        assert isinstance(stream.reasons[0], ConnectionClosedError)
        assert stream.reasons[0].rcvd is not None
        assert stream.reasons[0].rcvd.code == code


@pytest.mark.parametrize("code", [402, 406, 409, 500])
def test_a_refused_authentication_closes_with_the_servers_text(
    simulator: AlpacaSimulator, code: int
) -> None:
    simulator.faults.refuse_auth(code)
    stream = OneSession(simulator.url())
    stream.subscribe_quotes(ignore, "AAPL")
    stream.run()
    assert simulator.attempts == 1
    assert isinstance(stream.reasons[0], ValueError)


def test_a_refused_upgrade_closes_with_status_and_headers(simulator: AlpacaSimulator) -> None:
    simulator.faults.refuse_http(429, retry_after=7)
    stream = OneSession(simulator.url())
    stream.subscribe_quotes(ignore, "AAPL")
    stream.run()
    reason = stream.reasons[0]
    assert isinstance(reason, InvalidStatusCode)
    assert reason.status_code == 429
    assert reason.headers["Retry-After"] == "7"


def test_a_refused_connection_and_garbage_close_too(simulator: AlpacaSimulator) -> None:
    simulator.faults.garbage_greeting(b"\xc1")
    stream = OneSession(simulator.url())
    stream.subscribe_quotes(ignore, "AAPL")
    stream.run()
    simulator.faults.refuse_connections()
    refused = OneSession(simulator.url())
    refused.subscribe_quotes(ignore, "AAPL")
    refused.run()
    assert isinstance(refused.reasons[0], OSError)


class Tap(WebSocketClientProtocol):
    """Overrides what the adapter's protocol overrides."""

    def __init__(self, *, seen: list[Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seen = seen
        seen.append(("task", asyncio.current_task()))

    async def recv(self) -> str | bytes:
        data = await super().recv()
        self.seen.append(("recv", data))
        return data

    async def send(self, message: Any) -> None:
        self.seen.append(("send", message))
        await super().send(message)


def test_create_protocol_socket_and_logger_pass_through_websocket_params(
    simulator: AlpacaSimulator,
) -> None:
    """The protocol is made in the task of run(), and sees what the SDK sends and receives."""
    seen: list[Any] = []
    quiet = logging.Logger("quiet", logging.CRITICAL + 1)
    sock = socket.create_connection(("127.0.0.1", simulator.port))
    sock.setblocking(False)
    stream = OneSession(
        simulator.url(),
        create_protocol=functools.partial(Tap, seen=seen),
        sock=sock,
        logger=quiet,
        close_timeout=0.25,
        open_timeout=5,
        max_queue=1024,
        max_size=2**20,
        ping_interval=10,
        ping_timeout=20,
    )
    stream.subscribe_quotes(ignore, "AAPL")
    runner = threading.Thread(target=stream.run)
    runner.start()
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    simulator.drop(1001)
    runner.join(10)
    kinds = [kind for kind, _ in seen]
    assert kinds[:5] == ["task", "recv", "send", "recv", "send"]
    task = seen[0][1]
    assert task is not None
    assert "_run_forever" in str(task.get_coro())
    assert b"connected" in seen[1][1]
    assert b"auth" in seen[2][1]
    assert b"authenticated" in seen[3][1]
    assert not isinstance(seen[4][1], (bytes, str))  # fragments: the subscribe message


def test_the_hook_is_what_an_sdk_on_another_client_would_refuse() -> None:
    assert "create_protocol" not in inspect.signature(ClientConnection.__init__).parameters


def test_the_subscribe_message_is_sent_through_the_protocol_after_authentication(
    simulator: AlpacaSimulator,
) -> None:
    stream = OneSession(simulator.url())
    stream.subscribe_quotes(ignore, "AAPL")
    runner = threading.Thread(target=stream.run)
    runner.start()
    assert simulator.wait_for(lambda s: len(s.received) == 2)
    assert [message["action"] for message in simulator.received] == ["auth", "subscribe"]
    simulator.drop(1000)
    runner.join(10)
    assert not runner.is_alive()


def test_a_socket_that_is_shut_down_ends_the_handshake(simulator: AlpacaSimulator) -> None:
    """How a session is interrupted before its WebSocket is open."""
    simulator.faults.silent_at("http")
    sock = socket.create_connection(("127.0.0.1", simulator.port))
    sock.setblocking(False)
    stream = OneSession(simulator.url(), sock=sock)
    stream.subscribe_quotes(ignore, "AAPL")
    runner = threading.Thread(target=stream.run)
    runner.start()
    assert simulator.wait_for(lambda s: s.attempts == 1)
    sock.shutdown(socket.SHUT_RDWR)
    runner.join(10)
    assert not runner.is_alive()


def test_the_sdk_reads_on_after_an_empty_array(simulator: AlpacaSimulator) -> None:
    received = threading.Event()

    async def handler(_: object) -> None:
        received.set()

    stream = OneSession(simulator.url())
    stream.subscribe_quotes(handler, "AAPL")
    runner = threading.Thread(target=stream.run)
    runner.start()
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    simulator.publish_raw(b"\x90")
    simulator.publish(quote())
    assert received.wait(5)
    simulator.drop(1000)
    runner.join(10)


def test_the_sdk_logs_under_the_name_we_filter() -> None:
    assert websocket.log.name == "alpaca.data.live.websocket"
