"""``realtime-stream check`` against every fault: its exit code, its words, and its discretion."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner
from websockets.legacy import client

from realtime_stream import FakeClock
from realtime_stream.cli.app import app
from realtime_stream.cli.check_budget import Budget
from realtime_stream.cli.check_problems import MEANINGS, Problem
from realtime_stream.cli.check_report import CHECKS, masked
from realtime_stream.cli.check_setup import configured
from realtime_stream.simulator import AlpacaSimulator
from tests.support import bar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.integration.conftest import NewManager

KEY, SECRET = "PKQ7XZV2MWK9LDR4TB", "hG5tRw8YpLq2NvXz7KbCdF3sJm9AeU4i"
PIECES = {key[i : i + 6] for key in (KEY, SECRET) for i in range(len(key) - 5)}
PATIENCE = 30
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "check-a-setup.md"


class Found:
    """What one run of the command said."""

    def __init__(self, exit_code: int, output: str) -> None:
        self.exit_code = exit_code
        self.text = output
        assert not {piece for piece in PIECES if piece in output}, output
        assert "Traceback" not in output
        *lines, last = output.splitlines()
        assert last == f"exit code {exit_code}: {MEANINGS[Problem(exit_code)]}"
        split = [line.split(maxsplit=2) for line in lines]
        self.states = {name: state for state, name, _ in split}
        self.texts = {name: text for _, name, text in split}
        assert list(self.states) == list(CHECKS)

    @property
    def failed(self) -> list[str]:
        return [name for name, state in self.states.items() if state == "failed"]

    @property
    def skipped(self) -> list[str]:
        return [name for name, state in self.states.items() if state == "skipped"]


def check(url: str | None, *arguments: str, **environment: str | None) -> Found:
    given = {"ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET, "ALPACA_STREAM_URL": url}
    result = CliRunner().invoke(app, ["check", *arguments], env={**given, **environment})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Found(result.exit_code, result.output)


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator(credentials={KEY: SECRET}, symbol_limit=2) as running:
        yield running


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats one connection after the other as ``answer`` does."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed at the end, or the client has gone
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(4096)
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/v2/iex"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


@contextlib.contextmanager
def relay(target: int, rewrite: Callable[[bytes], bytes]) -> Iterator[str]:
    """The server at port ``target``, with the head of each HTTP answer rewritten."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):  # one of the two has gone
            data = source.recv(65536)
            sink.sendall(change(data))
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                near, _ = listening.accept()
                threads.append(threading.Thread(target=connect, args=(near,), daemon=True))
                threads[-1].start()

    def connect(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", target)) as far:
            back = threading.Thread(target=pump, args=(far, near, rewrite), daemon=True)
            back.start()
            pump(near, far, lambda data: data)
            back.join(5)

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/v2/iex"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for thread in [accepting, *threads]:
            thread.join(5)


def when_subscribed(
    simulator: AlpacaSimulator, act: Callable[[AlpacaSimulator], object]
) -> threading.Thread:
    def wait() -> None:
        if simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()), PATIENCE):
            act(simulator)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


# --- all well ---


def test_a_setup_that_works(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url(), "-s", "AAPL,MSFT", "--step-timeout", "2")
    assert found.exit_code == 0
    assert set(found.states.values()) == {"ok"}
    assert "2 symbol(s) on bars" in found.texts["configuration"]
    assert "alpaca-py 0." in found.texts["versions"]
    assert "(+/- 1 s)" in found.texts["clock"]
    assert found.texts["subscription"] == "2 of 2 served"
    assert "no error in a quiet or closed market" in found.texts["data"]
    assert (simulator.handshakes, simulator.authenticated) == (2, 1)
    assert simulator.wait_for(lambda s: not s.sessions())


def test_data_that_comes_is_said(simulator: AlpacaSimulator) -> None:
    thread = when_subscribed(simulator, lambda s: s.publish(bar("SPY")))
    found = check(simulator.url())
    thread.join(5)
    assert found.exit_code == 0
    assert "SPY is asked for" in found.texts["configuration"]
    assert found.texts["data"] == "it comes"


@pytest.mark.parametrize(
    ("market", "wanted"),
    [
        ("crypto", {("bars", "BTC/USD")}),
        ("options", {("trades", "*")}),
        ("news", {("news", "*")}),
    ],
)
def test_every_market_has_something_to_ask_for(market: str, wanted: set[tuple[str, str]]) -> None:
    with AlpacaSimulator(credentials={KEY: SECRET}) as simulator:
        seen: list[object] = []
        thread = when_subscribed(
            simulator, lambda s: seen.append(set(s.sessions()[0].subscriptions))
        )
        url = simulator.url(market)
        found = check(None, "--market", market, "--url", url, "--step-timeout", "2")
        thread.join(5)
    assert found.exit_code == 0
    assert seen == [wanted]


def test_the_test_feed_has_a_symbol_of_its_own() -> None:
    found = configured({"feed": "test", "watchlist": None})
    assert found.value.watchlist == ("FAKEPACA",)
    assert "/v2/test" in found.text


def test_json_is_one_object(simulator: AlpacaSimulator) -> None:
    environment = {"ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": "wrong" + SECRET[5:]}
    result = CliRunner().invoke(app, ["check", "--json", "--url", simulator.url()], env=environment)
    found = json.loads(result.stdout)
    assert set(found) == {"ok", "exit_code", "checks"}
    assert (found["ok"], found["exit_code"], result.exit_code) == (False, 13, 13)
    assert [each["name"] for each in found["checks"]] == list(CHECKS)
    assert all(set(each) == {"name", "state", "text", "exit_code"} for each in found["checks"])
    failed = [each for each in found["checks"] if each["state"] == "failed"]
    assert [(each["name"], each["exit_code"]) for each in failed] == [("authentication", 13)]


# --- what needs no server ---


def test_settings_that_are_not_acceptable() -> None:
    found = check(None, "--feed", "bogus")
    assert (found.exit_code, found.failed) == (4, ["configuration"])
    assert "allowed are iex" in found.texts["configuration"]
    assert "versions" not in found.skipped
    assert found.skipped == list(CHECKS)[2:]


def test_a_key_given_as_a_symbol_is_not_shown() -> None:
    found = check(None, "--symbols", KEY.lower() + f" {KEY}")
    assert found.exit_code == 4
    assert "is not valid for market" in found.texts["configuration"]


@pytest.mark.parametrize("name", ["ALPACA_API_KEY", "ALPACA_SECRET_KEY"])
def test_a_key_that_is_missing_leaves_the_network_to_be_checked(
    simulator: AlpacaSimulator, name: str
) -> None:
    found = check(simulator.url(), **{name: None})
    assert (found.exit_code, found.failed) == (5, ["keys"])
    assert f"set {name}" in found.texts["keys"]
    assert found.states["clock"] == "ok"
    assert found.skipped == ["authentication", "feed", "subscription", "data"]
    assert found.texts["authentication"] == "needs keys"
    assert simulator.auth_attempts == 0


def test_a_key_that_cannot_be_one() -> None:
    found = check("ws://127.0.0.1:9/v2/iex", ALPACA_API_KEY=f"{KEY}\n{SECRET}")
    assert (found.exit_code, found.failed) == (4, ["configuration"])


@pytest.mark.parametrize(
    ("package", "version", "state", "said"),
    [
        ("alpaca_py", "0.43.5", "failed", "alpaca-py is 0.43.5: at least 0.44 is needed"),
        ("websockets", "13.1", "failed", "at least 14 is needed"),
        ("msgspec", "0.18.6", "failed", "at least 0.19 is needed"),
        ("websockets", "18.0", "warning", "not tried yet with websockets"),
    ],
)
def test_versions_that_do_not_fit(
    simulator: AlpacaSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    version: str,
    state: str,
    said: str,
) -> None:
    folder = tmp_path / "site" / f"{package}-{version}.dist-info"
    folder.mkdir(parents=True)
    name = package.replace("_", "-")
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder.parent)
    found = check(simulator.url(), "--step-timeout", "2")
    assert (found.exit_code, found.states["versions"]) == (3, state)
    assert said in found.texts["versions"]
    assert found.states["upgrade"] == "ok"
    assert found.states["authentication"] == ("skipped" if state == "failed" else "ok")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    found = check("ws://127.0.0.1:9/v2/iex")
    assert (found.exit_code, found.texts["versions"]) == (3, "alpaca-py is not installed")
    assert found.texts["sdk"] == "needs versions"


def test_an_sdk_that_cannot_be_loaded(
    simulator: AlpacaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("adapter", "sdk"):
        monkeypatch.delitem(sys.modules, f"realtime_stream.providers.alpaca.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "alpaca.data.live", None)
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (3, ["sdk"])
    assert "the SDK cannot be loaded" in found.texts["sdk"]
    assert found.states["upgrade"] == "ok"


def test_an_sdk_that_does_not_get_through_a_session(
    simulator: AlpacaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> object:
        msg = "no such thing"
        raise AttributeError(msg)

    monkeypatch.setattr(client, "connect", connect)
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (3, ["sdk"])
    assert "did not get through a trial session on this machine" in found.texts["sdk"]


# --- on the way to the server ---


def test_a_name_that_does_not_exist() -> None:
    found = check("wss://stream.example.invalid/v2/iex")
    assert (found.exit_code, found.failed) == (6, ["name"])
    assert "stream.example.invalid cannot be resolved" in found.texts["name"]
    assert found.texts["network"] == "needs name"
    assert found.skipped == list(CHECKS)[5:]


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    real, ended = socket.getaddrinfo, threading.Event()

    def hang(host: str, port: int, type: int = 0, flags: int = 0) -> Any:
        if not flags:  # a look-up, not an address
            ended.wait(PATIENCE)
        return real(host, port, type=type, flags=flags)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        found = check("ws://localhost:9/v2/iex", "--step-timeout", "0.3")
    finally:
        ended.set()
    assert (found.exit_code, found.failed) == (6, ["name"])
    assert "nobody said in time what localhost is" in found.texts["name"]


def test_a_connection_that_nobody_takes() -> None:
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # as many as wait to be accepted, and some more
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/v2/iex"
        found = check(url, "--step-timeout", "0.5")
    assert (found.exit_code, found.failed) == (7, ["network"])
    assert "no answer in time; does a firewall drop it?" in found.texts["network"]


def test_a_connection_that_is_refused(simulator: AlpacaSimulator) -> None:
    simulator.faults.refuse_connections()
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (7, ["network"])
    assert "refused, nothing listens there" in found.texts["network"]


def test_a_certificate_that_is_not_trusted(server_tls: ssl.SSLContext) -> None:
    with AlpacaSimulator(credentials={KEY: SECRET}, ssl_context=server_tls) as simulator:
        found = check(simulator.url())
    assert (found.exit_code, found.failed) == (8, ["tls"])
    assert "the certificate is not trusted: " in found.texts["tls"]
    assert found.texts["upgrade"] == "needs tls"


def test_a_certificate_that_is_trusted(server_tls: ssl.SSLContext, trusted: Path) -> None:
    with AlpacaSimulator(credentials={KEY: SECRET}, ssl_context=server_tls) as simulator:
        found = check(simulator.url(), "--step-timeout", "2")
    assert found.exit_code == 0, trusted
    assert found.texts["tls"].startswith("TLSv1.")


def test_a_server_without_tls(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url().replace("ws://", "wss://"))
    assert (found.exit_code, found.failed) == (8, ["tls"])
    assert "TLS failed: " in found.texts["tls"]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, 13, "an authorisation that is not there"),
        (403, 14, "lets nobody in from here"),
        (404, 10, "market, feed or URL is wrong"),
        (429, 11, "too many connections from here: wait before the next (Retry-After: 7)"),
        (503, 12, "the server is in trouble"),
        (418, 9, "no WebSocket server"),
    ],
)
def test_an_upgrade_that_is_refused(
    simulator: AlpacaSimulator, status: int, code: int, said: str
) -> None:
    simulator.faults.refuse_http(status, retry_after=7 if status == 429 else None)
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (code, ["upgrade"])
    assert f"HTTP {status}: " in found.texts["upgrade"]
    assert said in found.texts["upgrade"]
    assert found.states["clock"] == "ok"
    assert found.skipped == ["authentication", "feed", "subscription", "data"]


@pytest.mark.parametrize(
    ("status", "code"), [(401, 13), (403, 14), (404, 10), (429, 11), (503, 12)]
)
def test_an_upgrade_that_is_refused_to_the_session_only(
    simulator: AlpacaSimulator, status: int, code: int
) -> None:
    """The first upgrade is the probe's, the second the session's."""

    def refuse_the_next(head: bytes) -> bytes:
        simulator.faults.refuse_http(status)
        return head

    with relay(simulator.port, refuse_the_next) as url:
        found = check(url)
    assert (found.exit_code, found.failed) == (code, ["authentication"])
    assert f"HTTP {status}" in found.texts["authentication"]


def test_a_wrong_feed_path(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url().replace("/v2/iex", "/v2/nowhere"))
    assert (found.exit_code, found.failed) == (10, ["upgrade"])


def test_something_that_is_no_http_server() -> None:
    with raw_server(lambda connection: connection.sendall(b"220 mail ready\r\n\r\n")) as url:
        found = check(url)
    assert (found.exit_code, found.failed) == (9, ["upgrade"])
    assert "does not speak HTTP" in found.texts["upgrade"]
    assert found.texts["clock"] == "the server has not answered"


def test_a_server_that_hangs_up() -> None:
    with raw_server(lambda _: None) as url:
        found = check(url)
    assert (found.exit_code, found.failed) == (9, ["upgrade"])


def test_a_server_that_answers_once() -> None:
    answers = iter([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
    with raw_server(lambda connection: connection.sendall(next(answers, b"gone\r\n\r\n"))) as url:
        found = check(url)
    assert (found.exit_code, found.failed) == (21, ["authentication"])
    assert found.texts["clock"].startswith("the server tells no time: what answers does not")


def test_a_server_that_trickles_is_given_no_more_time() -> None:
    ended = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not ended.wait(0.05):
            connection.sendall(b"H")

    began = time.monotonic()
    with raw_server(trickle) as url:
        found = check(url, "--step-timeout", "0.5")
        ended.set()
    assert (found.exit_code, found.failed) == (9, ["upgrade"])
    assert "no answer in time" in found.texts["upgrade"]
    assert time.monotonic() - began < 10


# --- the session ---


@pytest.mark.parametrize(
    ("stage", "code", "failed", "said"),
    [
        ("http", 9, "upgrade", "no answer in time"),
        ("greeting", 17, "authentication", "the greeting did not come"),
        ("auth", 17, "authentication", "the authentication did not come"),
        ("subscription", 19, "subscription", "did not acknowledge 1 subscription(s)"),
    ],
)
def test_a_server_that_goes_silent(
    simulator: AlpacaSimulator, stage: Any, code: int, failed: str, said: str
) -> None:
    simulator.faults.silent_at(stage)
    began = time.monotonic()
    found = check(simulator.url(), "--step-timeout", "2")
    assert (found.exit_code, found.failed) == (code, [failed])
    assert said in found.texts[failed]
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("refused", "code", "said"),
    [
        (402, 13, "key and secret do not belong together"),
        (404, 17, "error 404: auth timeout"),
        (409, 15, "does not include this feed"),
        (411, 16, "without the right to market data"),
        (500, 12, "the server is in trouble"),
    ],
)
def test_an_authentication_that_is_refused(
    simulator: AlpacaSimulator, refused: int, code: int, said: str
) -> None:
    simulator.faults.refuse_auth(refused)
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (code, ["authentication"])
    assert f"error {refused}" in found.texts["authentication"]
    assert said in found.texts["authentication"]
    assert found.skipped == ["feed", "subscription", "data"]
    assert simulator.auth_attempts == 1


def test_wrong_keys(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url(), ALPACA_SECRET_KEY="another-secret")
    assert (found.exit_code, found.failed) == (13, ["authentication"])
    assert "another" not in found.text


def test_a_server_that_shows_the_keys_is_not_repeated(simulator: AlpacaSimulator) -> None:
    simulator.faults.refuse_auth(402, f"no such pair: {KEY}/{SECRET}")
    found = check(simulator.url())
    assert "no such pair: ***/***" in found.text
    assert SECRET not in found.text


def test_a_connection_that_is_taken(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    holder = new_manager(api_key=KEY, secret_key=SECRET)
    holder.subscribe("quotes", "AAPL")
    holder.start()
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (18, ["feed"])
    assert "another program holds the one connection" in found.texts["feed"]
    assert found.skipped == ["subscription", "data"]
    assert holder.is_connected()


def test_garbage_instead_of_a_greeting(simulator: AlpacaSimulator) -> None:
    simulator.faults.garbage_greeting(b"\xc1\xc1")
    found = check(simulator.url())
    assert (found.exit_code, found.failed) == (21, ["authentication"])
    assert "does not speak the protocol" in found.texts["authentication"]


def test_more_symbols_than_the_limit(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url(), "-s", "AAPL,MSFT,SPY", "--step-timeout", "2")
    assert (found.exit_code, found.failed) == (20, ["subscription"])
    assert "2 of 3 served; the server refused bars SPY: 405" in found.texts["subscription"]
    assert found.skipped == ["data"]


@pytest.mark.parametrize("refused", [400, 410])
def test_a_subscription_that_is_refused(simulator: AlpacaSimulator, refused: int) -> None:
    simulator.faults.refuse_subscription(refused)
    found = check(simulator.url(), "-s", "AAPL")
    assert (found.exit_code, found.failed) == (19, ["subscription"])
    assert f"0 of 1 served; the server refused bars AAPL: {refused}" in found.text


def test_a_session_that_is_lost(simulator: AlpacaSimulator) -> None:
    thread = when_subscribed(simulator, lambda s: s.drop(1011, "going down"))
    found = check(simulator.url())
    thread.join(5)
    assert found.exit_code == 21
    assert "closed with code 1011: going down" in found.text


def test_messages_that_make_no_sense(simulator: AlpacaSimulator) -> None:
    def garble(server: AlpacaSimulator) -> None:
        server.publish_raw(b"\xc1")
        server.publish(bar("SPY"))

    thread = when_subscribed(simulator, garble)
    found = check(simulator.url())
    thread.join(5)
    assert (found.exit_code, found.failed) == (21, ["data"])
    assert "1 message(s) came that cannot be understood" in found.texts["data"]


# --- an SDK without the tap ---


@pytest.fixture
def refusing_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK on another WebSocket client, which does not know the hook."""
    real = client.connect

    def connect(url: str, **keywords: Any) -> Any:
        if "create_protocol" in keywords:
            msg = "connect() got an unexpected keyword argument 'create_protocol'"
            raise TypeError(msg)
        return real(url, **keywords)

    monkeypatch.setattr(client, "connect", connect)


@pytest.mark.usefixtures("refusing_sdk")
def test_an_sdk_without_the_tap_is_a_warning(simulator: AlpacaSimulator) -> None:
    thread = when_subscribed(simulator, lambda s: s.publish(bar("SPY")))
    found = check(simulator.url())
    thread.join(5)
    assert (found.exit_code, found.failed, found.skipped) == (3, [], [])
    assert found.states["sdk"] == "warning"
    assert "does not accept the frame tap" in found.texts["sdk"]


@pytest.mark.usefixtures("refusing_sdk")
def test_without_the_tap_a_quiet_market_leaves_questions_open(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url(), "--step-timeout", "0.5")
    assert (found.exit_code, found.failed) == (3, [])
    assert found.skipped == ["authentication", "feed", "subscription", "data"]
    assert "its first message; none came" in found.texts["authentication"]


@pytest.mark.usefixtures("refusing_sdk")
def test_without_the_tap_wrong_keys_are_told(simulator: AlpacaSimulator) -> None:
    found = check(simulator.url(), ALPACA_SECRET_KEY="another-secret")
    assert (found.exit_code, found.failed) == (13, ["authentication"])


# --- the clock ---


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Mon, 01 Jan 2024 00:00:00 GMT", "s ahead of"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "s behind"),
    ],
)
def test_a_clock_that_is_off_is_a_warning(simulator: AlpacaSimulator, date: str, said: str) -> None:
    def shift(head: bytes) -> bytes:
        return re.sub(rb"(?m)^Date: .*?\r$", f"Date: {date}\r".encode(), head)

    with relay(simulator.port, shift) as url:
        found = check(url, "--step-timeout", "2")
    assert (found.exit_code, found.failed, found.skipped) == (22, [], [])
    assert found.states["clock"] == "warning"
    assert said in found.texts["clock"]
    assert found.states["data"] == "ok"


def test_an_upgrade_without_a_date_is_followed_by_a_plain_request(
    simulator: AlpacaSimulator,
) -> None:
    def cut(head: bytes) -> bytes:
        return re.sub(rb"(?m)^Date: .*?\r\n", b"", head) if b" 101 " in head else head

    with relay(simulator.port, cut) as url:
        found = check(url, "--step-timeout", "2")
    assert found.exit_code == 0
    assert "(+/- 1 s)" in found.texts["clock"]
    assert simulator.handshakes == 2


@pytest.mark.parametrize("date", [b"", b"Date: yesterday\r\n"])
def test_a_server_that_tells_no_time(simulator: AlpacaSimulator, date: bytes) -> None:
    def cut(head: bytes) -> bytes:
        return re.sub(rb"(?m)^Date: .*?\r\n", date, head)

    with relay(simulator.port, cut) as url:
        found = check(url, "--step-timeout", "2")
    assert (found.exit_code, found.skipped) == (0, ["clock"])
    assert found.texts["clock"] == "the server tells no time"


# --- the command ---


@pytest.mark.parametrize(
    ("stage", "reached"),
    [
        ("http", lambda s: s.attempts),
        ("auth", lambda s: s.auth_attempts),
    ],
)
def test_ctrl_c_ends_it_cleanly(
    simulator: AlpacaSimulator, stage: Any, reached: Callable[[AlpacaSimulator], int]
) -> None:
    simulator.faults.silent_at(stage)
    environment = {
        **os.environ,
        "ALPACA_API_KEY": KEY,
        "ALPACA_SECRET_KEY": SECRET,
        "ALPACA_STREAM_URL": simulator.url(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime_stream.cli", "check", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert simulator.wait_for(lambda s: bool(reached(s)), PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


def test_all_steps_together_have_a_limit() -> None:
    clock = FakeClock()
    budget = Budget(clock, 4.0)
    for _ in range(20):
        clock.advance(budget.step(2.0))
    assert clock.monotonic() <= 18


def test_pieces_of_a_secret_are_masked() -> None:
    assert masked("see abcdefgh there", ["xabcdefghx"]) == "see ******** there"
    assert masked("see abcde there", ["xabcdefghx"]) == "see abcde there"
    assert masked("short", ["short"]) == "short"


def test_the_exit_codes_are_in_the_help_and_in_the_docs() -> None:
    shown = CliRunner().invoke(app, ["check", "--help"], env={"COLUMNS": "400", "TERM": "dumb"})
    said = " ".join(shown.stdout.split())
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]*?) \|", PAGE.read_text("utf-8"), re.M))
    assert set(map(int, rows)) == set(Problem) | {1, 2, 130}
    for problem, meaning in MEANINGS.items():
        assert f"{problem.value} {meaning}" in said
        assert rows[str(problem.value)] == meaning
    assert set(MEANINGS) == set(Problem)
