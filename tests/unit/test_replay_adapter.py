"""What a replay tells its listener, and when."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import FakeClock
from realtime_stream.config import Credentials
from realtime_stream.errors import ConfigurationError, RecordingError
from realtime_stream.market.channels import Subscription
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Checkpoint,
    Connected,
    Refused,
    RejectedMessage,
    ServerReport,
    Settled,
)
from realtime_stream.providers.replay import Replay, ReplayClock
from realtime_stream.recording.records import (
    FrameReceived,
    Lost,
    Record,
    ServerReported,
    SessionBegun,
    SessionEnded,
    Step,
    SubscriptionsRefused,
    SubscriptionsServed,
)
from realtime_stream.recording.writer import RecordingWriter
from realtime_stream.resilience.failures import SessionEnd, classify
from realtime_stream.simulator.wire import encode_array, prepare
from tests.support import quote, trade

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from realtime_stream.market.models import MarketEvent
    from realtime_stream.ports import Control
    from realtime_stream.providers.replay import ReplayAdapter

AAPL, MSFT = Subscription("quotes", "AAPL"), Subscription("quotes", "MSFT")
KEYS = Credentials(key="replay", secret="replay")
SECOND = 1_000_000_000
BEGIN = 100 * SECOND


class Listener:
    """Notes what it is told with the data time it was told at, and passes every checkpoint."""

    def __init__(self, clock: ReplayClock) -> None:
        self.clock = clock
        self.heard: list[tuple[int, Any]] = []
        self.checkpoints = 0
        self.holds = False  # whether checkpoints are not passed
        self.held = threading.Event()

    def on_frame(self, events: Collection[MarketEvent], received_ns: int) -> None:
        assert received_ns == self.clock.utc_now_ns()
        for event in events:
            self._note(event)

    def on_control(self, control: Control) -> None:
        if not isinstance(control, Checkpoint):
            self._note(control)
            return
        self.checkpoints += 1
        if self.holds:
            self.held.set()
        else:
            control.reached()

    def _note(self, what: object) -> None:
        self.heard.append((self.clock.utc_now_ns() // SECOND - 100, what))

    @property
    def told(self) -> list[Any]:
        return [what for _, what in self.heard]


def frame(at: float, *messages: dict[str, Any]) -> FrameReceived:
    market = "news" if any(message["T"] == "n" for message in messages) else "stocks"
    encoded = [prepare(message, market).encoded("msgpack") for message in messages]
    return FrameReceived(BEGIN + int(at * SECOND), encode_array(encoded, "msgpack"))


def begun(at: float, number: int = 1) -> list[Record]:
    at_ns = BEGIN + int(at * SECOND)
    return [
        SessionBegun(number, at_ns, (AAPL, MSFT)),
        Step(at_ns, "connected"),
        Step(at_ns, "authenticated"),
        SubscriptionsServed(at_ns, (AAPL, MSFT)),
        Step(at_ns, "settled"),
    ]


def ended(at: float, number: int = 1, **facts: Any) -> SessionEnded:
    return SessionEnded(number, BEGIN + int(at * SECOND), **facts)


def record(folder: Path, *records: Record, provider: str = "alpaca") -> Path:
    stands = FakeClock()
    stands.advance(BEGIN / SECOND)
    writer = RecordingWriter(
        folder,
        provider=provider,
        market="stocks",
        feed="iex",
        segment_bytes=10**9,
        segment_seconds=10**9,
        clock=stands,
        data_clock=stands,
    )
    writer.open()
    for each in records:
        writer.write([each])
    writer.close()
    return folder


def play(replay: Replay, *wanted: Subscription) -> tuple[ReplayAdapter, Listener]:
    adapter = replay.provider()
    adapter.set_wanted(frozenset(wanted or (AAPL, MSFT)))
    return adapter, Listener(replay.clock)


def test_sessions_are_played_as_they_were(tmp_path: Path) -> None:
    folder = record(
        tmp_path,
        *begun(1),
        frame(2, quote("AAPL"), quote("MSFT")),
        ServerReported(BEGIN + 3 * SECOND, 500, "internal error"),
        ended(4, server_code=500, server_message="internal error"),
        *begun(10, 2),
        frame(11, quote("AAPL", 5)),
        ended(12, 2, close_code=1000),
    )
    replay = Replay(folder)
    adapter, listener = play(replay)
    first = adapter.run_session(KEYS, listener)
    assert first == SessionEnd(server_code=500, server_message="internal error")
    assert [(at, type(what).__name__) for at, what in listener.heard] == [
        (1, "Connected"),
        (1, "Authenticated"),
        (1, "Acknowledged"),
        (1, "Settled"),
        (2, "Quote"),
        (2, "Quote"),
        (3, "ServerReport"),
    ]
    assert listener.told[:4] == [
        Connected(),
        Authenticated(),
        Acknowledged(frozenset({AAPL, MSFT})),
        Settled(),
    ]
    assert listener.told[6] == ServerReport(500, "internal error")
    assert replay.clock.utc_now_ns() == BEGIN + 4 * SECOND
    second = adapter.run_session(KEYS, listener)
    assert second == SessionEnd(close_code=1000)
    assert replay.clock.utc_now_ns() == BEGIN + 12 * SECOND
    assert (replay.info.sessions, replay.info.frames) == (2, 2)
    assert not replay.finished.is_set()


@pytest.mark.parametrize("facts", [{"close_code": 1001}, {"requested": True}, None])
def test_after_the_last_session_it_waits_to_be_disconnected(
    tmp_path: Path, facts: dict[str, Any] | None
) -> None:
    end = () if facts is None else (ended(3, **facts),)
    replay = Replay(record(tmp_path, *begun(1), frame(2, quote()), *end))
    adapter, listener = play(replay)
    if facts == {"close_code": 1001}:
        adapter.run_session(KEYS, listener)
        assert not replay.finished.is_set()
    ends: list[SessionEnd] = []
    thread = threading.Thread(target=lambda: ends.append(adapter.run_session(KEYS, listener)))
    thread.start()
    assert replay.finished.wait(5)
    assert thread.is_alive()
    assert listener.told[-1].symbol == "AAPL"
    adapter.disconnect()
    thread.join(5)
    assert ends == [SessionEnd(requested=True)]
    assert adapter.run_session(KEYS, listener) == SessionEnd(requested=True)
    assert not adapter.lingering_threads()


@pytest.mark.parametrize("way", ["disconnect", "end_session", "want nothing"])
def test_a_session_that_waits_for_its_callbacks_can_be_ended(tmp_path: Path, way: str) -> None:
    replay = Replay(record(tmp_path, *begun(1), frame(2, quote()), ended(3), *begun(4), ended(5)))
    adapter, listener = play(replay)
    listener.holds = True
    ends: list[SessionEnd] = []
    thread = threading.Thread(target=lambda: ends.append(adapter.run_session(KEYS, listener)))
    thread.start()
    assert listener.held.wait(5)
    if way == "disconnect":
        adapter.disconnect()
    elif way == "end_session":
        adapter.end_session()
    else:
        adapter.set_wanted(frozenset())
    thread.join(5)
    assert ends == [SessionEnd(requested=True)]
    listener.holds = False
    adapter.set_wanted(frozenset({AAPL}))
    again = adapter.run_session(KEYS, listener)
    if way == "disconnect":
        assert again.requested
    else:  # the session that was ended is not gone on with
        assert again == SessionEnd()
        assert replay.clock.utc_now_ns() == BEGIN + 5 * SECOND


def test_time_goes_on_only_when_everything_before_was_dealt_with(tmp_path: Path) -> None:
    records = [*begun(1), frame(2, quote()), frame(3, quote()), ended(4)]
    replay = Replay(record(tmp_path, *records))
    adapter, listener = play(replay)
    adapter.run_session(KEYS, listener)
    assert listener.checkpoints == 2 * (len(records) - 2) + 2  # around each, behind a frame


def test_a_frame_of_many_events_is_handed_over_in_pieces(tmp_path: Path) -> None:
    many = [quote("AAPL", n) for n in range(1200)]
    replay = Replay(record(tmp_path, *begun(1), frame(2, *many), ended(4)))
    adapter, listener = play(replay)
    adapter.run_session(KEYS, listener)
    times = [event.timestamp_ns for event in listener.told[4:]]
    assert times == [message["t"] for message in many]
    assert listener.checkpoints == 2 * len(begun(1)) + 3 + 2


def test_time_does_not_go_back_with_the_recorded_clock(tmp_path: Path) -> None:
    replay = Replay(record(tmp_path, *begun(5), FrameReceived(BEGIN + SECOND, b"\x90"), ended(2)))
    adapter, listener = play(replay)
    adapter.run_session(KEYS, listener)
    assert replay.clock.utc_now_ns() == BEGIN + 5 * SECOND


def test_only_what_is_wanted_now_is_played(tmp_path: Path) -> None:
    refused = SubscriptionsRefused(BEGIN + SECOND, (MSFT,), 405, "limit")
    data = frame(2, quote("AAPL"), quote("MSFT"), trade("AAPL"))
    folder = record(tmp_path, *begun(1), refused, data, ended(3))
    replay = Replay(folder)
    adapter, listener = play(replay, AAPL, Subscription("bars", "AAPL"))
    adapter.run_session(KEYS, listener)
    assert [what for what in listener.told if isinstance(what, Acknowledged)] == [
        Acknowledged(frozenset({AAPL}))
    ]
    assert not [what for what in listener.told if isinstance(what, Refused)]
    assert [(e.channel, e.symbol) for e in listener.told[4:]] == [AAPL]
    adapter, listener = play(Replay(folder), MSFT, Subscription("trades", "*"))
    adapter.run_session(KEYS, listener)
    assert Refused(frozenset({MSFT}), 405, "limit") in listener.told
    assert [(e.channel, e.symbol) for e in listener.told[5:]] == [MSFT, ("trades", "AAPL")]


def test_corrections_come_with_trades(tmp_path: Path) -> None:
    served = SubscriptionsServed(BEGIN, (Subscription("trades", "AAPL"),))
    cancel = {"T": "x", "S": "AAPL", "i": 1, "p": 1.0, "s": 1, "a": "C", "t": BEGIN}
    folder = record(
        tmp_path, *begun(1)[:3], served, frame(2, trade("AAPL"), cancel, quote("MSFT")), ended(3)
    )
    wanted = Subscription("cancels", "AAPL")
    adapter, listener = play(Replay(folder), wanted)
    adapter.run_session(KEYS, listener)
    assert listener.told[2] == Acknowledged(frozenset({wanted}))
    assert [event.channel for event in listener.told[3:]] == ["cancels"]


def test_news_come_by_any_of_their_symbols(tmp_path: Path) -> None:
    served = SubscriptionsServed(BEGIN, (Subscription("news", "*"),))
    article = {
        "T": "n",
        "id": 1,
        "headline": "h",
        "created_at": "2026-03-02T14:30:00Z",
        "updated_at": "2026-03-02T14:30:00Z",
        "symbols": ["MSFT", "AAPL"],
    }
    folder = record(tmp_path, *begun(1)[:3], served, frame(2, article), ended(3))
    for symbol, count in (("AAPL", 1), ("MSFT", 1), ("SPY", 0), ("*", 1)):
        adapter, listener = play(Replay(folder), Subscription("news", symbol))
        adapter.run_session(KEYS, listener)
        assert len(listener.told[3:]) == count


def test_a_change_of_what_is_wanted_is_acknowledged(tmp_path: Path) -> None:
    folder = record(tmp_path, *begun(1), frame(2, quote("AAPL")), frame(3, quote("MSFT")), ended(4))
    replay = Replay(folder)
    adapter, listener = play(replay, AAPL)

    def on_frame(events: Collection[MarketEvent], received_ns: int) -> None:
        Listener.on_frame(listener, events, received_ns)
        adapter.set_wanted(frozenset({AAPL, MSFT}))

    listener.on_frame = on_frame  # type: ignore[method-assign]  # a callback that asks for more
    adapter.run_session(KEYS, listener)
    assert listener.told[5] == Acknowledged(frozenset({AAPL, MSFT}))
    assert listener.told[6].symbol == "MSFT"


def test_malformed_messages_are_told_again(tmp_path: Path) -> None:
    bad = frame(2, quote("AAPL"), {**quote("AAPL"), "bp": "high"})
    adapter, listener = play(Replay(record(tmp_path, *begun(1), bad, ended(3))))
    adapter.run_session(KEYS, listener)
    rejected = [what for what in listener.told if isinstance(what, RejectedMessage)]
    assert [each.received_ns for each in rejected] == [BEGIN + 2 * SECOND]


def test_attempts_without_a_session_are_passed_over_but_for_the_last(tmp_path: Path) -> None:
    refused: list[Record] = [
        SessionBegun(1, BEGIN, (AAPL,)),
        ended(0, http_status=503),
        SessionBegun(2, BEGIN, (AAPL,)),
        Step(BEGIN, "connected"),
        ended(0, 2, server_code=406),
    ]
    last = [*refused[:1], ended(9, http_status=401)]
    folder = record(tmp_path, *refused, *begun(1, 3), ended(2, 3), *refused, *last)
    replay = Replay(folder)
    adapter, listener = play(replay)
    assert adapter.run_session(KEYS, listener) == SessionEnd()
    assert adapter.run_session(KEYS, listener) == SessionEnd(http_status=401)
    assert replay.info.sessions == 2


def test_a_recording_that_breaks_off_ends_its_session_as_lost(tmp_path: Path) -> None:
    folder = record(
        tmp_path, *begun(1), frame(2, quote()), *begun(5, 2), frame(6, quote()), *begun(7, 3)
    )
    replay = Replay(folder)
    adapter, listener = play(replay)
    for at in (2, 6):
        end = adapter.run_session(KEYS, listener)
        assert (end.close_code, end.requested) == (1006, False)
        assert replay.clock.utc_now_ns() == BEGIN + at * SECOND


def test_a_torn_end_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = record(tmp_path, *begun(1), frame(2, quote()), ended(3))
    (path,) = Replay(folder).recording.paths
    path.write_bytes(path.read_bytes()[:-3])
    replay = Replay(folder)
    adapter, listener = play(replay)
    thread = threading.Thread(target=adapter.run_session, args=(KEYS, listener))
    thread.start()
    assert replay.finished.wait(5)
    adapter.disconnect()
    thread.join(5)
    assert replay.info.torn == 1
    assert "realtime_replay_segment_torn" in caplog.messages


def test_frames_that_were_not_recorded_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = Lost(BEGIN, 7, 700, 0)
    replay = Replay(record(tmp_path, *begun(1), missing, frame(2, quote()), ended(3)))
    adapter, listener = play(replay)
    adapter.run_session(KEYS, listener)
    assert replay.info.lost == 7
    assert "realtime_replay_frames_missing" in caplog.messages


@pytest.mark.parametrize(("speed", "waited"), [(1.0, 600.0), (60.0, 10.0), (math.inf, 0.0)])
def test_a_replay_takes_its_time(tmp_path: Path, speed: float, waited: float) -> None:
    clock = FakeClock()
    folder = record(tmp_path, *begun(0), frame(60, quote()), frame(120, quote()), ended(600))
    adapter, listener = play(Replay(folder, speed=speed, clock=clock))
    adapter.run_session(KEYS, listener)
    assert clock.monotonic() == pytest.approx(waited)


def test_each_provider_plays_from_the_beginning(tmp_path: Path) -> None:
    replay = Replay(record(tmp_path, *begun(1), frame(2, quote()), ended(3)))
    for _ in range(2):
        adapter, listener = play(replay)
        adapter.run_session(KEYS, listener)
        assert [at for at, _ in listener.heard] == [1, 1, 1, 1, 2]


def test_with_nothing_wanted_nothing_is_played(tmp_path: Path) -> None:
    replay = Replay(record(tmp_path, *begun(1), ended(3)))
    adapter = replay.provider()
    assert adapter.run_session(KEYS, Listener(replay.clock)) == SessionEnd(requested=True)


def test_frames_of_an_unknown_provider_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="provider 'other'"):
        Replay(record(tmp_path, *begun(1), provider="other"))


def test_settings_need_no_keys_and_may_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALPACA_API_KEY", raising=False)
    monkeypatch.setenv("WATCHLIST_SYMBOLS", "SPY")
    config = Replay(record(tmp_path)).config(inbox_capacity=50)
    assert (config.market, config.feed, config.inbox_capacity) == ("stocks", "iex", 50)
    assert config.watchlist == ()
    assert config.resolve_credentials().key.get_secret_value() == "replay"


def test_the_clock_stands_still_between_frames() -> None:
    clock = ReplayClock(5 * SECOND)
    clock.advance_to(7 * SECOND)
    assert clock.monotonic() == 2.0
    assert clock.real_seconds(0.001) >= 1.0
    event = threading.Event()
    event.set()
    assert clock.wait(event, 1.0)
    clock.restart()
    assert clock.utc_now_ns() == 5 * SECOND


def test_a_hole_in_a_session_is_a_lost_connection(tmp_path: Path) -> None:
    both, one = (AAPL, MSFT), (AAPL,)
    folder = record(
        tmp_path,
        *begun(1),
        SubscriptionsRefused(BEGIN + SECOND, (MSFT,), 405, "limit"),
        SubscriptionsServed(BEGIN + SECOND, one),
        frame(2, quote()),
        Lost(BEGIN + 3 * SECOND, 7, 700, 0),
        frame(8, quote()),
        Lost(BEGIN + 9 * SECOND, 0, 0, 1),
        ended(10, server_code=409, server_message="insufficient"),
    )
    replay = Replay(folder)
    adapter, listener = play(replay, *both)
    first = adapter.run_session(KEYS, listener)
    assert (first.close_code, first.requested) == (1006, False)
    assert replay.clock.utc_now_ns() == BEGIN + 2 * SECOND
    listener.heard.clear()
    second = adapter.run_session(KEYS, listener)
    assert second.server_code == 409
    assert listener.heard[:-1] == [
        (8, Connected()),
        (8, Authenticated()),
        (8, Acknowledged(frozenset(one))),
        (8, Settled()),
        (8, Refused(frozenset({MSFT}), 405, "limit")),
    ]
    assert listener.heard[-1][0] == 8
    assert (replay.info.sessions, replay.info.frames, replay.info.lost) == (2, 2, 7)


@pytest.mark.parametrize("at", ["before the session", "behind it", "at the very end"])
def test_a_hole_that_is_in_no_session_makes_no_other(tmp_path: Path, at: str) -> None:
    lost = Lost(BEGIN, 7, 700, 0)
    first = [*begun(1), frame(2, quote()), ended(3)]
    second = [*begun(4, 2), frame(5, quote())]
    records: list[Record] = {
        "before the session": [lost, *first, *second],
        "behind it": [*first, lost, *second],
        "at the very end": [*first, *second, lost],
    }[at]
    replay = Replay(record(tmp_path, *records))
    adapter, listener = play(replay)
    adapter.run_session(KEYS, listener)
    thread = threading.Thread(target=adapter.run_session, args=(KEYS, listener))
    thread.start()
    assert replay.finished.wait(5)
    adapter.disconnect()
    thread.join(5)
    assert (replay.info.sessions, replay.info.frames, replay.info.lost) == (2, 2, 7)


def test_a_segment_damaged_in_mid_session_is_a_hole(tmp_path: Path) -> None:
    record(tmp_path, *begun(1), frame(2, quote()), frame(3, quote()))
    (path,) = Replay(tmp_path).recording.paths
    path.write_bytes(path.read_bytes()[:-1])
    record(tmp_path, frame(9, quote()), ended(10, close_code=1001))
    replay = Replay(tmp_path)
    adapter, listener = play(replay)
    assert adapter.run_session(KEYS, listener).close_code == 1006
    assert adapter.run_session(KEYS, listener).close_code == 1001
    assert [at for at, what in listener.heard if what == Connected()] == [1, 9]
    assert (replay.info.sessions, replay.info.frames, replay.info.torn) == (2, 2, 1)


def test_a_recording_that_cannot_be_read_on_ends_the_replay_for_good(tmp_path: Path) -> None:
    folder = record(tmp_path, *begun(1), frame(2, quote()))
    (folder / "segment-000002.rsrec").write_bytes(b"something else")
    replay = Replay(folder)
    adapter, listener = play(replay)
    end = adapter.run_session(KEYS, listener)
    assert isinstance(end.error, ConfigurationError)
    assert isinstance(end.error.__cause__, RecordingError)
    assert not classify(end).retryable
    assert not replay.finished.is_set()  # the manager has not told anybody yet
    adapter.disconnect()
    assert replay.finished.is_set()


def test_a_replay_is_finished_no_more_when_it_is_begun_anew(tmp_path: Path) -> None:
    replay = Replay(record(tmp_path, *begun(1), frame(2, quote())))
    adapter, listener = play(replay)
    thread = threading.Thread(target=adapter.run_session, args=(KEYS, listener))
    thread.start()
    assert replay.finished.wait(5)
    replay.provider()  # of a start that then joins the run in progress
    assert replay.finished.is_set()
    assert replay.info.frames == 1
    adapter.disconnect()
    thread.join(5)
    replay.provider()
    assert not replay.finished.is_set()
    assert replay.info.frames == 0
    assert replay.clock.utc_now_ns() == replay.recording.header.begun_ns


def test_centuries_are_waited_for_in_parts(tmp_path: Path) -> None:
    waits: list[float | None] = []

    class Clock(FakeClock):
        def wait(self, event: threading.Event, timeout: float | None) -> bool:
            waits.append(timeout)
            adapter.disconnect()
            return event.wait(0)

    replay = Replay(
        record(tmp_path, *begun(0), frame(60, quote()), ended(61)), speed=1e-300, clock=Clock()
    )
    adapter, listener = play(replay)
    assert adapter.run_session(KEYS, listener) == SessionEnd(requested=True)
    assert waits == [3600.0]  # threading.TIMEOUT_MAX is the most that a thread can wait for


def test_late_bars_are_not_looked_for(tmp_path: Path) -> None:
    assert Replay(record(tmp_path)).config().latency_alarm > 10**9


def test_a_frame_is_handed_over_in_pieces_that_the_inbox_has_room_for(tmp_path: Path) -> None:
    many = [quote("AAPL", n) for n in range(40)]
    replay = Replay(record(tmp_path, *begun(1), frame(2, *many), ended(4)))
    replay.config(inbox_capacity=15)
    adapter, listener = play(replay)
    sizes: list[int] = []

    def on_frame(events: Collection[MarketEvent], received_ns: int) -> None:
        assert received_ns == BEGIN + 2 * SECOND
        sizes.append(len(events))

    listener.on_frame = on_frame  # type: ignore[method-assign]  # the sizes of its frames count
    adapter.run_session(KEYS, listener)
    assert sizes == [15, 15, 10]
