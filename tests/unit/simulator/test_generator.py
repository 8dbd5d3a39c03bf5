"""The made-up session: plausible, the same each time, and bars that agree with its trades."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import SyntheticSession
from realtime_stream.simulator.wire import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MINUTE = 60_000_000_000
START = datetime(2026, 3, 6, 14, 30, tzinfo=UTC)
START_NS = int(START.timestamp()) * 1_000_000_000
Event = tuple[int, dict[str, Any]]


def session(**changes: Any) -> SyntheticSession:
    settings: dict[str, Any] = {
        "seed": 7,
        "symbols": ("AAPL", "MSFT"),
        "start": START,
        "minutes": 60,
        "quotes_per_minute": 20,
        "trades_per_minute": 12,
    }
    return SyntheticSession(**{**settings, **changes})


def crypto(**changes: Any) -> SyntheticSession:
    return session(**{"symbols": ("BTC/USD", "ETH/USD"), "market": "crypto", **changes})


BOTH = pytest.mark.parametrize(
    "events", [list(session()), list(crypto())], ids=["stocks", "crypto"]
)


def of_type(kind: str, events: Iterable[Event]) -> Iterator[Event]:
    return ((at, message) for at, message in events if message["T"] == kind)


def exact(number: float) -> Fraction:
    """The decimal digits as they stand on the wire."""
    return Fraction(Decimal(repr(number)))


def eligible(trade: dict[str, Any]) -> bool:
    return "I" not in trade.get("c", ())


def expected_bar(trades: list[dict[str, Any]]) -> dict[str, Fraction]:
    """Written down apart from the code under test: the rules of Alpaca's table of conditions."""
    priced = [trade for trade in trades if eligible(trade)]
    prices = [exact(trade["p"]) for trade in priced]
    weight = sum(exact(trade["s"]) for trade in priced)
    notional = sum(exact(trade["p"]) * exact(trade["s"]) for trade in priced)
    return {
        "o": prices[0],
        "h": max(prices),
        "l": min(prices),
        "c": prices[-1],
        "v": Fraction(sum(exact(trade["s"]) for trade in trades)),
        "n": Fraction(len(trades)),
        "vw": exact(round(float(notional / weight), 6)),
    }


def values(bar: dict[str, Any]) -> dict[str, Fraction]:
    return {key: exact(bar[key]) for key in ("o", "h", "l", "c", "v", "n", "vw")}


def test_the_same_seed_gives_the_same_session() -> None:
    one = session()
    assert list(one) == list(one) == list(session())
    assert list(one) != list(session(seed=8))
    alone = [event for event in one if event[1]["S"] == "AAPL"]
    assert alone == list(session(symbols=("AAPL",)))


@BOTH
def test_it_is_in_the_order_of_emission_and_can_be_sent(events: list[Event]) -> None:
    times = [at for at, _ in events]
    assert times == sorted(times)
    assert times[0] >= START_NS
    assert times[-1] < START_NS + 60 * MINUTE + MINUTE // 2
    for at, message in events:
        market = "crypto" if "/" in message["S"] else "stocks"
        assert next(iter(message)) == "T"
        assert (prepare(message, market).t_ns or 0) <= at


@BOTH
def test_times_strictly_increase(events: list[Event]) -> None:
    for kind in "tq":
        by_symbol: dict[str, list[int]] = defaultdict(list)
        for _, message in of_type(kind, events):
            by_symbol[message["S"]].append(message["t"])
        assert len(by_symbol) == 2
        for times in by_symbol.values():
            assert all(a < b for a, b in itertools.pairwise(times))


@BOTH
def test_quotes_are_not_crossed_and_trades_lie_inside(events: list[Event]) -> None:
    for symbol in {message["S"] for _, message in events}:
        ticks = [m for _, m in events if m["S"] == symbol and m["T"] in "tq"]
        quote: dict[str, Any] | None = None
        for tick in sorted(ticks, key=lambda message: message["t"]):
            if tick["T"] == "q":
                quote = tick
                assert 0 < tick["bp"] < tick["ap"]
                assert exact(tick["bp"]) * 100 % 1 == exact(tick["ap"]) * 100 % 1 == 0
                assert min(tick["bs"], tick["as"]) > 0
            elif quote is not None:
                assert quote["bp"] <= tick["p"] <= quote["ap"]
                assert exact(tick["p"]) * 10_000 % 1 == 0


@BOTH
def test_minute_bars_agree_with_the_trades_before_them(events: list[Event]) -> None:
    trades: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    bars = 0
    for at, message in events:
        key = (message["S"], message["t"] // MINUTE * MINUTE)
        if message["T"] == "t":
            trades[key].append(message)
        elif message["T"] == "b":
            bars += 1
            assert message["t"] + MINUTE < at < message["t"] + MINUTE + MINUTE // 100
            assert values(message) == expected_bar(trades[key])
        elif message["T"] == "u":
            assert message["t"] + MINUTE * 1.5 < at < message["t"] + MINUTE * 1.51
            assert values(message) == expected_bar(trades[key])
    assert bars == 120


@BOTH
def test_late_trades_come_after_their_bar_and_bring_an_updated_one(events: list[Event]) -> None:
    late = {(m["S"], m["t"] // MINUTE) for at, m in of_type("t", events) if at > m["t"]}
    updated = {(m["S"], m["t"] // MINUTE) for _, m in of_type("u", events)}
    assert late == updated
    assert 5 < len(late) < 40
    bars = {(m["S"], m["t"] // MINUTE): at for at, m in of_type("b", events)}
    for at, message in of_type("t", events):
        if at > message["t"]:
            assert at > bars[message["S"], message["t"] // MINUTE]


@pytest.mark.parametrize("make", [session, crypto])
def test_late_trades_in_every_minute(make: Callable[..., SyntheticSession]) -> None:
    events = list(make(late_trades_per_minute=3, minutes=10))
    late: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    trades: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for at, message in events:
        key = (message["S"], message["t"] // MINUTE * MINUTE)
        if message["T"] == "t":
            trades[key].append(message)
            if at > message["t"]:
                assert at - at // MINUTE * MINUTE < MINUTE // 100
                late[key].append(message)
        elif message["T"] == "u":
            assert values(message) == expected_bar(trades[key])
    assert {len(each) for each in late.values()} == {3}
    assert set(late) == {(m["S"], m["t"]) for _, m in of_type("u", events)}
    assert len(late) == 2 * 9  # none after the last minute
    assert all(a["t"] < b["t"] for each in late.values() for a, b in itertools.pairwise(each))
    assert [at for at, _ in events] == sorted(at for at, _ in events)


@BOTH
def test_daily_bars_are_running_totals(events: list[Event]) -> None:
    trades: dict[str, list[dict[str, Any]]] = defaultdict(list)
    midnight = int(datetime(2026, 3, 6, 5, tzinfo=UTC).timestamp()) * 1_000_000_000
    for _, message in events:
        if message["T"] == "t":
            trades[message["S"]].append(message)
        elif message["T"] == "d":
            assert message["t"] == midnight
            assert values(message) == expected_bar(trades[message["S"]])


def test_the_daily_bar_begins_again_at_midnight_in_new_york() -> None:
    events = list(session(start=datetime(2026, 7, 2, 3, 58, tzinfo=UTC), minutes=4))
    days = [message["t"] for _, message in of_type("d", events) if message["S"] == "AAPL"]
    one_day = 24 * 60 * MINUTE
    assert days[0] == days[1]
    assert days[2] == days[3] == days[0] + one_day
    after = [m for _, m in of_type("d", events) if m["S"] == "AAPL" and m["t"] == days[2]]
    assert after[0]["n"] < 15


def test_stock_trades_have_conditions_and_odd_lots() -> None:
    trades = [message for _, message in of_type("t", session())]
    odd = [trade for trade in trades if not eligible(trade)]
    assert 0.1 < len(odd) / len(trades) < 0.3
    assert all((trade["s"] < 100) is not eligible(trade) for trade in trades)
    assert all(trade["c"][0] == ("@" if trade["z"] == "C" else " ") for trade in trades)
    ids = [trade["i"] for trade in trades if trade["S"] == "AAPL"]
    assert len(set(ids)) == len(ids)


def test_crypto_sizes_are_fractional_and_name_the_taker() -> None:
    trades = [message for _, message in of_type("t", crypto())]
    assert any(trade["s"] % 1 for trade in trades)
    assert {trade["tks"] for trade in trades} == {"B", "S"}


def test_a_first_minute_that_is_cut_short() -> None:
    start = datetime(2026, 3, 6, 14, 30, 59, 999_999, tzinfo=UTC)
    events = list(session(start=start, minutes=2))
    assert events[0][0] >= START_NS + MINUTE
    assert {message["t"] for _, message in of_type("b", events)} == {START_NS + MINUTE}


def test_without_trades_there_are_no_bars_and_without_quotes_there_are_trades() -> None:
    assert {message["T"] for _, message in session(trades_per_minute=0)} == {"q"}
    assert "q" not in {message["T"] for _, message in session(quotes_per_minute=0)}
    assert list(session(minutes=0)) == []


def test_odd_lots_alone_make_no_bar() -> None:
    events = list(session(trades_per_minute=1, minutes=200))
    barred = {(m["S"], m["t"]) for kind in "bu" for _, m in of_type(kind, events)}
    priced = {(m["S"], m["t"] // MINUTE * MINUTE) for _, m in of_type("t", events) if eligible(m)}
    assert barred == priced
    assert len(priced) < 400


def test_a_seed_stays_what_it_was() -> None:
    def digest(events: SyntheticSession) -> str:
        return hashlib.sha256(json.dumps(list(events)).encode()).hexdigest()[:16]

    assert digest(session()) == "47b28b4bc052ed11"
    assert digest(crypto(late_trades_per_minute=2)) == "79f7b27bfdb3fc56"


@pytest.mark.parametrize("make", [session, crypto])
def test_quiet_minutes(make: Callable[..., SyntheticSession]) -> None:
    events = list(make(quiet_share=0.5, minutes=200))
    minutes: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for at, message in of_type("t", events):
        if at == message["t"]:
            minutes[message["S"], message["t"] // MINUTE * MINUTE].append(message)
    silent = 400 - len(minutes)
    odd = [key for key, trades in minutes.items() if not any(map(eligible, trades))]
    share = 0.5 if make is crypto else 0.25
    assert share - 0.1 < silent / 400 < share + 0.1
    assert share - 0.1 < (len(odd) / 400 if make is session else share) < share + 0.1
    barred = {(m["S"], m["t"]) for _, m in of_type("b", events)}
    assert barred == set(minutes) - set(odd)
    for _, message in of_type("u", events):
        assert (message["S"], message["t"]) in minutes  # nothing late in a silent one
    quotes = {(m["S"], m["t"] // MINUTE) for _, m in of_type("q", events)}
    assert len(quotes) == 400


def test_corrections_and_cancels() -> None:
    events = list(session(correction_share=0.05, cancel_share=0.05, quiet_share=0.1))
    standing: dict[str, dict[int, dict[str, Any]]] = {"AAPL": {}, "MSFT": {}}
    due: set[tuple[str, int]] = set()  # minutes that need an updated bar
    counts = Counter(message["T"] for _, message in events)
    assert min(counts["c"], counts["x"]) > 20
    for at, message in events:
        trades, kind = standing[message["S"]], message["T"]
        if kind == "t":
            trades[message["i"]] = message
        elif kind in "cx":
            assert message["t"] == at
            wrong = trades.pop(message["oi" if kind == "c" else "i"])
            assert 1 <= (at - wrong["t"] // MINUTE * MINUTE) / MINUTE < 1.5
            due.add((message["S"], wrong["t"] // MINUTE * MINUTE))
            if kind == "c":
                assert (message["op"], message["os"]) == (wrong["p"], wrong["s"])
                right = {"p": message["cp"], "s": message["cs"], "c": message["cc"]}
                trades[message["ci"]] = {**wrong, **right, "i": message["ci"]}
        elif kind in "bud":
            begin, length = message["t"], MINUTE * (1 if kind in "bu" else 1_440)
            some = [each for each in trades.values() if begin <= each["t"] < begin + length]
            some.sort(key=lambda each: int(each["t"]))
            assert values(message) == expected_bar(some)
            if kind == "u":
                due.discard((message["S"], begin))
    # What is left had nothing but odd lots.
    for symbol, begin in due:
        some = [t for t in standing[symbol].values() if begin <= t["t"] < begin + MINUTE]
        assert not any(map(eligible, some))


def test_a_bar_is_never_taken_back() -> None:
    events = list(session(cancel_share=1.0))
    barred = {(m["S"], m["t"]) for _, m in of_type("b", events)}
    updated = [m for _, m in of_type("u", events)]
    assert len(barred) == 120
    assert {(m["S"], m["t"]) for m in updated} == barred - {
        (symbol, START_NS + 59 * MINUTE) for symbol in ("AAPL", "MSFT")
    }
    assert {m["n"] for m in updated} <= {1, 2}  # what is left, and what came late


def test_prices_move_but_stay_positive() -> None:
    prices = [
        m["bp"] for _, m in session(quotes_per_minute=2_000, minutes=10).__iter__() if m["T"] == "q"
    ]
    assert len(set(prices)) > 20
    assert min(prices) >= 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"start": datetime(2026, 3, 6)}, "time zone"),  # noqa: DTZ001  # the point of the test
        ({"market": "options"}, "cannot be made up"),
        ({"late_trades_per_minute": -1}, "zero or more"),
        ({"quiet_share": -0.1}, "between 0 and 1"),
        ({"quiet_share": 1.1}, "between 0 and 1"),
        ({"correction_share": 0.6, "cancel_share": 0.6}, "between 0 and 1"),
        ({"market": "crypto", "cancel_share": 0.1}, "crypto has no corrections"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        session(**changes)
