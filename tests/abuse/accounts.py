"""What the simulator's ledger says against what the runs of one manager delivered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from realtime_stream import ConnectionState, LifecycleState, Status
from realtime_stream.cli.accounts import Sent, balance
from tests.abuse.scripts import ANCHOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from realtime_stream import Gap, MarketEvent
    from realtime_stream.simulator import LedgerEntry
    from tests.abuse.witness import RunRecord

__all__ = ["check_anchor", "check_order", "check_totals"]

Key = tuple[str, str, int]
_NOTHING: Final = Status(LifecycleState.STOPPED, ConnectionState.DISCONNECTED)


def _key(event: MarketEvent) -> Key:
    return event.channel, event.symbol, event.timestamp_ns


def check_order(runs: Sequence[RunRecord], ledger: Sequence[LedgerEntry]) -> None:
    """Each delivered event was written to a session, and comes once and in order."""
    written = {(e.channel, e.symbol, e.t_ns) for e in ledger if e.sessions}
    newest: dict[tuple[str, str], int] = {}
    for event in (event for run in runs for event in run.tape):
        assert _key(event) in written, event
        series = event.channel, event.symbol
        assert newest.get(series, 0) < event.timestamp_ns, event
        newest[series] = event.timestamp_ns


def check_totals(runs: Sequence[RunRecord], ledger: Sequence[LedgerEntry], raw: int) -> None:
    """No more is received and rejected than was written, data and other frames together.

    A malformed message that nobody has decoded when a run ends counts as received.
    """
    written = sum(entry.sessions for entry in ledger)
    ended = [run.final for run in runs if run.final is not None]
    received = sum(status.received for status in ended)
    rejected = sum(status.rejected for status in ended)
    assert rejected <= raw, (rejected, raw)
    assert received + rejected <= written + raw, (received, rejected, written, raw)


@dataclass(frozen=True, slots=True)
class _Span:
    """Runs between two of which nothing was forgotten, seen from the anchor's trades."""

    runs: list[RunRecord]

    @property
    def tape(self) -> list[MarketEvent]:
        return [e for run in self.runs for e in run.tape if _key(e)[:2] == ("trades", ANCHOR)]

    def whole_ns(self) -> int:
        """Time of the last trade that had been delivered when a session settled."""
        found = 0
        for run in self.runs:
            for count in run.whole:
                for event in run.tape[:count]:
                    if _key(event)[:2] == ("trades", ANCHOR):
                        found = max(found, event.timestamp_ns)
        return found

    @property
    def known(self) -> bool:
        """Whether the end of each run was told."""
        return all(run.final is not None for run in self.runs)

    @property
    def given_up(self) -> int:
        """Events dropped or undelivered, of any key, in the runs whose end was told."""
        ended = [run.final for run in self.runs if run.final is not None]
        return sum(sum(s.dropped.values()) + s.undelivered for s in ended)


def _spans(runs: Sequence[RunRecord]) -> Iterator[_Span]:
    span: list[RunRecord] = []
    for run in runs:
        if span and (run.known_ns is None or span[-1].stream is None):
            yield _Span(span)
            span = []
        span.append(run)
    if span:
        yield _Span(span)


def check_anchor(
    runs: Sequence[RunRecord],
    ledger: Sequence[LedgerEntry],
    *,
    all_written: bool,
    overflows: bool,
) -> None:
    """The anchor's trades between its first and last delivered one are all accounted for.

    Args:
        runs: Of one manager.
        ledger: Everything published.
        all_written: Whether what went into no session did so because there was none; ``False`` if
            the server may have held data back from a session that stood.
        overflows: Whether the inbox is small: what it dropped in a run without an end is unknown.
    """
    for span in _spans(runs):
        if span.runs[-1].final is None or (overflows and not span.known):
            continue
        tape = span.tape
        end_ns = tape[-1].timestamp_ns if span.runs[-1] is runs[-1] and tape else span.whole_ns()
        within = [
            Sent(e.channel, e.symbol, e.t_ns)
            for e in ledger
            if (e.channel, e.symbol) == ("trades", ANCHOR)
            and e.t_ns is not None
            and tape
            and tape[0].timestamp_ns <= e.t_ns <= end_ns
            and (e.sessions or all_written)
        ]
        # What a run knew at its beginning was delivered by the one before, if a callback that
        # exited kept it from the tape.
        delivered = {event.timestamp_ns for event in tape} | {run.known_ns for run in span.runs}
        missing = [sent for sent in within if sent.t_ns not in delivered]
        gaps = span.runs[-1].gaps
        assert not _in_gaps((sent for sent in within if sent.t_ns in delivered), gaps)
        unexplained = len(missing) - _in_gaps(missing, gaps)
        assert unexplained <= span.given_up, (missing, gaps, span.given_up)


def _in_gaps(sent: Iterable[Sent], gaps: Sequence[Gap]) -> int:
    return balance(sent, gaps, _NOTHING).in_gaps
