"""Routing: which session gets which messages, with the faults of data, and the ledger of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from realtime_stream.simulator.delay_line import DelayLine
from realtime_stream.simulator.garbage import GARBAGE, market_events, raw_frame
from realtime_stream.simulator.samples import default_subject, subject_of
from realtime_stream.simulator.wire import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from realtime_stream.simulator.fault_rules import DataTerms
    from realtime_stream.simulator.fault_state import FaultState
    from realtime_stream.simulator.history import History
    from realtime_stream.simulator.ledger import Ledger
    from realtime_stream.simulator.observation import Observation
    from realtime_stream.simulator.samples import Subject
    from realtime_stream.simulator.session import Session
    from realtime_stream.simulator.wire import Message

__all__ = ["Publisher"]


class Publisher:
    """Thread safety: used by the simulator's thread only."""

    def __init__(
        self,
        faults: FaultState,
        observation: Observation,
        ledger: Ledger,
        *,
        history: History,
        audience: Callable[[str | None, str | None], Sequence[Session]],
    ) -> None:
        """Args: ``audience`` tells the authenticated sessions of a market and feed, or of any."""
        self._faults = faults
        self._observation = observation
        self._ledger = ledger
        self._history = history
        self._audience = audience
        self._line = DelayLine()

    def play(self, messages: Sequence[Message], market: str, feed: str | None, at_ns: int) -> None:
        """Publish with the faults of now; ``at_ns`` is the time of the playback."""
        self._history.record(messages, market, at_ns)
        self.publish(self._faults.disturbed(messages), market, feed, self._faults.data_terms)

    def publish(
        self, messages: Sequence[Message], market: str, feed: str | None, terms: DataTerms
    ) -> None:
        """Write each session its share of the messages in one frame, and enter them all."""
        muted = terms.muted(market, messages)
        self._line.put(
            terms.delay, lambda: self._write(messages, muted, self._audience(market, feed))
        )

    def publish_raw(self, data: bytes | str, terms: DataTerms) -> None:
        """Write this frame to every authenticated session."""
        self._to_everyone(lambda session: session.write_data(data), terms, raw=True)

    def send_garbage(self, kind: str, terms: DataTerms) -> None:
        """Write a frame of this kind to every authenticated session."""
        if GARBAGE[kind].events:
            self._to_everyone(lambda session: self._send_events(kind, session, terms), terms)
        else:
            self._to_everyone(lambda session: self._send_garbage(kind, session), terms, raw=True)

    def faults_changed(self) -> None:
        """What is delayed may be due now."""
        if self._faults.data_terms.delay == 0:
            self._line.flush()

    def flush(self) -> None:
        """Write what is delayed."""
        self._line.flush()

    def _write(
        self, messages: Sequence[Message], muted: Collection[int], sessions: Sequence[Session]
    ) -> None:
        counts = [0] * len(messages)
        frames: list[tuple[Session, bytes | str]] = []
        for session in sessions:
            wants = session.subscriptions.wants
            wanted = [n for n, each in enumerate(messages) if n not in muted and wants(each)]
            if wanted and session.writable:
                codec = session.codec
                encoded = [messages[n].encoded(codec) for n in wanted]
                frames.append((session, encode_frame(encoded, codec)))
                for n in wanted:
                    counts[n] += 1
        # Before they are written: whoever has received a message finds it in the ledger.
        self._ledger.record(zip(messages, counts, strict=True))
        for session, frame in frames:
            session.write_data(frame)
        self._observation.touch()

    def _to_everyone(
        self, send: Callable[[Session], None], terms: DataTerms, *, raw: bool = False
    ) -> None:
        def send_to_all() -> None:
            for session in self._audience(None, None):
                if not (raw and terms.mute_all(session.endpoint.market.name)):
                    send(session)

        self._line.put(terms.delay, send_to_all)

    def _send_events(self, kind: str, session: Session, terms: DataTerms) -> None:
        market = session.endpoint.market.name
        subject = subject_of(market, session.subscriptions.pairs())
        if subject is not None:
            messages = market_events(kind, session.codec, subject, self._newest(subject))
            self._write(messages, terms.muted(market, messages), [session])

    def _send_garbage(self, kind: str, session: Session) -> None:
        market = session.endpoint.market.name
        subject = subject_of(market, session.subscriptions.pairs()) or default_subject(market)
        session.write_garbage(raw_frame(kind, session.codec, subject, self._newest(subject)))

    def _newest(self, subject: Subject) -> int:
        """Time after which made-up events fit into what was published."""
        return self._ledger.newest_ns(subject.channel, subject.symbol) or time.time_ns()
