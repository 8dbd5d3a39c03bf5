"""Runs the clients against the server, each in a fresh process, taking turns."""

from __future__ import annotations

import contextlib
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

from benchmarks.clients import CLIENTS, ClientName, Host, Received, run_client
from benchmarks.server import Sent, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext, SpawnProcess

    from benchmarks.feeds import Feed

__all__ = ["BenchmarkError", "Run", "interleaved", "positive"]

_SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")
_DEADLINE: Final = 60.0  # seconds that one session may take, beside its feed
_ENDING: Final = 10.0  # seconds in which a process that has reported should end


class BenchmarkError(Exception):
    """A run that measured nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One session, seen from both of its ends."""

    client: ClientName
    sent: Sent
    received: Received


def positive(text: str) -> int:
    """An option's value: a whole number above 0."""
    number = int(text)
    if number < 1:
        msg = "must be above 0"
        raise ValueError(msg)
    return number


def interleaved(feed: Feed, host: Host, runs: int) -> Iterator[Run]:
    """Every client once, then every client again, ``runs`` times.

    Whatever the machine does meanwhile meets all clients alike.

    Raises:
        BenchmarkError: A client did not get every quote, or a process ended early.
    """
    turns = [client for _ in range(runs) for client in CLIENTS]
    limit = feed.seconds + _DEADLINE
    with _process(serve, feed, len(turns)) as server:
        (port,) = _reports(limit, server)
        for client in turns:
            with _process(run_client, client, f"ws://127.0.0.1:{port}/v2/sip", host) as process:
                received, sent = _reports(limit, process, server)
            if received.quotes != feed.quotes:
                msg = f"{client} got {received.quotes} quotes of {feed.quotes}"
                raise BenchmarkError(msg)
            yield Run(client, sent, received)


@contextlib.contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """A fresh process, and what it reports; it is ended with the block."""
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process: SpawnProcess = _SPAWN.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its end is seen here
    try:
        yield ours
        process.join(_ENDING)
    finally:
        process.kill()
        process.join()
        ours.close()


def _reports(limit: float, *sources: Connection) -> list[Any]:
    """The next report of each, whichever comes first; a process that has ended has none."""
    found: dict[Connection, Any] = {}
    while len(found) < len(sources):
        ready = wait([source for source in sources if source not in found], limit)
        if not ready:
            msg = f"nothing was heard for {limit:.0f} s"
            raise BenchmarkError(msg)
        for source in sources:
            if source in ready:
                try:
                    found[source] = source.recv()
                except EOFError:
                    msg = "a process has ended early; its own message stands above"
                    raise BenchmarkError(msg) from None
    return [found[source] for source in sources]
