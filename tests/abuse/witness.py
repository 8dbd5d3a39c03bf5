"""What a manager says of itself, run by run, and whether that adds up.

The witness is a well-behaved listener that was registered first. When a run begins it opens an
``events()`` iterator, so that it has every event the run delivers; when a run ends it looks at the
status. It learns nothing of the end of a run in which a callback raised ``SystemExit``, because
then nothing more is called.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from realtime_stream import (
    ConnectionState,
    LifecycleState,
    StateChange,
    StreamFailedError,
)
from realtime_stream.runtime.states import CONNECTION_TABLE, LIFECYCLE_TABLE
from tests.abuse.scripts import ANCHOR

if TYPE_CHECKING:
    from realtime_stream import (
        ConnectionEvent,
        EventStream,
        Gap,
        MarketEvent,
        RealTimeStreamManager,
        Status,
    )

__all__ = ["RunRecord", "Witness"]

_MOVES: Final = frozenset({
    *(("lifecycle", before.value, after.value) for (before, _), after in LIFECYCLE_TABLE.items()),
    *(("connection", before.value, after.value) for (before, _), after in CONNECTION_TABLE.items()),
})
_FIRST: Final[dict[str, object]] = {
    "lifecycle": LifecycleState.STOPPED,
    "connection": ConnectionState.DISCONNECTED,
}
_TAKEN: Final = 10.0  # seconds to wait for an event that must come


@dataclass(eq=False)
class RunRecord:
    """One run.

    Attributes:
        stream: Sees every event delivered; ``None`` if the run had failed before it could be had.
        known_ns: Time of the anchor's last trade that was known when the run began: what a
            ``restart()`` has kept.
        whole: How many events had been delivered at each moment at which a session settled.
        final: The status when the run ended; ``None`` if nobody was told of the end.
        gaps: All gaps known then.
        tape: Everything delivered, in order.
    """

    stream: EventStream | None
    known_ns: int | None
    whole: list[int] = field(default_factory=list)
    final: Status | None = None
    gaps: tuple[Gap, ...] = ()
    tape: list[MarketEvent] = field(default_factory=list)

    def take(self, count: int) -> None:
        """Wait for so many more events."""
        assert self.stream is not None
        for _ in range(count):
            event = next(self.stream, None)
            assert event is not None, f"only {len(self.tape)} events came"
            self.tape.append(event)


class _StateLog(logging.Handler):
    """Collects the moves that the log tells of."""

    def __init__(self, manager: str) -> None:
        super().__init__()
        self._manager = manager
        self.moves: Counter[tuple[str, str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.__dict__
        if record.msg == "realtime_feed_state_changed" and fields["manager"] == self._manager:
            self.moves[fields["machine"], fields["previous"], fields["current"]] += 1


class Witness:
    """Thread safety: its listeners run on the dispatch thread; everything else afterwards."""

    def __init__(self, manager: RealTimeStreamManager, name: str) -> None:
        self._manager = manager
        self._condition = threading.Condition()  # wakes who waits for a run to settle
        self.runs: list[RunRecord] = []
        self.changes: list[StateChange] = []
        self.wrong: list[str] = []
        self.log = _StateLog(name)
        manager.on_state_change(self._on_change)
        manager.on_connect(self._on_connect)

    def _on_change(self, change: StateChange) -> None:
        self.changes.append(change)
        if change.current is LifecycleState.STARTING:
            self._begin()
        elif change.current in {LifecycleState.STOPPED, LifecycleState.FAILED}:
            self._end()

    def _begin(self) -> None:
        try:
            last = self._manager.latest_trade(ANCHOR)
            stream = self._manager.events(timeout=_TAKEN)
        except StreamFailedError:  # so soon
            self.runs.append(RunRecord(None, None))
        else:
            self.runs.append(RunRecord(stream, None if last is None else last.timestamp_ns))

    def _end(self) -> None:
        run = self.runs[-1]
        run.final, run.gaps = self._manager.status(), self._manager.gaps()

    def _on_connect(self, _: ConnectionEvent) -> None:
        delivered = sum(self._manager.status().delivered.values())
        with self._condition:
            self.runs[-1].whole.append(delivered)
            self._condition.notify_all()

    def wait_settled(self, runs: int, timeout: float) -> bool:
        """Wait until the run after the first ``runs`` of them has had a session."""
        with self._condition:
            return self._condition.wait_for(
                lambda: len(self.runs) > runs and bool(self.runs[-1].whole), timeout
            )

    def read_tapes(self) -> None:
        """Take everything that the streams still hold; the manager is stopped."""
        for run in self.runs:
            run.tape.extend(run.stream or ())

    def check_moves(self) -> None:
        """Only moves of the tables, one after the other; and all of them, unless some were dropped.

        Dropped are, in the reports, what a callback's exit leaves unsaid, and moves of the
        connection after the time that a stop has for delivery. The log has them all.
        """
        told = Counter((c.machine, c.previous.value, c.current.value) for c in self.changes)
        assert not self.log.moves.keys() - _MOVES, "moves that no table has"
        assert told <= self.log.moves, "moves that were reported and not logged"
        exits = any(run.final is None for run in self.runs)
        late = any(run.final is not None and run.final.reports_dropped for run in self.runs)
        if exits:
            return
        assert _is_chain([c for c in self.changes if c.machine == "lifecycle"])
        if not late:
            assert _is_chain([c for c in self.changes if c.machine == "connection"])
            assert told == self.log.moves, "moves that were logged and not reported"

    def check_counters(self) -> None:
        """Every run by itself; see the equations of the test module."""
        for run in self.runs:
            status = run.final
            if status is None:
                continue
            delivered = sum(status.delivered.values())
            known = delivered + sum(status.dropped.values()) + status.undelivered
            assert status.in_inbox == 0
            assert status.received == known, status
            assert status.queue_dropped == 0
            if run.stream is not None:
                assert len(run.tape) == delivered, (len(run.tape), status)
                assert dict(Counter(e.channel for e in run.tape)) == dict(status.delivered)


def _is_chain(changes: list[StateChange]) -> bool:
    before: object = None
    for change in changes:
        if before is None:
            before = _FIRST[change.machine]
        if change.previous is not before:
            return False
        before = change.current
    return True
