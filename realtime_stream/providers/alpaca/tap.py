"""The frame tap: a session seen and driven from inside the SDK's WebSocket.

The SDK connects and authenticates; from then on its ``recv()`` never returns. Every frame is
decoded here, once, into events. The SDK's own subscribe message is swallowed too: what is asked
for, and whether it was acknowledged, is decided by :class:`SubscriptionPlan`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.legacy.client import WebSocketClientProtocol

from realtime_stream.errors import HandshakeTimeoutError, ProtocolError
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Connected,
    Refused,
    ServerReport,
    SessionListener,
    Settled,
)
from realtime_stream.providers.alpaca import wire
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.providers.alpaca.frame import EncodedEvents, data_messages
from realtime_stream.providers.alpaca.masking import blanked
from realtime_stream.providers.alpaca.subscriptions import SYMBOL_LIMIT, SubscriptionPlan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtime_stream.clock import Clock
    from realtime_stream.providers.alpaca.endpoints import Endpoint
    from realtime_stream.providers.alpaca.facts import SessionFacts
    from realtime_stream.providers.loop_signal import LoopSignal
    from realtime_stream.recording.tap import SessionTap

__all__ = ["TapProtocol", "TapSession"]

_CLOSE_GRACE: Final = 0.2  # seconds the server has to answer our close frame
_REFUSALS: Final = frozenset({400, 405, 410, 413})  # these answer one subscription
_ENDINGS: Final = frozenset({401, 402, 404, 406, 408, 409, 411, 412})  # no session after these
_CHANNELS: Final = tuple(
    zip(
        wire.Subscriptions.__struct_fields__,
        wire.Subscriptions.__struct_encode_fields__,
        strict=True,
    )
)


class TapSession:
    """One session, on the SDK's event loop.

    Thread safety: everything runs on the loop's thread; the two signals bring other threads in.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        wanted: Callable[[], frozenset[Subscription]],
        listener: SessionListener,
        interrupt: LoopSignal,
        changed: LoopSignal,
        cut: Callable[[], None],
        facts: SessionFacts,
        data_clock: Clock,
        tap: SessionTap | None,
        handshake_timeout: float,
        acknowledge_timeout: float,
    ) -> None:
        """Nothing is connected yet.

        Args:
            endpoint: Channel names of the market.
            wanted: The latest wanted subscriptions.
            listener: Told of everything.
            interrupt: Ends the session when set.
            changed: Makes the session look at what is wanted again when set.
            cut: Shuts the socket down.
            facts: Receives why the session ended.
            data_clock: Stamps frames.
            tap: Gets each frame as it came, for a recording.
            handshake_timeout: Seconds for greeting and authentication.
            acknowledge_timeout: Seconds for each acknowledgement.
        """
        self._endpoint = endpoint
        self._wanted = wanted
        self._listener = listener
        self._told = listener.on_control  # bound once: it goes with every frame
        self._interrupt = interrupt
        self._change_signal = changed
        self._cut = cut
        self.facts = facts
        self._data_clock = data_clock
        self._tap = tap
        self._handshake_timeout = handshake_timeout
        self._acknowledge_timeout = acknowledge_timeout
        self._decoder = FrameDecoder("msgpack")
        self._plan = SubscriptionPlan(frozenset())
        self._protocol: TapProtocol | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadline: float | None = None
        self._greeted = False
        self._streaming = False
        self._settled = False
        self._ending = False

    @property
    def hooked(self) -> bool:
        """Whether the SDK accepted the tap."""
        return self._protocol is not None

    def attach(self, protocol: TapProtocol) -> None:
        """The SDK is about to connect; called before it waits for the network."""
        self._protocol = protocol
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()
        self._interrupt.arm(self.end)
        self._change_signal.arm(self._look_again)

    def _look_again(self) -> None:
        self._changed.set()
        if not self._streaming and not self._wanted():  # _drive() does not run yet
            self.facts.requested = True
            self.end()

    def opened(self, transport: asyncio.WriteTransport) -> None:
        """TCP (and TLS) stand."""
        self._transport = transport

    def _abort(self) -> None:
        transport = self._transport
        if transport is not None and transport.is_closing():
            self._cut()  # closing a TLS transport twice leaves nothing that abort() could use
        elif transport is not None:
            transport.abort()

    def end(self) -> None:
        """End the session now: a close frame if it is open, and no more than a moment's grace."""
        if self._ending:
            return
        self._ending = True
        protocol = self._protocol
        if protocol is not None and self._transport is not None and protocol.open:
            asyncio.get_running_loop().call_later(_CLOSE_GRACE, self._abort)
            self._spawn(protocol.close())
        else:
            # Every step of the handshake ends by itself at the end of the stream; cancelling the
            # task instead may leave a TLS transport behind that nobody closes.
            self._cut()

    async def receive(self, receive: Callable[[], Awaitable[str | bytes]]) -> str | bytes:
        """Stand in for the SDK's ``recv()``: pass the handshake on, keep everything after it."""
        if not self._streaming:
            return await self._handshake(receive)
        while True:
            data = await receive()
            taken = False
            try:
                self._take(data)
                taken = True
            finally:
                if not taken:  # a defect of ours must not leave a session that looks alive
                    self.facts.note(sys.exception())
                    self.end()

    def swallows(self) -> bool:
        """Whether the SDK's own messages are not sent any more."""
        return self._streaming

    async def _handshake(self, receive: Callable[[], Awaitable[str | bytes]]) -> str | bytes:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._handshake_timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await receive()
        except TimeoutError:
            step = "the authentication" if self._greeted else "the greeting"
            error = HandshakeTimeoutError(
                f"{step} did not come within {self._handshake_timeout:g} s"
            )
            self.facts.note(error)
            raise error from None
        self._take_control(data)
        return data

    def _take_control(self, data: str | bytes) -> None:
        """Check a frame of the handshake.

        Raises:
            ProtocolError: It is not what the protocol says comes now.
        """
        controls = self._decoder.decode(data, 0).controls
        control = controls[0] if len(controls) == 1 else None
        if isinstance(control, wire.ServerError):
            self.facts.server_error = (control.code, control.msg)
            return  # the SDK raises, and the session ends
        if control == wire.Success("connected") and not self._greeted:
            self._greeted = True
            self._listener.on_control(Connected())
            return
        if control == wire.Success("authenticated") and self._greeted:
            self._streaming = True
            self._listener.on_control(Authenticated())
            self._spawn(self._drive())
            return
        error = ProtocolError("the server does not speak the protocol: unexpected handshake frame")
        self.facts.note(error)
        raise error

    def _take(self, data: str | bytes) -> None:
        """Hand a frame of market data on; decode anything else."""
        received_ns = self._data_clock.utc_now_ns()
        messages = data_messages(data)
        if self._tap is not None:
            # The server's own words may quote what it was sent.
            kept = data if messages else blanked(data, self.facts.secrets)
            self._tap.frame(kept, received_ns)
        if messages and isinstance(data, bytes):
            self._outlive_error()
            events = EncodedEvents(data, messages, received_ns, self._decoder, self._told)
            self._listener.on_frame(events, received_ns)
            return
        decoded = self._decoder.decode(data, received_ns)
        if decoded.events:
            self._outlive_error()
            self._listener.on_frame(decoded.events, received_ns)
        for reject in decoded.rejects:
            self._listener.on_control(reject)
        for control in decoded.controls:
            if isinstance(control, wire.Subscriptions):
                self._on_acknowledged(control)
            elif isinstance(control, wire.ServerError):
                self._on_server_error(control)

    def _outlive_error(self) -> None:
        """The session goes on, so the server's last error was not its end."""
        if not self._ending:
            self.facts.server_error = None

    def _on_acknowledged(self, control: wire.Subscriptions) -> None:
        self._outlive_error()
        self._plan.on_acknowledged(
            frozenset(
                Subscription(channel, symbol)
                for name, channel in _CHANNELS
                for symbol in getattr(control, name) or ()
            )
        )
        self._publish_acknowledged()
        self._answered.set()

    def _publish_acknowledged(self) -> None:
        served, to_wire = self._plan.acknowledged, self._endpoint.to_wire
        ours = frozenset(s for s in self._wanted() if to_wire(s) in served)
        self._listener.on_control(Acknowledged(ours))

    def _on_server_error(self, control: wire.ServerError) -> None:
        self.facts.server_error = (control.code, control.msg)
        if control.code in _REFUSALS and self._plan.outstanding is not None:
            refused = self._plan.on_error(control.code, control.msg)
            if refused:
                ours = frozenset(s for s in self._wanted() if self._endpoint.to_wire(s) in refused)
                said = self.facts.masked(control.msg)
                self._listener.on_control(Refused(ours, control.code, said))
            self._answered.set()
            return
        self._listener.on_control(ServerReport(control.code, self.facts.masked(control.msg)))
        if control.code in _ENDINGS:
            self.end()

    def _spawn(self, work: Any) -> None:  # any coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that nobody complains: recv() reports how it ended

    async def _drive(self) -> None:
        """Ask for what is wanted until it is acknowledged or refused, whenever it changes."""
        plan, done = self._plan, False
        try:
            while not self._ending:
                plan.want(frozenset(self._endpoint.to_wire(s) for s in self._wanted()))
                if not plan.wanted:
                    self.facts.requested = True
                    break
                if not await self._ask() or self._give_up():
                    break
            done = True
        except ConnectionClosed:
            done = True  # recv() reports it
        finally:
            if not done:
                self.facts.note(sys.exception())
            self.end()

    async def _ask(self) -> bool:
        """Send the next request and wait for its answer; without one, wait for a change."""
        request = self._plan.next_request()
        if request is None:
            if not self._announce_settled():
                return False
            await self._changed.wait()
            self._changed.clear()
            self._publish_acknowledged()  # what is wanted now may be served already
            return True
        self._answered.clear()
        try:
            async with asyncio.timeout(self._acknowledge_timeout):
                await self._transmit(request.message())
                await self._answered.wait()
        except TimeoutError:
            self._plan.on_no_answer()
        return True

    def _announce_settled(self) -> bool:
        if self._settled:
            return True
        if not self._plan.acknowledged & self._plan.wanted:
            # For lack of room it is worth another try: a session before may still hold the places.
            limits = (why for why in self._plan.refused.values() if why[0] == SYMBOL_LIMIT)
            self.facts.server_error = next(limits, None)
            self.facts.all_refused = self.facts.server_error is None
            return False
        self._settled = True
        self._listener.on_control(Settled())
        return True

    def _give_up(self) -> bool:
        self.facts.unacknowledged = len(self._plan.exhausted)
        return bool(self.facts.unacknowledged)

    async def _transmit(self, message: dict[str, object]) -> None:
        if self._protocol is not None:
            await self._protocol.transmit(msgspec.msgpack.encode(message))


class TapProtocol(WebSocketClientProtocol):
    """The SDK's WebSocket with its messages passing through a :class:`TapSession`."""

    def __init__(self, *, session: TapSession, **arguments: Any) -> None:  # the library's
        """Made by the WebSocket library, in the SDK's task, before it waits for the network."""
        super().__init__(**arguments)
        self._session = session
        session.attach(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport, for ending without the peer."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport):
            self._session.opened(transport)

    async def recv(self) -> str | bytes:
        """See :meth:`TapSession.receive`."""
        return await self._session.receive(super().recv)

    async def send(self, message: Any) -> None:  # the library's own type
        """Send the SDK's message, unless the session speaks for itself by now."""
        if not self._session.swallows():
            await super().send(message)

    async def transmit(self, message: bytes) -> None:
        """Send a message of ours."""
        await super().send(message)
