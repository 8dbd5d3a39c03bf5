"""The workers of one run that store bars, one per sink."""

from __future__ import annotations

import random
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from realtime_stream.errors import ConfigurationError, StreamingError
from realtime_stream.runtime.bar_ends import BarEnds
from realtime_stream.runtime.latency import LatencyMeter
from realtime_stream.runtime.sink_worker import SinkWorker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.ports import Sink, SinkInfo
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.run import Surroundings

__all__ = ["Storage", "TargetedSink", "checked_sinks"]

_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_MOVED: Final = 100_000  # bars moved in a second, by a machine that does other things


class TargetedSink(Protocol):
    """What a :class:`~realtime_stream.ports.Sink` may have besides."""

    @property
    def target(self) -> str:
        """Which of the places that such sinks write to this one writes to; ``[a-z0-9-]+``.

        Part of the name of its spool folder, so that what waits there is never stored elsewhere.
        It must be the same in every run, and hold no secret.
        """


def checked_sinks(sinks: Iterable[Sink]) -> tuple[Sink, ...]:
    """The sinks, if their names can be told apart.

    Raises:
        ConfigurationError: Two have one name, or one has a name or a target that is none.
    """
    try:
        found = tuple(sinks)
        names: list[object] = [sink.name for sink in found]
        targets: list[object] = [getattr(sink, "target", "") for sink in found]
    except (TypeError, AttributeError) as exc:
        msg = "sinks must be a list of sinks: objects with name, write and close"
        raise ConfigurationError(msg) from exc
    for name in names:
        if not _is_name(name) or names.count(name) > 1:
            msg = f"sinks: names must differ and be like sql-2, not {ascii(name)[:50]}"
            raise ConfigurationError(msg)
    for target in targets:
        if target != "" and not _is_name(target):  # not shown: who mistakes it may put a URL there
            msg = "sinks: a target must be like bars-2, of at most 40 characters"
            raise ConfigurationError(msg)
    return found


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _folder(sink: Sink) -> str:
    """The name of its folder: its own, and that of its target if it tells."""
    target: str = getattr(sink, "target", "")
    return f"{sink.name}-{target}" if target else sink.name


class Storage:
    """Starts, feeds and ends the workers.

    Thread safety: :attr:`workers`, :meth:`threads` and :meth:`infos` may be used from any thread;
    the rest by those who start and end the run.
    """

    def __init__(self, around: Surroundings, inbox: Inbox, log: EventLog) -> None:
        """Take up what earlier runs have left on disk; no thread runs yet.

        Raises:
            ConfigurationError: A folder is in use, or cannot be used.
        """
        self._workers: dict[str, SinkWorker] = {}
        with ExitStack() as undo:  # a worker holds its folder from the moment it is made
            for sink in around.sinks:
                worker = self._new_worker(sink, around, inbox, log)
                undo.callback(worker.stop, around.clock.monotonic())
                self._workers[sink.name] = worker
            undo.pop_all()

    @staticmethod
    def _new_worker(sink: Sink, around: Surroundings, inbox: Inbox, log: EventLog) -> SinkWorker:
        config = around.config
        return SinkWorker(
            sink,
            manager=around.name,
            folder=config.spool / (config.name or config.market) / _folder(sink),
            latency=LatencyMeter(config.latency_alarm),
            bar_end_ns=BarEnds(around.calendar, config.bar_alignment),
            clock=around.clock,
            data_clock=around.data_clock,
            rng=random.Random(),  # noqa: S311  # jitter, not cryptography
            tell=inbox.put,
            log=log,
        )

    @property
    def workers(self) -> tuple[SinkWorker, ...]:
        """One per sink, in the order of the sinks."""
        return tuple(self._workers.values())

    def start(self) -> None:
        """Start the threads.

        Raises:
            StreamingError: The system gives no more threads.
        """
        for worker in self.workers:
            try:
                worker.start()
            except RuntimeError as exc:
                msg = "the system gives no more threads"
                raise StreamingError(msg) from exc

    def end(self, deadline: float) -> None:
        """Store what waits until ``deadline`` (monotonic seconds); the rest is on disk then."""
        waiting = sum(worker.info().queued for worker in self.workers)
        for worker in self.workers:
            worker.begin_stop(deadline, moving=waiting / _MOVED)
        for worker in self.workers:  # of all, before one that lingers takes the time of the others
            worker.take_over()
        for worker in self.workers:
            worker.join()

    def join(self, deadline: float) -> None:
        """Wait for threads that linger in their sinks, until ``deadline`` (monotonic seconds)."""
        for worker in self._workers.values():
            if worker.alive:
                worker.join(deadline)

    def threads(self) -> tuple[str, ...]:
        """Names of the threads that are alive."""
        return tuple(worker.thread_name for worker in self.workers if worker.alive)

    def infos(self) -> dict[str, SinkInfo]:
        """How each sink stands, by name."""
        return {name: worker.info() for name, worker in self._workers.items()}
