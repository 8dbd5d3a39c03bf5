"""The listening socket, which can be closed and opened again on the same port."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import Server, serve

if TYPE_CHECKING:
    import ssl

    from realtime_stream.simulator.hub import Hub

__all__ = ["Listener", "authority", "bind"]

_NO_FLOW_CONTROL: Final = 1 << 30  # frames; requests are answered as fast as they come
_ANY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what to dial, not what to bind
_CLOSE_TIMEOUT: Final = 5.0  # seconds for the client's part of the closing handshake

# Errors of the server itself are worth seeing. What it logs below that is not: at DEBUG it shows
# every frame, with the secrets in them.
_logger: Final = logging.Logger("realtime_stream.simulator.websocket", logging.ERROR)
_logger.parent = logging.getLogger("realtime_stream.simulator")


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the port but does not listen yet, so that connections are refused.

    Raises:
        OSError: The host is unknown or the port taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":  # there it would let others take the port, too
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL for what listens there."""
    dialled = _ANY_ADDRESS.get(host, host)
    return f"[{dialled}]:{port}" if ":" in dialled else f"{dialled}:{port}"


class Listener:
    """Thread safety: used by the simulator's thread only."""

    def __init__(
        self, bound: socket.socket, host: str, ssl_context: ssl.SSLContext | None, hub: Hub
    ) -> None:
        """Args: a socket from :func:`bind`, which belongs to the listener from now on."""
        self._bound: socket.socket | None = bound
        self._host = host
        self._port: int = bound.getsockname()[1]
        self._ssl_context = ssl_context
        self._hub = hub
        self._server: Server | None = None
        self._changing = asyncio.Lock()  # held while the socket changes, one change at a time
        self._closed = False

    async def open(self) -> None:
        """Listen, if it does not yet and is not closed."""
        async with self._changing:
            if self._server is None and not self._closed:
                await self._listen()

    async def close(self) -> None:
        """Close the listening socket for good; connections stay as they are."""
        async with self._changing:
            self._closed = True
            await self._close()

    async def refuse(self) -> None:
        """Close the listening socket but keep its port."""
        async with self._changing:
            if self._server is not None:
                await self._close()
                self._bound = bind(self._host, self._port)

    async def _listen(self) -> None:
        self._server = await serve(
            self._hub.handle,
            sock=self._bound,
            ssl=self._ssl_context,
            process_request=self._hub.process_request,
            create_connection=self._hub.connection_class(),
            open_timeout=None,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT,
            max_queue=_NO_FLOW_CONTROL,
            logger=_logger,
        )
        self._bound = None

    async def _close(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            # First let what is being accepted become a connection: a transport whose server is
            # closed before it is attached stays open with nobody to close it (CPython 3.11).
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(0)
            server.close(close_connections=False)
            while server.is_serving():
                await asyncio.sleep(0)
        if self._bound is not None:
            self._bound.close()
            self._bound = None
