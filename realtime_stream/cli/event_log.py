"""A log of everything delivered that is the same each time a recording is replayed.

One JSON object a line, in the order of delivery, keys sorted, prices as strings with exactly the
digits they came with. What real time decides is left out: delivery times, ids of connections,
counts of failures in a row, errors, silence.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.market.models import Bar, BookLevel, MarketEvent
from realtime_stream.ports import (
    BackfillEvent,
    ConnectionEvent,
    DisconnectEvent,
    Gap,
    RejectedEvent,
)
from realtime_stream.runtime.series_spec import series_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, BinaryIO

    from realtime_stream.manager import RealTimeStreamManager
    from realtime_stream.market.channels import Subscription

__all__ = ["CHANNEL_HOOKS", "EventLog", "register"]

CHANNEL_HOOKS: Final = {
    "trades": "on_trade",
    "quotes": "on_quote",
    "bars": "on_bar",
    "updated_bars": "on_updated_bar",
    "daily_bars": "on_daily_bar",
    "statuses": "on_status",
    "lulds": "on_luld",
    "corrections": "on_correction",
    "cancels": "on_cancel",
    "imbalances": "on_imbalance",
    "orderbooks": "on_orderbook",
    "news": "on_news",
}


class EventLog:
    """Writes what a manager delivers, one line each.

    Thread safety: :meth:`write` is called by one thread at a time: that of the callbacks.

    Attributes:
        lines: Lines written.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Write to ``file``, which the caller opens and closes."""
        self._file = file
        self.lines = 0

    def write(self, event: object) -> None:
        """Write one line.

        Raises:
            TypeError: It is nothing that is logged.
            OSError: The file cannot be written to.
        """
        self._file.write(msgspec.json.encode(_fields(event), order="sorted") + b"\n")
        self.lines += 1


def register(
    manager: RealTimeStreamManager,
    write: Callable[[object], None],
    subscriptions: Iterable[Subscription],
    timeframes: Iterable[str] = (),
) -> None:
    """Have ``write`` called for everything that there is to log.

    Args:
        manager: Not started yet.
        write: Called on the dispatch thread, in the order of delivery.
        subscriptions: What of the market is wanted.
        timeframes: Of bars that are built besides, such as ``5m``, of every symbol that has bars
            or trades among the subscriptions: of bars where they can be and are among them, else
            of trades.

    Raises:
        ConfigurationError: A timeframe does not exist.
    """
    by_channel: dict[str, set[str]] = defaultdict(set)
    for channel, symbol in subscriptions:
        by_channel[channel].add(symbol)
    for channel, symbols in sorted(by_channel.items()):
        getattr(manager, CHANNEL_HOOKS[channel])(write, *sorted(symbols))
    for timeframe in timeframes:
        of_trades = _only_from_trades(timeframe, by_channel)
        if others := (by_channel["bars"] | by_channel["trades"]) - of_trades:
            manager.on_bar(write, *sorted(others), timeframe=timeframe)
        if of_trades:
            manager.on_bar(write, *sorted(of_trades), timeframe=timeframe, built_from="trades")
    for listen in (
        manager.on_gap,
        manager.on_connect,
        manager.on_disconnect,
        manager.on_rejected,
        manager.on_backfill,
    ):
        listen(write)


def _only_from_trades(timeframe: str, by_channel: Mapping[str, set[str]]) -> set[str]:
    """The symbols whose bars come from trades, as what else they could come from is not there."""
    both = frozenset({"bars", "trades"})
    spec = series_spec(timeframe, None, fill=False, channels=both)
    source = "bars" if spec is None else spec.channel
    there = by_channel.get(source, set())
    if ALL_SYMBOLS in there:
        return set()
    return by_channel.get("trades", set()) - there


def _fields(event: object) -> dict[str, Any]:
    if isinstance(event, MarketEvent):
        return {"type": "event", **_market_fields(event)}
    for kind, fields in _FIELDS.items():
        if isinstance(event, kind):
            return fields(event)
    msg = f"not an event: {type(event).__name__}"
    raise TypeError(msg)


def _market_fields(event: MarketEvent) -> dict[str, Any]:
    fields = {name: _plain(getattr(event, name)) for name in event.kind.__struct_fields__}
    fields["channel"] = event.channel
    if isinstance(event, Bar) and event.source == "built":
        del fields["received_ns"]  # when it was made
    return fields


def _plain(value: object) -> object:
    """A field's value in the same words whichever provider decoded it."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, BookLevel):
        return [str(value.price), str(value.size)]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _gap(gap: Gap) -> dict[str, Any]:
    entries = sorted(gap.entries, key=lambda entry: (entry.channel, entry.symbol))
    return {
        "type": "gap",
        "cause": gap.cause,
        "start_ns": gap.start_ns,
        "end_ns": gap.end_ns,
        "entries": [
            {
                "channel": entry.channel,
                "symbol": entry.symbol,
                "last_event_ns": entry.last_event_ns,
                "first_event_ns": entry.first_event_ns,
                "lost": entry.lost,
            }
            for entry in entries
        ],
    }


def _connected(event: ConnectionEvent) -> dict[str, Any]:
    return {"type": "connected", "session": event.session, "reconnect": event.reconnect}


def _disconnected(event: DisconnectEvent) -> dict[str, Any]:
    failure = event.failure
    return {
        "type": "disconnected",
        "kind": None if failure is None else failure.kind.value,
        "code": None if failure is None else failure.code,
        "text": None if failure is None else failure.text,
    }


def _rejected(event: RejectedEvent) -> dict[str, Any]:
    return {
        "type": "rejected" if event.rejected else "flagged",
        "rule": event.rule,
        "field": event.field,
        "value": str(event.value),
        "event": _market_fields(event.event),
    }


def _backfilled(event: BackfillEvent) -> dict[str, Any]:
    return {
        "type": "backfill",
        "purpose": event.purpose,
        "channel": event.channel,
        "symbol": event.symbol,
        "start_ns": event.start_ns,
        "end_ns": event.end_ns,
        "fetched": event.fetched,
        "delivered": event.delivered,
        "complete": event.complete,
        "reason": event.reason,
    }


_FIELDS: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    Gap: _gap,
    ConnectionEvent: _connected,
    DisconnectEvent: _disconnected,
    RejectedEvent: _rejected,
    BackfillEvent: _backfilled,
}
