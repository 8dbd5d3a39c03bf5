"""Which faults are switched on: what the simulator's own parts ask before they act."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from realtime_stream.simulator.fault_rules import DataTerms, next_of
from realtime_stream.simulator.rest_fault_state import RestFaultState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from realtime_stream.simulator.fault_rules import (
        Countdown,
        ErrorRule,
        ErrorStage,
        HttpRefusal,
        Stage,
        SubscriptionRefusal,
    )
    from realtime_stream.simulator.wire import Message

__all__ = ["FaultState"]


class FaultState:
    """The faults as they stand.

    Attributes:
        rest: Those of the REST side.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self) -> None:
        """Without faults."""
        self.rest = RestFaultState()
        self._lock = threading.Lock()  # guards everything below; held for no callback
        self._reset()

    def _reset(self) -> None:
        self.rest.reset()
        self._http: HttpRefusal | None = None
        self._auth: ErrorRule | None = None
        self._subscriptions: list[SubscriptionRefusal] = []
        self._silent: Stage | None = None
        self._answer_delays: dict[Stage, float] = {}
        self._errors: dict[ErrorStage, list[ErrorRule]] = {}
        self._lost_acknowledgements: Countdown | None = None
        self._refusing = False
        self._garbage: bytes | None = None
        self._unacknowledged: frozenset[str] = frozenset()
        self._slot_hold = 0.0
        self._read_rate: float | None = None
        self._ignoring_pings = False
        self._data_terms = DataTerms((), 0.0)
        self._skew_ns = 0
        self._duplicate_every = 0
        self._until_duplicate = 0
        self._reorder_window = 0
        self._shuffler = random.Random(0)  # noqa: S311  # the same disorder each time, no secret

    def is_silent_at(self, stage: Stage) -> bool:
        """Whether this step is not answered."""
        with self._lock:
            return self._silent == stage

    def answer_delay(self, stage: Stage) -> float:
        """Seconds by which answers of this step come later."""
        with self._lock:
            return self._answer_delays.get(stage, 0.0)

    @property
    def delays_answers(self) -> bool:
        """Whether the answers of any step come later."""
        with self._lock:
            return bool(self._answer_delays)

    @property
    def refusing_connections(self) -> bool:
        """Whether new connections are refused."""
        with self._lock:
            return self._refusing

    @property
    def greeting(self) -> bytes | None:
        """What to send instead of "connected"."""
        with self._lock:
            return self._garbage

    @property
    def unacknowledged(self) -> frozenset[str]:
        """Symbols to leave out."""
        with self._lock:
            return self._unacknowledged

    @property
    def slot_hold(self) -> float:
        """Seconds for which the place of a connection that has ended stays taken."""
        with self._lock:
            return self._slot_hold

    @property
    def read_rate(self) -> float | None:
        """Bytes a second that are read of each connection; ``None`` is as they come."""
        with self._lock:
            return self._read_rate

    @property
    def ignoring_pings(self) -> bool:
        """Whether pings are not answered."""
        with self._lock:
            return self._ignoring_pings

    @property
    def data_terms(self) -> DataTerms:
        """On which terms data are published now."""
        with self._lock:
            return self._data_terms

    def next_http_refusal(self) -> HttpRefusal | None:
        """How to refuse this upgrade, if at all; uses the fault up once."""
        with self._lock:
            return self._http if self._http is not None and self._http.use() else None

    def next_auth_refusal(self) -> tuple[int, str | None] | None:
        """Code and text to refuse this authentication with; uses the fault up once."""
        with self._lock:
            if self._auth is not None and self._auth.use():
                return self._auth.code, self._auth.text
            return None

    def next_subscription_refusal(self, wanted: Collection[tuple[str, str]]) -> int | None:
        """Code to refuse this request with; uses the fault up once."""
        with self._lock:
            for rule in self._subscriptions:
                if rule.matches(wanted) and rule.use():
                    return rule.code
            return None

    def next_lost_acknowledgement(self) -> bool:
        """Whether this acknowledgement is not sent; uses the fault up once."""
        with self._lock:
            return self._lost_acknowledgements is not None and self._lost_acknowledgements.use()

    def next_error_at(self, stage: ErrorStage) -> tuple[int, str | None] | None:
        """Code and text of an error to send at this step; uses the fault up once."""
        with self._lock:
            rule = next_of(self._errors.get(stage, ()))
            return None if rule is None else (rule.code, rule.text)

    def disturbed(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages of one publication as they are to be written: skewed, shuffled, twice."""
        with self._lock:
            if self._skew_ns:
                messages = [message.shifted(self._skew_ns) for message in messages]
            if self._reorder_window:
                messages = self._shuffled(messages)
            if self._duplicate_every:
                messages = self._with_copies(messages)
            return messages

    def _shuffled(self, messages: Sequence[Message]) -> list[Message]:
        shuffled: list[Message] = []
        for begin in range(0, len(messages), self._reorder_window):
            window = list(messages[begin : begin + self._reorder_window])
            self._shuffler.shuffle(window)
            shuffled += window
        return shuffled

    def _with_copies(self, messages: Sequence[Message]) -> list[Message]:
        written: list[Message] = []
        for message in messages:
            written.append(message)
            self._until_duplicate -= 1
            if self._until_duplicate == 0:
                written.append(message)
                self._until_duplicate = self._duplicate_every
        return written
