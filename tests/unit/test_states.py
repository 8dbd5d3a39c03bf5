from __future__ import annotations

import itertools
import logging
import threading

import pytest

from realtime_stream.errors import IllegalTransitionError
from realtime_stream.ports import ConnectionState as C
from realtime_stream.ports import LifecycleState as L
from realtime_stream.ports import StateChange
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.states import CONNECTION_TABLE, LIFECYCLE_TABLE, StateBoard

LOG = EventLog("test")
LIFECYCLE_PATHS: dict[L, tuple[str, ...]] = {
    L.STOPPED: (),
    L.STARTING: ("start",),
    L.RUNNING: ("start", "ready"),
    L.STOPPING: ("start", "stop"),
    L.FAILED: ("start", "fail"),
}
CONNECTION_PATHS: dict[C, tuple[str, ...]] = {
    C.DISCONNECTED: (),
    C.CONNECTING: ("connect",),
    C.CONNECTED: ("connect", "settled"),
    C.RECONNECTING: ("connect", "lost"),
    C.IDLE: ("idle",),
    C.CIRCUIT_OPEN: ("circuit_open",),
}
LIFECYCLE_TRIGGERS = ("start", "ready", "stop", "fail", "stopped", "nonsense")
CONNECTION_TRIGGERS = ("connect", "settled", "lost", "idle", "circuit_open", "end", "nonsense")
STAYS = {
    (C.IDLE, "idle"), (C.RECONNECTING, "lost"), (C.CIRCUIT_OPEN, "circuit_open"),
    (C.DISCONNECTED, "end"),
}  # fmt: skip

# Written down once more, by hand: the tables of the code must not change unnoticed.
LIFECYCLE_MOVES = {
    L.STOPPED: {"start": L.STARTING},
    L.STARTING: {"ready": L.RUNNING, "stop": L.STOPPING, "fail": L.FAILED},
    L.RUNNING: {"stop": L.STOPPING, "fail": L.FAILED},
    L.STOPPING: {"stopped": L.STOPPED},
    L.FAILED: {"start": L.STARTING},
}
CONNECTION_MOVES = {
    C.DISCONNECTED: {"connect": C.CONNECTING, "idle": C.IDLE, "circuit_open": C.CIRCUIT_OPEN},
    C.CONNECTING: {
        "settled": C.CONNECTED, "lost": C.RECONNECTING, "circuit_open": C.CIRCUIT_OPEN,
        "idle": C.IDLE, "end": C.DISCONNECTED,
    },
    C.CONNECTED: {
        "lost": C.RECONNECTING, "circuit_open": C.CIRCUIT_OPEN, "idle": C.IDLE,
        "end": C.DISCONNECTED,
    },
    C.RECONNECTING: {
        "connect": C.CONNECTING, "circuit_open": C.CIRCUIT_OPEN, "idle": C.IDLE,
        "end": C.DISCONNECTED,
    },
    C.CIRCUIT_OPEN: {
        "connect": C.CONNECTING, "lost": C.RECONNECTING, "idle": C.IDLE, "end": C.DISCONNECTED,
    },
    C.IDLE: {
        "connect": C.CONNECTING, "lost": C.RECONNECTING, "circuit_open": C.CIRCUIT_OPEN,
        "end": C.DISCONNECTED,
    },
}  # fmt: skip


def board_at(lifecycle: L = L.STOPPED, connection: C = C.DISCONNECTED) -> StateBoard:
    board = StateBoard()
    board.begin(lambda _: None, LOG)
    for trigger in LIFECYCLE_PATHS[lifecycle]:
        board.move_lifecycle(trigger, LOG)
    for trigger in CONNECTION_PATHS[connection]:
        board.move_connection(trigger, LOG)
    return board


def test_the_tables_are_the_ones_written_down_here() -> None:
    by_hand = {
        (state, trigger): target
        for state, moves in LIFECYCLE_MOVES.items()
        for trigger, target in moves.items()
    }
    assert by_hand == LIFECYCLE_TABLE
    connection_by_hand = {
        (state, trigger): target
        for state, moves in CONNECTION_MOVES.items()
        for trigger, target in moves.items()
    }
    assert connection_by_hand == CONNECTION_TABLE


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(L, LIFECYCLE_TRIGGERS)))
def test_the_lifecycle_makes_every_legal_move_and_no_other(state: L, trigger: str) -> None:
    board, published = board_at(lifecycle=state), list[StateChange]()
    board.begin(published.append, LOG)
    target = LIFECYCLE_TABLE.get((state, trigger))
    if target is None:
        with pytest.raises(IllegalTransitionError, match=f"'{trigger}' while {state.value}"):
            board.move_lifecycle(trigger, LOG)
        assert not board.try_lifecycle(trigger, LOG)
        assert (board.lifecycle, published) == (state, [])
    else:
        assert board.try_lifecycle(trigger, LOG)
        assert board.lifecycle is target
        assert published == [StateChange("lifecycle", state, target)]


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(C, CONNECTION_TRIGGERS)))
def test_the_connection_makes_every_legal_move_and_no_other(state: C, trigger: str) -> None:
    board, published = board_at(L.RUNNING, state), list[StateChange]()
    board.begin(published.append, LOG)
    target = CONNECTION_TABLE.get((state, trigger))
    if target is not None:
        board.move_connection(trigger, LOG)
        assert published == [StateChange("connection", state, target)]
    elif (state, trigger) in STAYS:
        board.move_connection(trigger, LOG)
        assert published == []
    else:
        with pytest.raises(IllegalTransitionError, match=f"'{trigger}' while {state.value}"):
            board.move_connection(trigger, LOG)
        assert published == []
    assert board.connection is (target or state)
    assert board.connected.is_set() is (board.connection is C.CONNECTED)


@pytest.mark.parametrize("trigger", ["stop", "fail"])
def test_nothing_counts_as_connected_once_the_lifecycle_has_ended(trigger: str) -> None:
    board = board_at(L.RUNNING, C.CONNECTED)
    assert board.connected.is_set()
    board.move_lifecycle(trigger, LOG)
    assert board.connection is C.CONNECTED
    assert not board.connected.is_set()


def test_a_session_that_settles_too_late_does_not_count_as_connected() -> None:
    board = board_at(L.STOPPING, C.CONNECTED)
    assert not board.connected.is_set()


def test_every_move_is_published_in_order_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board, published = StateBoard(), list[StateChange]()
    board.begin(published.append, LOG)
    with caplog.at_level(logging.INFO, "realtime_stream"):
        board.move_lifecycle("start", LOG)
        board.move_connection("connect", LOG)
        board.move_connection("settled", LOG)
        board.move_lifecycle("ready", LOG)
        board.move_connection("end", LOG)
        board.move_connection("end", LOG)
    assert [(change.machine, change.previous, change.current) for change in published] == [
        ("lifecycle", L.STOPPED, L.STARTING),
        ("connection", C.DISCONNECTED, C.CONNECTING),
        ("connection", C.CONNECTING, C.CONNECTED),
        ("lifecycle", L.STARTING, L.RUNNING),
        ("connection", C.CONNECTED, C.DISCONNECTED),
    ]
    assert [record.message for record in caplog.records] == ["realtime_feed_state_changed"] * 5
    assert vars(caplog.records[1])["current"] == "connecting"
    assert vars(caplog.records[1])["manager"] == "test"


def test_waiting_ends_at_once_when_it_already_holds() -> None:
    assert StateBoard().wait(lambda: True, 0)


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_waiting_ends_with_the_timeout(timeout: float) -> None:
    assert not StateBoard().wait(lambda: False, timeout)


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_waiting_ends_when_a_move_makes_it_true(timeout: float | None) -> None:
    board, looked = board_at(), threading.Event()
    answers: list[bool] = []

    def started() -> bool:
        looked.set()
        return board.lifecycle is L.RUNNING

    waiter = threading.Thread(target=lambda: answers.append(board.wait(started, timeout)))
    waiter.start()
    assert looked.wait(10)
    board.move_lifecycle("start", LOG)
    board.move_lifecycle("ready", LOG)
    waiter.join(10)
    assert answers == [True]


def test_waiters_look_again_when_woken() -> None:
    board, looked, flag = StateBoard(), threading.Event(), threading.Event()
    answers: list[bool] = []

    def flagged() -> bool:
        looked.set()
        return flag.is_set()

    waiter = threading.Thread(target=lambda: answers.append(board.wait(flagged, 10)))
    waiter.start()
    assert looked.wait(10)
    flag.set()
    board.wake()
    waiter.join(10)
    assert answers == [True]


def test_a_move_of_a_run_that_is_over_is_no_move() -> None:
    board, late = StateBoard(), EventLog("test")
    board.begin(lambda _: None, late)
    board.move_lifecycle("start", late)
    board.move_lifecycle("stop", late)
    board.move_lifecycle("stopped", late)
    board.begin(lambda _: None, LOG)
    board.move_lifecycle("start", LOG)
    assert not board.try_lifecycle("stop", late)
    assert board.lifecycle is L.STARTING
    assert board.try_lifecycle("stop", LOG)
