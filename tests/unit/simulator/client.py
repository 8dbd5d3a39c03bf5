"""A bare client: what the tests of the simulator talk to it with."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Literal

import msgpack  # type: ignore[import-untyped]  # it brings no types
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

TIMEOUT = 5.0


class Client:
    """A connection in one of the two codecs; everything has a deadline."""

    def __init__(
        self,
        url: str,
        codec: Literal["json", "msgpack"] = "json",
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.codec = codec
        self._stack = contextlib.ExitStack()
        self.socket = self._stack.enter_context(
            connect(
                url,
                additional_headers={"Content-Type": f"application/{codec}", **(headers or {})},
                open_timeout=TIMEOUT,
                close_timeout=1,
                **options,
            )
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def send(self, **request: Any) -> None:
        self.socket.send(json.dumps(request) if self.codec == "json" else msgpack.packb(request))

    def receive(self, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The next frame, decoded."""
        data = self.socket.recv(timeout)
        if self.codec == "json":
            assert isinstance(data, str)
            decoded = json.loads(data)
        else:
            assert isinstance(data, bytes)
            decoded = msgpack.unpackb(data)
        assert isinstance(decoded, list)
        return decoded

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; the reply is a control message, alone in its frame."""
        self.send(**request)
        return self.control()

    def control(self) -> dict[str, Any]:
        (message,) = self.receive()
        return message

    def auth(self, key: str = SIMULATOR_KEY, secret: str = SIMULATOR_SECRET) -> dict[str, Any]:
        return self.ask(action="auth", key=key, secret=secret)

    def login(self) -> Client:
        """From the greeting to the authenticated session."""
        assert self.control() == {"T": "success", "msg": "connected"}
        assert self.auth() == {"T": "success", "msg": "authenticated"}
        return self

    def subscribe(self, **channels: Any) -> dict[str, Any]:
        return self.ask(action="subscribe", **channels)

    def unsubscribe(self, **channels: Any) -> dict[str, Any]:
        return self.ask(action="unsubscribe", **channels)

    def wait_closed(self) -> int:
        """Read until the connection ends; its close code."""
        try:
            while True:
                self.socket.recv(TIMEOUT)
        except ConnectionClosed:
            code = self.socket.close_code
            assert isinstance(code, int)
            return code


def error(code: int, text: str) -> dict[str, Any]:
    return {"T": "error", "code": code, "msg": text}
