"""Fixtures for the tests of a bot: a local server with faults on demand, and managers for it.

pytest loads this module at its start whenever the package is installed. That imports
``realtime_stream`` itself, some 0.2 s; the SDK and the simulator are imported when a test asks for
a fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream import RealTimeStreamManager, StreamConfig, StreamingError
    from realtime_stream.simulator import AlpacaSimulator

__all__ = ["StreamManagers", "alpaca_simulator", "stream_manager"]


class StreamManagers(Protocol):
    """What the fixture ``stream_manager`` is: call it to make a manager for ``alpaca_simulator``.

    Settings are those of :class:`~realtime_stream.StreamConfig`. Where a test gives none, address
    and keys are the simulator's, nothing is watched that was not asked for, reconnects come
    quickly and without jitter, and the circuit breaker stays out of the way.
    """

    def __call__(
        self, *, manager: dict[str, Any] | None = None, **settings: Any
    ) -> RealTimeStreamManager:
        """Make a manager; it is not started, and it is stopped at the end of the test.

        Args:
            manager: Arguments of :class:`~realtime_stream.RealTimeStreamManager` beside its
                config, such as ``get_symbols`` or ``data_clock``.
            settings: For the config.

        Raises:
            ConfigurationError: A setting is not acceptable.
            ValueError: The simulator has no such market or feed.
        """

    def config(self, **settings: Any) -> StreamConfig:
        """The config alone, for a bot that makes its manager itself (and then stops it itself).

        Raises:
            ConfigurationError: A setting is not acceptable.
            ValueError: The simulator has no such market or feed.
        """


@pytest.fixture
def alpaca_simulator() -> Iterator[AlpacaSimulator]:
    """A local server that speaks Alpaca's protocol, on a free port, without faults."""
    from realtime_stream.simulator import AlpacaSimulator  # noqa: PLC0415  # see the module

    with AlpacaSimulator() as simulator:
        yield simulator


@pytest.fixture
def stream_manager(alpaca_simulator: AlpacaSimulator) -> Iterator[StreamManagers]:
    """Makes managers that connect to ``alpaca_simulator``, and stops them after the test.

    A manager whose ``stop()`` raises is an error at the test's end: a callback was stuck, or the
    stream had failed and the bot has not noticed.
    """
    managers = _StreamManagers(alpaca_simulator)
    yield managers
    managers.stop()


class _StreamManagers:
    """See :class:`StreamManagers`."""

    def __init__(self, simulator: AlpacaSimulator) -> None:
        self._simulator = simulator
        self._made: list[RealTimeStreamManager] = []

    def __call__(
        self, *, manager: dict[str, Any] | None = None, **settings: Any
    ) -> RealTimeStreamManager:
        from realtime_stream import RealTimeStreamManager  # noqa: PLC0415  # see the module

        made = RealTimeStreamManager(self.config(**settings), **(manager or {}))
        self._made.append(made)
        return made

    def config(self, **settings: Any) -> StreamConfig:
        from realtime_stream import BreakerPolicy, ReconnectPolicy, StreamConfig  # noqa: PLC0415  # see the module
        from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET  # noqa: PLC0415  # see the module

        defaults: dict[str, Any] = {
            "watchlist": (),
            "reconnect": ReconnectPolicy(initial=0.05, maximum=0.2, jitter=False),
            "breaker": BreakerPolicy(failure_threshold=1_000_000),
        }
        if settings.get("url") is None:
            market, feed = settings.get("market", "stocks"), settings.get("feed")
            defaults["url"] = settings["url"] = self._simulator.url(market, feed)
        if settings.get("credentials") is None:
            defaults |= {"api_key": SIMULATOR_KEY, "secret_key": SIMULATOR_SECRET}
        return StreamConfig(**{**defaults, **settings})

    def stop(self) -> None:
        """Stop every manager, then raise what their stops have raised."""
        from realtime_stream import StreamingError  # noqa: PLC0415  # see the module

        errors: list[StreamingError] = []
        for made in self._made:
            try:
                made.stop()
            except StreamingError as exc:
                errors.append(exc)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            msg = "several managers did not stop well"
            raise ExceptionGroup(msg, errors)
