"""The workers of one run that store bars, one per sink."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.clock import SystemClock
from realtime_stream.config import StreamConfig
from realtime_stream.errors import ConfigurationError, SinkError, StreamingError
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.queues import EventQueues
from realtime_stream.runtime.registry import Registry
from realtime_stream.runtime.run import Surroundings
from realtime_stream.runtime.sink_worker import SinkWorker
from realtime_stream.runtime.states import StateBoard
from realtime_stream.runtime.storage import Storage, checked_sinks
from tests.support_sinks import MemorySink, bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from realtime_stream.market.models import Bar

PATIENCE = 10.0


class Named(MemorySink):
    def __init__(self, name: Any) -> None:
        super().__init__()
        self.name = name


class Targeted(Named):
    def __init__(self, name: str, target: Any) -> None:
        super().__init__(name)
        self.target = target


class Stage:
    """Makes the storage of one run after the other; ends what is left."""

    def __init__(self, spool: Path) -> None:
        self.clock = SystemClock()
        self.inbox = Inbox(100, self.clock)
        self._spool = spool
        self._made: list[Storage] = []

    def storage(self, *sinks: MemorySink) -> Storage:
        config = StreamConfig(api_key="k", secret_key="s", spool=self._spool)
        around = Surroundings(
            name="test",
            config=config,
            registry=Registry("stocks", (), (), lambda: None),
            board=StateBoard(),
            breaker=ConnectionCircuitBreaker(config.breaker, clock=self.clock),
            queues=EventQueues(),
            clock=self.clock,
            data_clock=self.clock,
            calendar=AlwaysOpen(),
            rng=random.Random(1),  # noqa: S311  # waits, no secrets
            sinks=sinks,
        )
        self._made.append(Storage(around, self.inbox, EventLog("test")))
        return self._made[-1]

    def soon(self, seconds: float = PATIENCE) -> float:
        return self.clock.monotonic() + seconds

    def end(self) -> None:
        for storage in self._made:
            storage.end(self.clock.monotonic())
            storage.join(self.soon())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.end()


# --- names ---


def test_sinks_are_told_apart_by_their_names() -> None:
    sinks = (Named("sql"), Named("sql-2"))
    assert checked_sinks(iter(sinks)) == sinks
    assert checked_sinks(()) == ()


@pytest.mark.parametrize("name", ["", "SQL", "a b", "x" * 41, "../up", None, 3])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match="sinks"):
        checked_sinks([Named(name)])


@pytest.mark.parametrize("sinks", [3, [object()], [None]])
def test_what_is_no_sink_is_refused(sinks: Any) -> None:
    with pytest.raises(ConfigurationError, match="sinks"):
        checked_sinks(sinks)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'sql'"):
        checked_sinks([Named("sql"), Named("sql")])


@pytest.mark.parametrize("target", ["postgresql://u:hush@h/d", "../up", "x" * 41, None, 3])
def test_a_target_that_is_none_is_refused_and_not_shown(target: object) -> None:
    with pytest.raises(ConfigurationError, match="target") as caught:
        checked_sinks([Targeted("sql", target)])
    assert "hush" not in str(caught.value)


# --- the workers of a run ---


def test_without_sinks_there_is_nothing_to_do(stage: Stage) -> None:
    storage = stage.storage()
    storage.start()
    assert (storage.workers, storage.threads(), storage.infos()) == ((), (), {})
    storage.end(stage.soon())


def test_each_sink_gets_its_bars_on_a_thread_of_its_own(stage: Stage) -> None:
    first, second = Named("first"), Named("second")
    storage = stage.storage(first, second)
    assert storage.threads() == ()
    storage.start()
    assert storage.threads() == (
        "realtime-stream/test/sink-first",
        "realtime-stream/test/sink-second",
    )
    for worker in storage.workers:
        worker.offer(bar(1))
    first.wait_for_bars(1)
    second.wait_for_bars(1)
    storage.end(stage.soon())
    assert storage.threads() == ()
    assert {name: info.stored for name, info in storage.infos().items()} == {
        "first": 1,
        "second": 1,
    }
    assert (first.closed, second.closed) == (0, 0)  # they outlive the run


def test_one_sink_that_fails_leaves_the_other_alone(stage: Stage) -> None:
    good, bad = Named("good"), Named("bad")

    def fail(_: Sequence[Bar]) -> None:
        raise SinkError("down")

    bad.behave = fail
    storage = stage.storage(bad, good)
    storage.start()
    for worker in storage.workers:
        worker.offer(bar(1))
    good.wait_for_bars(1)
    storage.end(stage.soon())
    infos = storage.infos()
    assert infos["good"].stored == 1
    assert (infos["bad"].stored, infos["bad"].spooled) == (0, 1)
    assert infos["bad"].last_error


def test_what_a_run_could_not_store_the_next_run_does(stage: Stage) -> None:
    sink = Named("sql")
    sink.fails_with(*[SinkError("down")] * 100)
    storage = stage.storage(sink)
    storage.start()
    storage.workers[0].offer(bar(1))
    sink.wait_for_calls(1)
    storage.end(stage.soon())
    assert storage.infos()["sql"].spooled == 1
    sink.behave = None
    later = stage.storage(sink)
    later.start()
    sink.wait_for_bars(1)
    later.end(stage.soon())
    assert later.infos()["sql"].stored == 1


def test_what_waits_for_one_target_is_never_stored_in_another(stage: Stage, tmp_path: Path) -> None:
    first, second = Targeted("sql", "one"), Targeted("sql", "two")
    first.fails_with(*[SinkError("down")] * 100)
    storage = stage.storage(first)
    storage.start()
    storage.workers[0].offer(bar(1))
    first.wait_for_calls(1)
    other = stage.storage(second)  # while the first still runs
    storage.end(stage.soon())
    assert (storage.infos()["sql"].spooled, other.infos()["sql"].spooled) == (1, 0)
    folders = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")]
    assert sorted(folders) == ["stocks/sql-one", "stocks/sql-two"]
    assert stage.storage(Targeted("sql", "one")).infos()["sql"].spooled == 1


def test_several_sinks_that_are_stuck_are_all_spooled_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first of their threads is waited for to the end."""
    sinks = [Named(name) for name in ("first", "second", "third")]
    go_on = threading.Event()

    def linger(_: Sequence[Bar]) -> None:
        assert go_on.wait(PATIENCE)

    storage = stage.storage(*sinks)
    storage.start()
    for worker, sink in zip(storage.workers, sinks, strict=True):
        sink.behave = linger
        for number in range(2000):
            worker.offer(bar(number))
        sink.wait_for_calls(1)
    left: list[list[int]] = []
    join = SinkWorker.join

    def watched(worker: SinkWorker, deadline: float | None = None) -> bool:
        left.append([info.queued for info in storage.infos().values()])
        return join(worker, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(SinkWorker, "join", watched)
        storage.end(stage.soon(0.5))
    assert left == [[0, 0, 0]] * 3
    assert [info.spooled for info in storage.infos().values()] == [2000] * 3
    go_on.set()


def test_a_folder_that_is_in_use_lets_go_of_those_before_it(stage: Stage) -> None:
    first, second = Named("first"), Named("second")
    in_use = stage.storage(second)
    with pytest.raises(ConfigurationError):
        stage.storage(first, second)
    stage.storage(first)
    in_use.end(stage.soon())
    stage.storage(second)


def test_a_sink_that_lingers_is_waited_for_as_long_as_is_left(stage: Stage) -> None:
    sink, go_on = Named("slow"), threading.Event()

    def linger(_: Sequence[Bar]) -> None:
        assert go_on.wait(PATIENCE)

    sink.behave = linger
    storage = stage.storage(sink)
    storage.start()
    storage.workers[0].offer(bar(1))
    sink.wait_for_calls(1)
    storage.end(stage.soon(0.05))
    assert storage.threads() == ("realtime-stream/test/sink-slow",)
    storage.join(stage.soon(0.0))
    assert storage.threads() != ()
    go_on.set()
    storage.join(stage.soon())
    assert storage.threads() == ()


def test_a_system_without_threads_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = stage.storage(Named("sql"))

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(StreamingError, match="threads"):
            storage.start()
