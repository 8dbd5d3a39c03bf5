"""Ctrl-C in ``start()`` and in ``stop()`` leaves nothing behind, and a manager that works."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.abuse.programs import PATIENCE, PROMPT, gone, program
from tests.integration import conftest as integration
from tests.support import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator

simulator = integration.simulator


def silent(stage: Any) -> Callable[[AlpacaSimulator], None]:
    return lambda simulator: simulator.faults.silent_at(stage)


INTERRUPTED_START = """
try:
    manager.start(timeout=60)
except KeyboardInterrupt:
    say("interrupted", ours(), manager.status().lifecycle)
sys.stdin.readline()
say(manager.start())
manager.stop()
say(ours())
"""


@pytest.mark.parametrize(
    "arrange",
    [
        *(silent("http"), silent("greeting"), silent("auth"), silent("subscription")),
        lambda simulator: simulator.faults.refuse_http(503),
    ],
    ids=["http", "greeting", "auth", "subscription", "backoff"],
)
def test_ctrl_c_in_start_leaves_nothing_behind(
    simulator: AlpacaSimulator, arrange: Callable[[AlpacaSimulator], None]
) -> None:
    arrange(simulator)
    with program(INTERRUPTED_START, simulator) as running:
        assert simulator.wait_for(lambda s: s.attempts == 1, 20)
        running.process.send_signal(signal.SIGINT)
        running.hears("interrupted [] stopped")
        assert simulator.wait_for(gone)
        simulator.faults.clear()
        running.told()
        running.hears("connected")
        running.hears("[]")
        assert running.ends() < PROMPT


INTERRUPTED_STOP = """
release = threading.Event()

@manager.on_quote("AAPL")
def stuck(_):
    entered.set()
    release.wait()

manager.start()
entered.wait()
try:
    say("stopping")
    manager.stop(timeout=60)
except KeyboardInterrupt:
    say("interrupted", manager.status().lifecycle)
release.set()
say(manager.wait_until_stopped(10), ours(), manager.status().lifecycle)
"""


def test_ctrl_c_in_stop_leaves_the_threads_ending(simulator: AlpacaSimulator) -> None:
    with program(INTERRUPTED_STOP, simulator) as running:
        assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()), 20)
        simulator.publish(quote())
        running.hears("stopping")
        assert simulator.wait_for(gone)  # stop() has begun
        running.process.send_signal(signal.SIGINT)
        running.hears("interrupted stopping")
        running.hears("True [] stopped")
        assert running.ends() < PROMPT


INTERRUPTED_JOIN = """
class Stuck:
    def __init__(self):
        self.release = threading.Event()
    def fetch(self, request, credentials):
        entered.set()
        self.release.wait()
        return iter(())
    def close(self):
        pass

stuck = Stuck()
manager = RealTimeStreamManager(StreamConfig(backfill=("bars",)), history=lambda: stuck)
manager.on_bar(print, "AAPL", history=1)
manager.start()
entered.wait()
(fetching,) = [each for each in threading.enumerate() if each.name.endswith("/backfill")]
try:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    fetching.join()
except KeyboardInterrupt:
    say("interrupted")
try:
    manager.stop(timeout=0.5)
except StopTimeoutError as exc:
    say(exc)
stuck.release.set()
manager.stop()
say(ours())
"""


def test_a_join_that_ctrl_c_cut_short_does_not_hide_a_thread(simulator: AlpacaSimulator) -> None:
    with program(INTERRUPTED_JOIN, simulator) as running:
        running.hears("interrupted")
        running.hears("not stopped within 0.5 s: still alive: realtime-stream/stocks-2/backfill")
        running.hears("[]")
        assert running.ends() < PROMPT


AT_ANY_MOMENT = """
def interrupt(call, delay):
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        call()
        timer.join()
        entered.wait(0.05)  # the signal is seen here at the latest, or was lost in a destructor
    except KeyboardInterrupt:
        pass
    timer.join()

manager.start()
manager.stop()
for turn in range(40):
    interrupt(manager.start, turn / 2000)
    if manager.status().lifecycle is LifecycleState.STOPPED:
        assert ours() == [], (turn, ours())
    else:  # it came after start() had returned
        assert manager.status().lifecycle is LifecycleState.RUNNING, (turn, manager.status())
    assert manager.start() is ConnectionState.CONNECTED
    interrupt(manager.stop, turn / 4000)
    manager.stop()
    assert ours() == [], (turn, ours())
say("held")
"""


def test_ctrl_c_at_any_moment_leaves_a_manager_that_works(simulator: AlpacaSimulator) -> None:
    with program(AT_ANY_MOMENT, simulator) as running:
        running.hears("held")
        assert running.process.wait(PATIENCE) == 0
    assert simulator.wait_for(gone)
