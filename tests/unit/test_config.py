from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, ValidationError

from realtime_stream.config import Credentials, StreamConfig, checked_credentials
from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

KEY, SECRET = "PKTESTKEY0001", "secret-of-the-test"
KEYS: dict[str, Any] = {"api_key": KEY, "secret_key": SECRET}
VARIABLES = ("ALPACA_API_KEY", "ALPACA_SECRET_KEY", "WATCHLIST_SYMBOLS", "ALPACA_STREAM_URL")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def config(**values: Any) -> StreamConfig:
    return StreamConfig(**{**KEYS, **values})


def pair(credentials: Credentials) -> tuple[str, str]:
    return credentials.key.get_secret_value(), credentials.secret.get_secret_value()


# --- defaults and forms ---


@pytest.mark.parametrize(
    ("market", "feed"),
    [("stocks", "iex"), ("crypto", "us"), ("options", "indicative"), ("news", "news")],
)
def test_each_market_has_a_default_feed(market: Any, feed: str) -> None:
    assert config(market=market).feed == feed


@pytest.mark.parametrize(
    ("market", "feed"),
    [
        *[("stocks", f) for f in ("iex", "sip", "delayed_sip", "boats", "overnight", "test")],
        *[("crypto", f) for f in ("us", "us-1", "eu-1")],
        *[("options", f) for f in ("indicative", "opra")],
    ],
)
def test_every_feed_of_a_market_is_accepted(market: Any, feed: str) -> None:
    assert config(market=market, feed=feed).feed == feed


def test_any_feed_goes_with_an_own_url() -> None:
    assert config(feed="mine", url="ws://127.0.0.1:9/v2/mine").feed == "mine"


@pytest.mark.parametrize("symbols", [["AAPL", "BRK.B"], ("AAPL", "BRK.B")])
def test_the_watchlist_is_any_sequence_of_symbols(symbols: Any) -> None:
    assert config(watchlist=symbols).watchlist == ("AAPL", "BRK.B")


def test_a_symbol_named_twice_is_kept_once_in_its_first_place() -> None:
    assert config(watchlist=["B", "A", "B"]).watchlist == ("B", "A")


def test_none_means_not_given() -> None:
    made = config(watchlist=None, url=None, feed=None, stable_after=None)
    assert (made.watchlist, made.url, made.feed, made.stable_after) == ((), None, "iex", 30.0)


def test_nested_policies_may_be_given_as_mappings() -> None:
    made = config(reconnect={"maximum": 16}, breaker={"failure_threshold": 9})
    assert made.reconnect.maximum == 16
    assert made.breaker.failure_threshold == 9


def test_it_is_frozen() -> None:
    made: Any = config()
    with pytest.raises(ValidationError):
        made.feed = "sip"


# --- errors name the field and what is allowed ---


@pytest.mark.parametrize(
    ("values", "named", "allowed"),
    [
        ({"market": "bonds"}, "market", "'stocks', 'crypto', 'options' or 'news'"),
        ({"feed": "ixe"}, "feed", "iex, sip, delayed_sip, boats, overnight, test"),
        ({"market": "crypto", "feed": "iex"}, "feed", "us, us-1, eu-1"),
        ({"url": "https://example.com"}, "url", "ws:// or wss://"),
        ({"url": "wss://me:password@example.com"}, "url", "no credentials"),
        ({"api_key": 7}, "api_key", "string"),
        ({"secret_key": ["x"]}, "secret_key", "string"),
        ({"watchlist": "AAPL"}, "watchlist", "a list of strings, not one string"),
        ({"watchlist": [7]}, "watchlist.0", "string"),
        ({"watchlist": ["aapl"]}, "watchlist", "upper-case symbols like AAPL or BRK.B"),
        ({"watchlist": ["A;DROP TABLE"]}, "watchlist", "upper-case symbols"),
        ({"market": "crypto", "watchlist": ["BTCUSD"]}, "watchlist", "like BTC/USD"),
        ({"watchlist_channels": "bars"}, "watchlist_channels", "a list of strings"),
        ({"watchlist_channels": ["bar"]}, "watchlist_channels.0", "'bars'"),
        ({"name": "two words"}, "name", "pattern"),
        ({"name": "line\nfeed"}, "name", "pattern"),
        ({"name": "x" * 41}, "name", "pattern"),
        ({"reconnect": {"initial": 0}}, "reconnect.initial", "greater than 0"),
        ({"reconnect": {"cap": 3}}, "reconnect.cap", "not permitted"),
        ({"breaker": {"failure_threshold": 0}}, "breaker.failure_threshold", "equal to 1"),
        ({"stable_after": -1}, "stable_after", "greater than or equal to 0"),
        ({"stable_after": float("nan")}, "stable_after", "less than or equal to 86400"),
        ({"connect_timeout": 0}, "connect_timeout", "greater than 0"),
        ({"connect_timeout": 301}, "connect_timeout", "less than or equal to 300"),
        ({"handshake_timeout": 0}, "handshake_timeout", "greater than 0"),
        ({"acknowledge_timeout": "soon"}, "acknowledge_timeout", "number"),
        ({"ping_interval": 0}, "ping_interval", "greater than 0"),
        ({"ping_timeout": 4000}, "ping_timeout", "less than or equal to 3600"),
        ({"max_message_size": 1}, "max_message_size", "1024"),
        ({"inbox_capacity": 1}, "inbox_capacity", "equal to 2"),
        ({"lag_alarm": 0}, "lag_alarm", "greater than 0"),
        ({"slow_callback": 0}, "slow_callback", "greater than 0"),
        ({"error_log_interval": -1}, "error_log_interval", "equal to 0"),
        ({"dead_letters": -1}, "dead_letters", "equal to 0"),
        ({"rejects": -1}, "rejects", "equal to 0"),
        ({"event_queue": 0}, "event_queue", "equal to 1"),
        ({"symbols_timeout": 0}, "symbols_timeout", "greater than 0"),
        ({"credentials": "not a callable"}, "credentials", "callable"),
        ({"retries": 3}, "retries", "not permitted"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_bad_value_is_refused_with_its_field_and_what_is_allowed(
    values: dict[str, Any], named: str, allowed: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config(**values)
    assert named in str(caught.value)
    assert allowed in str(caught.value)
    assert caught.value.__context__ is None  # pydantic's own error holds what was given


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"lag_alarm: .*; event_queue: "):
        config(lag_alarm=-1, event_queue=0)


@pytest.mark.parametrize("url", ["wss://", "ws:///v2/iex", "wss://host:99999/v2/iex", "ws://h:x/"])
def test_a_url_without_a_usable_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url"):
        config(url=url)


# --- where values come from ---


def write_env(**values: str) -> None:
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    with open(".env", "w", encoding="utf-8") as file:
        file.write(lines)


def test_keys_watchlist_and_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_API_KEY", KEY)
    monkeypatch.setenv("ALPACA_SECRET_KEY", SECRET)
    monkeypatch.setenv("WATCHLIST_SYMBOLS", "AAPL,MSFT")
    monkeypatch.setenv("ALPACA_STREAM_URL", "ws://127.0.0.1:1/v2/iex")
    made = StreamConfig()
    assert pair(made.resolve_credentials()) == (KEY, SECRET)
    assert made.watchlist == ("AAPL", "MSFT")
    assert made.url == "ws://127.0.0.1:1/v2/iex"


def test_arguments_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_env(ALPACA_API_KEY="file", ALPACA_SECRET_KEY="file", WATCHLIST_SYMBOLS="FILE")
    assert pair(StreamConfig().resolve_credentials()) == ("file", "file")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "environment")
    monkeypatch.setenv("WATCHLIST_SYMBOLS", "ENV")
    assert pair(StreamConfig().resolve_credentials()) == ("file", "environment")
    assert StreamConfig().watchlist == ("ENV",)
    made = StreamConfig(secret_key="argument", watchlist=())
    assert pair(made.resolve_credentials()) == ("file", "argument")
    assert made.watchlist == ()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(ALPACA_API_KEY="file", ALPACA_SECRET_KEY="file")
    monkeypatch.setenv("ALPACA_API_KEY", "")
    assert pair(StreamConfig().resolve_credentials()) == ("file", "file")


def test_unknown_keys_of_the_file_are_ignored() -> None:
    write_env(DATABASE_URL="postgres://x", FEED="sip", NAME="other", ALPACA_API_KEY="file")
    made = StreamConfig(secret_key=SECRET)
    assert pair(made.resolve_credentials()) == ("file", SECRET)
    assert (made.feed, made.name) == ("iex", None)


def test_a_file_that_is_no_text_is_a_configuration_error() -> None:
    with open(".env", "wb") as file:
        file.write(b"ALPACA_API_KEY=\xff\xfe\n")
    with pytest.raises(ConfigurationError):
        StreamConfig()


@pytest.mark.parametrize(
    "written",
    [
        "AAPL,MSFT",
        " AAPL , MSFT ,",
        '["AAPL", "MSFT"]',
        "['AAPL','MSFT']",
        "[AAPL,MSFT]",
        "AAPL,,MSFT",
        "AAPL,MSFT,AAPL",
    ],
)
def test_the_watchlist_variable_may_be_written_in_any_of_these_forms(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHLIST_SYMBOLS", written)
    assert config().watchlist == ("AAPL", "MSFT")


@pytest.mark.parametrize("written", ["aapl", "AAPL MSFT", "AAPL;DROP", "A" * 25])
def test_symbols_of_the_environment_are_checked_too(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHLIST_SYMBOLS", written)
    with pytest.raises(ConfigurationError, match="allowed are upper-case symbols"):
        config()


# --- credentials ---


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, "api_key is missing.*ALPACA_API_KEY"),
        ({"api_key": KEY}, "secret_key is missing.*ALPACA_SECRET_KEY"),
        ({"secret_key": SECRET}, "api_key is missing.*ALPACA_API_KEY"),
        ({"api_key": "", "secret_key": SECRET}, "api_key: must be printable ASCII"),
        ({"api_key": KEY, "secret_key": "  \n"}, "secret_key: must be printable ASCII"),
    ],
)
def test_a_missing_key_is_named(values: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing) as caught:
        StreamConfig(**values).resolve_credentials()
    assert SECRET not in str(caught.value)


def test_a_callable_is_asked_each_time() -> None:
    answers = iter([
        ("first", "one"),
        Credentials(key=SecretStr("second"), secret=SecretStr("two")),
        ["third", "three"],
    ])
    made = StreamConfig(credentials=lambda: next(answers))
    assert pair(made.resolve_credentials()) == ("first", "one")
    assert pair(made.resolve_credentials()) == ("second", "two")
    assert pair(made.resolve_credentials()) == ("third", "three")


def test_a_callable_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_API_KEY", "environment")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "environment")
    made = StreamConfig(credentials=lambda: (KEY, SECRET))
    assert pair(made.resolve_credentials()) == (KEY, SECRET)
    assert made.api_key is None


def test_a_callable_beside_values_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="either credentials or api_key and secret_key"):
        config(credentials=lambda: (KEY, SECRET))


@pytest.mark.parametrize(
    "answer",
    [None, 5, "one string", ("only one",), ("a", "b", "c"), ("", "b"), ("a", " "), (None, None),
     (KEY, None), (1, 2), {}],
    ids=repr,
)  # fmt: skip
def test_an_answer_that_is_no_pair_is_refused(answer: Any) -> None:
    with pytest.raises(ConfigurationError, match="two non-empty strings") as caught:
        checked_credentials(answer)
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_exception_of_the_callable_is_passed_on() -> None:
    def vault() -> tuple[str, str]:
        msg = "sealed"
        raise PermissionError(msg)

    with pytest.raises(PermissionError, match="sealed"):
        StreamConfig(credentials=vault).resolve_credentials()


# --- secrets stay secret ---


def test_secrets_are_never_shown() -> None:
    made = config(watchlist=["AAPL"])
    credentials = made.resolve_credentials()
    shown = [
        repr(made),
        str(made),
        made.model_dump_json(),
        str(made.model_dump()),
        repr(credentials),
        str(credentials),
        credentials.model_dump_json(),
    ]
    for text in shown:
        assert KEY not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    "values",
    [
        {"api_key": [KEY], "secret_key": {"s": SECRET}},
        {"feed": "wrong"},
        {"url": f"wss://{KEY}:{SECRET}@example.com"},
        {"name": SECRET + " x"},
        {"password": SECRET},
        {"credentials": (KEY, SECRET)},
    ],
)
def test_secrets_are_never_in_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config(**values)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_what_the_environment_holds_is_never_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_SECRET_KEY", SECRET)
    with pytest.raises(ConfigurationError) as caught:
        StreamConfig(feed="wrong")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_that_holds_secrets_can_be_pickled(protocol: int) -> None:
    made = config()
    for holder in (made, made.resolve_credentials(), [made]):
        with pytest.raises(TypeError, match="holds credentials and cannot be pickled"):
            pickle.dumps(holder, protocol)


def test_copies_work() -> None:
    made = config(watchlist=["AAPL"])
    for copied in (copy.copy(made), copy.deepcopy(made), made.model_copy()):
        assert copied == made
        assert pair(copied.resolve_credentials()) == (KEY, SECRET)
    credentials = made.resolve_credentials()
    assert copy.deepcopy(credentials) == credentials


def test_a_config_with_a_callable_can_be_shown_and_copied() -> None:
    def vault() -> tuple[str, str]:
        return KEY, SECRET

    made = StreamConfig(credentials=vault)
    assert "vault" not in repr(made)
    assert pair(copy.deepcopy(made).resolve_credentials()) == (KEY, SECRET)
