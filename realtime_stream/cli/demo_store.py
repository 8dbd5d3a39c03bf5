"""The demo's database: bars go in while it runs, and are read back at the end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from realtime_stream.cli.store import open_sql_sink
from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from realtime_stream.ports import Sink

__all__ = ["DemoStore"]


class DemoStore:
    """A SQLite file, where the extra is installed; without it, nothing is stored."""

    def __init__(self, path: Path) -> None:
        """Args: ``path`` of the file, which need not exist."""
        self._url = f"sqlite:///{path}"
        self.sinks: tuple[Sink, ...] = ()
        self._why = ""
        try:
            self.sinks = (open_sql_sink(self._url),)
        except ConfigurationError as exc:
            self._why = str(exc)

    def close(self) -> None:
        """Let go of the file."""
        for sink in self.sinks:
            sink.close()

    def read_back(self, symbols: Sequence[str]) -> str:
        """Say what is in the database."""
        if self._why:
            return f"not tried: {self._why}"
        module = importlib.import_module("realtime_stream.sinks.sql")
        with module.OHLCVRepository(self._url) as repository:
            counts = {
                timeframe: sum(
                    len(repository.latest(symbol, timeframe, 1000)) for symbol in symbols
                )
                for timeframe in ("1m", "5m")
            }
        read = ", ".join(f"{count} of {timeframe}" for timeframe, count in counts.items())
        return f"{read} read back from SQLite"
