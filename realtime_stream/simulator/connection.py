"""Connections below the protocol: peers that are dead, slow to read, or deaf to pings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from websockets.asyncio.server import ServerConnection

if TYPE_CHECKING:
    import asyncio

    from realtime_stream.simulator.fault_state import FaultState

__all__ = ["Connection", "Watcher", "connection_class"]

_TICK: Final = 0.02  # seconds between two portions that are read slowly
_PONG: Final = b"\x8a"  # first byte of a whole pong frame, RFC 6455


class Watcher(Protocol):
    """Who is told of connections, on the simulator's thread."""

    def accepted(self) -> None:
        """There is a TCP connection; over TLS its handshake is still to come."""

    def connected(self, connection: Connection) -> None:
        """The connection can be written to."""

    def lost(self, connection: Connection) -> None:
        """The connection is no more."""


class _PongFilter:
    """A transport that loses pongs on demand: websockets answers pings without asking."""

    def __init__(self, transport: asyncio.Transport, faults: FaultState) -> None:
        self._transport = transport
        self._faults = faults

    def write(self, data: bytes) -> None:
        if data[:1] != _PONG or not self._faults.ignoring_pings:
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(ServerConnection):
    """Thread safety: used by the simulator's thread only."""

    watcher: ClassVar[Watcher]
    faults: ClassVar[FaultState]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: those of websockets."""
        super().__init__(*args, **kwargs)
        self._unread = bytearray()  # what has come and is not taken yet
        self._frozen = False
        self._reader: asyncio.TimerHandle | None = None
        self.watcher.accepted()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.watcher.connected(self)
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _PongFilter(self.transport, self.faults))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._unread.clear()
        self._stop_timer()
        super().connection_lost(exc)
        self.watcher.lost(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if not self._unread and not self._frozen and self.faults.read_rate is None:
            super().data_received(data)
            return
        self._unread += data
        self._pace()

    def freeze(self, *, on: bool) -> None:
        """Begin or end to take nothing."""
        self._frozen = on
        self._pace()

    def faults_changed(self) -> None:
        """Read at the pace that is asked for now."""
        self._stop_timer()  # it is that of the old pace
        self._pace()

    def _pace(self) -> None:
        rate = self.faults.read_rate
        if self._unread and rate is None and not self._frozen:
            self._take(len(self._unread))
        if self._frozen or self._unread:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
        if self._frozen or not self._unread:
            self._stop_timer()
        elif self._reader is None and rate is not None:
            wait = max(_TICK, 1 / rate)
            self._reader = self.loop.call_later(wait, self._read, int(rate * wait))

    def _read(self, most: int) -> None:
        self._reader = None
        self._take(max(most, 1))
        self._pace()

    def _take(self, most: int) -> None:
        portion = bytes(self._unread[:most])
        del self._unread[:most]
        super().data_received(portion)

    def _stop_timer(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None


def connection_class(watcher: Watcher, faults: FaultState) -> type[Connection]:
    """The class of one simulator's connections, as ``websockets`` wants to be given it."""

    class Bound(Connection):
        pass

    Bound.watcher, Bound.faults = watcher, faults
    return Bound
