"""Neither key leaves the library: in no log at DEBUG, no repr, no error, no copy, no pickle.

Sessions of every kind run with all logging on; then all that they left is searched for every run
of six characters of the keys, plain, in hex and in base64. The simulator's records are searched
like all others.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from alpaca.data.live import StockDataStream
from websockets.frames import Frame, Opcode
from websockets.legacy import client

from realtime_stream import (
    AuthenticationError,
    Credentials,
    RealTimeStreamManager,
    ReconnectPolicy,
    StreamConfig,
    StreamingError,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.property.support_leaks import Everything, Finder, chain, views
from tests.support import Recorder, config, quote

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

PAIRS = (
    ("PKQ7XZV2MWK9LDR4TB", "hG5tRw8YpLq2NvXz7KbCdF3sJm9AeU4i"),
    ("PKJ3VN8HYC6TQZ1RWD", "uB9eZk4WqXo7GtMd2HnVyJ5cSr8PfL3a"),
    ("PKT5GB4LMX2NQJ7VHZ", "yD6vKs1QwEj8RzUb5TnGxC3pHm7MaF9o"),
)
KEY, SECRET = PAIRS[0]
leaks = Finder(*(text for pair in PAIRS for text in pair))
ONCE = ReconnectPolicy(initial=0.01, max_attempts=1)
LOUD = (
    "alpaca", "alpaca.data.live.websocket", "asyncio", "realtime_stream",
    "realtime_stream.websocket", "realtime_stream.simulator", "realtime_stream.simulator.websocket",
    "websockets", "websockets.client", "websockets.protocol", "websockets.server",
)  # fmt: skip


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Everything]:
    """Every logger at DEBUG, and asyncio's debug mode, as somebody does who looks for a fault."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    root, handler = logging.getLogger(), Everything()
    loggers = [root, *(logging.getLogger(name) for name in LOUD)]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(params=["tap", "fallback"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the frame tap, and with an SDK that refuses it."""
    if request.param == "fallback":
        real = client.connect

        def connect(url: str, **keywords: Any) -> Any:
            if "create_protocol" in keywords:
                msg = "connect() got an unexpected keyword argument 'create_protocol'"
                raise TypeError(msg)
            return real(url, **keywords)

        monkeypatch.setattr(client, "connect", connect)
    return str(request.param)


@dataclass(repr=False)  # its repr would be in every traceback it looks at
class Traces:
    """All that sessions leave behind, as text."""

    log: Everything
    told: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    managers: list[RealTimeStreamManager] = field(default_factory=list)

    def manager(self, settings: StreamConfig) -> RealTimeStreamManager:
        manager = RealTimeStreamManager(settings)
        self.managers.append(manager)
        for hook in (
            manager.on_connect, manager.on_disconnect, manager.on_error, manager.on_gap,
            manager.on_state_change,
        ):  # fmt: skip
            hook(self.told.append)
        self.add(settings)
        return manager

    def failing_start(self, settings: StreamConfig, timeout: float = 10) -> StreamingError:
        """Start and fail, look at everything, and try what else a failed manager can do."""
        manager = self.manager(settings)
        manager.subscribe("quotes", "AAPL")
        with pytest.raises(StreamingError) as caught:
            manager.start(timeout)
        self.add(caught.value)
        self.look(manager)
        return caught.value

    def look(self, manager: RealTimeStreamManager) -> None:
        status = manager.status()
        for thing in (manager, status, manager.dead_letters(), manager.rejects(), manager.gaps()):
            self.add(thing)
        if status.last_error is not None:
            self.add(status.last_error)
            self.add(status.last_error.error)
        for act in (manager.events, manager.wait_until_stopped):
            try:
                act(timeout=0)
            except StreamingError as exc:
                self.add(exc)

    def add(self, thing: object) -> None:
        self.texts += views(thing)

    def leaks(self) -> set[str]:
        for told in self.told:
            self.add(told)
            self.add(getattr(told, "error", None))
        assert len(self.log.texts) > 10
        lines = {line for text in (*self.texts, *self.log.seen()) for line in text.splitlines()}
        return leaks("\n".join(lines))


@pytest.fixture
def traces(log: Everything) -> Iterator[Traces]:
    traces = Traces(log)
    yield traces
    for manager in traces.managers:
        with contextlib.suppress(StreamingError):
            manager.stop()
        traces.look(manager)
    assert traces.leaks() == set()


@pytest.fixture
def exchange() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator(credentials=dict(PAIRS)) as simulator:
        yield simulator


def keyed(simulator: AlpacaSimulator, **settings: Any) -> StreamConfig:
    return config(simulator, **{"api_key": KEY, "secret_key": SECRET, **settings})


def is_subscribed(simulator: AlpacaSimulator) -> bool:
    return any(session.subscriptions for session in simulator.sessions())


def uses(simulator: AlpacaSimulator) -> list[str]:
    """The keys that came, in order; their secrets were right where the session was let in."""
    return [m["key"] for m in simulator.received if m["action"] == "auth"]


# --- that there is something to find, and that it would be found ---


@pytest.mark.parametrize(
    "text",
    [
        SECRET[3:9],
        f"...{KEY[-6:].lower()}...",
        SECRET[9:16].encode().hex(" "),
        repr(bytes(SECRET, "ascii")[2:8])[2:-1],
        "".join(f"\\x{byte:02x}" for byte in SECRET[4:10].encode()),
        "QUJD" + "aEc1dFJ3OFk=",  # the first eight characters
    ],
)
def test_the_search_finds_pieces(text: str) -> None:
    assert leaks(text)


@pytest.mark.parametrize("before", range(4))
def test_the_search_finds_them_in_base64_wherever_they_begin(before: int) -> None:
    whole = base64.b64encode(("x" * before + f"{KEY}:{SECRET}").encode()).decode()
    assert leaks(whole)
    assert not leaks(base64.b64encode(b"nothing of the kind, but long enough").decode())


def test_the_websocket_librarys_dump_of_the_auth_frame_would_be_found() -> None:
    message = b"\x83\xa6action\xa4auth\xa3key\xb2" + KEY.encode() + SECRET.encode()
    assert leaks(str(Frame(Opcode.BINARY, message)))


def test_the_sdk_alone_shows_the_keys_at_debug(exchange: AlpacaSimulator, log: Everything) -> None:
    """What the library prevents happens without it; so the other tests look at the right place."""
    exchange.faults.refuse_auth(409, "insufficient subscription")

    async def ignore(_: object) -> None:
        """No quote comes."""

    stream = StockDataStream(KEY, SECRET, url_override=exchange.url())
    stream.subscribe_quotes(ignore, "AAPL")
    stream.run()
    assert "websockets.client" in log.names
    assert leaks("\n".join(log.seen()))


# --- sessions of every kind ---


def test_sessions_that_succeed_are_lost_and_come_back(
    path: str, exchange: AlpacaSimulator, traces: Traces
) -> None:
    manager = traces.manager(keyed(exchange))
    quotes = Recorder[Any]()

    def failing(event: object) -> None:
        raise ArithmeticError

    manager.on_quote(quotes, "AAPL")
    manager.on_quote(failing, "AAPL")
    manager.start(timeout=0)
    for n, end in enumerate((1011, None, 1000)):
        assert exchange.wait_for(is_subscribed)
        exchange.publish(quote(n=n))
        quotes.wait_for(n + 1)
        exchange.publish_raw(b"\x93\xc0\x01\x81\xa1T\xa1?")
        traces.look(manager)
        exchange.drop(end)
        assert exchange.wait_for(lambda s, n=n: s.authenticated > n + 1)  # type: ignore[misc]  # mypy cannot infer the type of a lambda with a default
    assert exchange.wait_for(is_subscribed)
    manager.subscribe("trades", "AAPL")
    manager.stop()
    manager.start(timeout=0)
    assert exchange.wait_for(is_subscribed)
    assert set(uses(exchange)) == {KEY}


@pytest.mark.parametrize("code", [402, 404, 406, 409, 411, 500])
def test_refused_authentication(
    path: str, code: int, exchange: AlpacaSimulator, traces: Traces
) -> None:
    exchange.faults.refuse_auth(code)
    traces.failing_start(keyed(exchange, reconnect=ONCE))
    assert uses(exchange)


def test_a_wrong_secret(path: str, traces: Traces) -> None:
    with AlpacaSimulator(credentials={KEY: "another"}) as other:
        error = traces.failing_start(keyed(other))
    assert isinstance(error, AuthenticationError)


def test_a_connection_that_is_taken(path: str, exchange: AlpacaSimulator, traces: Traces) -> None:
    holder = traces.manager(keyed(exchange))
    holder.subscribe("quotes", "AAPL")
    holder.start(timeout=0)
    assert exchange.wait_for(is_subscribed)
    traces.failing_start(keyed(exchange, reconnect=ONCE))


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 503])
def test_refused_upgrades(
    path: str, status: int, exchange: AlpacaSimulator, traces: Traces
) -> None:
    exchange.faults.refuse_http(status, retry_after=1)
    traces.failing_start(keyed(exchange, reconnect=ONCE))


@pytest.mark.parametrize("stage", ["http", "greeting", "auth", "subscription"])
def test_silence(path: str, stage: Any, exchange: AlpacaSimulator, traces: Traces) -> None:
    exchange.faults.silent_at(stage)
    short = {"connect_timeout": 0.3, "handshake_timeout": 0.3, "acknowledge_timeout": 0.1}
    traces.failing_start(keyed(exchange, reconnect=ONCE, **short), timeout=1)


def test_an_untrusted_certificate(path: str, server_tls: ssl.SSLContext, traces: Traces) -> None:
    with AlpacaSimulator(credentials=dict(PAIRS), ssl_context=server_tls) as simulator:
        traces.failing_start(keyed(simulator, reconnect=ONCE))
        assert uses(simulator) == []


def test_tls_that_succeeds(
    path: str, server_tls: ssl.SSLContext, trusted: object, traces: Traces
) -> None:
    with AlpacaSimulator(credentials=dict(PAIRS), ssl_context=server_tls) as simulator:
        manager = traces.manager(keyed(simulator))
        manager.subscribe("quotes", "AAPL")
        manager.start(timeout=0)
        assert simulator.wait_for(is_subscribed)
        manager.stop()


def test_nobody_listens(path: str, exchange: AlpacaSimulator, traces: Traces) -> None:
    exchange.faults.refuse_connections()
    traces.failing_start(keyed(exchange, reconnect=ONCE))


@contextlib.contextmanager
def answering(answer: bytes, seen: list[bytes]) -> Iterator[str]:
    """A server of one answer to whatever is asked of it; what it was asked is in ``seen``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        seen.append(connection.recv(65536))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/v2/iex"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
ELSEWHERE = b"Location: ws://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 302 Found\r\n" + ELSEWHERE,
        b"HTTP/1.1 429 Slow down\r\nRetry-After: tomorrow\r\n\r\n",
        UPGRADE + b"\r\n",
        UPGRADE + b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        UPGRADE + b"Sec-WebSocket-Accept\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nX-" + b"a" * 20_000 + b": b\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nX: \xff\x00\r\n\r\n",
    ],
    ids=lambda answer: ascii(answer[:24]),
)
def test_faults_in_the_answer_to_the_upgrade(path: str, answer: bytes, traces: Traces) -> None:
    """And the keys are not in the request: they are sent to none but a server that greets."""
    seen: list[bytes] = []
    with answering(answer, seen) as url:
        settings = {"api_key": KEY, "secret_key": SECRET, "reconnect": ONCE, "connect_timeout": 1}
        traces.failing_start(StreamConfig(url=url, **settings))
    assert seen
    assert leaks("".join(each.decode("latin-1") for each in seen)) == set()


def test_the_simulator_names_keys_and_shows_no_secret(exchange: AlpacaSimulator) -> None:
    secrets = Finder(*(secret for _, secret in PAIRS))
    manager = RealTimeStreamManager(keyed(exchange))
    manager.subscribe("quotes", "AAPL")
    with manager:
        for thing in (exchange, exchange.faults, exchange.ledger, exchange.sessions()):
            assert secrets("\n".join(views(thing))) == set()
        assert secrets("\n".join(views(exchange.received))) == set()
    assert uses(exchange) == [KEY]


# --- keys from a callable ---


def test_each_session_asks_and_uses_the_newest_pair(
    path: str, exchange: AlpacaSimulator, traces: Traces
) -> None:
    pairs = iter([*PAIRS, PAIRS[0]])
    asked = Recorder[object]()

    def vault() -> tuple[str, str]:
        asked(1)
        return next(pairs)

    manager = traces.manager(keyed(exchange, api_key=None, secret_key=None, credentials=vault))
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    for session in (1, 2, 3):
        assert exchange.wait_for(lambda s: s.authenticated == session and is_subscribed(s))  # noqa: B023  # called before the next turn
        assert len(asked.items) == session
        exchange.drop(1001)
    assert exchange.wait_for(lambda s: s.authenticated == 4)
    manager.stop()
    assert uses(exchange) == [pair[0] for pair in (*PAIRS, PAIRS[0])]


def test_a_restart_asks_too_and_a_revoked_pair_is_fatal(
    exchange: AlpacaSimulator, traces: Traces
) -> None:
    pairs = iter([PAIRS[0], PAIRS[1], (KEY, PAIRS[2][1])])
    settings = keyed(exchange, api_key=None, secret_key=None, credentials=pairs.__next__)
    manager = traces.manager(settings)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.restart()
    with pytest.raises(AuthenticationError) as caught:
        manager.restart()
    traces.add(caught.value)
    assert uses(exchange) == [PAIRS[0][0], PAIRS[1][0], KEY]


class Vault:
    """A source whose own repr shows what it holds."""

    def __init__(self, *pair: Any) -> None:
        self.pair = pair

    def __repr__(self) -> str:
        return f"Vault{self.pair}"

    def __call__(self) -> Any:
        return self.pair


def bare(value: object) -> object:
    return value


@pytest.mark.parametrize(
    "source",
    [Vault(KEY, SECRET), functools.partial(bare, (KEY, SECRET)), lambda pair=(KEY, SECRET): pair],
    ids=["object", "partial", "lambda"],
)
def test_a_source_is_never_shown_itself(
    source: Callable[[], Any], exchange: AlpacaSimulator, traces: Traces
) -> None:
    settings = keyed(
        exchange, api_key=None, secret_key=None, credentials=source, slow_callback=1e-9
    )
    manager = RealTimeStreamManager(settings)
    traces.managers.append(manager)
    manager.on_error(traces.told.append)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    assert manager.status().slow_callbacks is not None
    # vars() and copies of the config hold the source itself: what those show is its own affair.
    traces.texts += [repr(settings), str(settings), f"{settings}", repr(manager)]


@pytest.mark.parametrize(
    "answer",
    [
        (KEY,), (KEY, SECRET, SECRET), [KEY, [SECRET]], (KEY, SECRET + "\n"), {"secret": SECRET},
        KEY + SECRET, (KEY, ""), None,
    ],
    ids=["one", "three", "nested", "line break", "mapping", "text", "empty", "nothing"],
)  # fmt: skip
def test_an_answer_that_is_no_pair_is_not_shown(
    answer: object, exchange: AlpacaSimulator, traces: Traces
) -> None:
    def source() -> Any:
        return answer

    settings = keyed(exchange, api_key=None, secret_key=None, credentials=source, reconnect=ONCE)
    error = traces.failing_start(settings)
    assert isinstance(error, AuthenticationError)


def sealed_vault() -> tuple[str, str]:
    msg = f"cannot unwrap {SECRET} for {KEY}"
    raise OSError(msg)


def test_what_a_failing_source_says_reaches_its_owners_listener_and_nothing_else(
    exchange: AlpacaSimulator, log: Everything
) -> None:
    """The boundary: ``on_error`` gets the source's own exception as it is."""
    settings = keyed(
        exchange, api_key=None, secret_key=None, credentials=sealed_vault, reconnect=ONCE
    )
    manager = RealTimeStreamManager(settings)
    told = Recorder[Any]()
    manager.on_error(told)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(AuthenticationError) as caught:
        manager.start()
    # Looked at before a variable of this function holds what the source said.
    texts = [*views(caught.value), *views(manager.status()), *views(manager), *log.seen()]
    own = [event for event in told.items if event.source == "credentials"]
    assert [type(event.error) for event in own] == [OSError]
    assert SECRET in str(own[0].error)
    texts += [text for event in told.items if event not in own for text in views(event)]
    assert leaks("\n".join(texts)) == set()


def test_a_source_that_fails_is_tried_again(exchange: AlpacaSimulator, traces: Traces) -> None:
    answers: Iterator[Any] = iter([OSError("the vault is sealed"), (KEY, SECRET)])

    def source() -> Any:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    manager = traces.manager(keyed(exchange, api_key=None, secret_key=None, credentials=source))
    manager.subscribe("quotes", "AAPL")
    manager.start()
    assert manager.status().attempts == 2
    assert any(getattr(event, "source", "") == "credentials" for event in traces.told)


# --- settings ---


@pytest.mark.parametrize(
    "value",
    [
        StreamConfig(api_key=KEY, secret_key=SECRET),
        Credentials.model_validate({"key": KEY, "secret": SECRET}),
        RealTimeStreamManager(StreamConfig(api_key=KEY, secret_key=SECRET)),
    ],
    ids=["config", "credentials", "manager"],
)
def test_no_view_of_them_shows_the_keys(value: object) -> None:
    assert leaks("\n".join(views(value))) == set()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused_in_words_that_say_why(protocol: int) -> None:
    pair = Credentials.model_validate({"key": KEY, "secret": SECRET})
    for value in (StreamConfig(api_key=KEY, secret_key=SECRET), pair, [pair]):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value, protocol)


@pytest.mark.parametrize(
    "settings",
    [
        {"secret_key": [SECRET]},
        {"secret_key": SECRET + "\n"},
        {"secret_key": SECRET.encode() + b"\xff"},
        {"api_key": "", "secret_key": SECRET},
        {"market": "nowhere"},
        {"feed": "nowhere"},
        {"reconnect": {"initial": -1}},
        {"watchlist": "A"},
        {"credentials": bare},
        {"url": f"wss://{KEY}:{SECRET}@example.com/v2/iex"},
        {"url": f"https://example.com/{SECRET}"},
    ],
    ids="-".join,
)
def test_what_is_wrong_with_settings_is_said_without_them(settings: dict[str, Any]) -> None:
    """Not even what the error came from shows them; the caller's own variables are the caller's."""
    with pytest.raises(StreamingError) as caught:
        StreamConfig(**{"api_key": KEY, "secret_key": SECRET, **settings})
    shown = without_callers_frames(caught.value)
    assert leaks(shown) == set()


@pytest.mark.parametrize("secret", [SECRET + "\n", [SECRET], SECRET.encode() + b"\xff"], ids=repr)
def test_what_is_wrong_with_a_pair_is_said_without_it(secret: Any) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # whichever; what it shows is tested
        Credentials(key=KEY, secret=secret)
    assert leaks(without_callers_frames(caught.value)) == set()


def without_callers_frames(error: BaseException) -> str:
    """All views of an error but the local variables of functions that were given the keys."""
    for one in chain(error):
        one.__traceback__ = None
    return "\n".join(views(error))


# --- as a user would do it: a process with everything on ---

SCRIPT = """
import logging
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("websockets.client").setLevel(logging.DEBUG)
from realtime_stream import RealTimeStreamManager, ReconnectPolicy, StreamConfig, StreamingError

config = StreamConfig(watchlist=["AAPL"], reconnect=ReconnectPolicy(initial=0.01))
manager = RealTimeStreamManager(config)
print(config, manager)
manager.start()
print(manager.status())
manager.restart()
manager.stop()
input("refuse now\\n")
try:
    manager.start()
except StreamingError:
    logging.exception("as a bot would")
raise SystemExit(manager.status().lifecycle.value)
"""


def test_a_process_with_debug_on_shows_nothing(exchange: AlpacaSimulator) -> None:
    environment = {
        **os.environ,
        "ALPACA_API_KEY": KEY,
        "ALPACA_SECRET_KEY": SECRET,
        "ALPACA_STREAM_URL": exchange.url(),
        "PYTHONASYNCIODEBUG": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", SCRIPT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert exchange.wait_for(lambda s: s.authenticated == 2 and not s.sessions(), 30)
        exchange.faults.refuse_auth(402)
        output, errors = child.communicate("\n", timeout=30)
    assert "DEBUG:asyncio" in errors
    assert "realtime_feed_connected" in errors
    assert "AuthenticationError" in errors
    assert "failed" in errors
    assert leaks(output + errors) == set()
