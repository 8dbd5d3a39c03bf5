"""A bot that trades through a day full of faults sees the bars that the exchange has.

A day of five symbols is played to a real manager, with bars and trades filled from history, while a
script drawn from a seed cuts connections, delays sessions, data and history, repeats and reorders
messages, and has history answer with errors, rubbish, half an answer or nothing. Nothing is mocked.

The bot takes the feed's minute bars, five minutes of them, and one and five minutes of trades. In
the end, for each of these and each symbol,

- each start that history has came exactly once as a regular bar, and no other start came;
- regular bars came in the order of their starts, but for those marked as late, and no regular bar
  after an update of it;
- the last version of each bar, regular or updated, says what history says: open, high, low, close,
  volume, number of trades, and the average price as far as it is not rounded away;
- no last version is partial, but the first one, unless a gap was given up;

and each trade came exactly once, and the accounts of the status add up.

Faults come at moments of real time, so a seed decides what happens, but not which frame it hits:
run one that has failed several times. The usual seeds live through a morning of 50 minutes. With
``REALTIME_STREAM_DAYS=20`` it is twenty whole days of 390 minutes, each in 40 s, from
``REALTIME_STREAM_FIRST_DAY`` on if that is given.
"""

from __future__ import annotations

import os
import random
from typing import Final

import pytest

from tests.abuse.day_faults import draw_day
from tests.abuse.day_world import live_through

_COUNT: Final = int(os.environ.get("REALTIME_STREAM_DAYS", "0"))
_FIRST: Final = int(
    os.environ.get("REALTIME_STREAM_FIRST_DAY", random.SystemRandom().getrandbits(31))
)


@pytest.mark.timeout(60)
@pytest.mark.skipif(_COUNT > 0, reason="whole days are asked for")
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_morning_full_of_faults_leaves_no_trace_in_the_bars(seed: int) -> None:
    live_through(draw_day(seed, minutes=50, speed=400))


@pytest.mark.timeout(180)
@pytest.mark.skipif(not _COUNT, reason="REALTIME_STREAM_DAYS is not set")
@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + _COUNT))
def test_a_day_full_of_faults_leaves_no_trace_in_the_bars(seed: int) -> None:
    live_through(draw_day(seed, minutes=390, speed=600))
