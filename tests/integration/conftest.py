"""A simulator on a real socket, and managers that are stopped whatever a test does."""

from __future__ import annotations

import contextlib
import importlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from realtime_stream import RealTimeStreamManager, StreamingError
from realtime_stream.simulator import AlpacaSimulator
from tests.support import config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    NewManager = Callable[..., RealTimeStreamManager]


@pytest.fixture(scope="session", autouse=True)
def _sdk_loaded() -> None:
    """Load the SDK once: the first start does, and a test's short timeout may be too short."""
    importlib.import_module("realtime_stream.providers.alpaca.adapter")


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator() as running:
        yield running


@pytest.fixture
def new_manager(simulator: AlpacaSimulator) -> Iterator[NewManager]:
    """Make managers for the simulator; settings go to the config, the rest to the manager."""
    made: list[RealTimeStreamManager] = []

    def make(*, manager: dict[str, Any] | None = None, **settings: Any) -> RealTimeStreamManager:
        made.append(RealTimeStreamManager(config(simulator, **settings), **(manager or {})))
        return made[-1]

    yield make
    for each in made:  # before the faults are cleared: what a test left starting must not connect
        with contextlib.suppress(StreamingError):
            each.stop()
    simulator.faults.clear()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trust the test's authority, as a user would whose proxy has its own."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    return bundle
