"""One session: the steps from the greeting to the data, as Alpaca's server takes them."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.protocol import State

from realtime_stream.simulator.observation import Observation, SessionInfo
from realtime_stream.simulator.subscriptions import RequestError, Subscriptions, requested
from realtime_stream.simulator.wire import (
    Codec,
    decode_request,
    encode_frame,
    encode_object,
    error,
    success,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from websockets.datastructures import Headers

    from realtime_stream.simulator.endpoints import Endpoint
    from realtime_stream.simulator.faults import Faults

__all__ = ["Host", "Rules", "Session"]

_NORMAL_CLOSURE: Final = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What the server allows; see the arguments of the simulator."""

    credentials: Mapping[str, str]
    connection_limit: int
    symbol_limit: int | None
    auth_timeout: float
    refused_feeds: Collection[str]
    terse_acknowledgements: bool
    buffer_limit: int


@dataclass(frozen=True, slots=True)
class Host:
    """What a session needs of the server around it.

    Attributes:
        rules: What is allowed.
        faults: What to do wrong.
        observation: Where to tell what happens.
        holders: How many sessions are authenticated with this key at this path.
        end: Ends a session with a close code, or without a close frame if it is ``None``.
        subscribed: Told after each change of subscriptions.
    """

    rules: Rules
    faults: Faults
    observation: Observation
    holders: Callable[[str, str], int]
    end: Callable[[Session, int | None], None]
    subscribed: Callable[[], None]


def _header_credentials(headers: Headers) -> tuple[str, str] | None:
    """Credentials of the HTTP upgrade, if it has any; empty ones if they cannot be read."""
    keys = headers.get_all("APCA-API-KEY-ID")
    if keys:
        return keys[0], "".join(headers.get_all("APCA-API-SECRET-KEY"))
    scheme, _, encoded = "".join(headers.get_all("Authorization")).partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return key, secret


def _codec(headers: Headers) -> Codec:
    content_type = "".join(headers.get_all("Content-Type")).partition(";")[0].strip().lower()
    return "msgpack" if content_type == "application/msgpack" else "json"


class Session:
    """Thread safety: used by the simulator's thread only; nothing here waits.

    Attributes:
        connection: Its connection.
        endpoint: Which feed it is for.
        codec: How its messages are encoded.
        key: The key it is authenticated with.
        closed: Whether the server has done with it.
        frozen: Whether the server acts as if the peer were out of reach.
        subscriptions: What it is subscribed to.
    """

    def __init__(
        self, connection: ServerConnection, endpoint: Endpoint, headers: Headers, host: Host
    ) -> None:
        """Args: the ``connection`` with its upgrade's ``headers``, and the server around it."""
        self.connection = connection
        self.endpoint = endpoint
        self.codec = _codec(headers)
        self.key: str | None = None
        self.closed = False
        self.frozen = False
        self.subscriptions = Subscriptions(endpoint)
        self._host = host
        self._id = 0
        self._credentials = _header_credentials(headers)
        self._over_limit = False
        self._unanswered = False
        self._auth_deadline: asyncio.TimerHandle | None = None

    def open(self, session_id: int) -> None:
        """The upgrade is complete: greet, and authenticate if the headers had credentials."""
        self._id = session_id
        self._observe()
        host = self._host
        self._auth_deadline = asyncio.get_running_loop().call_later(
            host.rules.auth_timeout, self._auth_expired
        )
        if host.faults.is_silent_at("greeting"):
            self._unanswered = True
            return
        garbage = host.faults.greeting
        if garbage is None:
            self.control(success("connected"))
        else:
            self.write(garbage)
        if self._credentials is not None:
            self._authenticate(*self._credentials)

    def close(self) -> None:
        """The server has done with it: it holds no place and gets no data any more."""
        self.closed = True
        if self._auth_deadline is not None:
            self._auth_deadline.cancel()
        self._host.observation.remove(self._id)

    def freeze(self, *, on: bool) -> None:
        """Begin or end to act as if the peer were out of reach."""
        self.frozen = on
        if on:
            self.connection.transport.pause_reading()
        else:
            self.connection.transport.resume_reading()

    def receive(self, data: bytes | str) -> None:
        """Answer a client's message."""
        if self.closed or self.frozen:
            return
        request = decode_request(data, self.codec)
        if request is None:
            self.control(error(400))
            return
        masked = {**request, "secret": "***"} if "secret" in request else request
        self._host.observation.receive(masked)
        match request.get("action"):
            case "auth":
                self._auth_requested(request)
            case "subscribe" | "unsubscribe" as action:
                self._change(action, request)
            case _:
                self.control(error(400))

    def control(self, message: dict[str, object]) -> None:
        """Send a control message; it has a frame of its own."""
        self.write(encode_frame([encode_object(message, self.codec)], self.codec))

    @property
    def writable(self) -> bool:
        """Whether frames can be sent."""
        return not (self.closed or self.frozen or self.connection.protocol.state is not State.OPEN)

    def write(self, frame: bytes | str) -> None:
        """Send a frame, if that is possible.

        A client that does not take what it is sent is told 407 and dropped, once the limit of
        what the server keeps for it is reached.
        """
        if not self.writable:
            return
        broadcast((self.connection,), frame)
        if self.backlog > self._host.rules.buffer_limit:
            slow = encode_frame([encode_object(error(407), self.codec)], self.codec)
            broadcast((self.connection,), slow)
            self._host.end(self, None)

    @property
    def backlog(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.connection.transport.get_write_buffer_size()

    def _auth_requested(self, request: Mapping[str, Any]) -> None:
        key, secret = request.get("key"), request.get("secret")
        if isinstance(key, str) and isinstance(secret, str):
            self._authenticate(key, secret)
        else:
            self.control(error(400))

    def _authenticate(self, key: str, secret: str) -> None:
        self._host.observation.count("auth_attempts")
        if self._host.faults.is_silent_at("auth"):
            self._unanswered = True
            return
        refusal = self._auth_refusal(key, secret)
        if refusal is not None:
            self.control(refusal)
            return
        self.key = key
        if self._auth_deadline is not None:
            self._auth_deadline.cancel()
        self._host.observation.count("authenticated")
        self._observe()
        self.control(success("authenticated"))

    def _auth_refusal(self, key: str, secret: str) -> dict[str, object] | None:
        rules = self._host.rules
        if self.key is not None:
            return error(403)
        fault = self._host.faults.next_auth_refusal()
        if fault is not None:
            return error(*fault)
        if rules.credentials.get(key) != secret:
            return error(402)
        if self.endpoint.feed in rules.refused_feeds:
            return error(409)
        self._over_limit = self._host.holders(self.endpoint.path, key) >= rules.connection_limit
        return error(406) if self._over_limit else None

    def _auth_expired(self) -> None:
        if self._unanswered or self.frozen:
            return
        if self._over_limit:  # measured: such a connection is dropped without a frame
            self._host.end(self, None)
            return
        self.control(error(404))
        self._host.end(self, _NORMAL_CLOSURE)

    def _change(self, action: str, request: Mapping[str, Any]) -> None:
        if self.key is None:
            self.control(error(401))
            return
        if self._host.faults.is_silent_at("subscription"):
            return
        try:
            self._apply(action, request)
        except RequestError as exc:
            self.control(error(exc.code))
            return
        self._observe()
        terse = self._host.rules.terse_acknowledgements
        self.control(self.subscriptions.acknowledgement(terse=terse))
        self._host.subscribed()

    def _apply(self, action: str, request: Mapping[str, Any]) -> None:
        pairs = requested(request, self.endpoint, self.codec)
        if action == "unsubscribe":
            self.subscriptions.remove(pairs)
            return
        faults = self._host.faults
        code = faults.next_subscription_refusal(pairs)
        if code is not None:
            raise RequestError(code)
        left_out = faults.unacknowledged
        taken = [pair for pair in pairs if pair[1] not in left_out]
        self.subscriptions.add(taken, self._host.rules.symbol_limit)

    def _observe(self) -> None:
        self._host.observation.update(
            SessionInfo(
                id=self._id,
                path=self.endpoint.path,
                codec=self.codec,
                authenticated=self.key is not None,
                subscriptions=self.subscriptions.pairs(),
                header_auth=self._credentials is not None,
            )
        )
