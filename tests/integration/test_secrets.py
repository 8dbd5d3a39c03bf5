"""Neither key leaves the library, in no run of six characters."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    AuthenticationError,
    Credentials,
    RealTimeStreamManager,
    StreamConfig,
    StreamingError,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.support import Recorder, config, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, SECRET = "PKQ7XZV2MWK9LDR4TB", "hG5tRw8YpLq2NvXz7KbCdF3sJm9AeU4i"
PIECES = {key[i : i + 6] for key in (KEY, SECRET) for i in range(len(key) - 5)}


def leaks(text: str) -> set[str]:
    hexes = {piece.encode().hex(" "): piece for piece in PIECES}
    return {p for p in PIECES if p in text} | {p for h, p in hexes.items() if h in text.lower()}


class Everything(logging.Handler):
    """Keeps every record, formatted and as it is."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # The simulator's own side of the conversation is not the library's.
        if not record.threadName or not record.threadName.startswith("alpaca-simulator"):
            self.texts.append(f"{record.getMessage()} {record.__dict__} {record.exc_text}")


@pytest.fixture
def log() -> Iterator[Everything]:
    root, handler = logging.getLogger(), Everything()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_nothing_shows_the_keys(log: Everything) -> None:
    with AlpacaSimulator(credentials={KEY: SECRET}) as simulator:
        settings = config(simulator, api_key=KEY, secret_key=SECRET)
        manager = RealTimeStreamManager(settings)
        quotes, found = Recorder[Any](), Recorder[Any]()
        shown = Recorder[Any]()
        manager.on_quote(quotes, "AAPL")
        manager.on_connect(found)
        for hook in (manager.on_connect, manager.on_disconnect, manager.on_error, manager.on_gap):
            hook(shown)
        manager.start()
        simulator.publish(quote())
        quotes.wait_for()
        simulator.drop(1011)
        found.wait_for(2)
        texts = [repr(manager), str(manager), repr(manager.status()), repr(settings), str(settings)]
        texts += [
            settings.model_dump_json(),
            repr(settings.model_dump()),
            repr(copy.copy(settings)),
        ]
        manager.stop()
        with AlpacaSimulator(credentials={KEY: "another"}) as other:
            refused = RealTimeStreamManager(config(other, api_key=KEY, secret_key=SECRET))
            refused.on_error(shown)
            refused.subscribe("quotes", "AAPL")
            with pytest.raises(AuthenticationError) as caught:
                refused.start()
            texts += [repr(caught.value), str(caught.value), repr(refused.status())]
    texts += [repr(item) for item in shown.items]
    assert len(log.texts) > 10
    assert leaks("\n".join([*texts, *log.texts])) == set()


@pytest.mark.parametrize(
    "value",
    [
        StreamConfig(api_key=KEY, secret_key=SECRET),
        Credentials.model_validate({"key": KEY, "secret": SECRET}),
    ],
    ids=["config", "credentials"],
)
def test_pickling_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(value)
    assert leaks(str(caught.value)) == set()


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": KEY, "secret_key": [SECRET]},
        {"api_key": KEY, "secret_key": SECRET, "market": "nowhere"},
        {"api_key": KEY, "secret_key": SECRET, SECRET: 1},
        {"api_key": KEY, "secret_key": SECRET, "credentials": lambda: (KEY, SECRET)},
        {"url": f"wss://{KEY}:{SECRET}@example.com/v2/iex"},
    ],
)
def test_bad_settings_do_not_show_them(settings: dict[str, Any]) -> None:
    with pytest.raises(StreamingError) as caught:
        StreamConfig(**settings)
    text = f"{caught.value!r} {caught.value.__cause__!r}"
    allowed = leaks(str([name for name in settings if name == SECRET]))  # a field's name is named
    assert leaks(text) <= allowed


def test_keys_may_rotate_between_sessions() -> None:
    keys = {KEY: SECRET, "the-next-key": "the-next-secret"}
    pairs = iter(keys.items())
    with AlpacaSimulator(credentials=keys) as simulator:
        settings = config(simulator, api_key=None, secret_key=None, credentials=pairs.__next__)
        manager = RealTimeStreamManager(settings)
        manager.subscribe("quotes", "AAPL")
        found = Recorder[Any]()
        manager.on_connect(found)
        manager.start()
        simulator.drop(1001)
        found.wait_for(2)
        manager.stop()
        used = [message["key"] for message in simulator.received if message["action"] == "auth"]
    assert used == list(keys)


def test_a_credentials_source_that_fails_is_tried_again() -> None:
    answers: list[Any] = [(KEY, SECRET)]

    def source() -> Any:
        if not hasattr(source, "asked"):
            source.asked = True  # type: ignore[attr-defined]  # remembers the first call
            msg = "the vault is sealed"
            raise OSError(msg)
        return answers[0]

    with AlpacaSimulator(credentials={KEY: SECRET}) as simulator:
        settings = config(simulator, api_key=None, secret_key=None, credentials=source)
        manager = RealTimeStreamManager(settings)
        errors = Recorder[Any]()
        manager.on_error(errors)
        manager.subscribe("quotes", "AAPL")
        manager.start()
        assert any(event.source == "credentials" for event in errors.items)
        assert manager.status().attempts == 2
        manager.stop()
