"""One symbol's random walk, and its quotes and trades as the wire has them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from realtime_stream.simulator.bars import PRICE_SCALE, Print

__all__ = ["SIZE_SCALES", "Walk"]

# Sizes are integers too: shares, or hundred-millionths of a coin.
SIZE_SCALES: Final[dict[str, int]] = {"stocks": 1, "crypto": 100_000_000}

_CENT: Final = PRICE_SCALE // 100
_MIN_BID: Final = PRICE_SCALE
_TICK_AT: Final = 1_000 * PRICE_SCALE  # the price from which steps are more than cents
_ROUND_LOT: Final = 100  # shares
_ODD_LOT_SHARE: Final = 0.2  # of the trades
_EXCHANGES: Final = ("K", "N", "P", "Q", "V", "Z")
_TAPES: Final = ("A", "B", "C")


@dataclass(slots=True)
class _Quote:
    bid: int
    ask: int


class Walk:
    """Bid below ask, in cents; trades at them or between. The same seed walks the same way."""

    def __init__(self, seed: int, symbol: str, market: str) -> None:
        """Args: ``market`` is "stocks" or "crypto"."""
        self.symbol = symbol
        self.rng = random.Random(f"{seed}/{symbol}")  # noqa: S311  # market data, not a secret
        self._crypto = market == "crypto"
        self._quote = _Quote(self.rng.randint(2_000, 40_000) * _CENT, 0)
        if self._crypto:
            self._quote.bid *= 100
        self._tape = self.rng.choice(_TAPES)
        self._trade_id = self.rng.randint(1, 1_000_000)
        self.step()

    def step(self) -> None:
        """Move the quote."""
        tick = _CENT * max(self._quote.bid // _TICK_AT, 1)
        self._quote.bid = max(self._quote.bid + self.rng.randint(-2, 2) * tick, _MIN_BID)
        self._quote.ask = self._quote.bid + self.rng.randint(1, 4) * tick

    def quote(self, t_ns: int) -> dict[str, Any]:
        """The quote as it stands."""
        rng = self.rng
        prices = {"bp": self._quote.bid / PRICE_SCALE, "ap": self._quote.ask / PRICE_SCALE}
        head = {"T": "q", "S": self.symbol}
        if self._crypto:
            sizes = {"bs": self._coins() / SIZE_SCALES["crypto"]}
            sizes["as"] = self._coins() / SIZE_SCALES["crypto"]
            return {**head, **prices, **sizes, "t": t_ns}
        venues = {"bx": rng.choice(_EXCHANGES), "ax": rng.choice(_EXCHANGES)}
        lots = {"bs": rng.randint(1, 9) * _ROUND_LOT, "as": rng.randint(1, 9) * _ROUND_LOT}
        return {**head, **venues, **prices, **lots, "c": ["R"], "z": self._tape, "t": t_ns}

    def new_trade_id(self) -> int:
        """The number of the next trade."""
        self._trade_id += 1
        return self._trade_id

    def trade(self, t_ns: int, *, odd_lot: bool = False) -> tuple[dict[str, Any], Print]:
        """A trade against the quote as it stands, and what it means for bars.

        Args:
            t_ns: Its time, nanoseconds since the epoch.
            odd_lot: Whether it must be an odd lot, which of stocks every fifth is anyway.
        """
        rng = self.rng
        trade_id = self.new_trade_id()
        buy = rng.random() < 0.5  # noqa: PLR2004  # either side alike
        price = self._price(buy=buy)
        message = {"T": "t", "S": self.symbol, "i": trade_id, "p": price / PRICE_SCALE}
        if self._crypto:
            size = self._coins()
            coins = size / SIZE_SCALES["crypto"]
            message |= {"s": coins, "tks": "B" if buy else "S", "t": t_ns}
            return message, Print(price, size, odd_lot=False)
        odd_lot = rng.random() < _ODD_LOT_SHARE or odd_lot
        size = rng.randint(1, _ROUND_LOT - 1) if odd_lot else rng.randint(1, 5) * _ROUND_LOT
        regular = "@" if self._tape == "C" else " "
        conditions = [regular, "I"] if odd_lot else [regular]
        venue = {"x": rng.choice(_EXCHANGES), "z": self._tape}
        return {**message, "s": size, **venue, "c": conditions, "t": t_ns}, Print(
            price, size, odd_lot
        )

    def _price(self, *, buy: bool) -> int:
        touch = self._quote.ask if buy else self._quote.bid
        match self.rng.randrange(10):
            case 0:
                return (self._quote.bid + self._quote.ask) // 2
            case 1:  # improved by less than a cent
                better = self.rng.randint(1, _CENT - 1)
                return touch - better if buy else touch + better
            case _:
                return touch

    def _coins(self) -> int:
        return self.rng.randint(1_000, 3 * SIZE_SCALES["crypto"])
