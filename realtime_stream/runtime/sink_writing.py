"""One batch to a sink, and what becomes of it."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from realtime_stream.errors import SinkError, SinkRejectedError, StreamingError
from realtime_stream.market.models import Bar
from realtime_stream.runtime.guard import answer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from realtime_stream.ports import Sink

__all__ = ["Answer", "text_of", "write_batch"]

_LONGEST_TEXT: Final = 200  # characters


class Answer(NamedTuple):
    """What a sink made of a batch: with an error nothing of it is dealt with, else all of it.

    Attributes:
        stored: Bars that it has stored.
        refused: Those that it can never store, by reason.
        error: Why it did not work this time.
    """

    stored: Sequence[Bar] = ()
    refused: Mapping[str, Sequence[Bar]] = MappingProxyType({})
    error: SinkError | None = None


def write_batch(sink: Sink, bars: Sequence[Bar]) -> Answer:
    """Have a sink store bars; those that it refuses by position are left out in a new try.

    If that new try fails, nothing counts as refused: the sink will say it again.
    """
    rest, refused = bars, dict[str, list[Bar]]()
    while rest:
        answer = answer_of(partial(sink.write, rest))
        if not isinstance(answer, Exception):
            break
        named = _named(answer, len(rest))
        if not named:
            return Answer(error=_sink_error(answer))
        for position, reason in named.items():
            refused.setdefault(reason, []).append(rest[position])
        rest = [bar for position, bar in enumerate(rest) if position not in named]
    return Answer(rest, refused)


def _named(answer: Exception, count: int) -> dict[int, str]:
    """Which bars a sink refuses; empty when it does not say, or names none that it was given."""
    if not isinstance(answer, SinkRejectedError):
        return {}
    said: Any = answer_of(lambda: dict(answer.rejected))
    if isinstance(said, Exception):  # a class of the user's may have put anything there, or nothing
        return {}
    return {
        position: text_of(reason)
        for position, reason in said.items()
        if isinstance(position, int) and 0 <= position < count
    }


def text_of(said: object) -> str:
    """What an error or a reason says, in characters that a file can hold; its kind if it cannot."""
    text = answer_of(partial(str, said))
    if isinstance(text, Exception):
        return type(said).__name__
    return text[:_LONGEST_TEXT].encode(errors="backslashreplace").decode()


def _sink_error(answer: Exception) -> SinkError:
    """What a sink raised, as its failure. Of foreign errors only the kind: texts may hold keys."""
    if isinstance(answer, SinkError) and not isinstance(answer_of(answer.__str__), Exception):
        return answer
    kind, text = type(answer).__name__, text_of(answer)
    told = isinstance(answer, StreamingError) and text != kind
    error = SinkError(f"{kind}: {text}" if told else kind)
    error.__cause__ = answer
    return error
