from __future__ import annotations

from datetime import UTC, datetime
from decimal import (
    Context,
    Decimal,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Rounded,
    localcontext,
)
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from realtime_stream.market.models import LULD, Bar, Quote, Trade
from realtime_stream.market.validation import RULES, ValidationPolicy, Validator, Verdict

if TYPE_CHECKING:
    from realtime_stream.market.channels import Market
    from realtime_stream.market.models import MarketEvent

SECOND = 10**9
MINUTE = 60 * SECOND
NAN, INFINITE = Decimal("NaN"), Decimal("Infinity")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


START = ns("2026-09-29T14:30:00")  # 10:30 in New York

QUOTE = Quote(
    symbol="AAPL",
    timestamp_ns=START,
    received_ns=START + SECOND,
    bid_price=Decimal("133.85"),
    bid_size=Decimal(400),
    ask_price=Decimal("135.77"),
    ask_size=Decimal(500),
)
TRADE = Trade(
    symbol="AAPL",
    timestamp_ns=START,
    received_ns=START + SECOND,
    price=Decimal("134.5"),
    size=Decimal(100),
    exchange="V",
    trade_id=7,
)
BAR = Bar(
    symbol="AAPL",
    timestamp_ns=START,
    received_ns=START + MINUTE + SECOND,
    open=Decimal("132.65"),
    high=Decimal("136.0"),
    low=Decimal("132.12"),
    close=Decimal("134.65"),
    volume=Decimal(205),
    trade_count=16,
    vwap=Decimal("133.7"),
)
DAILY = replace(BAR, timestamp_ns=ns("2026-09-29T04:00:00"), timeframe="1d", bar_kind="daily")


def fresh(market: Market = "stocks", /, **policy: Any) -> Validator:
    return Validator(ValidationPolicy(**policy), market)


def verdict_of(event: MarketEvent, market: Market = "stocks", /, **policy: Any) -> Verdict | None:
    return fresh(market, **policy).check(event)


def fault(event: MarketEvent, market: Market = "stocks", /, **policy: Any) -> tuple[str, str]:
    """Rule and field; of a seasoned validator the same as of a fresh one."""
    seasoned = fresh(market, **policy)
    seasoned.check(replace(TRADE, trade_id=None))  # the symbol is known to be good
    verdict, again = verdict_of(event, market, **policy), seasoned.check(event)
    assert verdict is not None
    assert repr(verdict) == repr(again)
    assert verdict.message.isascii()
    return verdict.rule, verdict.field


@pytest.mark.parametrize("event", [QUOTE, TRADE, BAR, DAILY])
@pytest.mark.parametrize("received_ns", [0, None])
def test_an_event_as_it_should_be_is_not_found_fault_with(
    event: MarketEvent, received_ns: int | None
) -> None:
    if received_ns is not None:
        event = replace(event, received_ns=received_ns)
    validator = fresh()
    assert validator.check(event) is None
    validator.forget("AAPL")
    assert validator.check(event) is None


def test_history_goes_by_the_same_rules() -> None:
    assert verdict_of(replace(BAR, source="backfill", received_ns=START + 10**15)) is None
    assert verdict_of(replace(TRADE, source="backfill", received_ns=0)) is None
    assert fault(replace(BAR, source="backfill", volume=Decimal(0))) == ("zero_volume", "volume")


def test_what_is_no_price_data_is_not_checked() -> None:
    band = LULD(
        symbol="AAPL",
        timestamp_ns=START,
        limit_up_price=Decimal(1),
        limit_down_price=Decimal(2),
        indicator="B",
    )
    validator = fresh()
    assert validator.check(band) is None
    assert set(validator.checks) == {"quotes", "trades", "bars", "updated_bars", "daily_bars"}


# --- quotes ---


@pytest.mark.parametrize(
    ("fields", "rule", "field"),
    [
        ({"ask_price": Decimal("133.84")}, "crossed", "ask_price"),
        ({"bid_price": Decimal("-1")}, "negative_price", "bid_price"),
        ({"ask_price": Decimal("-0.01")}, "negative_price", "ask_price"),
        ({"bid_size": Decimal(-1)}, "negative_size", "bid_size"),
        ({"ask_size": Decimal(-1)}, "negative_size", "ask_size"),
        ({"bid_price": NAN}, "not_finite", "bid_price"),
        ({"ask_price": INFINITE}, "not_finite", "ask_price"),
        ({"ask_price": Decimal("sNaN")}, "not_finite", "ask_price"),
        ({"bid_size": INFINITE}, "not_finite", "bid_size"),
        ({"ask_size": NAN}, "not_finite", "ask_size"),
        ({"bid_price": None}, "incomplete", "bid_price"),
        ({"ask_size": None}, "incomplete", "ask_size"),
        ({"ask_price": 135.77}, "incomplete", "ask_price"),
        ({"bid_price": 133}, "incomplete", "bid_price"),
        ({"bid_size": 5.0}, "incomplete", "bid_size"),
        ({"ask_size": 5}, "incomplete", "ask_size"),
        ({"ask_price": Decimal("9e999999")}, "implausible", "ask_price"),
        ({"ask_price": Decimal("1e16")}, "implausible", "ask_price"),
        ({"bid_price": Decimal("1e-19")}, "implausible", "bid_price"),
        ({"bid_price": Decimal("133." + "1" * 26)}, "implausible", "bid_price"),
        ({"ask_price": Decimal("135." + "1" * 26)}, "implausible", "ask_price"),
        ({"ask_size": Decimal("1e19")}, "implausible", "ask_size"),
        ({"bid_size": Decimal("1e-19")}, "implausible", "bid_size"),
        ({"ask_size": Decimal("1e-19")}, "implausible", "ask_size"),
        ({"timestamp_ns": START + 6 * SECOND + 1}, "from_the_future", "timestamp_ns"),
        ({"symbol": ""}, "bad_symbol", "symbol"),
        ({"symbol": "AAPL\nroot: ok"}, "bad_symbol", "symbol"),
        ({"symbol": "A'; DROP TABLE"}, "bad_symbol", "symbol"),
        ({"symbol": "A" * 33}, "bad_symbol", "symbol"),
        ({"symbol": "ÄPFEL"}, "bad_symbol", "symbol"),
    ],
)
def test_faults_of_quotes(fields: dict[str, Any], rule: str, field: str) -> None:
    assert fault(replace(QUOTE, **fields)) == (rule, field)


def test_a_crossed_market_is_told_in_words() -> None:
    quote = replace(QUOTE, bid_price=Decimal("10.02"), ask_price=Decimal("10.00"))
    assert verdict_of(quote) == Verdict(
        "crossed", "ask_price", Decimal("10.00"), "Crossed market: ask 10.00 < bid 10.02", True
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"bid_price": Decimal(0), "bid_size": Decimal(0)},
        {"ask_price": Decimal(0)},
        {"bid_price": Decimal(0), "ask_price": Decimal("0.00")},
        {"ask_price": Decimal("133.85")},
        {"bid_size": Decimal(0)},
        {"timestamp_ns": START + 6 * SECOND},
        {"ask_price": Decimal("9999999999999999.9")},
        {"bid_price": Decimal("1e-18")},
        {"bid_price": Decimal("133." + "1" * 25)},
        {"symbol": "BRK.B"},
        {"symbol": "BTC/USD"},
        {"symbol": "AAPL240315C00172500"},
    ],
)
def test_odd_quotes_that_pass(fields: dict[str, Any]) -> None:
    validator = fresh()
    assert validator.check(replace(QUOTE, **fields)) is None
    assert validator.check(replace(QUOTE, **fields)) is None


@pytest.mark.parametrize(
    ("rule", "fields", "field"),
    [
        ("locked", {"ask_price": Decimal("133.850")}, "ask_price"),
        ("one_sided", {"bid_price": Decimal(0)}, "bid_price"),
        ("one_sided", {"ask_price": Decimal(0)}, "ask_price"),
    ],
)
@pytest.mark.parametrize("action", ["flag", "reject"])
def test_rules_that_pass_by_default(
    rule: str, fields: dict[str, Any], field: str, action: str
) -> None:
    quote = replace(QUOTE, **fields)
    assert fault(quote, **{rule: action}) == (rule, field)
    verdict = verdict_of(quote, **{rule: action})
    assert verdict is not None
    assert verdict.rejected == (action == "reject")


def test_a_side_that_is_missing_is_no_crossing() -> None:
    assert verdict_of(replace(QUOTE, ask_price=Decimal(0)), locked="reject") is None


# --- trades ---


@pytest.mark.parametrize(
    ("fields", "rule", "field"),
    [
        ({"price": Decimal(0)}, "not_positive", "price"),
        ({"price": Decimal(-1)}, "not_positive", "price"),
        ({"price": NAN}, "not_finite", "price"),
        ({"price": None}, "incomplete", "price"),
        ({"price": 133}, "incomplete", "price"),
        ({"price": 133.5}, "incomplete", "price"),
        ({"size": 5}, "incomplete", "size"),
        ({"size": 5.0}, "incomplete", "size"),
        ({"price": Decimal("9e999999")}, "implausible", "price"),
        ({"price": Decimal("1." + "1" * 28)}, "implausible", "price"),
        ({"size": Decimal(0)}, "zero_size", "size"),
        ({"size": Decimal(-5)}, "negative_size", "size"),
        ({"size": -INFINITE}, "not_finite", "size"),
        ({"size": Decimal("1e-19")}, "implausible", "size"),
        ({"size": Decimal("1e19")}, "implausible", "size"),
        ({"timestamp_ns": START + 7 * SECOND}, "from_the_future", "timestamp_ns"),
        ({"symbol": "a b"}, "bad_symbol", "symbol"),
    ],
)
def test_faults_of_trades(fields: dict[str, Any], rule: str, field: str) -> None:
    assert fault(replace(TRADE, **fields)) == (rule, field)


def test_a_trade_that_comes_again_is_a_duplicate() -> None:
    validator = fresh()
    assert validator.check(TRADE) is None
    assert validator.check(TRADE) == Verdict(
        "duplicate", "trade_id", 7, "trade 7 was seen before", True
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"trade_id": 8},
        {"exchange": "K"},
        {"exchange": None},
        {"symbol": "MSFT"},
        {"timestamp_ns": START - 86_400 * SECOND},
    ],
)
def test_an_id_says_little_without_symbol_venue_and_time(fields: dict[str, Any]) -> None:
    validator = fresh()
    other = replace(TRADE, **fields)
    assert validator.check(TRADE) is None
    assert validator.check(other) is None
    assert validator.check(other) is not None


def test_trades_without_an_id_are_not_compared() -> None:
    validator = fresh()
    assert validator.check(replace(TRADE, trade_id=None)) is None
    assert validator.check(replace(TRADE, trade_id=None)) is None


def test_a_rejected_trade_is_not_remembered() -> None:
    validator = fresh()
    bad = validator.check(replace(TRADE, price=Decimal(0)))
    assert bad is not None
    assert validator.check(TRADE) is None


def test_forgetting_a_symbol_lets_its_trades_come_again() -> None:
    validator = fresh()
    validator.check(TRADE)
    validator.check(replace(TRADE, symbol="MSFT"))
    validator.forget("AAPL")
    assert validator.check(TRADE) is None
    assert validator.check(replace(TRADE, symbol="MSFT")) is not None


def test_repeated_trades_may_pass() -> None:
    validator = fresh(duplicate="pass")
    assert validator.check(TRADE) is None
    assert validator.check(TRADE) is None


@pytest.mark.parametrize("event", [QUOTE, TRADE])
def test_time_may_go_back_in_quotes_and_trades_unless_that_is_forbidden(
    event: MarketEvent,
) -> None:
    older = replace(event, timestamp_ns=START - 1_000)
    free, strict = fresh(), fresh(out_of_order_ticks="flag")
    for validator in (free, strict):
        assert validator.check(event) is None
        assert validator.check(replace(older, symbol="MSFT")) is None
    assert free.check(older) is None
    verdict = strict.check(older)
    assert verdict is not None
    assert (verdict.rule, verdict.field, verdict.rejected) == (
        "out_of_order_ticks",
        "timestamp_ns",
        False,
    )
    assert strict.check(replace(event, timestamp_ns=START + 1)) is None


def test_an_invalid_event_does_not_move_time() -> None:
    validator = fresh(out_of_order_ticks="reject")
    validator.check(replace(QUOTE, timestamp_ns=START + 600 * SECOND))
    assert validator.check(QUOTE) is None


# --- bars ---


@pytest.mark.parametrize(
    ("fields", "rule", "field"),
    [
        ({"open": None}, "incomplete", "open"),
        ({"high": None}, "incomplete", "high"),
        ({"low": None}, "incomplete", "low"),
        ({"close": None}, "incomplete", "close"),
        ({"volume": None}, "incomplete", "volume"),
        ({"volume": 5}, "incomplete", "volume"),
        ({"volume": 5.0}, "incomplete", "volume"),
        ({"open": 134}, "incomplete", "open"),
        ({"vwap": 134}, "incomplete", "vwap"),
        ({"close": NAN}, "not_finite", "close"),
        ({"high": INFINITE}, "not_finite", "high"),
        ({"volume": NAN}, "not_finite", "volume"),
        ({"vwap": NAN}, "not_finite", "vwap"),
        ({"low": Decimal(0)}, "not_positive", "low"),
        ({"open": Decimal(-3)}, "not_positive", "open"),
        ({"vwap": Decimal(-1)}, "negative_price", "vwap"),
        ({"volume": Decimal(-1)}, "negative_size", "volume"),
        ({"trade_count": -1}, "negative_size", "trade_count"),
        ({"volume": Decimal(0)}, "zero_volume", "volume"),
        ({"volume": Decimal(0), "trade_count": 0}, "zero_volume", "volume"),
        ({"open": Decimal("136.01")}, "inconsistent", "open"),
        ({"open": Decimal("132.11")}, "inconsistent", "open"),
        ({"close": Decimal("136.01")}, "inconsistent", "close"),
        ({"close": Decimal("132.11")}, "inconsistent", "close"),
        ({"high": Decimal(131)}, "inconsistent", "high"),
        ({"high": Decimal("9e999999")}, "implausible", "high"),
        ({"low": Decimal("1e-30")}, "implausible", "low"),
        ({"close": Decimal("134." + "1" * 26)}, "implausible", "close"),
        ({"volume": Decimal("1e19")}, "implausible", "volume"),
        ({"timestamp_ns": START - 1}, "misaligned", "timestamp_ns"),
        ({"timestamp_ns": START - SECOND}, "misaligned", "timestamp_ns"),
        ({"timestamp_ns": START + MINUTE}, "from_the_future", "timestamp_ns"),
        ({"received_ns": START + 55 * SECOND - 1}, "from_the_future", "timestamp_ns"),
        ({"symbol": "$"}, "bad_symbol", "symbol"),
    ],
)
@pytest.mark.parametrize("kind", ["regular", "updated"])
def test_faults_of_bars(fields: dict[str, Any], rule: str, field: str, kind: str) -> None:
    assert fault(replace(BAR, bar_kind=kind, **fields)) == (rule, field)


@pytest.mark.parametrize(
    "fields",
    [
        {"vwap": None, "trade_count": None},
        {"vwap": Decimal(0)},  # some sources give none that way
        {"trade_count": 0},
        {"received_ns": START + 55 * SECOND},
        {"open": Decimal(1), "high": Decimal(1), "low": Decimal(1), "close": Decimal(1)},
        {"volume": Decimal(0), "is_filled": True},
    ],
)
def test_odd_bars_that_pass(fields: dict[str, Any]) -> None:
    assert verdict_of(replace(BAR, **fields)) is None


@pytest.mark.parametrize("trade_count", [0, None])
def test_a_bar_of_quotes_is_legitimate_in_crypto(trade_count: int | None) -> None:
    bar = replace(
        BAR, symbol="BTC/USD", volume=Decimal(0), trade_count=trade_count, vwap=Decimal(0)
    )
    assert verdict_of(bar, "crypto") is None
    assert fault(bar, "stocks")[0] == "zero_volume"
    assert fault(bar, "options")[0] == "zero_volume"


def test_trades_without_volume_are_not() -> None:
    bar = replace(BAR, symbol="BTC/USD", volume=Decimal(0), trade_count=3)
    assert fault(bar, "crypto") == ("zero_volume", "volume")


@pytest.mark.parametrize(
    ("market", "timeframe", "start"),
    [
        ("stocks", "1m", "2026-09-29T14:31:00"),
        ("stocks", "5s", "2026-09-29T14:31:55"),
        ("stocks", "5m", "2026-09-29T14:35:00"),
        ("stocks", "1h", "2026-09-29T14:00:00"),
        ("stocks", "1h", "2026-09-29T13:30:00"),  # of the session
        ("stocks", "4h", "2026-09-29T12:00:00"),
        ("stocks", "4h", "2026-09-29T08:00:00"),  # of the day in New York, and of UTC
        ("stocks", "1d", "2026-09-29T04:00:00"),
        ("stocks", "1d", "2026-12-01T05:00:00"),
        ("options", "1d", "2026-12-01T05:00:00"),
        ("crypto", "1m", "2026-09-29T14:31:00"),
        ("crypto", "1d", "2026-09-29T00:00:00"),
        ("crypto", "1d", "2024-05-29T05:00:00"),  # Chicago
        ("stocks", "ticks:100", "2026-09-29T14:31:17"),
        ("stocks", "1w", "2026-09-29T14:31:17"),  # nothing is known of it
    ],
)
def test_where_bars_may_start(market: Market, timeframe: str, start: str) -> None:
    bar = replace(BAR, timestamp_ns=ns(start), timeframe=timeframe, received_ns=0)
    assert verdict_of(bar, market) is None


@pytest.mark.parametrize(
    ("market", "timeframe", "start"),
    [
        ("stocks", "1m", "2026-09-29T14:31:30"),
        ("stocks", "5m", "2026-09-29T14:31:00"),
        ("stocks", "1h", "2026-09-29T14:15:00"),
        ("crypto", "1h", "2026-09-29T13:30:00"),
        ("stocks", "1d", "2026-09-29T00:00:00"),
        ("stocks", "1d", "2026-12-01T04:00:00"),
        ("crypto", "1d", "2026-09-29T04:00:00"),
        ("stocks", "1d", "0001-01-01T00:00:00"),  # in New York, before the first year
    ],
)
def test_where_they_may_not(market: Market, timeframe: str, start: str) -> None:
    bar = replace(BAR, timestamp_ns=ns(start), timeframe=timeframe, received_ns=0)
    assert fault(bar, market) == ("misaligned", "timestamp_ns")


def test_the_end_of_a_longer_bar_counts() -> None:
    bar = replace(BAR, timeframe="5m")
    assert fault(bar) == ("from_the_future", "timestamp_ns")
    assert verdict_of(replace(bar, received_ns=START + 5 * MINUTE)) is None


def test_the_day_of_a_daily_bar_may_still_run() -> None:
    assert verdict_of(DAILY) is None
    early = replace(DAILY, received_ns=DAILY.timestamp_ns - 6 * SECOND)
    assert fault(early) == ("from_the_future", "timestamp_ns")


def test_totals_of_a_day_grow_under_the_same_time() -> None:
    validator = fresh()
    more = replace(DAILY, volume=Decimal(300))
    yesterday = replace(DAILY, timestamp_ns=ns("2026-09-28T04:00:00"))
    assert [validator.check(bar) for bar in (DAILY, DAILY, more)] == [None] * 3
    verdict = validator.check(yesterday)
    assert verdict is not None
    assert verdict.rule == "out_of_order"


def at(minutes: int, **fields: Any) -> Bar:
    shift = minutes * MINUTE
    times = {"timestamp_ns": START + shift, "received_ns": BAR.received_ns + shift}
    return replace(BAR, **{**times, **fields})


def test_bars_come_in_order() -> None:
    validator = fresh()
    assert validator.check(at(0)) is None
    assert validator.check(at(2)) is None
    verdict = validator.check(at(1))
    assert verdict is not None
    assert (verdict.rule, verdict.field, verdict.value) == (
        "out_of_order",
        "timestamp_ns",
        START + MINUTE,
    )
    assert verdict.message == "60 s before the last one"
    assert validator.check(at(3)) is None


def test_each_series_has_its_own_order() -> None:
    validator = fresh()
    assert validator.check(at(2)) is None
    assert validator.check(at(1, symbol="MSFT")) is None
    assert validator.check(at(0, timeframe="5m", received_ns=0)) is None
    assert validator.check(at(1, bar_kind="updated")) is None
    assert validator.check(DAILY) is None


def test_the_same_bar_again_is_a_duplicate_and_another_one_conflicts() -> None:
    validator = fresh()
    assert validator.check(at(0)) is None
    again = validator.check(at(0, source="backfill"))
    other = validator.check(at(0, volume=Decimal(206)))
    assert again is not None
    assert other is not None
    assert (again.rule, again.rejected) == ("duplicate", True)
    assert (other.rule, other.rejected) == ("conflicting", False)
    last = validator.check(at(0, volume=Decimal(206)))
    assert last is not None
    assert last.rule == "duplicate"


def test_updated_bars_come_in_any_order_and_as_often_as_they_change() -> None:
    validator = fresh()
    updates = [
        at(5, bar_kind="updated"),
        at(3, bar_kind="updated"),
        at(5, bar_kind="updated", volume=Decimal(206)),
    ]
    assert [validator.check(bar) for bar in updates] == [None] * 3
    verdict = validator.check(updates[-1])
    assert verdict is not None
    assert verdict.rule == "duplicate"


def test_late_bars_are_older_by_nature() -> None:
    validator = fresh()
    validator.check(at(2))
    assert validator.check(at(0, is_late=True, source="backfill")) is None
    verdict = validator.check(at(1))
    assert verdict is not None
    assert verdict.rule == "out_of_order"


def test_a_bar_that_is_rejected_is_not_the_last_one() -> None:
    validator = fresh()
    validator.check(at(9, received_ns=BAR.received_ns))
    assert validator.check(at(0)) is None


def test_a_flagged_bar_from_the_past_is_not_the_last_one() -> None:
    validator = fresh(out_of_order="flag")
    validator.check(at(5))
    for minutes in (1, 2):
        verdict = validator.check(at(minutes))
        assert verdict is not None
        assert (verdict.rule, verdict.rejected) == ("out_of_order", False)


# --- the policy ---

FAULTY: dict[str, MarketEvent] = {
    "incomplete": replace(BAR, close=None),
    "not_finite": replace(TRADE, price=NAN),
    "not_positive": replace(TRADE, price=Decimal(-1)),
    "negative_price": replace(QUOTE, bid_price=Decimal(-1)),
    "negative_size": replace(QUOTE, bid_size=Decimal(-1)),
    "implausible": replace(QUOTE, ask_price=Decimal("9e999999")),
    "bad_symbol": replace(QUOTE, symbol="no symbol"),
    "inconsistent": replace(BAR, close=Decimal(1)),
    "zero_volume": replace(BAR, volume=Decimal(0)),
    "zero_size": replace(TRADE, size=Decimal(0)),
    "misaligned": replace(BAR, timestamp_ns=START - 1),
    "from_the_future": replace(QUOTE, received_ns=1),
    "crossed": replace(QUOTE, ask_price=Decimal(1)),
    "locked": replace(QUOTE, ask_price=QUOTE.bid_price),
    "one_sided": replace(QUOTE, ask_price=Decimal(0)),
}


@pytest.mark.parametrize("rule", FAULTY)
def test_each_rule_has_its_action(rule: str) -> None:
    event = FAULTY[rule]
    rejected, flagged = (verdict_of(event, **{rule: action}) for action in ("reject", "flag"))
    assert rejected is not None
    assert flagged is not None
    assert (rejected.rule, rejected.rejected) == (rule, True)
    assert (flagged.rule, flagged.rejected) == (rule, False)
    validator = fresh(**{rule: "pass"})
    assert validator.check(event) is None
    assert rule in RULES


@pytest.mark.parametrize("traps", [[], [Inexact, Rounded, InvalidOperation, FloatOperation]])
def test_a_decimal_context_that_a_callback_has_changed_changes_nothing(traps: list[Any]) -> None:
    with localcontext(Context(prec=3, Emax=9, Emin=-9, traps=traps)):
        validator = fresh(outlier_limit=0.123456, locked="reject", one_sided="reject")
        for number in range(40):
            moved = {"timestamp_ns": START + number, "trade_id": number}
            assert validator.check(replace(TRADE, **moved)) is None
        assert validator.check(QUOTE) is None
        assert validator.check(BAR) is None
        for rule, event in FAULTY.items():
            verdict = validator.check(event)
            assert verdict is not None
            assert verdict.rule == rule
        jump = validator.check(replace(TRADE, trade_id=41, price=Decimal("1000.00001")))
        assert jump is not None
        assert jump.rule == "outlier"


def test_what_rejects_comes_before_what_flags() -> None:
    quote = replace(QUOTE, bid_price=Decimal(-1), ask_size=Decimal(-1))
    verdict = verdict_of(quote, negative_price="flag")
    assert verdict is not None
    assert (verdict.rule, verdict.rejected) == ("negative_size", True)


def test_of_two_flags_the_first_is_told() -> None:
    quote = replace(QUOTE, bid_price=Decimal(-1), ask_size=Decimal(-1))
    verdict = verdict_of(quote, negative_price="flag", negative_size="flag")
    assert verdict is not None
    assert (verdict.rule, verdict.field, verdict.rejected) == ("negative_price", "bid_price", False)


def test_a_flagged_trade_can_still_be_rejected_as_a_duplicate() -> None:
    validator = fresh(zero_size="flag")
    trade = replace(TRADE, size=Decimal(0))
    verdicts = [validator.check(trade), validator.check(trade)]
    assert [v and (v.rule, v.rejected) for v in verdicts] == [
        ("zero_size", False),
        ("duplicate", True),
    ]


def test_with_everything_let_through_nothing_breaks() -> None:
    validator = fresh(outlier_limit=0.1, **dict.fromkeys(RULES, "pass"))
    flagging = fresh(outlier_limit=0.1, **dict.fromkeys(RULES, "flag"))
    for event in FAULTY.values():
        for _ in range(3):
            assert validator.check(event) is None
            verdict = flagging.check(event)
            assert verdict is not None
            assert not verdict.rejected


@pytest.mark.parametrize(
    "settings",
    [
        {"crossed": "ignore"},
        {"no_such_rule": "reject"},
        {"future_tolerance": -1},
        {"future_tolerance": float("nan")},
        {"outlier_limit": 0},
        {"outlier_limit": float("inf")},
        {"outlier_window": 4},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ValidationPolicy(**settings)


def test_a_policy_is_frozen_and_names_its_rules() -> None:
    policy = ValidationPolicy()
    with pytest.raises(ValidationError):
        policy.crossed = "pass"  # type: ignore[misc]  # what must not work
    assert policy.action("crossed") == "reject"
    assert policy.action("locked") == "pass"
    with pytest.raises(KeyError):
        policy.action("future_tolerance")


def test_the_tolerance_for_the_future_can_be_set() -> None:
    quote = replace(QUOTE, timestamp_ns=START + 11 * SECOND)
    assert verdict_of(quote, future_tolerance=10.0) is None
    assert fault(quote, future_tolerance=9.9)[0] == "from_the_future"
    assert fault(replace(QUOTE, received_ns=START - 1), future_tolerance=0.0)[0] == (
        "from_the_future"
    )
