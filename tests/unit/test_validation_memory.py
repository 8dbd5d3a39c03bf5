from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.market.models import Bar, Quote, Trade
from realtime_stream.market.validation import ValidationPolicy, Validator, memory
from realtime_stream.market.validation.memory import (
    GENERATION,
    MAX_SYMBOLS,
    LastBars,
    SeenTrades,
    make_room,
)
from realtime_stream.market.validation.outliers import Outliers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.market.validation import Verdict

START = 1_790_000_040_000_000_000
MINUTE = 60 * 10**9


def trade(number: int, price: str | int = 100, symbol: str = "AAPL", venue: str = "V") -> Trade:
    return Trade(
        symbol=symbol,
        timestamp_ns=START + number,
        price=Decimal(price),
        size=Decimal(1),
        exchange=venue,
        trade_id=number,
    )


def test_trades_of_history_are_known_for_a_generation_and_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "GENERATION", 2)
    seen = SeenTrades()
    seen.remember(trade(1), 1)
    assert seen.knows(trade(1), 1)
    assert not seen.take(trade(1), 1)
    for number in (2, 3):
        assert seen.take(trade(number), number)
    assert seen.knows(trade(1), 1)
    assert not seen.take(trade(1), 1)
    assert not seen.knows(trade(4), 4)


def bar(number: int, low: int, close: int, high: int) -> Bar:
    return Bar(
        symbol="AAPL",
        timestamp_ns=START + number * MINUTE,
        open=Decimal(close),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=Decimal(1),
    )


# --- ids of trades ---


def take(seen: SeenTrades, trades: Iterable[Trade]) -> list[bool]:
    return [seen.take(each, each.trade_id) for each in trades if each.trade_id is not None]


def test_a_generation_of_trades_is_remembered_at_least() -> None:
    seen = SeenTrades()
    seen.take(trade(0), 0)
    assert all(take(seen, (trade(n, symbol=f"S{n % 7}") for n in range(1, GENERATION + 1))))
    assert not seen.take(trade(0), 0)  # of the generation before


def test_two_generations_back_is_forgotten() -> None:
    seen = SeenTrades()
    seen.take(trade(0), 0)
    assert all(take(seen, (trade(n, venue="KPZ"[n % 3]) for n in range(1, 2 * GENERATION))))
    assert seen.take(trade(0), 0)


def test_how_many_ids_are_kept_does_not_depend_on_the_number_of_symbols() -> None:
    seen = SeenTrades()
    for n in range(3 * GENERATION + 10):
        seen.take(trade(n, symbol=f"S{n}"), n)
    recent = range(2 * GENERATION, 3 * GENERATION + 10)
    assert not any(take(seen, (trade(n, symbol=f"S{n}") for n in recent)))
    assert seen.take(trade(GENERATION, symbol=f"S{GENERATION}"), GENERATION)


def test_an_id_used_again_at_another_time_is_a_new_trade() -> None:
    seen = SeenTrades()
    assert seen.take(trade(1), 1)
    assert seen.take(trade(2), 1)
    assert not seen.take(trade(2), 1)


def test_ids_may_be_text() -> None:
    seen = SeenTrades()
    assert seen.take(trade(1), "a-1")
    assert not seen.take(trade(1), "a-1")


# --- tables by symbol ---


def test_of_too_many_symbols_the_first_is_forgotten() -> None:
    table = dict.fromkeys(map(str, range(MAX_SYMBOLS)))
    make_room(table)
    assert len(table) == MAX_SYMBOLS - 1
    assert "0" not in table
    make_room(table)
    assert "1" in table


def test_the_memory_of_a_validator_is_bounded() -> None:
    validator = Validator(
        ValidationPolicy(out_of_order_ticks="flag", outlier_limit=0.5), market="stocks"
    )
    for n in range(MAX_SYMBOLS + 5):
        assert validator.check(trade(n, symbol=f"S{n}")) is None
    old = trade(-1, symbol="S0")
    assert validator.check(old) is None  # its last time is forgotten, as S0 was the first
    newest = validator.check(trade(-1, symbol=f"S{MAX_SYMBOLS + 4}"))
    assert newest is not None
    assert newest.rule == "out_of_order_ticks"


def test_a_symbol_is_known_again_after_there_were_too_many() -> None:
    validator = Validator(ValidationPolicy(), market="stocks")
    for n in range(MAX_SYMBOLS + 5):
        quote = Quote(
            symbol=f"S{n}",
            timestamp_ns=START,
            bid_price=Decimal(1),
            bid_size=Decimal(1),
            ask_price=Decimal(2),
            ask_size=Decimal(1),
        )
        assert validator.check(quote) is None
        assert validator.check(quote) is None


def test_the_newest_bar_of_a_series_is_kept() -> None:
    bars = LastBars()
    assert bars.last(bar(0, 1, 2, 3)) is None
    for number in (1, 3, 2):
        bars.put(bar(number, 1, 2, 3))
    last = bars.last(bar(9, 1, 2, 3))
    assert last is not None
    assert last.timestamp_ns == START + 3 * MINUTE
    bars.forget("AAPL")
    assert bars.last(bar(9, 1, 2, 3)) is None


# --- outliers ---


def outlying(prices: Iterable[str | int], **policy: Any) -> list[tuple[str, bool] | None]:
    validator = Validator(ValidationPolicy(**{"outlier_limit": 0.2, **policy}), market="stocks")
    verdicts = [validator.check(trade(n, price)) for n, price in enumerate(prices)]
    return [_told(verdict) for verdict in verdicts]


def _told(verdict: Verdict | None) -> tuple[str, bool] | None:
    return None if verdict is None else (verdict.rule, verdict.rejected)


def test_the_rule_is_off_by_default() -> None:
    assert outlying([100] * 40 + [1_000], outlier_limit=None) == [None] * 41
    assert outlying([100] * 40 + [1_000], outlier="pass") == [None] * 41


@pytest.mark.parametrize("jump", ["120.01", "79.99", 1_000, "0.01"])
@pytest.mark.parametrize("action", ["flag", "reject"])
def test_a_jump_is_found(jump: str | int, action: str) -> None:
    found = outlying([100] * 31 + [jump, 100], outlier=action)
    assert found == [None] * 31 + [("outlier", action == "reject"), None]


@pytest.mark.parametrize("price", ["120", "80", "110.5"])
def test_what_is_within_the_limit_is_none(price: str) -> None:
    assert outlying([100] * 31 + [price]) == [None] * 32


def test_nothing_is_found_before_there_is_a_median() -> None:
    assert outlying([100, 500, 100, 500]) == [None] * 4
    assert outlying([100, 100, 100, 100, 100, 500])[-1] == ("outlier", False)


def test_the_median_follows_the_last_prices_only() -> None:
    slowly = [Decimal(100) * Decimal("1.01") ** n for n in range(200)]
    assert set(outlying(f"{price:.2f}" for price in slowly)) == {None}


def test_a_new_level_is_taken_for_one_when_outliers_are_rejected() -> None:
    found = outlying([100] * 31 + [200] * 40, outlier="reject")
    assert found[31:47] == [("outlier", True)] * 16
    assert found[47:] == [None] * 24


def test_single_outliers_do_not_add_up_to_a_level() -> None:
    found = outlying([100] * 31 + [200, 100] * 40, outlier="reject")
    assert found[31:] == [("outlier", True), None] * 40


def test_flagged_outliers_are_prices_like_any() -> None:
    found = outlying([100] * 31 + [200] * 40)
    assert found[31:47] == [("outlier", False)] * 16
    assert found[47:] == [None] * 24


def test_a_duplicate_does_not_enter_the_median() -> None:
    validator = Validator(ValidationPolicy(outlier_limit=0.2), market="stocks")
    for n in range(6):
        validator.check(trade(n))
    assert _told(validator.check(trade(9, 500))) == ("outlier", False)
    for _ in range(40):
        assert _told(validator.check(trade(9, 500))) == ("duplicate", True)
    assert _told(validator.check(trade(10, 500))) == ("outlier", False)


def test_highs_and_lows_of_bars_are_compared_with_closes() -> None:
    validator = Validator(ValidationPolicy(outlier_limit=0.2, outlier="reject"), market="stocks")
    for n in range(8):
        assert validator.check(bar(n, 90, 100, 110)) is None
    high, low = validator.check(bar(8, 90, 100, 121)), validator.check(bar(8, 79, 100, 110))
    assert high is not None
    assert low is not None
    assert (high.rule, high.field, low.field) == ("outlier", "high", "low")
    assert high.message == "high is far from the median of 100"
    assert validator.check(bar(8, 90, 100, 110)) is None  # the rejected ones were not the last


def test_each_symbol_has_a_median_of_its_own() -> None:
    outliers = Outliers(Decimal("0.2"), 5, keep=True)
    for n in range(10):
        assert outliers.of_trade(trade(n, 100)) is None
        assert outliers.of_trade(trade(n, 5, "MSFT")) is None
    outliers.forget("AAPL")
    assert outliers.of_trade(trade(11, 5)) is None
    assert outliers.of_trade(trade(12, 100, "MSFT")) is not None


def test_forgetting_a_symbol_forgets_its_median() -> None:
    validator = Validator(
        ValidationPolicy(outlier_limit=0.2, out_of_order_ticks="reject"), market="stocks"
    )
    for n in range(10):
        validator.check(trade(n))
    validator.forget("AAPL")
    assert validator.check(trade(0, 500)) is None
