"""Reads recorded Binance streams: trade, aggTrade and kline frames; all else is passed over."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime_stream.market.models import Trade

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "binance"
_MS = 10**6


@dataclass(frozen=True)
class Aggregate:
    """An aggTrade: one order's fills at one price; ``trade`` has the aggregate's own id."""

    trade: Trade
    first_id: int
    last_id: int


@dataclass(frozen=True)
class Kline:
    """A snapshot of a candle, open or closed."""

    symbol: str
    start_ns: int
    last_id: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    is_closed: bool


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Receive time in nanoseconds, and payload, of each frame of a file."""
    is_packed = path.suffix == ".gz"
    with gzip.open(path, "rt") if is_packed else path.open() as file:
        for line in file:
            if line.startswith("wss:"):
                continue
            received, _, frame = line.partition(" ")
            ns = int(received) if is_packed else int(Decimal(received.rstrip(":")) * 10**9)
            # A book asked for by REST stands among the frames of the streams.
            yield ns, json.loads(frame).get("data", {})


def decode(received_ns: int, data: dict[str, Any]) -> Trade | Aggregate | Kline | None:
    """What a payload says, or ``None`` for one that is none of the three."""
    kind = data.get("e")
    if kind == "trade":
        return _trade(received_ns, data, "t")
    if kind == "aggTrade":
        return Aggregate(_trade(received_ns, data, "a"), data["f"], data["l"])
    return _kline(data["k"]) if kind == "kline" else None


def _trade(received_ns: int, data: dict[str, Any], number: str) -> Trade:
    return Trade(
        symbol=data["s"],
        timestamp_ns=data["T"] * _MS,
        received_ns=received_ns,
        price=Decimal(data["p"]),
        size=Decimal(data["q"]),
        trade_id=data[number],
        taker_side="S" if data["m"] else "B",
    )


def _kline(k: dict[str, Any]) -> Kline:
    return Kline(
        symbol=k["s"],
        start_ns=k["t"] * _MS,
        last_id=k["L"],
        open=Decimal(k["o"]),
        high=Decimal(k["h"]),
        low=Decimal(k["l"]),
        close=Decimal(k["c"]),
        volume=Decimal(k["v"]),
        is_closed=k["x"],
    )
