"""Corrections and cancels of trades that a made-up session has sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.simulator.bars import PRICE_SCALE, Print
from realtime_stream.simulator.wire import SECOND

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

__all__ = ["Amender", "Sale"]

# After the minute's bar, before its updated one.
_DELAY: Final = (SECOND, 25 * SECOND)
_MOST_OFF: Final = 300  # ten-thousandths of a dollar
_ROUND_LOT: Final = 100  # shares


@dataclass(slots=True)
class Sale:
    """A trade that was sent.

    Attributes:
        message: As it was sent.
        meaning: What it means for bars; ``None`` once it is cancelled.
    """

    message: dict[str, Any]
    meaning: Print | None


class Amender:
    """Decides which trades are amended, and how."""

    def __init__(
        self,
        rng: random.Random,
        new_trade_id: Callable[[], int],
        *,
        correction_share: float,
        cancel_share: float,
    ) -> None:
        """Args: the shares are those of the trades."""
        self._rng = rng
        self._new_trade_id = new_trade_id
        self._correction_share = correction_share
        self._cancel_share = cancel_share

    def amend(self, minute_end: int, sales: list[Sale]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The messages about trades of one minute; changes what the trades mean.

        A minute that has a bar keeps one: nothing could take it back.
        """
        if not (self._correction_share or self._cancel_share):
            return
        for sale in sales:
            lot = self._rng.random()
            at_ns = minute_end + self._rng.randint(*_DELAY)
            if lot < self._cancel_share:
                if not _holds_the_bar(sale, sales):
                    sale.meaning = None
                    yield at_ns, _cancel(sale.message, at_ns)
            elif lot < self._cancel_share + self._correction_share and sale.meaning is not None:
                sale.meaning = self._corrected(sale.meaning)
                number = self._new_trade_id()
                yield at_ns, _correction(sale.message, sale.meaning, number, at_ns)

    def _corrected(self, wrong: Print) -> Print:
        price = wrong.price + self._rng.choice((-1, 1)) * self._rng.randint(1, _MOST_OFF)
        size = wrong.size if wrong.odd_lot else self._rng.randint(1, 5) * _ROUND_LOT
        return Print(max(price, 1), size, wrong.odd_lot)


def _holds_the_bar(sale: Sale, sales: list[Sale]) -> bool:
    priced = [each for each in sales if each.meaning is not None and not each.meaning.odd_lot]
    return len(priced) == 1 and priced[0] is sale


def _correction(wrong: dict[str, Any], right: Print, number: int, t_ns: int) -> dict[str, Any]:
    return {
        "T": "c",
        "S": wrong["S"],
        "x": wrong["x"],
        **{"oi": wrong["i"], "op": wrong["p"], "os": wrong["s"], "oc": wrong["c"]},
        **{"ci": number, "cp": right.price / PRICE_SCALE, "cs": right.size, "cc": wrong["c"]},
        "z": wrong["z"],
        "t": t_ns,
    }


def _cancel(wrong: dict[str, Any], t_ns: int) -> dict[str, Any]:
    said = {key: wrong[key] for key in ("S", "i", "x", "p", "s")}
    return {"T": "x", **said, "a": "C", "z": wrong["z"], "t": t_ns}
