"""Which of two versions of a minute's bar is the newer one: the feed's, or that of history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.runtime.stretch import CLOCKS_DIFFER_NS, MINUTE_NS, UPDATED_AFTER_NS

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar

__all__ = ["may_be_news", "same"]


def same(one: Bar, other: Bar) -> bool:
    """Whether two bars say the same; their average prices may be rounded differently."""
    return (one.open, one.high, one.low, one.close, one.volume, one.trade_count) == (
        other.open,
        other.high,
        other.low,
        other.close,
        other.volume,
        other.trade_count,
    )


def may_be_news(live: Bar, past: Bar, asked_ns: int, lag_ns: int) -> bool:
    """Whether a bar of the feed may say more than what history said.

    History may have known what it knows a while later, or what it knew a while before. Nothing is
    lost by taking what may be news: whatever the feed says after it comes as well, or the
    connection is lost first, and history is asked again.

    Args:
        live: The feed's bar.
        past: That of history.
        asked_ns: When history was asked.
        lag_ns: By when history has what the feed has sent.
    """
    end_ns = live.timestamp_ns + MINUTE_NS
    # What was seen first of a minute may have been its update, and a regular bar that history had
    # known a part of is delivered as one.
    is_update = live.received_ns >= end_ns + UPDATED_AFTER_NS - CLOCKS_DIFFER_NS
    is_changed = live.bar_kind == "updated"
    may_be_unheard = live.received_ns > asked_ns - lag_ns
    if is_changed and is_update:
        return may_be_unheard
    may_be_part = end_ns > asked_ns - CLOCKS_DIFFER_NS  # not over yet for the exchange
    return live.volume > past.volume and (
        may_be_part or (may_be_unheard and (is_changed or is_update))
    )
