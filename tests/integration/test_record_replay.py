"""A session is recorded once, faults and all, and replayed with the same results each time."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from websockets.legacy import client

from realtime_stream import ConfigurationError, RealTimeStreamManager, StreamFailedError
from realtime_stream.cli.event_log import EventLog, register
from realtime_stream.cli.record import RecordOptions, run_record
from realtime_stream.cli.replay import ReplayOptions, run_replay
from realtime_stream.clock import FakeClock
from realtime_stream.errors import RecordingError, StreamingError
from realtime_stream.market.channels import Subscription
from realtime_stream.providers.replay import Replay
from realtime_stream.recording import Recording
from realtime_stream.recording.records import (
    FrameReceived,
    Lost,
    Record,
    SessionBegun,
    SessionEnded,
    Step,
    SubscriptionsServed,
)
from realtime_stream.recording.writer import RecordingWriter
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, SyntheticSession
from realtime_stream.simulator.wire import encode_array, prepare
from tests.support import Recorder, config, quote, trade

if TYPE_CHECKING:
    from pathlib import Path

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

SYMBOLS = ("AAPL", "MSFT", "SPY")
CHANNELS = ("bars", "daily_bars", "quotes", "trades", "updated_bars")
WANTED = frozenset(Subscription(channel, symbol) for channel in CHANNELS for symbol in SYMBOLS)
FRIDAY = datetime(2026, 3, 6, 14, 30, tzinfo=UTC)

Line = dict[str, Any]

_REPLAY = """
import sys
from pathlib import Path
from realtime_stream.cli.record import RecordOptions, run_record
from realtime_stream.cli.replay import ReplayOptions, run_replay
recording, log, speed, *timeframes = sys.argv[1:]
options = ReplayOptions(Path(recording), float(speed), Path(log), tuple(timeframes))
raise SystemExit(run_replay(options))
"""


def _replayed(
    recording: Path, log: Path, *timeframes: str, seed: int = 0, speed: float = math.inf
) -> bytes:
    """The event log of a replay in a process of its own, where sets have an order of their own."""
    done = subprocess.run(
        [sys.executable, "-c", _REPLAY, str(recording), str(log), str(speed), *timeframes],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return log.read_bytes()


def _lines(log: bytes, *types: str) -> list[Line]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [line for line in lines if not types or line["type"] in types]


def _series(log: bytes) -> dict[tuple[str, ...], list[Line]]:
    """What was delivered of each series: between them, live, it is the clock that decides."""
    series: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for line in _lines(log, "event"):
        series[line["channel"], line["symbol"], line.get("timeframe", "")].append(line)
    return series


def _published(count: int, simulator: AlpacaSimulator) -> bool:
    return len(simulator.ledger) >= count


def _record_bad_day(
    simulator: AlpacaSimulator, new_manager: NewManager, folder: Path, log: Path, *timeframes: str
) -> RealTimeStreamManager:
    """Twenty minutes of market time with drops, duplicates, disorder, garbage and errors."""
    manager = new_manager(manager={"record": folder})
    found = Recorder[object]()
    manager.on_connect(found)
    with log.open("wb") as file:
        register(manager, EventLog(file).write, WANTED, timeframes)
        manager.start()
        simulator.faults.duplicate(7)
        simulator.faults.reorder(3)
        handle = simulator.play(SyntheticSession(11, SYMBOLS, start=FRIDAY, minutes=20), speed=200)
        for number, code in enumerate((None, 1006, 1011)):
            assert simulator.wait_for(functools.partial(_published, 900 * (number + 1)))
            for kind in ("truncated", "wrong_types", "text_frame", "absurd_price"):
                simulator.send_garbage(kind)
            simulator.send_error(500)
            simulator.faults.refuse_http(503, times=2)
            simulator.drop(code)
            found.wait_for(number + 2)
        assert handle.wait(30)
        simulator.faults.clear()
        quotes = Recorder[object]()
        manager.on_quote(quotes, "AAPL")
        simulator.publish(quote("AAPL", n=1))
        quotes.wait_for()
        manager.stop()
    return manager


def test_two_replays_of_a_bad_day_give_the_same_bytes(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    folder = tmp_path / "bad-day"
    manager = _record_bad_day(simulator, new_manager, folder, tmp_path / "live.jsonl")
    recorded = manager.status().recording
    assert recorded is not None
    assert recorded.dropped == 0

    first = _replayed(folder, tmp_path / "1.jsonl", seed=1)
    second = _replayed(folder, tmp_path / "2.jsonl", seed=2)
    assert first == second

    live = (tmp_path / "live.jsonl").read_bytes()
    assert _lines(first, "event") == _lines(live, "event")
    assert len(_lines(first, "event")) > 2000

    def story(log: bytes) -> list[tuple[str, object, object]]:
        return [
            (line["type"], line.get("kind"), line.get("code"))
            for line in _lines(log, "connected", "disconnected")
        ]

    assert story(first) == story(live)
    assert len(_lines(first, "gap")) == len(_lines(live, "gap")) == 3


def test_bars_that_are_built_in_a_replay_are_the_same_each_time(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    timeframes = ("2m", "15s", "ticks:7")
    live = tmp_path / "live.jsonl"
    _record_bad_day(simulator, new_manager, tmp_path / "bad-day", live, *timeframes)
    logs = [
        _replayed(
            tmp_path / "bad-day", tmp_path / f"{seed}.jsonl", *timeframes, seed=seed, speed=speed
        )
        for seed, speed in ((1, math.inf), (2, math.inf), (3, 20.0))
    ]
    assert logs[0] == logs[1] == logs[2]
    built = [line for line in _lines(logs[0], "event") if line.get("source") == "built"]
    assert {line["timeframe"] for line in built} == set(timeframes)
    assert _series(logs[0]) == _series(live.read_bytes())


def test_a_recording_holds_no_secret_and_nothing_of_the_handshake(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    manager = new_manager(manager={"record": tmp_path})
    quotes = Recorder[object]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.send_error(500, f"no, not with {SIMULATOR_KEY} and {SIMULATOR_SECRET}")
    simulator.publish(quote("AAPL"))
    quotes.wait_for()
    manager.stop()
    records = list(Recording(tmp_path).records())
    frames = [record.data for record in records if isinstance(record, FrameReceived)]
    assert len(frames) == 3  # the acknowledgement, the error and the quote
    assert not any(b"authenticated" in data or b"connected" in data for data in frames)
    steps = [record.step for record in records if isinstance(record, Step)]
    assert steps == ["connected", "authenticated", "settled"]
    secrets = (SIMULATOR_KEY, SIMULATOR_SECRET)
    assert not any(secret in repr(record) for record in records for secret in secrets)


def test_what_comes_through_the_handlers_of_an_sdk_without_the_hook_is_recorded_too(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = client.connect

    def connect(url: str, **keywords: Any) -> Any:
        if "create_protocol" in keywords:
            msg = "connect() got an unexpected keyword argument 'create_protocol'"
            raise TypeError(msg)
        return real(url, **keywords)

    monkeypatch.setattr(client, "connect", connect)
    live = new_manager(manager={"record": tmp_path})
    quotes, again = Recorder[Any](), Recorder[Any]()
    live.on_quote(quotes, "AAPL")
    live.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    simulator.publish(quote("AAPL", 1), quote("AAPL", 2))
    quotes.wait_for(2)
    live.stop()
    replay = Replay(tmp_path)
    manager = _manager(replay)
    manager.on_quote(again, "AAPL")
    with manager:
        assert replay.finished.wait(10)
    assert again.items == quotes.items
    assert [e.received_ns for e in again.items] == [e.received_ns for e in quotes.items]


@pytest.fixture
def quotes_of_two(simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path) -> Path:
    """A recording of two sessions, of quotes and trades of AAPL and MSFT."""
    manager = new_manager(manager={"record": tmp_path / "recording"})
    events, found = Recorder[object](), Recorder[object]()
    manager.on_quote(events, "AAPL", "MSFT")
    manager.on_trade(events, "AAPL", "MSFT")
    manager.on_connect(found)
    manager.start()
    simulator.publish(quote("AAPL", 1), quote("MSFT", 2), trade("AAPL", 3), trade("MSFT", 4))
    events.wait_for(4)
    simulator.drop(1006)
    found.wait_for(2)
    simulator.publish(quote("AAPL", 5), quote("MSFT", 6))
    events.wait_for(6)
    manager.stop()
    return tmp_path / "recording"


def _manager(replay: Replay, **settings: Any) -> RealTimeStreamManager:
    return RealTimeStreamManager(
        replay.config(**settings), provider=replay.provider, data_clock=replay.clock
    )


def test_a_replay_brings_what_is_wanted_of_what_was_recorded(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay)
    quotes, gaps = Recorder[Any](), Recorder[Any]()
    manager.on_quote(quotes, "AAPL", "SPY")
    manager.on_gap(gaps)
    with manager:
        assert replay.finished.wait(10)
        assert [event.symbol for event in quotes.items] == ["AAPL", "AAPL"]
        assert manager.status().delivered == {"quotes": 2}
    (gap,) = gaps.items
    assert {(entry.channel, entry.symbol) for entry in gap.entries} == {("quotes", "AAPL")}
    assert replay.info.sessions == 2
    assert not replay.info.lost


def test_whoever_wants_all_symbols_gets_those_that_were_recorded(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay)
    trades = Recorder[Any]()
    manager.on_trade(trades, "*")
    with manager:
        assert replay.finished.wait(10)
        assert [event.symbol for event in trades.items] == ["AAPL", "MSFT"]


def test_data_time_is_that_of_the_recording(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay)
    seen: list[tuple[int, int]] = []
    manager.on_quote(lambda event: seen.append((event.received_ns, replay.clock.utc_now_ns())), "*")
    with manager:
        assert replay.finished.wait(10)
    assert len(seen) == 4
    assert all(received == now for received, now in seen)


def test_a_slow_callback_slows_the_replay_and_loses_nothing(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay, inbox_capacity=4)
    entered, release = threading.Event(), threading.Event()
    events = Recorder[Any]()

    def slow(event: object) -> None:
        events(event)
        entered.set()
        release.wait(10)

    manager.on_quote(slow, "*")
    manager.on_trade(events, "*")
    with manager:
        assert entered.wait(5)
        status = manager.status()
        assert status.received <= 4  # of the first frame at the most
        assert not replay.finished.is_set()
        release.set()
        assert replay.finished.wait(10)
        assert not manager.status().dropped
    assert len(events.items) == 6


def test_a_manager_that_is_restarted_plays_from_the_beginning(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay)
    quotes = Recorder[Any]()
    manager.on_quote(quotes, "*")
    with manager:
        assert replay.finished.wait(10)
        manager.restart()
        quotes.wait_for(8)
        assert replay.finished.wait(10)
    assert quotes.items[:4] == quotes.items[4:]


def test_stop_interrupts_a_replay_that_waits_for_its_time(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two, speed=1e-6)  # a second of it takes eleven days
    manager = _manager(replay)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    manager.stop(timeout=2)
    assert not replay.finished.is_set()


def test_stop_from_a_callback_ends_a_replay(quotes_of_two: Path) -> None:
    replay = Replay(quotes_of_two)
    manager = _manager(replay)
    manager.on_quote(lambda _: manager.stop(), "*")
    manager.start(timeout=0)
    assert manager.wait_until_stopped(5)
    assert not replay.finished.is_set()


def test_what_a_callback_asks_for_in_mid_replay_comes_from_then_on(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    live = new_manager(manager={"record": tmp_path})
    quotes = Recorder[Any]()
    live.on_quote(quotes, "AAPL", "MSFT")
    live.start()
    for n in range(3):
        simulator.publish(quote("AAPL", n), quote("MSFT", n))
        quotes.wait_for(2 * n + 2)
    live.stop()
    replay = Replay(tmp_path)
    manager = _manager(replay)
    more = Recorder[Any]()
    registrations: list[object] = []

    @manager.on_quote("AAPL")
    def first(_: object) -> None:
        if not registrations:
            registrations.append(manager.on_quote(more, "MSFT"))

    with manager:
        assert replay.finished.wait(10)
    assert [event.timestamp_ns for event in more.items] == [
        event.timestamp_ns for event in quotes.items if event.symbol == "MSFT"
    ][1:]


def test_attempts_that_were_refused_are_passed_over(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    live = new_manager(manager={"record": tmp_path})
    found, lost = Recorder[object](), Recorder[object]()
    live.on_quote(found, "AAPL")
    live.on_disconnect(lost)
    live.start()
    simulator.faults.refuse_http(429, retry_after=0, times=2)
    simulator.drop(1006)
    lost.wait_for()
    assert live.wait_until_connected(5)
    simulator.publish(quote("AAPL"))
    found.wait_for()
    live.stop()
    begun = [r for r in Recording(tmp_path).records() if isinstance(r, SessionBegun)]
    assert len(begun) >= 4
    replay = Replay(tmp_path)
    manager = _manager(replay)
    manager.subscribe("quotes", "AAPL")
    with manager:
        assert replay.finished.wait(10)
        assert manager.status().attempts == 2
        assert manager.is_connected()
    assert replay.info.sessions == 2


def test_a_recording_that_ends_for_good_fails_the_replay_too(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path, capsys: Any
) -> None:
    live = new_manager(manager={"record": tmp_path})
    failed = Recorder[Any]()
    quotes = Recorder[Any]()
    live.on_error(failed)
    live.on_quote(quotes, "AAPL")
    live.start()
    simulator.publish(quote("AAPL"))
    quotes.wait_for()
    simulator.send_error(409)
    failed.wait_until(lambda items: any(item.fatal for item in items))
    with pytest.raises(StreamFailedError):
        live.stop()
    code = run_replay(ReplayOptions(tmp_path, quiet=True))
    assert code == 1
    assert "409" in capsys.readouterr().err
    replay = Replay(tmp_path)
    manager = _manager(replay)
    again = Recorder[Any]()
    manager.on_quote(again, "AAPL")
    # start() raises the failure itself, if that comes before it has returned.
    with pytest.raises(StreamingError, match="409"), manager:
        assert replay.finished.wait(10)
    assert again.items == quotes.items


def _write(folder: Path, *records: Record) -> Path:
    clock = FakeClock()
    clock.advance(FRIDAY.timestamp())
    writer = RecordingWriter(
        folder,
        provider="alpaca",
        market="stocks",
        feed="iex",
        segment_bytes=10**9,
        segment_seconds=10**9,
        clock=clock,
        data_clock=clock,
    )
    writer.open()
    if records:
        writer.write(records)
    writer.close()
    return folder


def _at(second: float) -> int:
    return int(FRIDAY.timestamp() * 10**9) + int(second * 10**9)


def _begun(*channels: str) -> list[Record]:
    wanted = tuple(Subscription(channel, "AAPL") for channel in channels)
    return [
        SessionBegun(1, _at(0), wanted),
        Step(_at(0), "connected"),
        Step(_at(0), "authenticated"),
        SubscriptionsServed(_at(0), wanted),
        Step(_at(0), "settled"),
    ]


def _frame(second: float, **message: Any) -> FrameReceived:
    encoded = prepare({**message, "t": _at(second)}, "stocks").encoded("msgpack")
    return FrameReceived(_at(second), encode_array([encoded], "msgpack"))


@pytest.mark.parametrize(
    ("came", "end"),
    [
        ([], {"server_code": 402, "server_message": "auth failed"}),
        ([Step(_at(0), "authenticated")], {"all_refused": True}),
    ],
)
def test_a_day_on_which_nothing_was_served_is_replayed(
    tmp_path: Path, came: list[Record], end: dict[str, Any]
) -> None:
    begun = _begun("quotes")[:2]
    folder = _write(tmp_path / "day", *begun, *came, SessionEnded(1, _at(1), **end))
    assert run_replay(ReplayOptions(folder, quiet=True)) == 1


def test_a_recording_without_any_session_is_replayed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, log = _write(tmp_path / "day"), tmp_path / "log"
    assert run_replay(ReplayOptions(folder, log=log)) == 0
    assert log.read_bytes() == b""
    assert "nothing was subscribed" in capsys.readouterr().err


def test_a_recording_that_cannot_be_read_on_fails_the_replay(tmp_path: Path) -> None:
    folder = _write(tmp_path, *_begun("quotes"), _frame(1, **quote()))
    (folder / "segment-000002.rsrec").write_bytes(b"something else")
    replay = Replay(folder)
    manager = _manager(replay)
    quotes = Recorder[Any]()
    manager.on_quote(quotes, "AAPL")
    with pytest.raises(StreamFailedError, match="not a segment"), manager:
        assert replay.finished.wait(10)
    assert len(quotes.items) == 1


def test_a_replay_that_is_started_again_is_played_again(tmp_path: Path) -> None:
    frames = [_frame(second, **quote()) for second in range(1, 50)]
    replay = Replay(_write(tmp_path, *_begun("quotes"), *frames))
    manager = _manager(replay)
    quotes = Recorder[Any]()
    manager.on_quote(quotes, "AAPL")
    for times in (1, 2, 3):
        manager.start(timeout=0)
        assert replay.finished.wait(10)
        manager.stop()
        assert len(quotes.items) == 49 * times


def test_nothing_is_dropped_in_a_small_inbox(tmp_path: Path) -> None:
    many = [
        prepare({**trade("AAPL", n), "t": _at(1)}, "stocks").encoded("msgpack") for n in range(400)
    ]
    frame = FrameReceived(_at(1), encode_array(many, "msgpack"))
    replay = Replay(_write(tmp_path, *_begun("trades"), frame))
    manager = _manager(replay, inbox_capacity=100)
    trades = Recorder[Any]()
    manager.on_trade(trades, "AAPL")
    with manager:
        assert replay.finished.wait(10)
        assert not manager.status().dropped
    assert len(trades.items) == 400


def test_a_hole_in_the_recording_is_a_gap_and_bars_across_it_are_partial(tmp_path: Path) -> None:
    frames: list[Record] = [_frame(second, **trade("AAPL", second)) for second in range(1, 300)]
    frames[100:120] = [Lost(_at(101), 20, 2000, 0)]  # in the second minute
    folder = _write(tmp_path / "day", *_begun("trades"), *frames)
    first = _replayed(folder, tmp_path / "1", "1m", seed=1)
    assert first == _replayed(folder, tmp_path / "2", "1m", seed=2)
    (gap,) = _lines(first, "gap")
    assert (gap["cause"], gap["start_ns"], gap["end_ns"]) == ("reconnect", _at(100), _at(121))
    bars = [line for line in _lines(first, "event") if line["channel"] == "bars"]
    assert [bar["timestamp_ns"] for bar in bars] == [_at(60 * minute) for minute in range(4)]
    assert [bar["is_partial"] for bar in bars[1:]] == [True, True, False]
    assert {bar["source"] for bar in bars} == {"built"}


def test_the_command_records_and_says_what(
    simulator: AlpacaSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator.play(SyntheticSession(3, ("AAPL",), start=FRIDAY, minutes=5), speed=200)
    settings = config(simulator, watchlist=("AAPL",), watchlist_channels=("quotes",))
    code = run_record(RecordOptions(settings, tmp_path / "out", duration=1.0, quiet=True))
    said = capsys.readouterr()
    assert code == 0, said
    frames = [r for r in Recording(tmp_path / "out").records() if isinstance(r, FrameReceived)]
    assert len(frames) > 10
    assert f"recorded: {len(frames)} frames, " in said.out
    assert run_replay(ReplayOptions(tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert said.out.count(" quotes ") > 10
    assert f"replayed: {len(frames)} frames of 1 sessions" in said.out


def test_an_interrupted_replay_says_so(quotes_of_two: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _REPLAY, str(quotes_of_two), str(tmp_path / "log"), "1e-6"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "log").exists():  # signals are ours from then on
            assert process.poll() is None
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "delivered: nothing" in out


def test_a_log_that_cannot_be_written_is_a_mistake_in_the_settings(
    quotes_of_two: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="event log"):
        run_replay(ReplayOptions(quotes_of_two, log=tmp_path / "nowhere" / "log"))


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        Replay(tmp_path)
    (tmp_path / "segment-000001.rsrec").write_bytes(b"something else")
    with pytest.raises(RecordingError, match="not a segment"):
        Replay(tmp_path)
    with pytest.raises(RecordingError):
        Replay(tmp_path / "nowhere")


def test_a_speed_must_be_above_zero(quotes_of_two: Path) -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        Replay(quotes_of_two, speed=0)


def test_recording_into_a_folder_that_cannot_be_written_fails_at_once(
    new_manager: NewManager, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    manager = new_manager(manager={"record": tmp_path / "file" / "folder"})
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(RecordingError, match="cannot be written"):
        manager.start()
    assert not manager.status().threads
