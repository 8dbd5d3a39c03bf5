"""History over REST that does not work, or not yet."""

from __future__ import annotations

import http.client
import json
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator, SyntheticSession, fault
from tests.unit.simulator.client import TIMEOUT
from tests.unit.simulator.rest_client import BARS, CRYPTO_TRADES, TRADES, Later, ask, rows, send

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START = datetime(2026, 3, 6, 14, 30, tzinfo=UTC)
T0 = int(START.timestamp()) * 1_000_000_000
DAY = "2026-03-06"
SESSION = SyntheticSession(
    3, ("AAPL", "MSFT"), start=START, minutes=30, quotes_per_minute=1, trades_per_minute=5
)
QUOTE = {"T": "q", "S": "AAPL", "bp": 1.0, "bs": 100, "ap": 2.0, "as": 100}
LONG = 1_000.0  # seconds: for ever


def bar(minute: int, kind: str = "b", close: float = 10.0) -> dict[str, Any]:
    figures = {"o": 10.0, "h": 12.0, "l": 9.0, "c": close, "v": 300, "n": 3, "vw": 10.5}
    return {"T": kind, "S": "AAPL", **figures, "t": T0 + minute * MINUTE}


def minutes(simulator: AlpacaSimulator, **parameters: object) -> list[int]:
    """Minutes of the bars that REST has now."""
    found = rows(simulator, BARS, symbols="AAPL", timeframe="1Min", start=DAY, **parameters)
    return [int(each["t"][14:16]) - 30 for each in found.get("AAPL", [])]


def trades(simulator: AlpacaSimulator) -> Any:
    return ask(simulator, TRADES, symbols="AAPL", start=DAY)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "too many requests."),
        (500, "internal server error"),
        (504, "gateway timeout"),
        (403, "forbidden"),
        (401, "unauthorized."),
        (404, "endpoint not found."),
    ],
)
def test_errors(simulator: AlpacaSimulator, status: int, said: str) -> None:
    simulator.faults.rest_error(status)
    answer = trades(simulator)
    assert answer.error == (status, said)
    assert "Retry-After" not in answer.headers
    assert trades(simulator).status == 200
    assert simulator.rest_answers == {status: 1, 200: 1}


def test_errors_come_one_after_the_other(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_error(503, 2, retry_after=1.5, message="down for a moment")
    simulator.faults.rest_error(500, None)
    answers = [trades(simulator) for _ in range(4)]
    assert [each.status for each in answers] == [503, 503, 500, 500]
    assert answers[0].error == (503, "down for a moment")
    assert answers[0].headers["Retry-After"] == "1.5"
    simulator.faults.clear()
    assert trades(simulator).status == 200


def test_errors_are_no_matter_of_the_streams(simulator: AlpacaSimulator, connect: Connect) -> None:
    simulator.faults.rest_error(500, None)
    simulator.faults.rest_silent()
    simulator.faults.rest_delay(LONG)
    connect().login()


def test_faults_of_the_handshake_are_no_matter_of_history(simulator: AlpacaSimulator) -> None:
    simulator.faults.refuse_http(503)
    simulator.faults.silent_at("http")
    simulator.faults.delay_at("http", LONG)
    simulator.faults.refuse_auth(402)
    assert trades(simulator).status == 200


def test_a_delay_ends_and_does_not_hold_up_the_stream(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect().login()
    client.subscribe(quotes=["AAPL"])
    simulator.faults.rest_delay(LONG)
    late = [Later(lambda: trades(simulator)) for _ in range(3)]
    assert simulator.wait_for(lambda each: len(each.rest_requests) == 3)
    simulator.publish(QUOTE)
    assert client.receive()[0]["T"] == "q"
    assert not any(each.finished for each in late)
    simulator.history.add([{**QUOTE, "t": T0}, {"T": "t", "S": "AAPL", "i": 1, "p": 1.0, "t": T0}])
    simulator.faults.rest_delay(0)
    for each in late:  # with what is known when it is sent
        assert len(each.result().json()["trades"]["AAPL"]) == 1


def test_an_outdated_answer_says_what_was_known_when_it_was_asked_for(
    simulator: AlpacaSimulator,
) -> None:
    simulator.faults.rest_delay(LONG, outdated=True)
    late = Later(lambda: trades(simulator))
    assert simulator.wait_for(lambda each: len(each.rest_requests) == 1)
    another = Later(lambda: trades(simulator))  # once it has come, the first is answered in itself
    assert simulator.wait_for(lambda each: len(each.rest_requests) == 2)
    simulator.history.add([{"T": "t", "S": "AAPL", "i": 1, "p": 1.0, "t": T0}])
    simulator.faults.rest_delay(0)
    assert late.result().json()["trades"] == {}
    assert another.result().status == 200
    assert len(trades(simulator).json()["trades"]["AAPL"]) == 1


def test_a_delay(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_delay(0.2)
    began = time.monotonic()
    assert trades(simulator).status == 200
    assert 0.2 <= time.monotonic() - began < TIMEOUT


def test_a_client_that_does_not_wait(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_delay(LONG)
    with pytest.raises(TimeoutError):
        send(simulator, TRADES, timeout=0.05)
    simulator.faults.rest_delay(0)
    assert trades(simulator).status == 200


def test_silence(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_silent(times=1)
    silent = Later(lambda: trades(simulator))
    assert simulator.wait_for(lambda each: len(each.rest_requests) == 1)
    assert trades(simulator).status == 200
    assert not silent.finished
    simulator.faults.clear()
    assert trades(simulator).status == 200  # which came after
    assert not silent.finished
    assert simulator.rest_answers == {200: 2}
    simulator.drop(None)
    with pytest.raises(ConnectionResetError):
        silent.result()


def test_silence_ends_with_the_server() -> None:
    with AlpacaSimulator() as one:
        one.faults.rest_silent()
        silent = Later(lambda: trades(one))
        assert one.wait_for(lambda each: len(each.rest_requests) == 1)
        one.faults.rest_silent(0)
        assert trades(one).status == 200
        began = time.monotonic()
    assert time.monotonic() - began < 0.9
    with pytest.raises(http.client.RemoteDisconnected):
        silent.result()


def test_garbage(simulator: AlpacaSimulator) -> None:
    simulator.history.add(SESSION)
    whole = trades(simulator).body
    simulator.faults.rest_garbage(times=1)
    answer = trades(simulator)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.body.startswith(b"<html>")
    simulator.faults.rest_garbage("cut")
    answer = trades(simulator)
    assert answer.status == 200
    assert answer.body == whole[: len(whole) // 2]  # all that was promised, and it is not JSON
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    simulator.faults.rest_garbage(times=0)
    assert trades(simulator).body == whole


def test_errors_are_not_garbled(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_garbage(times=1)
    simulator.faults.rest_error(500)
    assert trades(simulator).error == (500, "internal server error")
    assert trades(simulator).body.startswith(b"<html>")


def test_a_connection_that_is_cut(simulator: AlpacaSimulator) -> None:
    simulator.history.add(SESSION)
    whole = trades(simulator).body
    simulator.faults.rest_drop(times=2)
    for _ in range(2):
        with pytest.raises(http.client.IncompleteRead) as raised:
            trades(simulator)
        assert whole.startswith(raised.value.partial)
        assert 0 < len(raised.value.partial) < len(whole)
    assert trades(simulator).body == whole


# --- rate limit ---


def test_the_rate_limit_is_shown_without_one(simulator: AlpacaSimulator) -> None:
    headers = trades(simulator).headers
    assert headers["X-RateLimit-Limit"] == "10000"
    assert headers["X-RateLimit-Remaining"] == "9999"
    assert 0 < int(headers["X-RateLimit-Reset"]) - time.time() < 62


def test_a_rate_limit(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_rate_limit(2)
    answers = [trades(simulator) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 429, 429]
    remaining = [each.headers["X-RateLimit-Remaining"] for each in answers]
    assert remaining == ["1", "0", "0", "0"]
    assert {each.headers["X-RateLimit-Limit"] for each in answers} == {"2"}
    assert answers[2].error == (429, "too many requests.")
    simulator.faults.rest_rate_limit(None)
    assert trades(simulator).status == 200


def test_a_new_minute(simulator: AlpacaSimulator) -> None:
    simulator.faults.rest_rate_limit(1, minute=0.3)
    deadline = time.monotonic() + TIMEOUT
    seen = [trades(simulator).status]
    while seen.count(200) < 2 and time.monotonic() < deadline:
        seen.append(trades(simulator).status)
    assert (seen[0], seen[1], seen[-1]) == (200, 429, 200)


# --- what is not to be known yet ---


def test_recent_history_is_refused(simulator: AlpacaSimulator) -> None:
    simulator.history.add(SESSION)
    every = minutes(simulator)
    now = simulator.history.now_ns()
    assert now is not None
    simulator.faults.rest_recent_forbidden()
    span = {"symbols": "AAPL", "timeframe": "1Min", "start": DAY}
    refused = ask(simulator, BARS, **span, end="2026-03-06T15:00:00Z")
    assert refused.error == (403, "subscription does not permit querying recent SIP data")
    old = every[: every.index(15) + 1]
    assert minutes(simulator) == old  # without an end: what may be had
    assert minutes(simulator, end="2026-03-06T14:45:00Z") == old
    coins = ask(simulator, CRYPTO_TRADES, symbols="BTC/USD", start=DAY, end="2100-01-01")
    assert coins.status == 200
    simulator.faults.rest_recent_forbidden(0)
    assert minutes(simulator, end="2026-03-06T15:00:00Z") == every


def test_recent_history_is_refused_for_a_feed(simulator: AlpacaSimulator) -> None:
    simulator.history.add(SESSION)
    simulator.faults.rest_recent_forbidden(5, feeds=["sip"])
    span = {"symbols": "AAPL", "start": DAY, "end": "2026-03-06T14:58:00Z"}
    assert ask(simulator, TRADES, **span, feed="sip").status == 403
    assert ask(simulator, TRADES, **span, feed="iex").status == 200
    assert ask(simulator, TRADES, **span).status == 200


def test_history_that_lags_does_not_know_what_was_played_late_either(
    simulator: AlpacaSimulator,
) -> None:
    late = {"T": "t", "S": "AAPL", "i": 1, "x": "V", "p": 1.0, "s": 1, "t": T0 + MINUTE - 1}
    after = T0 + MINUTE
    played = [(after, bar(0)), (after + 8 * SECOND, late), (after + 30 * SECOND, bar(0, "u", 11.0))]
    simulator.history.add(played)
    simulator.faults.history_lag(60)
    seen = []
    for seconds in (119, 128, 149, 150):
        simulator.history.add([{**QUOTE, "t": T0 + seconds * SECOND}])
        bars = rows(simulator, BARS, symbols="AAPL", timeframe="1Min", start=DAY).get("AAPL", ())
        there = rows(simulator, TRADES, symbols="AAPL", start=DAY).get("AAPL", ())
        seen.append(([each["c"] for each in bars], len(there)))
    assert seen == [([], 0), ([10.0], 1), ([10.0], 1), ([11.0], 1)]


def test_history_that_lags_does_not_know_of_a_correction_either(
    simulator: AlpacaSimulator,
) -> None:
    sold = {"T": "t", "S": "AAPL", "i": 1, "x": "V", "p": 1.0, "s": 1, "t": T0}
    right = {"T": "c", "S": "AAPL", "x": "V", "oi": 1, "op": 1.0, "os": 1, "ci": 2, "cp": 2.0}
    corrected = {**right, "cs": 1, "t": T0 + 60 * SECOND}
    simulator.history.add([(T0, sold), (T0 + 60 * SECOND, corrected)])
    simulator.faults.history_lag(30)
    simulator.history.add([{**QUOTE, "t": T0 + 70 * SECOND}])

    def known() -> list[tuple[int, str | None]]:
        found = rows(simulator, TRADES, symbols="AAPL", start=DAY)["AAPL"]
        return [(each["i"], each.get("u")) for each in found]

    assert known() == [(1, None)]
    simulator.faults.history_lag(0)
    assert known() == [(1, "incorrect"), (2, "corrected")]
    cancel = {"T": "x", "S": "AAPL", "i": 2, "x": "V", "p": 2.0, "s": 1, "a": "C"}
    simulator.history.add([(T0 + 80 * SECOND, {**cancel, "t": T0 + 80 * SECOND})])
    assert known() == [(1, "incorrect"), (2, "canceled")]
    simulator.faults.history_lag(10)
    assert known() == [(1, "incorrect"), (2, "corrected")]


def test_history_that_lags(simulator: AlpacaSimulator) -> None:
    simulator.faults.history_lag(90)
    trade = {"T": "t", "S": "AAPL", "i": 1, "x": "V", "p": 1.0, "s": 1, "t": T0 + MINUTE}
    simulator.publish(bar(0), bar(1), trade)  # now it is two minutes later
    assert minutes(simulator) == []
    assert rows(simulator, TRADES, symbols="AAPL", start=DAY) == {}
    simulator.publish({**QUOTE, "t": T0 + 150_000_000_000})
    assert minutes(simulator) == [0]
    assert len(rows(simulator, TRADES, symbols="AAPL", start=DAY)["AAPL"]) == 1
    simulator.publish({**QUOTE, "t": T0 + 3 * MINUTE})
    assert minutes(simulator) == [0]
    simulator.publish({**QUOTE, "t": T0 + 210_000_000_000})
    assert minutes(simulator) == [0, 1]
    assert len(simulator.history.final_bars("AAPL")) == 2  # always
    simulator.faults.history_lag(120)
    assert minutes(simulator) == [0]
    simulator.faults.clear()
    assert minutes(simulator) == [0, 1]


def test_larger_bars_lag_as_a_whole(simulator: AlpacaSimulator) -> None:
    def known() -> dict[str, list[Any]]:
        return rows(simulator, BARS, symbols="AAPL", timeframe="5Min", start=DAY)

    simulator.publish(*(bar(n) for n in range(4)))
    assert known() == {}
    simulator.publish(bar(4))
    assert len(known()["AAPL"]) == 1
    simulator.faults.history_lag(1)
    assert known() == {}


def test_a_day_lags_behind_its_running_totals(simulator: AlpacaSimulator) -> None:
    midnight = T0 - 570 * MINUTE
    simulator.publish(bar(0), {**bar(0, "d", 1.0), "t": midnight})
    simulator.publish(bar(1), {**bar(0, "d", 2.0), "t": midnight})

    def close() -> float:
        (found,) = rows(simulator, BARS, symbols="AAPL", timeframe="1Day", start=DAY)["AAPL"]
        return float(found["c"])

    assert close() == 2.0
    simulator.faults.history_lag(30)
    assert close() == 1.0


def test_a_playback_makes_the_time(simulator: AlpacaSimulator) -> None:
    quiet = [(T0 + MINUTE, bar(0)), (T0 + 2 * MINUTE, bar(1)), (T0 + 9 * MINUTE, QUOTE)]
    simulator.faults.history_lag(8 * 60)
    assert simulator.play(quiet, speed=math.inf).wait(TIMEOUT)
    assert simulator.history.now_ns() == T0 + 9 * MINUTE
    assert minutes(simulator) == [0]


def test_an_updated_bar_replaces_the_regular_one(simulator: AlpacaSimulator) -> None:
    def closes() -> list[float]:
        found = rows(simulator, BARS, symbols="AAPL", timeframe="1Min", start=DAY)
        return [each["c"] for each in found["AAPL"]]

    simulator.publish(bar(0), bar(1))
    assert closes() == [10.0, 10.0]
    simulator.faults.mute()  # on the streams
    simulator.publish(bar(0, "u", 11.0))
    assert closes() == [11.0, 10.0]
    simulator.publish(bar(0))
    assert closes() == [11.0, 10.0]


def test_in_a_script(simulator: AlpacaSimulator) -> None:
    script = [
        (0.0, fault("rest_error", status=502, times=1)),
        (0.0, fault("history_lag", seconds=60)),
        (0.05, fault("history_lag", seconds=0)),
        (0.05, fault("rest_garbage", times=1)),
    ]
    simulator.publish(bar(0))
    assert simulator.play_faults(script).wait(TIMEOUT)
    assert [trades(simulator).status for _ in range(2)] == [502, 200]
    assert minutes(simulator) == [0]
