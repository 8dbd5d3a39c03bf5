"""The rules that switched-on faults consist of: plain data, guarded by who holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from http import HTTPStatus

    from realtime_stream.simulator.wire import Message

__all__ = [
    "Countdown",
    "DataTerms",
    "ErrorRule",
    "ErrorStage",
    "HttpRefusal",
    "MuteRule",
    "Stage",
    "SubscriptionRefusal",
    "check_error_stage",
    "check_stage",
    "names",
    "next_of",
]

Stage = Literal["http", "greeting", "auth", "subscription"]
ErrorStage = Literal["greeting", "auth", "subscription", "data"]

_STAGES: Final[tuple[str, ...]] = get_args(Stage)
_ERROR_STAGES: Final[tuple[str, ...]] = get_args(ErrorStage)


@dataclass(slots=True)
class Countdown:
    """Something that applies ``times`` times; ``None`` is for ever."""

    times: int | None

    def use(self) -> bool:
        """Whether it still applies; uses it up once."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(slots=True)
class HttpRefusal(Countdown):
    """An HTTP status instead of the upgrade, with the seconds of its Retry-After header."""

    status: HTTPStatus
    retry_after: float | None


@dataclass(slots=True)
class ErrorRule(Countdown):
    """An error to send; without a text, Alpaca's own for the code."""

    code: int
    text: str | None


@dataclass(slots=True)
class SubscriptionRefusal(Countdown):
    """An error instead of an acknowledgement; ``None`` means any channel or symbol."""

    code: int
    channels: frozenset[str] | None
    symbols: frozenset[str] | None

    def matches(self, wanted: Iterable[tuple[str, str]]) -> bool:
        """Whether a request for these (channel, symbol) pairs is refused."""
        return any(
            (self.channels is None or channel in self.channels)
            and (self.symbols is None or symbol in self.symbols)
            for channel, symbol in wanted
        )


@dataclass(frozen=True, slots=True)
class MuteRule:
    """What is held back, or, if it is not ``on``, excepted from it; ``None`` means any."""

    on: bool
    market: str | None
    channels: frozenset[str] | None
    symbols: frozenset[str] | None

    @property
    def scope(self) -> tuple[object, ...]:
        """What it is about."""
        return self.market, self.channels, self.symbols

    @property
    def about_all(self) -> bool:
        """Whether it is about every channel and symbol of its market."""
        return self.channels is None and self.symbols is None

    def matches(self, market: str, message: Message) -> bool:
        """Whether it is about this message."""
        return (
            self.market in (None, market)
            and (self.channels is None or message.channel in self.channels)
            and (self.symbols is None or not self.symbols.isdisjoint(message.symbols))
        )


@dataclass(frozen=True, slots=True)
class DataTerms:
    """On which terms data are published.

    Attributes:
        mutes: What is held back; the last rule about a message decides.
        delay: Seconds by which they are written later.
    """

    mutes: tuple[MuteRule, ...]
    delay: float

    def mute_all(self, market: str) -> bool:
        """Whether this market's data are held back, whatever they are."""
        about = (rule for rule in reversed(self.mutes) if rule.market in (None, market))
        return next((rule.on for rule in about if rule.about_all), False)

    def muted(self, market: str, messages: Sequence[Message]) -> Collection[int]:
        """Positions of the messages that are held back."""
        if not self.mutes:
            return ()
        return {n for n, message in enumerate(messages) if self._mutes(market, message)}

    def _mutes(self, market: str, message: Message) -> bool:
        about = (rule for rule in reversed(self.mutes) if rule.matches(market, message))
        return next((rule.on for rule in about), False)


_Rule = TypeVar("_Rule", bound=Countdown)


def next_of(rules: Sequence[_Rule]) -> _Rule | None:
    """The first of these that still applies; uses it up once."""
    return next((rule for rule in rules if rule.use()), None)


def names(of: str, values: Iterable[str] | None) -> frozenset[str] | None:
    """Channels or symbols as a set; ``None`` stays ``None``.

    Raises:
        ValueError: It is one text, which would be taken for its letters.
    """
    if isinstance(values, str):
        msg = f"{of} must be a collection of names, not the text {values!r}"
        raise ValueError(msg)  # noqa: TRY004  # its type is that of a collection of texts
    return None if values is None else frozenset(values)


def check_stage(stage: str) -> None:
    """Raises: ``ValueError`` if there is no such step."""
    _check(stage, _STAGES)


def check_error_stage(stage: str) -> None:
    """Raises: ``ValueError`` if no error can be sent at such a step."""
    _check(stage, _ERROR_STAGES)


def _check(stage: str, allowed: Collection[str]) -> None:
    if stage not in allowed:
        msg = f"unknown stage {stage!r}; allowed are {', '.join(allowed)}"
        raise ValueError(msg)
