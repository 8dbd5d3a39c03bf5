"""A running simulator, and clients that are closed whatever a test does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator
from tests.unit.simulator.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[..., Client]


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator() as running:
        yield running


@pytest.fixture
def connect(simulator: AlpacaSimulator) -> Iterator[Connect]:
    """Connect to the simulator of the fixture, or to another with ``to=``."""
    with contextlib.ExitStack() as stack:

        def make(
            market: str = "stocks",
            feed: str | None = None,
            *,
            to: AlpacaSimulator | None = None,
            **options: Any,
        ) -> Client:
            return stack.enter_context(Client((to or simulator).url(market, feed), **options))

        yield make
