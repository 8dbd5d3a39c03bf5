"""What to do about each kind of fault."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RULES", "Action", "ValidationPolicy"]

Action: TypeAlias = Literal["reject", "flag", "pass"]


class ValidationPolicy(BaseModel):
    """One action for each rule: ``reject``, ``flag`` or ``pass``.

    A rejected event is kept from everybody and reported. A flagged one is reported and delivered.
    A rule that passes is not applied at all. An event with several faults is reported once: for the
    first that rejects it, or else for the first that flags it.

    Attributes:
        incomplete: A price, size or volume is missing, or is no ``Decimal``.
        not_finite: One of them is not a number, or infinite.
        not_positive: A price of a bar or a trade is 0 or less.
        negative_price: A price of a quote, or a volume-weighted average price, is below 0.
        negative_size: A size, volume or number of trades is below 0.
        implausible: A price is not 0 and below 1e-18, not below 1e16, or has more than 28 digits; a
            size or volume is not 0 and below 1e-18, or not below 1e19. Such a figure is garbled,
            and arithmetic with it overflows or loses digits.
        bad_symbol: The symbol is empty, longer than 32 characters, or has others than ASCII
            letters, digits and ``. / : _ -``.
        inconsistent: A bar in which ``low <= open <= high`` or ``low <= close <= high`` is false.
        zero_volume: A bar without volume. Two kinds are legitimate: those of crypto that count no
            trade either (their prices are quote mid-prices), and those that are marked as filled.
        zero_size: A trade of nothing.
        misaligned: A time bar does not start where one of its timeframe can: a multiple of the
            timeframe counted from midnight (UTC, for stocks and options also New York, or 09:30
            there); a daily bar at midnight in New York, in crypto at midnight UTC (or Chicago, as
            Alpaca's did until July 2025).
        out_of_order: A bar that starts before the last one of its symbol, channel and timeframe.
            Updated bars, and bars marked as late, may always be older.
        out_of_order_ticks: A quote or trade that is older than the last one of its symbol.
            Exchanges report trades late, so that this happens every day.
        duplicate: A trade with the id, venue and time of one seen before; a regular or updated bar
            that says the same as the one before it.
        conflicting: A second regular bar for the same interval, which says something else.
        from_the_future: What an event tells of (for a bar within the day, its end) is later than
            its receipt by more than ``future_tolerance``.
        crossed: The ask is below the bid.
        locked: The ask equals the bid.
        one_sided: A quote of which one side, or both, has a price of 0, which means that there is
            none.
        outlier: A trade's price, or a regular bar's high or low, is farther from the rolling median
            than ``outlier_limit``.
        future_tolerance: Seconds. It makes up for a clock that is behind the exchange's.
        outlier_limit: Highest distance from the median, as a fraction of it: 0.2 allows 20 %.
            ``None`` switches the rule off.
        outlier_window: How many prices the median is taken of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    incomplete: Action = "reject"
    not_finite: Action = "reject"
    not_positive: Action = "reject"
    negative_price: Action = "reject"
    negative_size: Action = "reject"
    implausible: Action = "reject"
    bad_symbol: Action = "reject"
    inconsistent: Action = "reject"
    zero_volume: Action = "reject"
    zero_size: Action = "reject"
    misaligned: Action = "reject"
    out_of_order: Action = "reject"
    out_of_order_ticks: Action = "pass"
    duplicate: Action = "reject"
    conflicting: Action = "flag"
    from_the_future: Action = "reject"
    crossed: Action = "reject"
    locked: Action = "pass"
    one_sided: Action = "pass"
    outlier: Action = "flag"
    future_tolerance: float = Field(default=5.0, ge=0, le=86_400)
    outlier_limit: float | None = Field(default=None, gt=0, le=1_000)
    outlier_window: int = Field(default=31, ge=5, le=1_001)

    def action(self, rule: str) -> Action:
        """What to do about a fault.

        Raises:
            KeyError: There is no such rule.
        """
        if rule not in RULES:
            raise KeyError(rule)
        action: Action = getattr(self, rule)
        return action


RULES: Final[tuple[str, ...]] = tuple(
    name
    for name in ValidationPolicy.model_fields
    if name not in {"future_tolerance", "outlier_limit", "outlier_window"}
)
