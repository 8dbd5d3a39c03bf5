"""One session: the steps from the greeting to the data, as Alpaca's server takes them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from realtime_stream.simulator.delay_line import DelayLine
from realtime_stream.simulator.observation import SessionInfo
from realtime_stream.simulator.subscriptions import RequestError, Subscriptions, requested
from realtime_stream.simulator.upgrade import codec_of, credentials_of
from realtime_stream.simulator.wire import (
    decode_request,
    encode_frame,
    encode_object,
    error,
    success,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from websockets.datastructures import Headers

    from realtime_stream.simulator.connection import Connection
    from realtime_stream.simulator.endpoints import Endpoint
    from realtime_stream.simulator.garbage import RawFrame
    from realtime_stream.simulator.host import Host

__all__ = ["Session"]

_NORMAL_CLOSURE: Final = 1000


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
        self, connection: Connection, endpoint: Endpoint, headers: Headers, host: Host
    ) -> None:
        """Args: the ``connection`` with its upgrade's ``headers``, and the server around it."""
        self.connection = connection
        self.endpoint = endpoint
        self.codec = codec_of(headers)
        self.key: str | None = None
        self.closed = False
        self.frozen = False
        self.subscriptions = Subscriptions(endpoint)
        self._host = host
        self._id = 0
        self._credentials = credentials_of(headers)
        self._over_limit = False
        self._unanswered = False
        self._auth_deadline: asyncio.TimerHandle | None = None
        self._answers = DelayLine()
        self._garbage: asyncio.Task[None] | None = None

    def open(self, session_id: int) -> None:
        """The upgrade is complete: greet, and authenticate if the headers had credentials."""
        self._id = session_id
        self._observe()
        host = self._host
        self._auth_deadline = asyncio.get_running_loop().call_later(
            host.rules.auth_timeout, self._auth_expired
        )
        self._answers.put(host.faults.answer_delay("greeting"), self._greet)

    def close(self) -> None:
        """The server has done with it: it holds no place and gets no data any more."""
        self.closed = True
        if self._auth_deadline is not None:
            self._auth_deadline.cancel()
        self._answers.cancel()
        self._host.observation.remove(self._id)

    def freeze(self, *, on: bool) -> None:
        """Begin or end to act as if the peer were out of reach."""
        self.frozen = on
        self.connection.freeze(on=on)

    def faults_changed(self) -> None:
        """Answers may have waited long enough."""
        if not self._host.faults.delays_answers:
            self._answers.flush()

    def receive(self, data: bytes | str) -> None:
        """Answer a client's message."""
        if self.closed or self.frozen:
            return
        request = decode_request(data, self.codec)
        if request is None:
            self._refuse(400)
            return
        masked = {**request, "secret": "***"} if "secret" in request else request
        self._host.observation.receive(masked)
        match request.get("action"):
            case "auth":
                self._auth_requested(request.get("key"), request.get("secret"))
            case "subscribe" | "unsubscribe" as action:
                delay = self._host.faults.answer_delay("subscription")
                self._answers.put(delay, lambda: self._change(action, request))
            case _:
                self._refuse(400)

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

    def write_data(self, frame: bytes | str) -> None:
        """Send a frame of data, if that is possible."""
        if self.writable:
            fault = self._host.faults.next_error_at("data")
            if fault is not None:
                self.control(error(*fault))
            self.write(frame)

    def write_garbage(self, frame: RawFrame) -> None:
        """Send this frame as it is, if that is possible."""
        if not frame.text:
            self.write_data(frame.data)
            return
        try:
            self.write_data(frame.data.decode())
        except UnicodeDecodeError:
            # Only this way takes bytes for text without a look at them.
            self._garbage = asyncio.get_running_loop().create_task(self._write_text(frame.data))

    async def _write_text(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(data, text=True)

    @property
    def backlog(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.connection.transport.get_write_buffer_size()

    def _refuse(self, code: int) -> None:
        self._answers.put(0, lambda: self.control(error(code)))

    def _greet(self) -> None:
        faults = self._host.faults
        if faults.is_silent_at("greeting"):
            self._unanswered = True
            return
        garbage, fault = faults.greeting, faults.next_error_at("greeting")
        if fault is not None:
            self.control(error(*fault))
        elif garbage is not None:
            self.write(garbage)
        else:
            self.control(success("connected"))
        if self._credentials is not None:
            self._auth_requested(*self._credentials)

    def _auth_requested(self, key: object, secret: object) -> None:
        if not (isinstance(key, str) and isinstance(secret, str)):
            self._refuse(400)
            return
        self._host.observation.count("auth_attempts")
        delay = self._host.faults.answer_delay("auth")
        self._answers.put(delay, lambda: self._authenticate(key, secret))

    def _authenticate(self, key: str, secret: str) -> None:
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
        if self._over_limit:
            return error(406)
        late_fault = self._host.faults.next_error_at("auth")
        return None if late_fault is None else error(*late_fault)

    def _auth_expired(self) -> None:
        if self._answers.pending:  # the server is late, and not the client
            self._answers.put(0, self._auth_expired)
            return
        if self._unanswered or self.frozen or self.key is not None:
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
        self._acknowledge(action)
        self._host.subscribed()

    def _acknowledge(self, action: str) -> None:
        faults = self._host.faults
        subscribing = action == "subscribe"
        if not (subscribing and faults.next_lost_acknowledgement()):
            terse = self._host.rules.terse_acknowledgements
            self.control(self.subscriptions.acknowledgement(terse=terse))
        fault = faults.next_error_at("subscription") if subscribing else None
        if fault is not None:
            self.control(error(*fault))

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
