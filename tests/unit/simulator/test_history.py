"""History apart from how it is asked for: what goes in, and what stands in the end."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator, History, SyntheticSession
from tests.unit.simulator.client import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE = 60_000_000_000
START = datetime(2026, 3, 6, 14, 30, tzinfo=UTC)
T0 = int(START.timestamp()) * 1_000_000_000
NEW_YORK_MIDNIGHT = T0 - 570 * MINUTE


def bar(minute: int, close: float = 10.0, kind: str = "b", **changes: Any) -> dict[str, Any]:
    figures = {"o": 10.0, "h": 12.0, "l": 9.0, "c": close, "v": 300, "n": 3, "vw": 10.5}
    return {"T": kind, "S": "AAPL", **figures, "t": T0 + minute * MINUTE, **changes}


def trade(number: int, second: float, price: float = 10.0, **changes: Any) -> dict[str, Any]:
    t_ns = T0 + round(second * 1_000_000_000)
    about = {"i": number, "x": "V", "p": price, "s": 100, "c": ["@"], "z": "C"}
    return {"T": "t", "S": "AAPL", **about, "t": t_ns, **changes}


def correction(old: int, new: int, price: float, **changes: Any) -> dict[str, Any]:
    wrong = {"oi": old, "op": 10.0, "os": 100, "oc": ["@"]}
    right = {"ci": new, "cp": price, "cs": 200, "cc": ["@", "I"]}
    times = {"z": "C", "t": T0 + 70_000_000_000}
    return {"T": "c", "S": "AAPL", "x": "V", **wrong, **right, **times, **changes}


def cancel(number: int, **changes: Any) -> dict[str, Any]:
    about = {"i": number, "x": "V", "p": 10.0, "s": 100, "a": "C", "z": "C"}
    return {"T": "x", "S": "AAPL", **about, "t": T0 + 71_000_000_000, **changes}


def history_of(*messages: dict[str, Any], market: str = "stocks") -> History:
    history = History()
    history.add(messages, market=market)
    return history


def numbers(history: History) -> list[Any]:
    return [each["i"] for each in history.final_trades("AAPL")]


def closes(history: History, timeframe: str = "1m") -> list[tuple[int, float]]:
    bars = history.final_bars("AAPL", timeframe)
    return [((each["t"] - T0) // MINUTE, each["c"]) for each in bars]


def test_a_bar_as_a_plain_dict() -> None:
    (known,) = history_of(bar(0)).final_bars("AAPL")
    assert known == {key: value for key, value in bar(0).items() if key not in "TS"}
    assert history_of(bar(0)).final_bars("MSFT") == []
    assert history_of(bar(0)).final_bars("AAPL", market="crypto") == []


def test_updated_bars_supersede_for_good() -> None:
    first, second = bar(0, 11.0, "u"), bar(0, 12.0, "u")
    assert closes(history_of(bar(0), first, second)) == [(0, 12.0)]
    assert closes(history_of(first, second, bar(0))) == [(0, 12.0)]  # whatever the order
    assert closes(history_of(bar(2), bar(0), bar(1, 9.5, "u"))) == [(0, 10), (1, 9.5), (2, 10)]
    assert closes(history_of(bar(0), bar(0, 9.5))) == [(0, 9.5)]


def test_a_trade_counts_once_per_exchange_and_day() -> None:
    same = trade(1, 1)
    assert numbers(history_of(same, trade(2, 2), same, trade(1, 3))) == [1, 2]
    assert numbers(history_of(same, trade(1, 1, x="K"))) == [1, 1]
    assert numbers(history_of(same, trade(1, 86_400))) == [1, 1]
    without = trade(1, 1)
    del without["i"]
    assert len(history_of(without, without).final_trades("AAPL")) == 2


def test_trades_come_in_the_order_of_their_times() -> None:
    history = history_of(trade(3, 9), trade(1, 5), trade(2, 7), trade(4, 5))
    assert numbers(history) == [1, 4, 2, 3]
    (first, *_) = history.final_trades("AAPL")
    assert first == {key: value for key, value in trade(1, 5).items() if key not in "TS"}


def test_a_correction_replaces_at_the_time_of_the_trade() -> None:
    history = history_of(trade(1, 1), trade(2, 2), correction(1, 9, 10.5))
    right, other = history.final_trades("AAPL")
    expected = {"i": 9, "p": 10.5, "s": 200, "x": "V", "c": ["@", "I"], "z": "C"}
    assert right == {**expected, "t": trade(1, 1)["t"], "u": "corrected"}
    assert other["i"] == 2
    assert "u" not in other


def test_corrections_and_cancels_are_carried_out_once() -> None:
    once = [trade(1, 1), trade(2, 2), correction(1, 9, 10.5), cancel(2)]
    twice = [*once, correction(1, 9, 10.5), cancel(2)]
    assert numbers(history_of(*once)) == numbers(history_of(*twice)) == [9]


def test_a_correction_may_keep_the_number_and_be_corrected_again() -> None:
    same = [trade(1, 1), correction(1, 1, 10.5), correction(1, 1, 10.5)]
    assert [each["p"] for each in history_of(*same).final_trades("AAPL")] == [10.5]
    again = [*same, correction(1, 2, 10.7, t=T0 + 80_000_000_000), cancel(3)]
    assert [each["p"] for each in history_of(*again).final_trades("AAPL")] == [10.7]
    assert numbers(history_of(*again, cancel(2))) == []


def test_what_a_correction_is_about_may_be_unknown() -> None:
    assert numbers(history_of(correction(1, 2, 10.5), cancel(7))) == [2]


def test_what_is_incomplete_is_not_history() -> None:
    timeless = {"T": "t", "S": "AAPL", "p": 1}
    holed = bar(0)
    del holed["v"]
    history = history_of(timeless, holed, bar(0, o="dear"), {"T": "q", "S": "AAPL", "t": T0})
    odd = [
        trade(1, 1, i="one", x=7, p=None),
        correction(1, 2, 1.0, oi=[1], ci=None),
        cancel(1, i={}),
    ]
    history.add(odd)
    history.add([bar(0, t=1 << 70), {"T": "q", "S": "AAPL", "t": -1}])
    assert history.final_bars("AAPL") == []
    assert [each["i"] for each in history.final_trades("AAPL")] == ["one", None]


def test_bars_of_larger_timeframes() -> None:
    minutes = [
        bar(3, o=1.0, h=5.0, l=0.5, c=2.0, v=100, n=1, vw=2.0),
        bar(4, o=2.0, h=3.0, l=0.4, c=2.5, v=300, n=2, vw=3.0),
        bar(5, 7.0),
        bar(29, 8.0),
        bar(30, 9.0),
    ]
    history = history_of(*minutes)
    (first, *_) = history.final_bars("AAPL", "5Min")
    figures = {"o": 1.0, "h": 5.0, "l": 0.4, "c": 2.5, "v": 400, "n": 3, "vw": 2.75}
    assert first == {"t": T0, **figures}
    assert closes(history, "5m") == [(0, 2.5), (5, 7.0), (25, 8.0), (30, 9.0)]
    assert closes(history, "15m") == [(0, 7.0), (15, 8.0), (30, 9.0)]
    assert closes(history, "1h") == [(-30, 8.0), (30, 9.0)]
    assert closes(history, "1Hour") == closes(history, "1H") == closes(history, "1h")
    assert closes(history, "4h") == [(-90, 9.0)]  # from 8:00 in New York
    assert history.final_bars("AAPL", "1d") == [
        {**history.final_bars("AAPL", "4h")[0], "t": NEW_YORK_MIDNIGHT}
    ]


def test_a_day_has_the_running_totals_of_the_stream() -> None:
    totals = [bar(0, 7.0, "d", t=NEW_YORK_MIDNIGHT), bar(0, 8.0, "d", t=NEW_YORK_MIDNIGHT)]
    history = history_of(bar(0), *totals, bar(-1_440))
    assert closes(history, "1d") == [(-1_440 - 570, 10.0), (-570, 8.0)]


@pytest.mark.parametrize("timeframe", ["", "60m", "24h", "2d", "1w", "0m", "5", "m", "1 m", "-1m"])
def test_timeframes_that_are_none(timeframe: str) -> None:
    with pytest.raises(ValueError, match="invalid timeframe"):
        History().final_bars("AAPL", timeframe)


def test_markets_that_are_none() -> None:
    history = History()
    with pytest.raises(ValueError, match="unknown market 'bonds'"):
        history.add([], market="bonds")
    with pytest.raises(ValueError, match="unknown market"):
        history.now_ns("bonds")
    with pytest.raises(ValueError, match="crypto has no data messages"):
        history.add([cancel(1)], market="crypto")


def test_data_time() -> None:
    history = history_of(trade(1, 5))
    assert history.now_ns() == T0 + 5_000_000_000
    assert history.now_ns("crypto") is None
    history.add([bar(0, kind="d", t=NEW_YORK_MIDNIGHT), trade(2, 4)])
    assert history.now_ns() == T0 + 5_000_000_000
    history.add([bar(0)])  # it has ended
    assert history.now_ns() == T0 + MINUTE
    history.add([(T0 + 2 * MINUTE, bar(0))])
    assert history.now_ns() == T0 + 2 * MINUTE


def test_coins() -> None:
    coins = [bar(n, S="BTC/USD", v=0.1, n=1) for n in range(3)]
    mid_price = bar(5, S="BTC/USD", v=0, n=0, vw=0)  # Alpaca has such bars: of quotes only
    history = history_of(*coins, mid_price, market="crypto")
    bars = history.final_bars("BTC/USD", "5m", market="crypto")
    assert [(each["v"], each["n"], each["vw"]) for each in bars] == [(0.3, 3, 10.5), (0, 0, 0.0)]
    sold = {"T": "t", "S": "BTC/USD", "i": 1, "p": 5.5, "s": 0.1, "tks": "B", "t": T0}
    history.add([sold, sold], market="crypto")
    known = {"i": 1, "p": 5.5, "s": 0.1, "tks": "B", "t": T0}
    assert history.final_trades("BTC/USD", market="crypto") == [known]


# --- whole sessions ---


def rebuilt(trades: Iterable[dict[str, Any]]) -> dict[int, tuple[float, ...]]:
    """Minute bars from trades, by the rules for regular sales and odd lots."""
    by_minute: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for each in trades:
        by_minute[each["t"] // MINUTE * MINUTE].append(each)
    bars: dict[int, tuple[float, ...]] = {}
    for start, some in by_minute.items():
        prices = [each["p"] for each in some if "I" not in each.get("c", ())]
        if prices:
            volume = sum(each["s"] for each in some)
            ends = (prices[0], max(prices), min(prices), prices[-1])
            bars[start] = (*ends, volume, len(some))
    return bars


ODD = SyntheticSession(
    5,
    ("AAPL", "MSFT"),
    start=START,
    minutes=120,
    quotes_per_minute=2,
    trades_per_minute=6,
    quiet_share=0.3,
    correction_share=0.05,
    cancel_share=0.05,
)


@pytest.mark.parametrize("symbol", ["AAPL", "MSFT"])
def test_a_session_with_everything_agrees_with_itself(symbol: str) -> None:
    history = History()
    history.add(ODD)
    figures = {
        each["t"]: tuple(each[key] for key in ("o", "h", "l", "c", "v", "n"))
        for each in history.final_bars(symbol)
    }
    assert figures == rebuilt(history.final_trades(symbol))
    assert 60 < len(figures) < 115
    by_five = history.final_bars(symbol, "5m")
    assert sum(each["n"] for each in by_five) == sum(each[-1] for each in figures.values())


def test_the_faults_of_streams_do_not_change_history(simulator: AlpacaSimulator) -> None:
    simulator.faults.duplicate(2)
    simulator.faults.reorder(50)
    simulator.faults.skew(3.5)
    simulator.faults.mute(symbols=["MSFT"])
    simulator.faults.delay(1_000)
    playback = simulator.play(ODD, speed=math.inf, messages_per_frame=100)
    assert playback.wait(TIMEOUT)
    expected = History()
    expected.add(ODD)
    for symbol in ("AAPL", "MSFT"):
        assert simulator.history.final_trades(symbol) == expected.final_trades(symbol)
        for timeframe in ("1m", "5m", "1d"):
            bars = expected.final_bars(symbol, timeframe)
            assert simulator.history.final_bars(symbol, timeframe) == bars
    assert len(simulator.ledger) == 0  # as said: delayed


def test_what_is_published_is_in_history_at_once_and_stays(simulator: AlpacaSimulator) -> None:
    simulator.faults.duplicate(1)
    simulator.publish(trade(1, 1), bar(0), bar(0, 11.0, "u"), feed="sip")
    assert numbers(simulator.history) == [1]
    assert closes(simulator.history) == [(0, 11.0)]
    simulator.stop()
    assert closes(simulator.history) == [(0, 11.0)]
    with pytest.raises(RuntimeError, match="not running"):
        simulator.publish(trade(2, 2))
    assert numbers(simulator.history) == [1]
    simulator.start()
    simulator.publish(trade(2, 2))
    assert numbers(simulator.history) == [1, 2]
