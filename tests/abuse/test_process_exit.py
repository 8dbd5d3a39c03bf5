"""A program ends when it wants to, whatever its manager is in the middle of.

Every test runs a program of its own and looks at how it ends: exit code, what it leaves on the
server, and how long it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.abuse.programs import PATIENCE, PROMPT, gone, program
from tests.integration import conftest as integration
from tests.support import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator

simulator = integration.simulator

EXIT_TIMEOUT = 2.0  # seconds that all managers together have at interpreter exit

# --- the interpreter exits with a manager that runs ---

CONNECTED = "manager.start()\nsay('ready')\n"
STREAMING = """
manager.on_quote(lambda _: say('ready') if not entered.is_set() else None, "AAPL")
manager.on_quote(lambda _: entered.set(), "AAPL")
manager.start()
entered.wait()
"""
STUCK = """
@manager.on_quote("AAPL")
def stuck(_):
    entered.set()
    threading.Event().wait()

manager.start()
entered.wait()
say("ready")
"""
WAITING = """
moved = threading.Event()

@manager.on_state_change
def note(change):
    if change.current is ConnectionState.RECONNECTING:
        moved.set()

manager.start(timeout=0)
moved.wait()
say("ready")
"""
STARTING = """
manager.start(timeout=0)
sys.stdin.readline()
say("ready")
"""
RESOLVING = """
real, asked = socket.getaddrinfo, threading.Event()

def hanging(host, *arguments, flags=0, **more):
    if flags & socket.AI_NUMERICHOST:
        return real(host, *arguments, flags=flags, **more)
    asked.set()
    threading.Event().wait()

socket.getaddrinfo = hanging
manager = RealTimeStreamManager(StreamConfig(url="ws://name.example/v2/iex"))
manager.subscribe("quotes", "AAPL")
manager.start(timeout=0)
asked.wait()
say("ready")
"""
BESIDE = """
def start():
    try:
        manager.start(timeout=60)
    except StreamStoppedError:
        pass

threading.Thread(target=start, daemon=True).start()
sys.stdin.readline()
say("ready")
"""


def no_fault(_: AlpacaSimulator) -> None:
    pass


def silent(stage: Any) -> Callable[[AlpacaSimulator], None]:
    return lambda simulator: simulator.faults.silent_at(stage)


@pytest.mark.parametrize(
    ("script", "arrange", "limit"),
    [
        (CONNECTED, no_fault, PROMPT),
        (STREAMING, no_fault, PROMPT),
        (STUCK, no_fault, PROMPT + EXIT_TIMEOUT),
        (WAITING, lambda simulator: simulator.faults.refuse_http(503), PROMPT),
        (STARTING, silent("http"), PROMPT),
        (STARTING, silent("greeting"), PROMPT),
        (STARTING, silent("auth"), PROMPT),
        (BESIDE, silent("greeting"), PROMPT),
        (RESOLVING, no_fault, PROMPT),
    ],
    ids=[
        *("connected", "streaming", "stuck-callback", "backoff", "no-http", "no-greeting"),
        *("no-auth-reply", "start-in-a-thread", "name-server"),
    ],
)
def test_exit_with_a_running_manager_is_prompt_and_silent(
    simulator: AlpacaSimulator,
    script: str,
    arrange: Callable[[AlpacaSimulator], None],
    limit: float,
) -> None:
    """alpaca-py: the end waits for the executor's work: 8.6 s behind a slow name server."""
    arrange(simulator)
    with program(script, simulator) as running:
        if script in (STREAMING, STUCK):
            assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()), 20)
            simulator.publish(*(quote(n=n) for n in range(1 if script is STUCK else 100)))
        if script in (STARTING, BESIDE):
            assert simulator.wait_for(lambda s: s.attempts == 1, 20)
            running.told()
        running.hears("ready")
        assert running.ends() < limit
    assert simulator.wait_for(gone)


def test_exit_by_an_exception_shows_only_that_exception(simulator: AlpacaSimulator) -> None:
    script = CONNECTED + "raise ZeroDivisionError('of the bot')\n"
    with program(script, simulator) as running:
        running.hears("ready")
        _, err = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 1
    assert err.splitlines()[-1] == "ZeroDivisionError: of the bot"
    assert err.count("Traceback") == 1
    assert simulator.wait_for(gone)
