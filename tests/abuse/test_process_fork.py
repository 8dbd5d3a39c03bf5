"""A manager belongs to the process that made it: fork and spawn."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.abuse.programs import PATIENCE, PROMPT, environment, gone, program
from tests.integration import conftest as integration
from tests.support import quote

if TYPE_CHECKING:
    from pathlib import Path

    from realtime_stream.simulator import AlpacaSimulator

simulator = integration.simulator

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

HELPERS = """
CALLS = {
    "start": lambda: manager.start(timeout=1),
    "start-0": lambda: manager.start(timeout=0),
    "stop": lambda: manager.stop(timeout=1),
    "restart": lambda: manager.restart(timeout=1),
    "with": lambda: manager.__enter__(),
    "is_connected": lambda: manager.is_connected(),
    "wait_until_connected": lambda: manager.wait_until_connected(1),
    "wait_until_stopped": lambda: manager.wait_until_stopped(1),
    "subscribe": lambda: manager.subscribe("quotes", "MSFT"),
    "unsubscribe": lambda: manager.unsubscribe("quotes", "AAPL"),
    "subscriptions": lambda: manager.subscriptions(),
    "latest_quote": lambda: manager.latest_quote("AAPL"),
    "events": lambda: next(manager.events(timeout=1), None),
    "gaps": lambda: manager.gaps(),
    "dead_letters": lambda: manager.dead_letters(),
    "rejects": lambda: manager.rejects(),
    "status": lambda: manager.status(),
}

def complaint(call):
    try:
        return f"returned {call()!r}"
    except ForkedProcessError as error:
        text = str(error)
        clear = isinstance(error, StreamingError) and "belongs to process" in text
        return "" if clear and "create" in text else f"unclear: {text}"

def in_child(work):
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = work()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def all_refused():
    found = {name: complaint(call) for name, call in CALLS.items()}
    wrong = {name: what for name, what in found.items() if what}
    if wrong:
        say(wrong)
    return bool(wrong)

def own_manager(path):
    url = os.environ["ALPACA_STREAM_URL"].replace("/v2/iex", path)
    other = RealTimeStreamManager(StreamConfig(url=url))
    got = threading.Event()
    other.on_quote(lambda _: got.set(), "SPY")
    if other.start() is not ConnectionState.CONNECTED or not got.wait(10):
        return 71
    other.stop()
    return 0
"""

STATES = {
    "fresh": "",
    "connected": "manager.start()\n",
    "connecting": "manager.start(timeout=0)\n",
    "stopped": "manager.start()\nmanager.stop()\n",
}


@forking
@pytest.mark.parametrize("state", list(STATES))
def test_a_forked_manager_says_where_it_belongs(simulator: AlpacaSimulator, state: str) -> None:
    script = HELPERS + STATES[state] + "say(in_child(all_refused))\n"
    with program(script, simulator) as running:
        running.hears("0")
        assert running.ends() < PROMPT
    assert simulator.wait_for(gone)


@forking
def test_the_parents_session_lives_on_and_the_child_may_have_its_own(
    simulator: AlpacaSimulator,
) -> None:
    script = (
        HELPERS
        + """
got = threading.Event()
manager.on_quote(lambda _: got.set(), "AAPL")
manager.start()
say(in_child(all_refused), in_child(lambda: own_manager("/v2/sip")))
say(manager.is_connected(), manager.status().sessions, got.wait(10))
manager.stop()
say(ours())
"""
    )
    with program(script, simulator) as running:
        assert simulator.wait_for(lambda s: ("quotes", "SPY") in subscribed(s), 20)
        simulator.publish(quote("SPY"), feed="sip")
        running.hears("0 0")
        simulator.publish(quote("AAPL"))
        running.hears("True 1 True")
        running.hears("[]")
        assert running.ends() < PROMPT
    assert simulator.attempts == 2


def subscribed(simulator: AlpacaSimulator) -> set[tuple[str, str]]:
    return {entry for session in simulator.sessions() for entry in session.subscriptions}


@forking
def test_a_child_that_ends_as_programs_do_takes_nothing_with_it(
    simulator: AlpacaSimulator,
) -> None:
    """Exit hooks and destructors of the child must not close what is the parent's."""
    script = """
got = threading.Event()
manager.on_quote(lambda _: got.set(), "AAPL")
manager.start()
child = os.fork()
if child == 0:
    sys.exit(5)
began = time.monotonic()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
say(code, time.monotonic() - began < 2)
say(manager.is_connected(), manager.status().sessions, got.wait(10))
"""
    with program(script, simulator) as running:
        running.hears("5 True")
        simulator.publish(quote("AAPL"))
        running.hears("True 1 True")
        assert running.ends() < PROMPT


@forking
def test_a_child_does_not_keep_the_connection_that_its_parent_closes(
    simulator: AlpacaSimulator,
) -> None:
    """With a copy of the socket left open the account's only place would stay taken."""
    script = """
manager.start()
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
manager.stop()
say("stopped")
os.waitpid(child, 0)
"""
    with program(script, simulator) as running:
        running.hears("stopped")
        assert simulator.wait_for(gone)
        running.told()
        assert running.ends() < PROMPT


@forking
def test_forks_in_the_middle_of_a_busy_stream_never_hang(simulator: AlpacaSimulator) -> None:
    """Whatever lock a thread holds at that moment stays locked in the child for ever."""
    script = (
        HELPERS
        + """
manager.start()
say("ready")
say({in_child(all_refused) for _ in range(20)})
say(manager.is_connected())
"""
    )
    with program(script, simulator) as running:
        running.hears("ready")
        for n in range(5000):
            simulator.publish(quote(n=n))
        running.hears("{0}")
        running.hears("True")
        assert running.ends() < PROMPT


MULTIPROCESSING = """
import multiprocessing
import os
import sys

from realtime_stream import RealTimeStreamManager, StreamConfig


def work(answers):
    manager = RealTimeStreamManager(StreamConfig())
    manager.subscribe("quotes", "AAPL")
    answers.put(str(manager.start()))
    manager.stop()


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    url = os.environ["ALPACA_STREAM_URL"]
    mine = RealTimeStreamManager(StreamConfig(url=url.replace("/v2/iex", "/v2/sip")))
    mine.subscribe("quotes", "AAPL")
    mine.start()
    answers = context.Queue()
    process = context.Process(target=work, args=(answers,))
    process.start()
    answer = answers.get(timeout=20)
    process.join(20)
    print(answer, process.exitcode, mine.is_connected())
    mine.stop()
"""


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=forking)])
def test_a_manager_made_in_a_multiprocessing_child_works(
    simulator: AlpacaSimulator, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "bot.py"
    script.write_text(MULTIPROCESSING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), method],
        env=environment(simulator),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.split() == ["connected", "0", "True"], done.stderr
    assert simulator.wait_for(gone)
