"""One client's session: the protocol's rules, without the socket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.simulator.endpoints import CHANNEL_OF_TYPE, Endpoint
from realtime_stream.simulator.wire import Codec, error, success

if TYPE_CHECKING:
    from realtime_stream.simulator.server import AlpacaSimulator

__all__ = ["Session", "SessionInfo"]

_SYMBOL: Final = re.compile(r"[A-Z0-9./-]{1,24}|\*")
_MIRRORS: Final = ("corrections", "cancelErrors")  # follow trades by themselves
_LIMITED: Final = frozenset({"trades", "quotes", "bars"})  # what the symbol limit counts


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """An open session, as seen from outside."""

    id: int
    path: str
    codec: Codec
    authenticated: bool
    subscriptions: frozenset[tuple[str, str]]
    header_auth: bool


@dataclass(slots=True)
class Session:
    """State of one connection. Used on the simulator's loop alone."""

    id: int
    path: str
    endpoint: Endpoint
    codec: Codec
    key: str = ""
    authenticated: bool = False
    header_auth: bool = False
    refused: bool = False
    subscriptions: set[tuple[str, str]] = field(default_factory=set)

    def info(self) -> SessionInfo:
        """A snapshot."""
        return SessionInfo(
            self.id,
            self.path,
            self.codec,
            self.authenticated,
            frozenset(self.subscriptions),
            self.header_auth,
        )

    def authenticate(self, server: AlpacaSimulator, key: str, secret: str) -> dict[str, Any]:
        """The reply to an authentication."""
        server.count_auth()
        if self.authenticated:
            return error(403)
        refused = server.faults.next_auth()
        if refused is not None:
            return error(*refused)
        if server.credentials.get(key) != secret:
            return error(402)
        if self.endpoint.feed in server.refused_feeds:
            return error(409)
        if self.endpoint.market == "options" and self.codec == "json":
            return error(412)
        if server.holders(self.path, key) >= server.connection_limit:
            return error(406)
        self.key = key
        self.authenticated = True
        return success("authenticated")

    def change(self, server: AlpacaSimulator, message: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a subscribe or unsubscribe: the complete list, or an error."""
        if not self.authenticated:
            return error(401)
        asked = self._asked(message)
        if isinstance(asked, int):
            return error(asked)
        if message["action"] == "unsubscribe":
            self.subscriptions -= asked
            return self.acknowledgement(terse=server.terse_acknowledgements)
        channels, symbols = {c for c, _ in asked}, {s for _, s in asked}
        refused = server.faults.next_subscription(channels, symbols)
        if refused is not None:
            return error(refused)
        asked = {entry for entry in asked if entry[1] not in server.faults.left_out}
        wanted = self.subscriptions | asked
        limited = {symbol for channel, symbol in wanted if channel in _LIMITED}
        if server.symbol_limit is not None and len(limited) > server.symbol_limit:
            return error(405)
        self.subscriptions = wanted
        return self.acknowledgement(terse=server.terse_acknowledgements)

    def _asked(self, message: Mapping[str, Any]) -> set[tuple[str, str]] | int:
        """The entries of a request, or the code of what is wrong with it."""
        asked: set[tuple[str, str]] = set()
        for channel, symbols in message.items():
            if channel == "action":
                continue
            if channel not in self.endpoint.channels:
                return 410
            if not isinstance(symbols, list):
                return 400
            for symbol in symbols:
                if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
                    return 400
                if symbol == "*" and (self.endpoint.market, channel) == ("options", "quotes"):
                    return 413
                asked.add((channel, symbol))
        return {entry for entry in asked if entry[0] not in _MIRRORS}

    def acknowledgement(self, *, terse: bool) -> dict[str, Any]:
        """The complete list of what is subscribed."""
        lists: dict[str, list[str]] = {channel: [] for channel in self.endpoint.channels}
        for channel, symbol in sorted(self.subscriptions):
            lists[channel].append(symbol)
        for channel in _MIRRORS:
            if channel in lists:
                lists[channel] = list(lists["trades"])
        kept = {channel: symbols for channel, symbols in lists.items() if symbols or not terse}
        return {"T": "subscription", **kept}

    def wants(self, message: Mapping[str, Any]) -> bool:
        """Whether a data message goes to this session."""
        channel = CHANNEL_OF_TYPE.get(str(message["T"]), "")
        if channel in _MIRRORS:
            channel = "trades"
        symbols = message.get("symbols", ()) if channel == "news" else (message.get("S"),)
        return any((channel, symbol) in self.subscriptions for symbol in (*symbols, "*"))
