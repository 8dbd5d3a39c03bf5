"""``backfill``: only whole bars, the good ones among bad ones, from a history in trouble."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

from realtime_stream.cli.backfill import parse_moment
from realtime_stream.cli.backfill_fetch import PieceFetcher, WholeBars
from realtime_stream.clock import FakeClock
from realtime_stream.config import StreamConfig
from realtime_stream.errors import (
    HistoryError,
    HistoryRefusedError,
    HistoryUnavailableError,
    SinkError,
    SinkRejectedError,
)
from realtime_stream.market.calendar import AlwaysOpen, RegularHours
from realtime_stream.market.models import Bar
from realtime_stream.market.timeframe import parse_timeframe
from realtime_stream.ports import HistoryPage
from tests.rest_server import Asked, Reply, RestServer
from tests.support_sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from realtime_stream.config import Credentials
    from realtime_stream.ports import HistoryRequest

COMMAND: Final = [sys.executable, "-m", "realtime_stream.cli", "backfill", "-s", "AAPL"]
PATIENCE: Final = 40
MINUTE: Final = 60 * 10**9
NOON: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def past_bar(minute: int, **fields: Any) -> Bar:
    """A bar that starts so many minutes after noon."""
    values: dict[str, Any] = {
        "symbol": "AAPL",
        "timestamp_ns": ns(NOON) + minute * MINUTE,
        "received_ns": ns(NOON) + 1440 * MINUTE,
        "open": Decimal(2),
        "high": Decimal(3),
        "low": Decimal(1),
        "close": Decimal(2),
        "volume": Decimal(100),
        "source": "backfill",
        **fields,
    }
    return Bar(**values)


class Script:
    """A history whose answers are given one after the other."""

    def __init__(self, *answers: Sequence[Bar] | HistoryError) -> None:
        self._answers = list(answers)
        self.asked: list[HistoryRequest] = []

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        assert credentials is not None
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, HistoryError):
            raise answer
        yield HistoryPage(bars=tuple(answer))

    def close(self) -> None:
        """Nothing is open."""


class Bench:
    """A fetcher of bars of a minute, at half past twelve."""

    def __init__(self, *answers: Sequence[Bar] | HistoryError) -> None:
        self.history = Script(*answers)
        self.sink = MemorySink()
        self.said: list[str] = []
        self.clock = FakeClock(NOON + timedelta(minutes=30))
        self.interrupted = threading.Event()
        config = StreamConfig(watchlist=("AAPL",), api_key="key", secret_key="secret")
        self.whole = WholeBars(
            parse_timeframe("1m"), RegularHours(), until_ns=self.clock.utc_now_ns()
        )
        self.fetcher = PieceFetcher(
            self.history,
            self.sink,
            config=config,
            credentials=config.resolve_credentials(),
            whole=self.whole,
            clock=self.clock,
            interrupted=self.interrupted,
            say=self.said.append,
        )

    def fetch(self, minutes: int = 60) -> None:
        self.fetcher.fetch(ns(NOON), ns(NOON) + minutes * MINUTE, lambda: None)


# --- moments ---


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-05:00"])
def test_a_moment_beyond_all_years_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 9999"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("timeframe", "end", "until", "cut"),
    [
        ("1m", "12:30:00", "12:30:00", "12:30:00"),
        ("1m", "12:30:40", "12:30:40", "12:30:00"),
        ("1m", "18:00:00", "12:30:40", "12:30:00"),
        ("1m", "12:10:20", "12:30:40", "12:10:20"),
        ("1m", "12:30:20", "12:30:40", "12:30:00"),
        ("1h", "12:30:00", "13:05:00", "12:30:00"),
        ("1h", "12:30:00", "12:45:00", "12:00:00"),
        ("1d", "12:00:00", "13:00:00", "05:00:00"),  # midnight in New York
    ],
)
def test_the_end_is_cut_to_the_last_whole_interval(
    timeframe: str, end: str, until: str, cut: str
) -> None:
    day = "2026-03-04T"
    whole = WholeBars(
        parse_timeframe(timeframe), RegularHours(), until_ns=ns(parse_moment(day + until))
    )
    assert whole.cut(ns(parse_moment(day + end))) == ns(parse_moment(day + cut))


def test_a_day_of_a_market_without_hours_is_one_of_utc() -> None:
    whole = WholeBars(parse_timeframe("1d"), AlwaysOpen(), until_ns=ns(NOON))
    assert whole.cut(ns(NOON)) == ns(parse_moment("2026-03-04"))


def test_an_end_of_long_ago_is_taken_as_it_is() -> None:
    whole = WholeBars(parse_timeframe("1d"), RegularHours(), until_ns=ns(NOON))
    moment = ns(parse_moment("0001-01-01T02:00"))
    assert whole.cut(moment) == moment


# --- pieces ---


def test_a_bar_whose_interval_still_runs_is_neither_asked_for_nor_stored() -> None:
    bench = Bench([past_bar(29), past_bar(30)])
    bench.clock.advance(40)
    bench.fetch()
    assert bench.history.asked[0].end_ns == ns(NOON) + 30 * MINUTE
    assert [each.timestamp_ns for each in bench.sink.bars] == [past_bar(29).timestamp_ns]
    bench.fetcher.fetch(ns(NOON) + 30 * MINUTE, ns(NOON) + 90 * MINUTE, lambda: None)
    assert len(bench.history.asked) == 1


def test_bars_that_cannot_be_true_are_counted_and_the_others_stored() -> None:
    bench = Bench([past_bar(0), past_bar(1, low=Decimal(4)), past_bar(2, open=Decimal(-1))])
    bench.fetch()
    assert bench.sink.bars == [past_bar(0)]
    tally = bench.fetcher.tally
    assert (tally.stored, tally.refused) == (1, 2)
    assert tally.first.startswith("AAPL 2026-03-04 12:01: high 3 < low 4")


def test_bars_that_the_sink_refuses_are_counted_and_the_others_stored() -> None:
    bench = Bench([past_bar(0), past_bar(1), past_bar(2)])

    def refuse(bars: Sequence[Bar]) -> None:
        if len(bars) == 3:
            raise SinkRejectedError("no", rejected={1: "too many digits"})

    bench.sink.behave = refuse
    bench.fetch()
    assert bench.sink.bars == [past_bar(0), past_bar(2)]
    tally = bench.fetcher.tally
    assert (tally.stored, tally.refused) == (2, 1)
    assert tally.first == "AAPL 2026-03-04 12:01: too many digits"


def test_a_sink_that_fails_ends_it() -> None:
    bench = Bench([past_bar(0)])
    bench.sink.fails_with(SinkError("down"))
    with pytest.raises(SinkError, match="down"):
        bench.fetch()


def test_a_piece_that_fails_is_asked_for_again() -> None:
    bench = Bench(HistoryError("no JSON"), HistoryError("no JSON"), [past_bar(0)])
    bench.fetch()
    assert bench.sink.bars == [past_bar(0)]
    assert bench.said == ["trying again in 5 s: no JSON"] * 2
    assert bench.clock.waits() == (5.0, 5.0)


def test_a_piece_that_fails_three_times_ends_it() -> None:
    bench = Bench(*[HistoryError("no JSON")] * 3)
    with pytest.raises(HistoryError, match="no JSON"):
        bench.fetch()
    assert len(bench.history.asked) == 3


def test_a_refusal_ends_it_at_once() -> None:
    bench = Bench(HistoryRefusedError("keys"))
    with pytest.raises(HistoryRefusedError):
        bench.fetch()
    assert bench.said == []


def test_an_error_after_an_interruption_is_none() -> None:
    bench = Bench(HistoryError("closed"))
    closed = bench.history.fetch

    def fetch(request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        bench.interrupted.set()
        return closed(request, credentials)

    bench.history.fetch = fetch  # type: ignore[method-assign]  # what a signal does meanwhile
    bench.fetch()
    assert bench.said == []
    bench.fetch()
    assert len(bench.history.asked) == 1


def test_what_is_not_there_yet_is_left_out() -> None:
    """The plan has everything after a quarter of an hour; it is half past twelve."""
    end_ns = ns(NOON) + 30 * MINUTE
    late = HistoryUnavailableError("recent data", available_ns=end_ns + 15 * MINUTE)
    bench = Bench(late, [past_bar(14)])
    bench.fetch()
    assert [each.end_ns for each in bench.history.asked] == [end_ns, end_ns - 15 * MINUTE]
    assert bench.sink.bars == [past_bar(14)]
    assert bench.said == [
        "only until 2026-03-04 12:15 UTC: later bars are not there yet (recent data)"
    ]


def test_a_server_whose_clock_is_behind_is_asked_for_a_minute_less() -> None:
    end_ns = ns(NOON) + 30 * MINUTE
    errors = [
        HistoryUnavailableError("recent data", available_ns=end_ns),
        HistoryUnavailableError("recent data", available_ns=end_ns - MINUTE),
    ]
    bench = Bench(*errors, [past_bar(0)])
    bench.fetch()
    ends = [(end_ns - each.end_ns) // MINUTE for each in bench.history.asked]
    assert ends == [0, 1, 2]


# --- the command ---


def answer(*bars: Bar) -> Reply:
    rows = [
        {
            "t": f"{each.timestamp:%Y-%m-%dT%H:%M:%SZ}",
            **{name[0]: float(getattr(each, name)) for name in ("open", "high", "low", "close")},
            "v": 100,
            "n": 1,
        }
        for each in bars
    ]
    return Reply(body={"bars": {"AAPL": rows}, "next_page_token": None})


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    keys = {"ALPACA_API_KEY": "PKTESTTESTTEST", "ALPACA_SECRET_KEY": "secret-secret-secret"}
    return {**os.environ, **keys, "HOME": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )


def test_one_refused_bar_does_not_end_the_command(
    environment: dict[str, str], tmp_path: Path
) -> None:
    bars = [past_bar(0), past_bar(1, low=Decimal(4)), past_bar(2)]
    with RestServer(answer(*bars), answer(past_bar(1500))) as server:
        arguments = ["--start", "2026-03-04", "--end", "2026-03-06"]
        arguments += ["--history-url", server.url, "--store", f"sqlite:///{tmp_path}/b.db"]
        done = run(environment, *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        "bars stored: 3",
        "refused: 1 (first: AAPL 2026-03-04 12:01: high 3.0 < low 4.0)",
    ]
    assert len(server.asked) == 2
    assert "Traceback" not in done.stderr


def test_what_was_stored_before_an_error_is_said(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with RestServer(answer(past_bar(0)), Reply(status=401)) as server:
        arguments = ["--start", "2026-03-04", "--end", "2026-03-06"]
        arguments += ["--history-url", server.url, "--store", f"sqlite:///{tmp_path}/b.db"]
        done = run(environment, *arguments)
    assert done.returncode == 1
    assert done.stdout == "bars stored: 1\n"
    assert "error: " in done.stderr


def test_the_bar_of_this_minute_is_left_out(environment: dict[str, str], tmp_path: Path) -> None:
    def now(_: Asked) -> Reply:
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        times = [ns(minute - timedelta(minutes=n)) for n in (10, 0)]
        return answer(*(past_bar(0, timestamp_ns=each) for each in times))

    start = datetime.now(UTC) - timedelta(minutes=30)
    with RestServer(now) as server:
        arguments = ("--history-url", server.url, "--store", f"sqlite:///{tmp_path}/b.db")
        done = run(environment, "--start", start.isoformat(), *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "bars stored: 1\n"


@pytest.mark.parametrize("reply", [Reply(how="silent"), Reply(429, headers={"Retry-After": "60"})])
def test_an_interruption_ends_it_while_the_server_makes_it_wait(
    environment: dict[str, str], tmp_path: Path, reply: Reply
) -> None:
    with RestServer(reply) as server:
        arguments = ("--start", "2026-03-04", "--history-url", server.url)
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--store", f"sqlite:///{tmp_path}/b.db"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            server.wait_for(1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=5)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 130, err
    assert out == "bars stored: 0\n"
    assert "Traceback" not in err
    assert "error" not in err


@pytest.mark.parametrize("option", ["--start", "--end"])
def test_a_moment_that_utc_cannot_have_is_said_to_be_wrong(
    environment: dict[str, str], tmp_path: Path, option: str
) -> None:
    usual = ("--start", "2026-03-04", "--store", f"sqlite:///{tmp_path}/b.db")
    done = run(environment, *usual, option, "0001-01-01T00:00:00+14:00")
    assert done.returncode == 1
    assert done.stderr.startswith("error: start and end: ")
    assert "Traceback" not in done.stderr
