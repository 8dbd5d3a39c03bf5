"""What validation found fault with: counted, logged, kept and told."""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.ports import RejectedEvent
from realtime_stream.resilience.failures import harmless
from realtime_stream.runtime.log import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import MarketEvent, Trade
    from realtime_stream.market.validation import Validator, Verdict
    from realtime_stream.runtime.log import EventLog

__all__ = ["Screen"]

_MAX_FINDINGS: Final = 10_000


class Screen:
    """Lets events through that stand up to validation, and keeps account of the others.

    Thread safety: used by the dispatch thread; other threads only read the accounts.

    Attributes:
        checks: Per channel, what finds fault with an event: see
            :class:`~realtime_stream.market.validation.Validator`.
        findings: Rejected and flagged events, by rule and symbol. After 10,000 pairs, those of
            further ones are counted under ``*``.
        kept: The last events rejected.
    """

    def __init__(
        self,
        *,
        validator: Validator,
        log: EventLog,
        clock: Clock,
        keep: int,
        tell: Callable[[RejectedEvent], None],
        log_interval: float,
    ) -> None:
        """Start with empty accounts.

        Args:
            validator: What finds fault; it remembers what was seen before.
            log: Where reports go.
            clock: Only its monotonic time is used.
            keep: How many rejected events are kept.
            tell: Told of each event that is rejected or flagged.
            log_interval: Seconds between two records about the same rule.
        """
        self._validator = validator
        self._log = log
        self._throttle = Throttle(clock, log_interval)
        self._tell = tell
        self.checks = self._validator.checks
        self.findings: Counter[tuple[str, str]] = Counter()
        self.kept: deque[RejectedEvent] = deque(maxlen=keep)

    def judge(self, event: MarketEvent, verdict: Verdict) -> bool:
        """Enter a verdict into the accounts and report it; whether the event may be delivered."""
        key = (verdict.rule, event.symbol)
        if len(self.findings) >= _MAX_FINDINGS and key not in self.findings:
            key = (verdict.rule, ALL_SYMBOLS)
        self.findings[key] += 1
        found = RejectedEvent(
            event, verdict.rule, verdict.field, verdict.value, verdict.rejected, verdict.message
        )
        if verdict.rejected:
            self.kept.append(found)
            self._report("realtime_event_rejected", event, verdict)
        else:
            self._report("realtime_event_flagged", event, verdict)
        self._tell(found)
        return not verdict.rejected

    def knows(self, trade: Trade) -> bool:
        """Whether a trade was seen before."""
        return self._validator.knows(trade)

    def remember(self, trade: Trade) -> None:
        """Take note of a trade that came another way."""
        self._validator.remember(trade)

    def _report(self, name: str, event: MarketEvent, verdict: Verdict) -> None:
        suppressed = self._throttle.turn(f"{name} {verdict.rule}")
        if suppressed is None:
            return
        details: dict[str, object] = {}
        if self._log.is_debug():  # symbols and prices may tell a strategy
            details = {
                "symbol": harmless(event.symbol),
                "timestamp_ns": event.timestamp_ns,
                "value": harmless(str(verdict.value)),
                "reason": harmless(verdict.message),
            }
        self._log.write(
            logging.WARNING,
            name,
            None,
            channel=event.channel,
            rule=verdict.rule,
            field=verdict.field,
            suppressed=suppressed,
            **details,
        )
