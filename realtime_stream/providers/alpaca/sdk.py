"""The SDK's stream objects: one per session, ended after one run, and quiet on our threads."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import alpaca.data.live as sdk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtime_stream.config import Credentials
    from realtime_stream.providers.alpaca.endpoints import Endpoint

__all__ = ["SdkStream", "new_stream", "run_stream"]

SdkStream = sdk.StockDataStream | sdk.CryptoDataStream | sdk.OptionDataStream | sdk.NewsDataStream

# The SDK logs symbols, tracebacks of refused keys, and "restarting" on a clean stop. What there
# is to know is in our own records; other threads' use of the SDK is left alone.
_SDK_LOGGER: Final = "alpaca.data.live.websocket"


class _NotOurThreads(logging.Filter):
    """Drops the SDK's records on threads that run a session of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: set[int] = set()  # thread ids; each is added and removed by its own thread

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in self.ours


_filter: Final = _NotOurThreads()
logging.getLogger(_SDK_LOGGER).addFilter(_filter)


def new_stream(
    endpoint: Endpoint,
    url: str,
    credentials: Credentials,
    websocket_params: Mapping[str, object],
    on_close: Callable[[BaseException | None], None],
) -> SdkStream:
    """A stream object whose next ``run()`` is exactly one session.

    Args:
        endpoint: Names the SDK's class.
        url: Whole URL of the stream.
        credentials: The key pair.
        websocket_params: Replaces the SDK's own.
        on_close: Told, each time the SDK closes the connection, of the exception it handles.
    """
    base: Any = getattr(sdk, endpoint.stream_class)

    class OneSession(base):  # type: ignore[misc]  # the class is chosen at run time
        async def close(self) -> None:
            on_close(sys.exception())
            try:
                await super().close()
            finally:
                # The SDK would reconnect by itself; when to do that is not its decision.
                await super().stop_ws()

    stream: SdkStream = OneSession(
        credentials.key.get_secret_value(),
        credentials.secret.get_secret_value(),
        raw_data=True,
        url_override=url,
        websocket_params=dict(websocket_params),
    )
    return stream


def run_stream(stream: SdkStream) -> None:
    """Run one session on the calling thread, with an event loop of its own."""
    ident = threading.get_ident()
    _filter.ours.add(ident)
    try:
        stream.run()
    except AttributeError as exc:
        # The SDK stops a loop that it could not make; why it could not is what went before.
        if isinstance(exc.__context__, OSError):
            raise exc.__context__ from None
        raise
    finally:
        _filter.ours.discard(ident)
