"""The newest bars, while they stream."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from realtime_stream import Bar, ConfigurationError
from tests.integration.test_timeframes import OPEN, World, minutes
from tests.support import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


def test_look_back_from_several_threads_while_streaming(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = World(simulator, new_manager, lookback=50)
    seen, problems = Recorder[Bar](), list[object]()
    manager, done = world.manager, threading.Event()
    manager.on_bar(seen, "AAPL")
    manager.on_bar(lambda _: None, "AAPL", timeframe="5m")
    manager.start()

    def look(read: Callable[[], list[int]]) -> None:
        while not done.is_set():
            found = read()
            if found != sorted(set(found)) or len(found) > 50:
                problems.append(found)

    def of_frame() -> list[int]:
        frame = manager.recent_frame("AAPL", 100)
        return [stamp.value for stamp in frame.index]

    readers = [
        threading.Thread(target=look, args=(lambda: minutes(manager.recent_bars("AAPL", 100)),)),
        threading.Thread(
            target=look, args=(lambda: minutes(manager.recent_bars("AAPL", 9, "5m")),)
        ),
        threading.Thread(target=look, args=(of_frame,)),
    ]
    for reader in readers:
        reader.start()
    try:
        world.go(301 * 60.0)
        for first in range(0, 300, 10):
            world.bars(*range(first, first + 10))
        seen.wait_for(300)
        world.pulse()
    finally:
        done.set()
        for reader in readers:
            reader.join(10)
    assert problems == []
    assert minutes(manager.recent_bars("AAPL", 100)) == list(range(250, 300))
    assert minutes(manager.recent_bars("AAPL", 3, "5m")) == [285, 290, 295]


def test_a_frame_has_what_the_bars_have(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = World(simulator, new_manager)
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL")
    empty = world.manager.recent_frame("AAPL", 5)
    assert len(empty) == 0
    world.manager.start()
    world.go(300.0)
    world.bars(0, 1, 2)
    seen.wait_for(3)
    frame = world.manager.recent_frame("AAPL", 2)
    assert list(frame.columns) == [
        *("open", "high", "low", "close", "volume", "vwap", "trade_count"),
    ]
    assert frame.index.name == "timestamp"
    assert frame.index[0] == pd.Timestamp(OPEN) + pd.Timedelta(minutes=1)
    assert str(frame.index.tz) == "UTC"
    assert frame["close"].tolist() == [100.0, 100.0]
    assert frame["trade_count"].dtype == "Int64"
    assert list(empty.columns) == list(frame.columns)
    assert list(empty.dtypes) == list(frame.dtypes)


def test_look_back_survives_a_restart_and_not_a_fresh_start(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = World(simulator, new_manager)
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL")
    world.manager.start()
    world.go(61.0)
    world.bars(0)
    seen.wait_for()
    world.manager.restart()
    assert minutes(world.manager.recent_bars("AAPL", 5)) == [0]
    world.manager.stop()
    assert minutes(world.manager.recent_bars("AAPL", 5)) == [0]
    world.manager.start()
    assert world.manager.recent_bars("AAPL", 5) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("AAPL", 0), "n"),
        (("AAPL", -1), "n"),
        (("AAPL", 2.5), "n"),
        (("AAPL", "5"), "n"),
        (("AAPL", True), "n"),
        (("AAPL", 5, "7m"), "timeframe"),
        (("AAPL", 5, None), "timeframe"),
    ],
)
@pytest.mark.parametrize("method", ["recent_bars", "recent_frame"])
def test_bad_arguments_of_look_back_are_named(
    new_manager: NewManager, method: str, arguments: tuple[Any, ...], named: str
) -> None:
    manager = new_manager()
    with pytest.raises(ConfigurationError, match=rf"\b{named}\b"):
        getattr(manager, method)(*arguments)


def test_a_source_that_is_none_is_named_by_look_back(new_manager: NewManager) -> None:
    manager: Any = new_manager()
    with pytest.raises(ConfigurationError, match="built_from"):
        manager.recent_bars("AAPL", 5, built_from="quotes")
    with pytest.raises(ConfigurationError, match="built_from"):
        manager.recent_bars("AAPL", 5, built_from=["bars"])
    with pytest.raises(ConfigurationError, match="fill"):
        manager.recent_bars("AAPL", 5, fill="no")
