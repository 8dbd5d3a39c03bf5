"""The protocol rule by rule, on a raw connection."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from websockets.exceptions import InvalidStatus

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.unit.simulator.client import TIMEOUT, Client, error

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

CONNECTED = {"T": "success", "msg": "connected"}
AUTHENTICATED = {"T": "success", "msg": "authenticated"}
KEYS = {"APCA-API-KEY-ID": SIMULATOR_KEY, "APCA-API-SECRET-KEY": SIMULATOR_SECRET}
CODECS: tuple[Literal["json", "msgpack"], ...] = ("json", "msgpack")


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize("codec", CODECS)
def test_from_the_greeting_to_the_data(
    simulator: AlpacaSimulator, connect: Connect, codec: str
) -> None:
    client = connect(codec=codec)
    assert client.receive() == [CONNECTED]
    assert client.auth() == AUTHENTICATED
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    simulator.publish({"T": "q", "S": "AAPL", "bp": 1.5}, {"T": "q", "S": "MSFT"})
    assert client.receive() == [{"T": "q", "S": "AAPL", "bp": 1.5}]
    (info,) = simulator.sessions()
    assert (info.id, info.path, info.codec) == (1, "/v2/iex", codec)
    assert info.authenticated
    assert not info.header_auth
    assert info.subscriptions == {("quotes", "AAPL")}
    assert (simulator.attempts, simulator.handshakes) == (1, 1)
    assert (simulator.auth_attempts, simulator.authenticated) == (1, 1)


def test_the_codec_is_json_without_a_content_type(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect(headers={"Content-Type": "text/plain"})
    assert client.receive() == [CONNECTED]
    assert simulator.sessions()[0].codec == "json"


def test_msgpack_with_a_parameter_is_msgpack(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(codec="msgpack", headers={"Content-Type": "Application/MsgPack; v=1"})
    assert client.receive() == [CONNECTED]


@pytest.mark.parametrize("headers", [KEYS, basic(f"{SIMULATOR_KEY}:{SIMULATOR_SECRET}")])
def test_credentials_in_headers_authenticate_unprompted(
    simulator: AlpacaSimulator, connect: Connect, headers: dict[str, str]
) -> None:
    client = connect(headers=headers)
    assert [client.control(), client.control()] == [CONNECTED, AUTHENTICATED]
    assert simulator.sessions()[0].header_auth
    assert client.auth() == error(403, "already authenticated")


@pytest.mark.parametrize(
    "headers",
    [
        {"APCA-API-KEY-ID": SIMULATOR_KEY},
        basic("nobody"),
        {"Authorization": "Basic \u00e9"},
        {"Authorization": "Basic /w=="},
    ],
)
def test_wrong_credentials_in_headers_are_refused(
    connect: Connect, headers: dict[str, str]
) -> None:
    client = connect(headers=headers)
    assert client.control() == CONNECTED
    assert client.control() == error(402, "auth failed")


def test_other_authorization_is_ignored(connect: Connect) -> None:
    connect(headers={"Authorization": "Negotiate x"}).login()


@pytest.mark.parametrize(
    ("key", "secret"), [("nobody", SIMULATOR_SECRET), (SIMULATOR_KEY, "wrong")]
)
def test_wrong_keys_can_be_corrected(
    simulator: AlpacaSimulator, connect: Connect, key: str, secret: str
) -> None:
    client = connect()
    client.control()
    assert client.auth(key, secret) == error(402, "auth failed")
    assert client.subscribe(quotes=["AAPL"]) == error(401, "not authenticated")
    assert not simulator.sessions()[0].authenticated
    assert client.auth() == AUTHENTICATED
    assert (simulator.auth_attempts, simulator.authenticated) == (2, 1)


def test_other_credentials(connect: Connect) -> None:
    with AlpacaSimulator(credentials={"oauth": "token"}) as other:
        client = connect(to=other)
        client.control()
        assert client.auth() == error(402, "auth failed")
        assert client.auth("oauth", "token") == AUTHENTICATED


def test_secrets_are_not_kept(simulator: AlpacaSimulator, connect: Connect) -> None:
    connect().login()
    assert simulator.received == [{"action": "auth", "key": SIMULATOR_KEY, "secret": "***"}]


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_nothing_before_authentication(connect: Connect, action: str) -> None:
    client = connect()
    client.control()
    assert client.ask(action=action, quotes=["AAPL"]) == error(401, "not authenticated")


def test_a_second_authentication_is_refused(connect: Connect) -> None:
    assert connect().login().auth() == error(403, "already authenticated")


def test_who_does_not_authenticate_in_time_is_told_and_closed(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.05) as impatient:
        client = connect(to=impatient)
        client.control()
        assert client.control() == error(404, "auth timeout")
        assert client.wait_closed() == 1000
        assert impatient.wait_for(lambda s: not s.sessions())


def test_the_second_connection_is_refused_and_the_first_untouched(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    first = connect().login()
    first.subscribe(quotes=["AAPL"])
    second = connect()
    second.control()
    assert second.auth() == error(406, "connection limit exceeded")
    assert second.subscribe(quotes=["AAPL"]) == error(401, "not authenticated")
    simulator.publish({"T": "q", "S": "AAPL"})
    assert first.receive() == [{"T": "q", "S": "AAPL"}]
    connect(feed="sip").login()  # the limit is for each endpoint
    first.socket.close()
    assert simulator.wait_for(lambda s: len(s.sessions()) == 2)
    assert second.auth() == AUTHENTICATED


def test_a_connection_over_the_limit_is_dropped_without_a_frame(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.3) as strict:
        first = connect(to=strict).login()
        second = connect(to=strict)
        second.control()
        assert second.auth() == error(406, "connection limit exceeded")
        assert second.wait_closed() == 1006
        assert first.subscribe(bars=["AAPL"])["bars"] == ["AAPL"]


def test_more_connections_and_other_keys(connect: Connect) -> None:
    with AlpacaSimulator(credentials={"a": "1", "b": "2"}, connection_limit=2) as roomy:
        clients = [connect(to=roomy) for _ in range(4)]
        for client in clients:
            client.control()
        replies = [
            client.auth(key, secret)["T"]
            for client, (key, secret) in zip(
                clients, [("a", "1"), ("a", "1"), ("a", "1"), ("b", "2")], strict=True
            )
        ]
        assert replies == ["success", "success", "error", "success"]


def test_feeds_outside_the_plan(connect: Connect) -> None:
    with AlpacaSimulator(refused_feeds={"sip"}) as basic_plan:
        client = connect(feed="sip", to=basic_plan)
        client.control()
        assert client.auth() == error(409, "insufficient subscription")
        connect(feed="iex", to=basic_plan).login()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"action": "dance"},
        {"action": ["auth"]},
        {"action": "auth"},
        {"action": "auth", "key": 1, "secret": 2},
        {"action": "subscribe", "quotes": "AAPL"},
        {"action": "subscribe", "quotes": [1]},
        {"action": "subscribe", "quotes": ["aapl"]},
        {"action": "subscribe", "quotes": ["AAPL "]},
        {"action": "subscribe", "quotes": [""]},
        {"action": "subscribe", "quotes": ["A" * 25]},
        {"action": "subscribe", "everything": ["AAPL"]},
        {"action": "unsubscribe", "quotes": [None]},
    ],
)
@pytest.mark.parametrize("codec", CODECS)
def test_requests_off_the_specification(
    connect: Connect, request_: dict[str, Any], codec: str
) -> None:
    client = connect(codec=codec).login()
    assert client.ask(**request_) == error(400, "invalid syntax")
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]


@pytest.mark.parametrize("data", ["not json", "[1]", '"auth"', b"\xc1"])
def test_messages_that_are_no_map(connect: Connect, data: str | bytes) -> None:
    client = connect().login()
    client.socket.send(data)
    assert client.control() == error(400, "invalid syntax")


def test_json_in_a_msgpack_session(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(codec="msgpack").login()
    client.socket.send(json.dumps({"action": "subscribe", "quotes": ["AAPL"]}))
    assert client.control() == error(400, "invalid syntax")
    assert len(simulator.received) == 1


def test_a_request_in_fragments(connect: Connect) -> None:
    client = connect().login()
    client.socket.send(iter(['{"action":"sub', 'scribe","quo', 'tes":["AAPL"]}']))
    assert client.control()["quotes"] == ["AAPL"]


def test_compression_is_negotiated_when_offered(connect: Connect) -> None:
    with_it = connect(feed="iex").socket
    without = connect(feed="sip", compression=None).socket
    assert [e.name for e in with_it.protocol.extensions] == ["permessage-deflate"]
    assert without.protocol.extensions == []


# As documented and as recorded: imbalances are named only when there are some.
STOCKS = (
    *("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds"),
    *("corrections", "cancelErrors"),
)


def listed(channels: tuple[str, ...], **symbols: list[str]) -> dict[str, Any]:
    return {"T": "subscription", **{each: symbols.get(each, []) for each in channels}}


def test_subscribing_adds_and_unsubscribing_subtracts(connect: Connect) -> None:
    client = connect().login()
    assert client.subscribe(quotes=["MSFT", "AAPL"]) == listed(STOCKS, quotes=["AAPL", "MSFT"])
    assert client.subscribe(bars=["*"]) == listed(STOCKS, quotes=["AAPL", "MSFT"], bars=["*"])
    assert client.unsubscribe(quotes=["MSFT", "SPY"], bars=["AAPL"]) == listed(
        STOCKS, quotes=["AAPL"], bars=["*"]
    )
    assert client.unsubscribe(quotes=["AAPL"], bars=["*"]) == listed(STOCKS)


def test_the_acknowledgement_has_the_channels_in_their_order(connect: Connect) -> None:
    assert tuple(connect().login().subscribe(bars=["A"])) == ("T", *STOCKS)


def test_corrections_and_cancels_follow_trades(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect().login()
    mirrored = {each: ["AAPL"] for each in ("trades", "corrections", "cancelErrors")}
    assert client.subscribe(trades=["AAPL"], corrections=["SPY"]) == listed(STOCKS, **mirrored)
    simulator.publish({"T": "c", "S": "AAPL"}, {"T": "x", "S": "AAPL"}, {"T": "x", "S": "SPY"})
    assert [message["T"] for message in client.receive()] == ["c", "x"]
    assert client.unsubscribe(corrections=["AAPL"]) == listed(STOCKS, **mirrored)
    assert client.unsubscribe(trades=["AAPL"]) == listed(STOCKS)


def test_terse_acknowledgements_leave_empty_channels_out(connect: Connect) -> None:
    with AlpacaSimulator(terse_acknowledgements=True) as terse:
        client = connect(to=terse).login()
        assert client.subscribe(quotes=["SPY"]) == {"T": "subscription", "quotes": ["SPY"]}
        assert client.unsubscribe(quotes=["SPY"]) == {"T": "subscription"}


def test_the_test_stream_lists_three_channels(connect: Connect) -> None:
    client = connect(feed="test").login()
    assert client.subscribe(bars=["FAKEPACA"], quotes=["FAKEPACA"]) == {
        "T": "subscription",
        "trades": [],
        "quotes": ["FAKEPACA"],
        "bars": ["FAKEPACA"],
    }
    assert "dailyBars" in client.subscribe(dailyBars=["FAKEPACA"])


@pytest.mark.parametrize(
    ("market", "symbol", "channels"),
    [
        ("stocks", "BRK.B", STOCKS),
        (
            "crypto",
            "BTC/USD",
            ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars"),
        ),
        ("options", "AAPL240315C00172500", ("trades", "quotes")),
        ("news", "AAPL", ("news",)),
    ],
)
def test_every_market_has_its_channels(
    connect: Connect, market: str, symbol: str, channels: tuple[str, ...]
) -> None:
    client = connect(market, codec="msgpack").login()
    reply = client.subscribe(**{channel: [symbol] for channel in channels})
    assert set(reply) == {"T", *channels}
    absent = "news" if market != "news" else "trades"
    assert client.subscribe(**{absent: []})["T"] == "subscription"
    assert client.subscribe(**{absent: [symbol]}) == error(
        410, "invalid subscribe action for this feed"
    )


@pytest.mark.parametrize(
    ("market", "symbol"), [("crypto", "BTCUSD"), ("options", "AAPL"), ("stocks", "-A")]
)
def test_symbols_have_the_form_of_their_market(connect: Connect, market: str, symbol: str) -> None:
    client = connect(market, codec="msgpack").login()
    assert client.subscribe(quotes=[symbol]) == error(400, "invalid syntax")


def test_options_speak_msgpack_only_and_have_no_star_for_quotes(connect: Connect) -> None:
    text = connect("options", "opra").login()
    assert text.subscribe(trades=["AAPL240315C00172500"])["code"] == 412
    binary = connect("options", codec="msgpack").login()
    assert binary.subscribe(quotes=["*"])["code"] == 413
    assert binary.subscribe(trades=["*"])["trades"] == ["*"]


def test_the_symbol_limit_leaves_the_subscriptions_alone(connect: Connect) -> None:
    with AlpacaSimulator(symbol_limit=2) as limited:
        client = connect(to=limited).login()
        assert client.subscribe(trades=["A"], quotes=["B"], bars=["A"])["T"] == "subscription"
        assert client.subscribe(quotes=["C"]) == error(405, "symbol limit exceeded")
        assert client.subscribe(statuses=["C", "D"])["quotes"] == ["B"]
        assert client.unsubscribe(quotes=["B"])["quotes"] == []
        assert client.subscribe(quotes=["C"])["quotes"] == ["C"]


@pytest.mark.parametrize(
    ("market", "feed", "path"),
    [
        ("stocks", "iex", "/v2/iex"),
        ("stocks", "sip", "/v2/sip"),
        ("stocks", "delayed_sip", "/v2/delayed_sip"),
        ("stocks", "test", "/v2/test"),
        ("stocks", "boats", "/v1beta1/boats"),
        ("stocks", "overnight", "/v1beta1/overnight"),
        ("crypto", "us", "/v1beta3/crypto/us"),
        ("crypto", "us-1", "/v1beta3/crypto/us-1"),
        ("crypto", "eu-1", "/v1beta3/crypto/eu-1"),
        ("options", "indicative", "/v1beta1/indicative"),
        ("options", "opra", "/v1beta1/opra"),
        ("news", "news", "/v1beta1/news"),
    ],
)
def test_every_documented_path_is_served(
    simulator: AlpacaSimulator, connect: Connect, market: str, feed: str, path: str
) -> None:
    assert simulator.url(market, feed) == f"ws://127.0.0.1:{simulator.port}{path}"
    assert connect(market, feed).control() == CONNECTED
    assert simulator.sessions()[0].path == path


def test_unknown_paths_markets_and_feeds(simulator: AlpacaSimulator) -> None:
    base = f"ws://127.0.0.1:{simulator.port}"
    with pytest.raises(InvalidStatus) as caught:
        Client(f"{base}/v3/iex")
    assert caught.value.response.status_code == 404
    with Client(f"{base}/v2/iex?version=1") as client:
        assert client.control() == CONNECTED
    with pytest.raises(ValueError, match="unknown market"):
        simulator.url("bonds")
    with pytest.raises(ValueError, match="has no feed"):
        simulator.url("crypto", "iex")


def test_data_goes_to_the_market_and_feed_it_is_for(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    iex, sip, crypto = connect(feed="iex"), connect(feed="sip"), connect("crypto")
    for client in (iex, sip, crypto):
        client.login()
        client.subscribe(quotes=["*"])
    simulator.publish({"T": "q", "S": "AAPL"})
    simulator.publish({"T": "q", "S": "MSFT"}, feed="sip")
    simulator.publish({"T": "q", "S": "BTC/USD"}, market="crypto")
    assert iex.receive() == [{"T": "q", "S": "AAPL"}]
    assert [sip.receive()[0]["S"], sip.receive()[0]["S"]] == ["AAPL", "MSFT"]
    assert crypto.receive() == [{"T": "q", "S": "BTC/USD"}]
    assert [entry.sessions for entry in simulator.ledger] == [2, 1, 1]


def test_news_goes_to_each_of_its_symbols_once(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    some, every = connect("news"), connect("news", headers=KEYS)
    some.control()
    every.control()
    assert every.control() == AUTHENTICATED
    assert every.subscribe(news=["*"]) == {"T": "subscription", "news": ["*"]}
    simulator.publish({"T": "n", "id": 1, "symbols": []}, market="news")
    assert every.receive()[0]["id"] == 1
    every.unsubscribe(news=["*"])
    every.subscribe(news=["AAPL", "MSFT"])
    simulator.publish({"T": "n", "id": 2, "symbols": []}, market="news")
    simulator.publish({"T": "n", "id": 3, "symbols": ["SPY"]}, market="news")
    simulator.publish({"T": "n", "id": 4, "symbols": ["AAPL", "MSFT"]}, market="news")
    assert [message["id"] for message in every.receive()] == [4]


def test_one_frame_for_each_publish_and_mixed_messages_in_order(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect().login()
    client.subscribe(quotes=["AAPL"], trades=["AAPL"])
    messages: list[dict[str, Any]] = [{"T": "t", "S": "AAPL", "i": 1}, {"T": "q", "S": "AAPL"}]
    simulator.publish(*messages, {"T": "b", "S": "AAPL"})
    simulator.publish({"T": "t", "S": "AAPL", "i": 2})
    assert client.receive() == messages
    assert client.receive() == [{"T": "t", "S": "AAPL", "i": 2}]


def test_only_authenticated_sessions_get_raw_frames_and_all_get_errors(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client, stranger = connect().login(), connect(feed="sip")
    stranger.control()
    simulator.publish_raw(b"\x00garbage")
    simulator.publish_raw("[{]")
    simulator.send_error(500)
    simulator.send_error(407, "too slow")
    assert client.socket.recv(TIMEOUT) == b"\x00garbage"
    assert client.socket.recv(TIMEOUT) == "[{]"
    for each in (client, stranger):
        assert each.control() == error(500, "internal error")
        assert each.control() == error(407, "too slow")


def test_bad_messages_are_refused_where_they_are_published(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="no data messages"):
        simulator.publish({"T": "zz"})
    with pytest.raises(ValueError, match="unknown market"):
        simulator.publish({"T": "q", "S": "AAPL"}, market="bonds")
    with pytest.raises(ValueError, match="has no feed"):
        simulator.publish({"T": "q", "S": "AAPL"}, feed="us")
    with pytest.raises(TypeError, match="not a time"):
        simulator.publish({"T": "q", "S": "AAPL", "t": 1.0})
    with pytest.raises(TypeError, match="unsupported"):
        simulator.publish({"T": "q", "S": "AAPL", "bp": object()})
