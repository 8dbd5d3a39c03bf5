"""Programs that use a manager, run in processes of their own, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.simulator import AlpacaSimulator

__all__ = ["PATIENCE", "PRELUDE", "PROMPT", "Program", "environment", "gone", "program"]

PATIENCE = 30  # seconds
PROMPT = 2.0  # seconds from the end of the program to the end of its process

PRELUDE = """
import os, signal, socket, sys, threading, time
from realtime_stream import *

def say(*words):
    print(*words, flush=True)

def ours():
    # One whose start was cut short before it began has no ident, and never will have.
    known = [thread for thread in threading.enumerate() if thread.ident is not None]
    return [thread.name for thread in known if thread.name.startswith("realtime-stream/")]

entered = threading.Event()
manager = RealTimeStreamManager(
    StreamConfig(
        reconnect=ReconnectPolicy(initial=60, jitter=False),
        connect_timeout=60,
        handshake_timeout=60,
        acknowledge_timeout=60,
    )
)
manager.subscribe("quotes", "AAPL")
"""


class Program:
    """A running program: what it says, line by line, and how it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hears(self, expected: str) -> None:
        """Read its next line."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != expected:
            self.kill()
        assert said == expected, self.process.communicate()[1]

    def kill(self) -> None:
        """End it, and its children too: they hold its pipes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def told(self) -> None:
        """Let it go on from where it waits for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self, code: int = 0) -> float:
        """Wait for its end; return after how many seconds it came."""
        began = time.monotonic()
        out, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, out) == (code, ""), err
        if code == 0:
            assert err == ""
        return time.monotonic() - began


def environment(simulator: AlpacaSimulator) -> dict[str, str]:
    """Settings for a process that uses the simulator.

    Without coverage, whose lock another thread may hold when a process forks: the child then waits
    for it for ever.
    """
    around = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return {
        **around,
        "ALPACA_API_KEY": SIMULATOR_KEY,
        "ALPACA_SECRET_KEY": SIMULATOR_SECRET,
        "ALPACA_STREAM_URL": simulator.url(),
    }


@contextlib.contextmanager
def program(script: str, simulator: AlpacaSimulator) -> Iterator[Program]:
    """Run the prelude and ``script`` against the simulator."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(simulator),
        start_new_session=True,  # a group of its own, to be killed as one
    )
    running = Program(process)
    try:
        yield running
    finally:
        running.kill()
        process.communicate()


def gone(simulator: AlpacaSimulator) -> bool:
    """Whether no session is left."""
    return not simulator.sessions()
