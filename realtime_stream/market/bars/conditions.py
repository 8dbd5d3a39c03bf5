"""Which trades count for what in a bar: Alpaca's table of sale conditions.

The table is that of Alpaca's "market data FAQ" (how bars are aggregated), with a column for minute
bars and one for daily bars, per tape. Where a trade has several conditions the strictest decides.
A trade without conditions, as in crypto, is a regular one, and so is one whose conditions the table
does not have, such as those of options or of the overnight tape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["REGULAR", "Eligibility", "OpenClose", "eligibility"]

OpenClose: TypeAlias = Literal["no", "first", "yes"]


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What a trade counts for.

    Attributes:
        open_close: Whether it may be the bar's open and close; ``first``: only if it is the first
            trade of the bar.
        high_low: Whether it may be the bar's high and low.
        volume: Whether it counts in volume and trade count.
    """

    open_close: OpenClose
    high_low: bool
    volume: bool


REGULAR: Final = Eligibility("yes", high_low=True, volume=True)
_FIRST: Final = Eligibility("first", high_low=True, volume=True)
_VOLUME: Final = Eligibility("no", high_low=False, volume=True)
_PRICES: Final = Eligibility("yes", high_low=True, volume=False)
_NOTHING: Final = Eligibility("no", high_low=False, volume=False)

# Codes, tapes, what they count for in a minute bar, and in a daily bar.
_ROWS: Final[tuple[tuple[str, str, Eligibility, Eligibility], ...]] = (
    (" ", "AB", REGULAR, REGULAR),  # regular
    ("@", "CO", REGULAR, REGULAR),  # regular
    ("ADY", "C", REGULAR, REGULAR),  # acquisition, distribution, yellow flag
    ("B", "AB", _VOLUME, _VOLUME),  # average price
    ("B", "C", REGULAR, REGULAR),  # bunched
    ("CNR", "ABCO", _VOLUME, _VOLUME),  # cash, next day, seller
    ("E", "AB", REGULAR, REGULAR),  # automatic execution
    # intermarket sweep, (K), sold last, opening, cross, reopening, closing
    ("FKLOX56", "ABC", REGULAR, REGULAR),
    ("G", "C", _VOLUME, _FIRST),  # bunched sold
    ("HV7", "ABC", _VOLUME, _VOLUME),  # price variation, contingent, qualified contingent
    ("I", "ABCO", _VOLUME, _VOLUME),  # odd lot
    ("MQ", "ABC", _NOTHING, _NOTHING),  # official close, official open
    ("P", "ABCO", _VOLUME, _FIRST),  # prior reference price
    ("T", "ABCO", REGULAR, _VOLUME),  # extended hours
    ("U", "ABCO", _VOLUME, _VOLUME),  # extended hours, out of sequence
    ("W", "CO", _VOLUME, _VOLUME),  # average price
    ("Z4", "ABC", _VOLUME, _FIRST),  # sold out of sequence, derivatively priced
    ("9", "ABC", _NOTHING, _PRICES),  # corrected close
)
_STRICTNESS: Final[tuple[OpenClose, ...]] = ("no", "first", "yes")


def _table() -> Iterator[tuple[tuple[str, str], tuple[Eligibility, Eligibility]]]:
    for codes, tapes, minute, daily in _ROWS:
        for tape in tapes:
            for code in codes:
                yield (tape, code), (minute, daily)


_TABLE: Final = dict(_table())


@lru_cache(maxsize=4096)
def eligibility(tape: str | None, conditions: tuple[str, ...], daily: bool = False) -> Eligibility:
    """What a trade counts for. Thread-safe.

    Args:
        tape: The trade's tape.
        conditions: Its condition codes.
        daily: For a daily bar instead of a minute bar.
    """
    found = [
        _TABLE[tape, code][daily] for code in conditions if tape and (tape, code) in _TABLE
    ] or [REGULAR]
    return Eligibility(
        min((rule.open_close for rule in found), key=_STRICTNESS.index),
        high_low=all(rule.high_low for rule in found),
        volume=all(rule.volume for rule in found),
    )
