"""Whatever a sink does and whenever the process dies, every bar is accounted for.

The worker is stepped by hand. What other threads do while the sink writes is done inside its
``write``: no lock is held there, so it comes to the same, and can be repeated.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from realtime_stream.errors import SinkError, SinkRejectedError
from realtime_stream.runtime.sink_dead_letters import FILE_NAME, read_line
from realtime_stream.runtime.spool import SPOOL_CLOSED
from realtime_stream.runtime.spool_records import FIRST_FRAME, decode_bar, frames
from tests.support_sinks import MemorySink, Workbench, bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar

REFUSED = "a multiple of 7"
SMALL = 1500  # bytes, for some five bars
PARTS = st.sampled_from(["works", "fails", "breaks", "stuck", "stopped in it"])


class SinkMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.sink = MemorySink()
        self.sink.behave = self.behave
        self.numbers = 0  # bars made so far
        self.torn: set[int] = set()  # bars that a crash has taken from the disk
        self.volatile: set[int] = set()  # bars that a crash has taken from memory
        self.part = "works"
        self.meanwhile = 0

    @initialize(
        batch_size=st.integers(1, 5),
        capacity=st.integers(5, 20),
        spool_above=st.integers(0, 12),
        segment_bytes=st.integers(1, 2000),
        spool_bytes=st.sampled_from([SMALL, 10_000_000]),
    )
    def begin(self, **values: int) -> None:
        self.values = values
        self.bench = Workbench(self.folder, self.sink, **values)

    def behave(self, given: Sequence[Bar]) -> None:
        part, self.part = self.part, "works"
        if part == "stuck":
            self.offered(self.meanwhile)
        elif part == "stopped in it":
            self.bench.delivery.finish()
        elif part == "fails":
            raise SinkError("down")
        elif part == "breaks":
            raise ZeroDivisionError
        refused = {n: REFUSED for n, each in enumerate(given)
                   if (each.trade_count or 0) % 7 == 0}  # fmt: skip
        if refused:
            raise SinkRejectedError("refused", rejected=refused)

    def offered(self, count: int) -> None:
        for number in range(self.numbers, self.numbers + count):
            self.bench.delivery.offer(bar(number))
        self.numbers += count

    @rule(count=st.integers(1, 30))
    def bars_come(self, count: int) -> None:
        self.offered(count)

    @rule(part=PARTS, meanwhile=st.integers(1, 30), turns=st.integers(1, 4))
    def the_worker_turns(self, part: str, meanwhile: int, turns: int) -> None:
        self.part, self.meanwhile = part, meanwhile
        for _ in range(turns):
            self.bench.delivery.turn()
        self.part = "works"

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    @rule(flushes=st.integers(0, 3), part=PARTS)
    def it_is_restarted(self, flushes: int, part: str) -> None:
        self.part = part
        for _ in range(flushes):
            self.bench.delivery.turn(flush=True)
        self.part = "works"
        self.bench.delivery.finish()
        info = self.bench.info()
        assert info.queued == 0
        self.bench = Workbench(self.folder, self.sink, **self.values)
        assert self.bench.info().spooled >= info.spooled

    @rule(cut=st.integers(0, 3000))
    def the_process_dies(self, cut: int) -> None:
        """What was in memory is gone, and some bytes of the last file as well."""
        before = self.stored_or_given_up() | self.on_disk()
        self.volatile |= set(range(self.numbers)) - before
        crashed = Path(tempfile.mkdtemp())
        shutil.copytree(self.folder, crashed, dirs_exist_ok=True)
        self.bench.delivery.finish()
        shutil.rmtree(self.folder)
        self.folder = crashed
        files = sorted(self.folder.glob("*.spool"))
        if files:
            on_disk = self.on_disk()
            size = files[-1].stat().st_size
            os.truncate(files[-1], max(size - cut, 0))
            self.torn |= on_disk - self.on_disk()
        self.bench = Workbench(self.folder, self.sink, **self.values)

    def on_disk(self) -> set[int]:
        """The bars in whole frames, those that are dealt with included."""
        found: set[int] = set()
        for path in self.folder.glob("*.spool"):
            for frame in frames(path.read_bytes()[FIRST_FRAME:]):
                whole = decode_bar(frame.body)
                assert frame.sound
                assert whole is not None
                found.add(whole.trade_count or 0)
        return found

    def given_up(self) -> dict[int, str]:
        path = self.folder / FILE_NAME
        lines = path.read_bytes().splitlines() if path.exists() else []
        letters = [read_line(line) for line in lines]
        return {each.bar.trade_count or 0: each.reason for each in letters if each and each.bar}

    def stored_or_given_up(self) -> set[int]:
        return {*self.given_up(), *(each.trade_count or 0 for each in self.sink.bars)}

    @precondition(lambda self: hasattr(self, "bench"))
    @invariant()
    def the_accounts_add_up(self) -> None:
        self.bench.info()

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            shutil.rmtree(self.folder)
            return
        self.bench.delivery.finish()
        self.bench = Workbench(self.folder, self.sink, **self.values)
        self.bench.settle()
        info = self.bench.info()
        assert (info.queued, info.spooled) == (0, 0)
        assert info.offered == info.stored + info.dead_lettered
        self.bench.delivery.finish()
        assert list(self.folder.glob("*.spool")) == []
        lost = set(range(self.numbers)) - self.stored_or_given_up()
        assert lost <= self.volatile | self.torn
        refused = {number for number, reason in self.given_up().items() if reason == REFUSED}
        assert all(number % 7 == 0 for number in refused)
        assert all((each.trade_count or 0) % 7 for each in self.sink.bars)
        if self.values["spool_bytes"] > SMALL:
            assert set(self.given_up().values()) <= {REFUSED, SPOOL_CLOSED}
        shutil.rmtree(self.folder)


TestSinkMachine = SinkMachine.TestCase
TestSinkMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
