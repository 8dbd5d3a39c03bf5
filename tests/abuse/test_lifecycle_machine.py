"""Random abuse from several threads, and what must hold afterwards.

A script is a list of steps drawn by hypothesis: calls of the lifecycle with short timeouts, looks,
subscriptions, callbacks that raise, block, exit or call back, symbol and credential sources that
fail, published data, and faults of the server. Two to four workers carry it out against a real
manager, the real SDK and a real simulator; their calls overlap. A list is used instead of
hypothesis's own machine because nothing a script does depends on what came of the step before: it
shrinks by leaving steps out, and its repr can be pasted into ``run``.

At the end the server is healed and user code behaves, and then

- a manager that runs connects again by itself; restarted, or stopped and started, it connects
  (or is idle, with nothing wanted), subscribed to exactly what is wanted;
- each registration that was not removed is called, once, with each new event that it is for, and
  with nothing else;
- the manager stops; neither a thread nor a socket is left;
- no call hangs, raises what its documentation does not name, or waits where it must not.

Of the accounts these are exact:

- of each run, when its end is told: ``received = delivered + dropped + undelivered``, and
  ``in_inbox = 0``; an ``events()`` iterator opened at its beginning saw the delivered ones;
- each event delivered was written by the server, comes once, and in order within its key, over
  all runs;
- in the last run, with a healthy server: written = received = delivered;
- of one key that is wanted all the time, in runs between which nothing is forgotten, from the
  first event delivered to the last: each message that was sent is either delivered or in a
  reported gap, and not both, if nothing was dropped or left undelivered. Otherwise at most as many
  are in no gap as were dropped or undelivered; that is not asked of a small inbox once a callback
  exited. What a mute or deaf server withheld was not sent.

These are bounds:

- over all runs: received + rejected <= written + frames that are no market data, because what was
  written into a session that died is received by nobody;
- in a ``status()`` taken at any moment, at most what changes hands is missing.

States move only along the tables, every move is logged, and every move is told, one after the
other without a hole, with two exceptions: after a callback that raised ``SystemExit`` nothing is
called; and moves of the connection after the time that ``stop()`` has for delivery are counted in
``reports_dropped`` instead.

Each script is drawn from the number in its test's name. The usual ones are always the same; with
``REALTIME_STREAM_SCRIPTS=1000`` it is a thousand others, from ``REALTIME_STREAM_FIRST`` on if that
is given.
"""

from __future__ import annotations

import os
import random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.abuse.run import run
from tests.abuse.scripts import ANCHOR, Script, Step, scripts

_USUAL: Final = range(1, 26)
_COUNT: Final = int(os.environ.get("REALTIME_STREAM_SCRIPTS", "0"))
_FIRST: Final = int(os.environ.get("REALTIME_STREAM_FIRST", random.SystemRandom().getrandbits(31)))

_ANCHOR: Final = (("trades", ANCHOR),)

_FOUND: Final = {
    "an exit, and what is missed before the restart": Script(
        steps=(
            Step(0, "register", ("trades", "exits", ("AAPL",))),
            Step(0, "start", (0.4,)),
            Step(0, "settle"),
            Step(0, "publish", ((*_ANCHOR, ("trades", "AAPL"), *_ANCHOR), 1)),
            Step(0, "wait_until_stopped", (5,)),
            Step(0, "publish", (_ANCHOR, 1)),
        )
    ),
}


@pytest.mark.parametrize("script", _FOUND.values(), ids=_FOUND)
def test_what_once_was_wrong_holds(script: Script) -> None:
    run(script)


@pytest.mark.timeout(600)  # a failure is shrunk; that may take hypothesis five minutes
@pytest.mark.parametrize("number", range(_FIRST, _FIRST + _COUNT) if _COUNT else _USUAL)
def test_random_abuse_breaks_nothing(number: int) -> None:
    # One script a search: hypothesis would follow each by five that hardly differ from it.
    @seed(number)
    @settings(
        max_examples=1,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts())
    def play(script: Script) -> None:
        run(script)

    play()
