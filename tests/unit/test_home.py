from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from realtime_stream import ForkedProcessError, RealTimeStreamManager, StreamConfig
from realtime_stream.runtime.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, the process seems to be a forked child."""
    here = os.getpid()

    def move() -> None:
        monkeypatch.setattr(os, "getpid", lambda: here + 1)

    return move


def test_home_is_where_it_was_made(elsewhere: Callable[[], None]) -> None:
    home = Home()
    home.check()
    assert home.is_here()
    elsewhere()
    assert not home.is_here()
    with pytest.raises(ForkedProcessError, match="create a manager of its own"):
        home.check()
    Home().check()


def test_stop_in_a_child_raises_but_hides_no_exception_of_the_childs_own(
    elsewhere: Callable[[], None],
) -> None:
    manager = RealTimeStreamManager(StreamConfig(feed="iex"))
    elsewhere()
    with pytest.raises(ForkedProcessError):
        manager.stop()
    error = KeyError("the child's own")
    with pytest.raises(KeyError) as caught:  # noqa: PT012  # what stop() does meanwhile is the point
        try:
            raise error
        finally:
            manager.stop()
    (note,) = caught.value.__notes__
    assert "belongs to process" in note


def test_nothing_can_be_registered_in_a_child(elsewhere: Callable[[], None]) -> None:
    manager = RealTimeStreamManager(StreamConfig(feed="iex"))
    registration = manager.on_trade(print, "AAPL")
    elsewhere()
    for call in (
        lambda: manager.on_trade(print, "AAPL"),
        lambda: manager.on_gap(print),
        registration.remove,
        lambda: manager.subscribe("trades", "AAPL"),
        lambda: manager.unsubscribe("trades", "AAPL"),
        manager.status,
    ):
        with pytest.raises(ForkedProcessError):
            call()
    assert "stopped" in repr(manager)
