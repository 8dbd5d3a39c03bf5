"""Databases named on the command line."""

from __future__ import annotations

import importlib
from typing import Protocol

from realtime_stream.ports import Sink

__all__ = ["Store", "open_sql_sink"]


class Store(Sink, Protocol):
    """A sink that can say at once whether it works."""

    def prepare(self) -> None:
        """Connect, and make what is missing.

        Raises:
            SinkError: It does not work.
        """


def open_sql_sink(url: str) -> Store:
    """A sink for the database at ``url``.

    Raises:
        ConfigurationError: The extra is not installed, or the URL is none.
    """
    # Loaded here and not on import: it needs the extra, which only some users have.
    module = importlib.import_module("realtime_stream.sinks.sql")
    sink: Store = module.SqlSink(url)
    return sink
