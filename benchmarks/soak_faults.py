"""Everything that goes wrong in a soak, by name, and the order in which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import soak_faults_bot, soak_faults_connection, soak_faults_data

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from benchmarks.soak_faultbook import Fault

__all__ = ["FAULTS", "QUICK", "deck"]

FAULTS: Final[Mapping[str, Fault]] = {
    **soak_faults_connection.BOOK.faults,
    **soak_faults_data.BOOK.faults,
    **soak_faults_bot.BOOK.faults,
}

# What a short soak begins with: no waits that a server asks for, none that are for a deadline.
QUICK: Final = (
    "close",
    "TCP reset",
    "TCP abort",
    "refused connections",
    "HTTP 503",
    "mute",
    "garbage frames",
    "malformed messages",
    "one symbol mute",
    "full inbox",
    "stop and start",
    "restart",
    "subscriptions changed",
    "partial acknowledgement",
    "raising callback",
)


def deck(rng: random.Random, *, quick: bool) -> Iterator[str]:
    """Names of faults without end: all of them in random order, then all again.

    Args:
        rng: Draws the order.
        quick: Begin with those that take little real time.
    """
    first = list(QUICK)
    rng.shuffle(first)
    if quick:
        yield from first
    while True:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names
