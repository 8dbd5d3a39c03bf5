"""Settings: frozen, checked, secrets masked.

The only module that reads the environment, but for PostgreSQL's own variables, in ``sinks``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.channels import (
    MARKET_CHANNELS,
    Channel,
    Market,
    validate_symbol,
)
from realtime_stream.market.validation import ValidationPolicy
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.resilience.circuit_breaker import BreakerPolicy

__all__ = ["Credentials", "CredentialsSource", "StreamConfig"]

_FEEDS: Final[dict[str, tuple[str, ...]]] = {
    "stocks": ("iex", "sip", "delayed_sip", "boats", "overnight", "test"),
    "crypto": ("us", "us-1", "eu-1"),
    "options": ("indicative", "opra"),
    "news": ("news",),
}

_WITHOUT_HISTORY: Final = frozenset({"overnight", "test"})


def _checked_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip() or not (text.isascii() and text.isprintable()):
        msg = "must be printable ASCII and not empty"
        raise ValueError(msg)
    return value


class Credentials(BaseModel):
    """A key pair. Masked wherever it is shown; refuses to be pickled.

    Attributes:
        key: The API key id.
        secret: The API secret key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key: SecretStr
    secret: SecretStr

    def __init__(self, **values: Any) -> None:  # pydantic checks every value
        """Check the values.

        Raises:
            ConfigurationError: One is not acceptable; the message never shows it.
        """
        problem = ""
        try:
            super().__init__(**values)
        except ValidationError as exc:
            problem = _explain(exc)
        if problem:  # raised here, where the original, which holds the input, is no context
            values.clear()  # a report of the error may show this frame
            raise ConfigurationError(problem)

    @field_validator("key", "secret")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        return _checked_key(value)

    def __reduce__(self) -> NoReturn:
        """Credentials never leave the process by accident."""
        msg = f"{type(self).__name__} holds credentials and cannot be pickled"
        raise TypeError(msg)


CredentialsSource = Callable[[], Credentials | tuple[str, str]]


class _Environment(BaseSettings):
    """What may come from the environment or from ``.env`` in the working directory."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    api_key: SecretStr | None = Field(default=None, validation_alias="ALPACA_API_KEY")
    secret_key: SecretStr | None = Field(default=None, validation_alias="ALPACA_SECRET_KEY")
    url: str | None = Field(default=None, validation_alias="ALPACA_STREAM_URL")
    history_url: str | None = Field(default=None, validation_alias="ALPACA_HISTORY_URL")
    watchlist: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None, validation_alias="WATCHLIST_SYMBOLS"
    )

    @field_validator("watchlist", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            bare = value.strip().removeprefix("[").removesuffix("]")
            parts = (part.strip().strip("\"'") for part in bare.split(","))
            return tuple(part for part in parts if part)
        return value


class StreamConfig(BaseModel):
    """Everything a :class:`~realtime_stream.RealTimeStreamManager` can be told.

    Keys, watchlist and URLs that are not given as arguments come from the environment
    (``ALPACA_API_KEY``, ``ALPACA_SECRET_KEY``, ``WATCHLIST_SYMBOLS``, ``ALPACA_STREAM_URL``,
    ``ALPACA_HISTORY_URL``) or from ``.env`` in the working directory; arguments win over the
    environment, the environment wins over ``.env``.

    Attributes:
        market: Which endpoint family: ``stocks``, ``crypto``, ``options`` or ``news``.
        feed: Which feed of the market; default ``iex``, ``us``, ``indicative``, ``news``. With a
            ``url`` it does not choose the endpoint and may be any name; calendar and history still
            go by it.
        url: Whole WebSocket URL, instead of the one that market and feed give. Never put keys in
            it: URLs are logged.
        api_key: API key id.
        secret_key: API secret key.
        credentials: A callable asked for the key pair before every session, instead of the two
            values above; for rotation and secret managers. It runs on the dispatch thread.
        watchlist: Symbols that registrations without symbols of their own stand for.
        watchlist_channels: Channels on which the watchlist is wanted even without a registration.
        name: Name of this manager in thread names, log records and its spool folder; default: the
            market and a running number (for the folder, the market).
        reconnect: Waits between attempts.
        breaker: When to stop trying for a while.
        stable_after: Seconds a session must be connected before it counts as a success.
        connect_timeout: Seconds for name and TCP connection, and again for TLS and upgrade.
        handshake_timeout: Seconds for greeting and authentication together.
        acknowledge_timeout: Seconds for an acknowledgement; asked for again three times.
        ping_interval: Seconds between WebSocket pings.
        ping_timeout: Seconds without a pong after which the connection is dead.
        max_message_size: Largest frame accepted, bytes.
        inbox_capacity: Events that may wait for the callbacks before any is dropped.
        heartbeat: Seconds between two heartbeat records in the log.
        stale_after: Seconds of market time without any data after which a connected stream is
            reported as stale; 0 switches this off.
        symbol_stale_after: The same for each symbol that was asked for by name.
        reconnect_when_stale: Whether a new connection is made when the ``stream`` goes stale, or
            also when a ``symbol`` does; at most one for each silence. ``never`` only reports.
        lag_alarm: Seconds from receive to delivery that are reported as lagging.
        slow_callback: Seconds one call of a callback may take before it is reported.
        error_log_interval: Seconds between two log records about the same failing callback.
        dead_letters: How many failed (event, callback, exception) are kept.
        rejects: How many malformed messages are kept.
        event_queue: Events that may wait for one ``events()`` iterator; then the oldest is dropped.
        symbols_timeout: Seconds that ``get_symbols`` or ``credentials`` may take.
        validation: What is done about events that cannot be true.
        rejected_events: How many of those that validation kept from everybody are kept.
        bar_grace: Seconds of data time after the end of an interval that late trades, or the last
            smaller bar, are waited for before a bar that is built here is delivered.
        bar_alignment: Whether intervals are counted from midnight UTC (``utc``) or from the opening
            of the exchange (``session``).
        lookback: Bars kept of each series for ``recent_bars``.
        latency_alarm: Seconds from the end of a bar, or from a quote or trade, to its delivery that
            are reported as late.
        backfill: Channels whose gaps are filled from history: ``bars``, ``trades``. Empty: none.
        history_url: Base URL of the history, instead of Alpaca's.
        backfill_hold: Seconds that live bars wait for older ones from history.
        backfill_hold_bars: Live bars of a symbol that may wait.
        backfill_deadline: Seconds after which a gap that history has not filled is left open.
        history_lag: Seconds of data time by which history has what the stream has sent.
        spool: Folder where sinks keep what they cannot store yet.

    Raises:
        ConfigurationError: A value is not acceptable. The message names the field and what is
            allowed, and never shows a secret.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    market: Market = "stocks"
    feed: str = ""
    url: str | None = None
    api_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    credentials: CredentialsSource | None = Field(default=None, repr=False)
    watchlist: tuple[str, ...] = ()
    watchlist_channels: tuple[Channel, ...] = ("bars",)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,40}$")

    reconnect: ReconnectPolicy = ReconnectPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    stable_after: float = Field(default=30.0, ge=0, le=86_400)
    connect_timeout: float = Field(default=10.0, gt=0, le=300)
    handshake_timeout: float = Field(default=10.0, gt=0, le=300)
    acknowledge_timeout: float = Field(default=5.0, gt=0, le=300)
    ping_interval: float = Field(default=10.0, gt=0, le=3600)
    ping_timeout: float = Field(default=20.0, gt=0, le=3600)
    max_message_size: int = Field(default=16 * 2**20, ge=2**10)

    inbox_capacity: int = Field(default=100_000, ge=2)
    heartbeat: float = Field(default=30.0, gt=0, le=86_400)
    stale_after: float = Field(default=120.0, ge=0)
    symbol_stale_after: float = Field(default=120.0, ge=0)
    reconnect_when_stale: Literal["never", "stream", "symbol"] = "never"
    lag_alarm: float = Field(default=1.0, gt=0)
    slow_callback: float = Field(default=0.1, gt=0)
    error_log_interval: float = Field(default=60.0, ge=0)
    dead_letters: int = Field(default=1000, ge=0)
    rejects: int = Field(default=100, ge=0)
    event_queue: int = Field(default=10_000, ge=1)
    symbols_timeout: float = Field(default=5.0, gt=0, le=300)

    validation: ValidationPolicy = ValidationPolicy()
    rejected_events: int = Field(default=1000, ge=0)
    bar_grace: float = Field(default=2.0, ge=0, le=3600)
    bar_alignment: Literal["utc", "session"] = "utc"
    lookback: int = Field(default=1000, ge=1, le=1_000_000)
    latency_alarm: float = Field(default=10.0, gt=0)
    backfill: tuple[Literal["bars", "trades"], ...] = ()
    history_url: str | None = None
    backfill_hold: float = Field(default=10.0, gt=0, le=600)
    backfill_hold_bars: int = Field(default=1000, ge=1)
    backfill_deadline: float = Field(default=120.0, gt=0)
    history_lag: float = Field(default=5.0, ge=0, le=3600)
    spool: Path = Path("realtime-stream-spool")

    def __init__(self, **values: Any) -> None:  # pydantic checks every value
        """Check the values; fill keys, watchlist and URLs from the environment."""
        problem = ""
        try:
            super().__init__(**values)
        except ValidationError as exc:
            problem = _explain(exc)
        if problem:  # raised here, where the original, which holds the input, is no context
            values.clear()  # a report of the error may show this frame
            raise ConfigurationError(problem)

    @model_validator(mode="before")
    @classmethod
    def _from_environment(cls, values: dict[str, Any]) -> dict[str, Any]:
        found = _Environment().model_dump(exclude_none=True)
        if values.get("credentials") is not None:
            found.pop("api_key", None)
            found.pop("secret_key", None)
        return {**found, **{name: value for name, value in values.items() if value is not None}}

    @field_validator("watchlist", "watchlist_channels", "backfill", mode="before")
    @classmethod
    def _no_bare_string(cls, value: object) -> object:
        if isinstance(value, str):
            msg = "must be a list of strings, not one string"
            raise ValueError(msg)  # noqa: TRY004  # pydantic turns only ValueError into a report
        return value

    @field_validator("api_key", "secret_key")
    @classmethod
    def _usable_key(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else _checked_key(value)

    @field_validator("url")
    @classmethod
    def _websocket_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_url(value, {"ws", "wss"}):
            msg = "must start with ws:// or wss://, name a host, and hold no credentials"
            raise ValueError(msg)
        return value

    @field_validator("history_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_url(value, {"http", "https"}):
            msg = "must start with http:// or https://, name a host, and hold no credentials"
            raise ValueError(msg)
        return value

    @field_validator("watchlist")
    @classmethod
    def _valid_symbols(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        market = info.data.get("market")
        if market is None:  # reported by itself
            return value
        return tuple(dict.fromkeys(validate_symbol(symbol, market) for symbol in value))

    @field_validator("watchlist_channels")
    @classmethod
    def _channels_of_the_market(
        cls, value: tuple[Channel, ...], info: ValidationInfo
    ) -> tuple[Channel, ...]:
        allowed = MARKET_CHANNELS.get(info.data.get("market", ""), frozenset(value))
        wrong = [channel for channel in value if channel not in allowed]
        if wrong:
            msg = f"{', '.join(wrong)} not in this market: allowed are {', '.join(sorted(allowed))}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        feeds = _FEEDS[self.market]
        if not self.feed:
            object.__setattr__(self, "feed", feeds[0])
        elif self.feed not in feeds and self.url is None:
            msg = f"feed {ascii(self.feed)[:30]} is unknown for {self.market}: allowed are " + (
                ", ".join(feeds)
            )
            raise ValueError(msg)
        self._check_backfill()
        if self.credentials is not None and (self.api_key or self.secret_key):
            msg = "give either credentials or api_key and secret_key, not both"
            raise ValueError(msg)
        return self

    def _check_backfill(self) -> None:
        if not self.backfill:
            return
        if self.market not in {"stocks", "crypto"} or self.feed in _WITHOUT_HISTORY:
            msg = f"backfill: there is no history of {self.market} {self.feed}"
            raise ValueError(msg)
        rules = self.validation
        if "trades" in self.backfill and rules.out_of_order_ticks != "pass":
            msg = "backfill: trades come late, so validation.out_of_order_ticks must be pass"
            raise ValueError(msg)

    def __reduce__(self) -> NoReturn:
        """Credentials never leave the process by accident."""
        msg = f"{type(self).__name__} holds credentials and cannot be pickled"
        raise TypeError(msg)

    def resolve_credentials(self) -> Credentials:
        """The key pair to use now; asks the callable if there is one.

        Raises:
            ConfigurationError: A key is missing or empty.
        """
        if self.credentials is not None:
            return checked_credentials(self.credentials())
        if self.api_key is None or self.secret_key is None:
            missing = "api_key" if self.api_key is None else "secret_key"
            msg = f"{missing} is missing: pass it to StreamConfig, or set ALPACA_{missing.upper()}"
            raise ConfigurationError(msg)
        return checked_credentials((
            self.api_key.get_secret_value(),
            self.secret_key.get_secret_value(),
        ))


def checked_credentials(value: object) -> Credentials:
    """Return ``value`` as :class:`Credentials`.

    Raises:
        ConfigurationError: It is not a pair of two non-empty strings.
    """
    pair = value if isinstance(value, Credentials) else _pair(value)
    del value  # it may hold keys, and a report of the error may show this frame
    if pair is None:
        msg = "api_key and secret_key must be two non-empty strings of printable ASCII"
        raise ConfigurationError(msg)
    return pair


def _pair(value: object) -> Credentials | None:
    if not isinstance(value, (tuple, list)) or len(value) != 2:  # noqa: PLR2004  # a pair
        return None
    try:
        return Credentials(key=value[0], secret=value[1])
    except ConfigurationError:
        return None


def _is_url(url: str, schemes: set[str]) -> bool:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # not a number, or too high
        return False
    usable = bool(parts.hostname) and port != 0 and "@" not in url
    return usable and parts.scheme in schemes


def _explain(exc: ValidationError) -> str:
    """Field names and what is allowed, without the offending values."""
    parts = []
    for error in exc.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in error["loc"])
        said = error["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {said}" if where else said)
    return "; ".join(parts)
