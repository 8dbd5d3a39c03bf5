"""The checks that need no network: versions, configuration, keys, and the SDK's frame tap."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
from typing import Any, Final
from urllib.parse import urlsplit

from realtime_stream.cli.check_problems import CheckFailedError, Problem
from realtime_stream.cli.check_report import Finding
from realtime_stream.config import Credentials, StreamConfig
from realtime_stream.errors import ConfigurationError, StreamingError, UnsupportedChannelError
from realtime_stream.manager import RealTimeStreamManager
from realtime_stream.providers.alpaca.endpoints import endpoint_url
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator

__all__ = ["configured", "keys_present", "sdk_works", "url_of", "versions"]

# Lowest version that works, and the first that has not been tried.
_PACKAGES: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "alpaca-py": ((0, 44), (1,)),
    "websockets": ((14,), (18,)),
    "msgspec": ((0, 19), (1,)),
}
# A symbol that is known to exist, for setups whose symbols are in the bot's code.
_SYMBOLS: Final = {"stocks": "SPY", "crypto": "BTC/USD", "options": "*", "news": "*"}
_TEST_FEED_SYMBOL: Final = "FAKEPACA"
_TRIAL: Final = 5.0  # seconds for a session on this machine


def versions() -> Finding[None]:
    """Whether Python and the libraries are those this package is made for.

    Raises:
        CheckFailedError: One is missing or too old.
    """
    texts, untried = [f"Python {platform.python_version()}"], []
    for name, (lowest, first_untried) in _PACKAGES.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise CheckFailedError(Problem.VERSIONS, f"{name} is not installed") from None
        number = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
        if number < lowest:
            needed = ".".join(map(str, lowest))
            text = f"{name} is {found}: at least {needed} is needed"
            raise CheckFailedError(Problem.VERSIONS, text)
        if number >= first_untried:
            untried.append(name)
        texts.append(f"{name} {found}")
    text = ", ".join(texts)
    if untried:
        return Finding(
            f"{text}; not tried yet with {' and '.join(untried)}", None, Problem.VERSIONS
        )
    return Finding(text, None)


def url_of(config: StreamConfig) -> str:
    """The URL that a manager with this configuration connects to."""
    return config.url or endpoint_url(config.market, config.feed)


def configured(given: dict[str, Any]) -> Finding[StreamConfig]:
    """Whether the settings are acceptable; where there is no symbol, one for the check is added.

    Raises:
        CheckFailedError: They are not.
    """
    try:
        config = StreamConfig(**given)
        note = ""
        if not config.watchlist:
            test = config.market == "stocks" and config.feed == "test"
            symbol = _TEST_FEED_SYMBOL if test else _SYMBOLS[config.market]
            note = f"; no symbols given, so {symbol} is asked for"
            config = StreamConfig(**{**given, "watchlist": (symbol,)})
    except ConfigurationError as exc:
        raise CheckFailedError(Problem.CONFIGURATION, str(exc)) from exc
    parts = urlsplit(url_of(config))
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"  # a query might hold a token
    feed = f"feed {config.feed}" if config.url is None else "a URL of its own"
    what = f"{len(config.watchlist)} symbol(s) on {', '.join(config.watchlist_channels)}"
    return Finding(f"{config.market}, {feed}: {where}; {what}{note}", config)


def keys_present(config: StreamConfig) -> Finding[Credentials]:
    """Whether both keys are there.

    Raises:
        CheckFailedError: One is missing.
    """
    try:
        credentials = config.resolve_credentials()
    except ConfigurationError as exc:
        raise CheckFailedError(Problem.KEYS_MISSING, str(exc)) from exc
    return Finding("both keys are set", credentials)


def sdk_works() -> Finding[bool]:
    """Whether the installed SDK gets through a session on this machine, with the frame tap.

    Returns:
        A finding whose value tells whether the tap is accepted.

    Raises:
        CheckFailedError: It does not get through a session at all.
    """
    try:
        # By name: loading it costs half a second, and only the providers know the SDK.
        importlib.import_module("realtime_stream.providers.alpaca.adapter")
    except (ImportError, AttributeError) as exc:  # gone, or without the names that are used
        raise CheckFailedError(Problem.VERSIONS, f"the SDK cannot be loaded: {exc}") from exc
    try:
        tapped = _trial_session()
    except (StreamingError, OSError) as exc:
        text = f"the SDK did not get through a trial session on this machine: {exc}"
        raise CheckFailedError(Problem.VERSIONS, text) from exc
    if tapped:
        return Finding("the SDK accepts the frame tap", True)
    text = (
        "the SDK does not accept the frame tap: its slower handlers serve, without LULD bands, "
        "and a session counts as connected with its first message only"
    )
    return Finding(text, False, Problem.VERSIONS)


def _trial_session() -> bool:
    """Whether bands, which only the tap can subscribe to, come to be served."""
    with AlpacaSimulator() as server:
        config = StreamConfig(
            url=server.url(),
            api_key=SIMULATOR_KEY,
            secret_key=SIMULATOR_SECRET,
            watchlist=(),
            watchlist_channels=(),
            name="check-sdk",
            reconnect=ReconnectPolicy(max_attempts=1),
        )
        manager = RealTimeStreamManager(config)
        manager.subscribe("lulds", "A")
        try:
            manager.start(_TRIAL)
        except UnsupportedChannelError:
            return False
        finally:
            manager.stop()
    return True
