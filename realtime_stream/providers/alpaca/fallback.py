"""The plan for an SDK that refuses the frame tap: its own raw handlers, with what they can tell.

Less is known this way: greeting, acknowledgements and error frames stay hidden in the SDK, so a
session counts as connected when its first message arrives, and a change of what is wanted needs a
new session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]  # it brings no types

from realtime_stream.errors import UnsupportedChannelError
from realtime_stream.ports import Acknowledged, Authenticated, Connected, SessionListener, Settled
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.providers.alpaca.endpoints import IMPLIED, Endpoint
from realtime_stream.providers.alpaca.facts import SessionFacts, code_of_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.clock import Clock
    from realtime_stream.market.channels import Subscription
    from realtime_stream.recording.tap import SessionTap

__all__ = ["FallbackSession"]


class FallbackSession:
    """One session through the SDK's handlers, on the SDK's event loop.

    Thread safety: everything runs on the loop's thread, :meth:`register` before it runs.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        wanted: frozenset[Subscription],
        listener: SessionListener,
        facts: SessionFacts,
        data_clock: Clock,
        tap: SessionTap | None,
    ) -> None:
        """Nothing is subscribed yet."""
        self._tap = tap
        self._endpoint = endpoint
        self._wanted = wanted
        self._listener = listener
        self._facts = facts
        self._data_clock = data_clock
        self._decoder = FrameDecoder("msgpack")
        self._settled = False

    def register(self, stream: object) -> None:
        """Subscribe the SDK's stream object to what is wanted.

        Raises:
            UnsupportedChannelError: The SDK has no method for a wanted channel.
        """
        by_channel: dict[str, set[str]] = {}
        for channel, symbol in self._wanted:
            by_channel.setdefault(channel, set()).add(symbol)
            if channel in IMPLIED:  # the server sends these with the trades, or not at all
                by_channel.setdefault(IMPLIED[channel], set()).add(symbol)
        for channel, symbols in sorted(by_channel.items()):
            self._method(stream, channel)(*self._arguments(channel, symbols))

    def on_close(self, error: BaseException | None) -> None:
        """The SDK closes the connection; a refusal has lost its number on the way."""
        self._facts.note(error)
        code = code_of_text(str(error)) if isinstance(error, ValueError) else None
        if code is not None:
            self._facts.server_error = (code, str(error))

    def _method(self, stream: object, channel: str) -> Callable[..., object]:
        name = self._endpoint.sdk_methods.get(channel)
        if name is None:
            msg = f"the installed alpaca-py cannot subscribe to {channel}"
            raise UnsupportedChannelError(msg)
        method: Callable[..., object] = getattr(stream, name)
        return method

    def _arguments(self, channel: str, symbols: set[str]) -> tuple[object, ...]:
        return (self._on_message,) if channel in IMPLIED else (self._on_message, *sorted(symbols))

    async def _on_message(self, message: dict[str, Any]) -> None:
        if not self._settled:
            self._settled = True
            for control in (Connected(), Authenticated(), Acknowledged(self._wanted), Settled()):
                self._listener.on_control(control)
        received_ns = self._data_clock.utc_now_ns()
        data = msgpack.packb([message])
        if self._tap is not None:
            self._tap.frame(data, received_ns)
        decoded = self._decoder.decode(data, received_ns)
        if decoded.events:
            self._listener.on_frame(decoded.events, received_ns)
        for reject in decoded.rejects:
            self._listener.on_control(reject)
